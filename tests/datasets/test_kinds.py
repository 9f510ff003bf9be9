"""What a matrix is, told by its numbers."""

import numpy as np
import pytest

from graphssl.datasets.kinds import is_fisher_z, kind_of
from graphssl.errors import ChoiceError, DataError

R_MATRIX = np.corrcoef(np.random.default_rng(0).standard_normal((5, 30)))


def test_fisher_z_by_its_numbers():
    z = np.arctanh(R_MATRIX.clip(-1 + 1e-9, 1 - 1e-9))
    assert not is_fisher_z(R_MATRIX)
    for diagonal, scale in ((np.inf, 1.0), (0.0, 5.0)):
        made = z * scale
        np.fill_diagonal(made, diagonal)
        assert is_fisher_z(made)


def test_kind_by_its_numbers():
    assert kind_of(R_MATRIX, None, "x") == ("correlation", False)
    assert kind_of(R_MATRIX, True, "x") == ("correlation", True)
    infinite = R_MATRIX * 9
    np.fill_diagonal(infinite, np.inf)
    assert kind_of(infinite, None, "x") == ("correlation", True)
    assert kind_of(np.round(np.abs(R_MATRIX) * 100), None, "x") == ("streamline count", False)
    with pytest.raises(ChoiceError, match=r"found values from .* to .* in x\. Say what they are: fisher_z=True for Fisher z, or kind=… with one of"):
        kind_of(R_MATRIX * 9, None, "x")


@pytest.mark.parametrize("diagonal", [1.0, 0.9995, 0.0, np.nan])
def test_correlations_with_themselves_are_one_or_left_out(diagonal):
    made = R_MATRIX.copy()
    np.fill_diagonal(made, diagonal)
    assert kind_of(made, None, "x") == ("correlation", False)


@pytest.mark.parametrize("made", [R_MATRIX * 0.3, (np.abs(R_MATRIX) > 0.1) * (1.0 - np.eye(5)), -R_MATRIX, np.arctanh(R_MATRIX * 0.999)])
def test_numbers_within_one_may_be_no_correlations(made):
    """Covariances of small variances, edges that are there or not, and Fisher z that was cut off."""
    with pytest.raises(ChoiceError, match=r"Expected matrices whose kind is plain, found values .* on the diagonal from .*Say what they are"):
        kind_of(made, None, "x")
    assert kind_of(made, True, "x") == ("correlation", True)


@pytest.mark.parametrize("shape", [(3, 4), (0, 0)])
def test_what_is_no_square_matrix_is_refused(shape):
    for told in (lambda matrix: is_fisher_z(matrix), lambda matrix: kind_of(matrix, None, "a.csv")):
        with pytest.raises(DataError, match=rf"square matrix of connectivity, found {shape[0]} × {shape[1]}"):
            told(np.zeros(shape))
