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


@pytest.mark.parametrize("shape", [(3, 4), (0, 0)])
def test_what_is_no_square_matrix_is_refused(shape):
    for told in (lambda matrix: is_fisher_z(matrix), lambda matrix: kind_of(matrix, None, "a.csv")):
        with pytest.raises(DataError, match=rf"square matrix of connectivity, found {shape[0]} × {shape[1]}"):
            told(np.zeros(shape))
