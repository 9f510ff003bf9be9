"""What a matrix of which nothing is said may be, told by its numbers."""

import numpy as np

from graphssl.data.regions import VALUE_KINDS, MatrixKind
from graphssl.datasets.labelled import Array
from graphssl.errors import ChoiceError, DataError


def is_fisher_z(matrix: Array) -> bool:
    """Whether correlations were transformed: something lies beyond ±1, or the diagonal is infinite as arctanh(1) is.

    Raises:
        DataError: If the matrix is not square.
    """
    _check_square(matrix)
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    return bool(np.isinf(matrix.diagonal()).any() or (np.abs(off[np.isfinite(off)]) > _LARGEST_CORRELATION).any())


def kind_of(matrix: Array, fisher_z: bool | None, name: str) -> tuple[MatrixKind, bool]:
    """What a matrix of which nothing is said may be: correlations, or counts of streamlines.

    Raises:
        ChoiceError: If it may be several things.
        DataError: If it is not square.
    """
    _check_square(matrix)
    off = np.where(np.eye(len(matrix), dtype=bool) | ~np.isfinite(matrix), 0.0, matrix)
    if np.abs(off).max() <= _LARGEST_CORRELATION and (fisher_z is not None or _may_be_correlations(off, matrix.diagonal())):
        return "correlation", bool(fisher_z if fisher_z is not None else np.isinf(matrix.diagonal()).any())
    if fisher_z or np.isinf(matrix.diagonal()).all():
        return "correlation", True
    if off.min() >= 0 and (off % 1 == 0).all() and off.max() > 1:
        return "streamline count", False
    raise ChoiceError(
        f"Expected matrices whose kind is plain, found values from {off.min():.3g} to {off.max():.3g}{_on_diagonal(matrix.diagonal())} in {name}. "
        f"Say what they are: fisher_z=True for Fisher z, or kind=… with one of {', '.join(VALUE_KINDS[1:])}."
    )


def _may_be_correlations(off: Array, diagonal: Array) -> bool:
    """Whether numbers within ±1 are correlations: with themselves they are one, or nothing is written there; edges that are there or not are none."""
    ones = np.isclose(diagonal, 1.0, atol=1e-3)
    plain = ones | (diagonal == 0) | ~np.isfinite(diagonal)
    return bool(plain.all() and (ones.any() or (off % 1 != 0).any() or not off.any()))


def _on_diagonal(diagonal: Array) -> str:
    finite = diagonal[np.isfinite(diagonal)]
    return f", on the diagonal from {finite.min():.3g} to {finite.max():.3g}," if finite.size else ""


def _check_square(matrix: Array) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise DataError(f"Expected a square matrix of connectivity, found {' × '.join(map(str, matrix.shape))}. Copy or make the file again.")


_LARGEST_CORRELATION = 1 + 1e-4
