"""Covariance, correlation and their inverses, batched over scans.

Scans of one length are taken together as one tensor, in chunks that stay small; nothing loops over scans but the stacking of their arrays.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.data.regions import ConnectivityKind
from graphssl.errors import ConfigError, DataError

Array = npt.NDArray[Any]
Shrinkage = Literal["ledoit-wolf"] | None

# A region whose variance the others explain to this share is a linear combination of them.
_SMALLEST_PIVOT = 1e-10
# Numbers stacked at once: on a CPU what stays in its cache from one pass to the next, elsewhere what keeps it busy.
_CACHED_ELEMENTS, _CHUNK_ELEMENTS = 2**17, 2**22


def stacks(arrays: Sequence[Array], device: str) -> Iterator[tuple[list[int], Float[Tensor, "b T R"]]]:
    """Arrays of one shape stacked in double precision, a chunk at a time, with their positions; a stack is overwritten by the next."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, array in enumerate(arrays):
        by_length[len(array)].append(row)
    for length, rows in by_length.items():
        n_regions = arrays[rows[0]].shape[1]
        step = max(1, (_CACHED_ELEMENTS if device == "cpu" else _CHUNK_ELEMENTS) // (n_regions * max(length, n_regions)))
        room = np.empty((min(step, len(rows)), length, n_regions))
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            yield chunk, torch.from_numpy(np.stack([arrays[row] for row in chunk], out=room[: len(chunk)])).to(device)


def empty_matrices(n: int, n_regions: int, dtype: npt.DTypeLike) -> Tensor:
    """Room for matrices `[n, R, R]` in main memory.

    NumPy asks the system for large pages, torch does not, and touching small ones for the first time takes a quarter of the time of a correlation.
    """
    return torch.from_numpy(np.empty((n, n_regions, n_regions), dtype=dtype))


def connectivity_of(
    series: Float[Tensor, "b T R"],
    observed: Bool[Tensor, "b R"],
    kind: ConnectivityKind,
    shrinkage: Shrinkage,
    names: list[str],
    *,
    precision: torch.dtype = torch.float64,
) -> Float[Tensor, "b R R"]:
    """Matrices of any kind but tangent from scans of one length.

    What was not observed is left out of every estimate and is zero in the result.

    Args:
        series: Time series `[b, T, R]`; overwritten.
        observed: Regions with a signal `[b, R]`; what the others hold is not read.
        kind: Kind of connectivity.
        shrinkage: Covariance estimator.
        names: Names of the scans, for messages.
        precision: Of the result. Whatever single precision could spoil (means, shrinkage, inverses) is in that of the series all the same.

    Raises:
        DataError: If an inverse is needed and a covariance has none.
    """
    if not observed.all():
        series.masked_fill_(~observed.unsqueeze(1), 0.0)
    centred = series.sub_(series.mean(dim=1, keepdim=True))
    if kind == "correlation":
        norm = _norms(centred)
        divisor = norm.masked_fill(norm == 0, 1.0).unsqueeze(1)
        if shrinkage is None:
            return _bounded(_gram(torch.div(centred, divisor, out=torch.empty_like(centred, dtype=precision))), norm > 0)
        centred.div_(divisor).mul_(series.shape[1] ** 0.5)
    matrices = _gram(centred).div_(series.shape[1])
    if shrinkage == "ledoit-wolf":
        _shrink(matrices, centred, observed)
    if kind in ("correlation", "covariance"):
        matrices = matrices.to(precision)
        return matrices if kind == "covariance" else to_correlation(matrices)
    inverse = _inverse(matrices, observed, names).to(precision)
    return inverse if kind == "precision" else _partial(inverse)


def to_correlation(matrices: Float[Tensor, "b R R"]) -> Float[Tensor, "b R R"]:
    """Correlations of covariances; regions without variance correlate with nothing, themselves included."""
    variance = torch.diagonal(matrices, dim1=-2, dim2=-1)
    inverse = torch.where(variance > 0, variance, 1.0).rsqrt()
    result = (inverse.unsqueeze(-1) * inverse.unsqueeze(-2)).mul_(matrices)  # symmetric to the last bit if they are
    return _bounded(result, variance > 0)


def check_invertible(matrices: Float[Tensor, "b R R"], observed: Bool[Tensor, "b R"], names: list[str]) -> Float[Tensor, "b R R"]:
    """The Cholesky factors of the observed blocks, beside an identity for missing regions, which leaves the inverse of the block as it is.

    Raises:
        DataError: If a block is singular.
    """
    whole = matrices if observed.all() else matrices + torch.diag_embed((~observed).to(matrices.dtype))
    factors, info = torch.linalg.cholesky_ex(whole)
    pivots = torch.diagonal(factors, dim1=-2, dim2=-1).square()
    variance = torch.where(observed, torch.diagonal(matrices, dim1=-2, dim2=-1), 1.0)
    singular = (info > 0) | (pivots < _SMALLEST_PIVOT * variance).any(dim=-1)
    if singular.any():
        wrong = [names[row] for row in singular.nonzero().flatten().tolist()]
        raise DataError(
            f"Expected covariances that have an inverse, found {len(wrong)} singular ones: {wrong[:5]}. A scan needs more time points than regions, "
            "and no region may be a sum of others. Use shrinkage='ledoit-wolf', or leave those subjects or regions out."
        )
    return factors


def inside(observed: Bool[Tensor, "b R"]) -> Bool[Tensor, "b R R"]:
    """Pairs of observed regions."""
    return observed.unsqueeze(1) & observed.unsqueeze(2)


def check_choice(what: str, found: object, allowed: Collection[object]) -> None:
    """Check an argument that names one of a few things.

    Raises:
        ConfigError: If it names another.
    """
    if found not in allowed:
        raise ConfigError(f"Expected the {what} of connectivity to be one of {', '.join(map(repr, allowed))}; found {found!r}.")


def _norms(series: Float[Tensor, "b T R"]) -> Float[Tensor, "b R"]:
    # einsum squares and adds in one pass; torch's vector_norm along time takes five times as long on a CPU.
    if series.device.type != "cpu":
        return torch.linalg.vector_norm(series, dim=1)
    array = series.numpy()
    return torch.from_numpy(np.sqrt(np.einsum("btr,btr->br", array, array)))


def _gram(series: Tensor) -> Tensor:
    # numpy sees that a factor is the other's transpose and computes one triangle, which is half the work; torch does not.
    if series.device.type != "cpu":
        return series.mT @ series
    array = series.numpy()
    return torch.from_numpy(array.swapaxes(1, 2) @ array)


def _shrink(matrices: Tensor, centred: Tensor, observed: Tensor) -> None:
    # In place. Ledoit & Wolf 2004, lemma 3.3 to 3.5, over the observed block. The sum over all pairs of regions of products of squares is a square
    # of sums.
    n_time, count = centred.shape[1], observed.sum(dim=1).clamp(min=1)
    diagonal = torch.diagonal(matrices, dim1=-2, dim2=-1)
    scale = diagonal.sum(dim=-1) / count
    squared = torch.linalg.vector_norm(matrices, dim=(-2, -1)).square()
    fourth = torch.linalg.vector_norm(centred, dim=2).pow(4).sum(dim=1) / n_time
    spread = (squared - count * scale.square()) / count
    noise = torch.minimum((fourth - squared) / (count * n_time), spread)
    weight = torch.where(spread > 0, noise / spread, 0.0)
    matrices *= (1 - weight)[:, None, None]
    diagonal += observed * (weight * scale).unsqueeze(-1)


def _bounded(matrices: Tensor, defined: Tensor) -> Tensor:
    # In place: what rounding took beyond one, and the diagonal, which is one where there is a signal.
    torch.diagonal(matrices.clamp_(-1.0, 1.0), dim1=-2, dim2=-1).copy_(defined)
    return matrices


def _partial(inverse: Tensor) -> Tensor:
    result = to_correlation(inverse).neg_()
    torch.diagonal(result, dim1=-2, dim2=-1).neg_()
    return result


def _inverse(matrices: Tensor, observed: Tensor, names: list[str]) -> Tensor:
    inverse = torch.cholesky_inverse(check_invertible(matrices, observed, names))
    return inverse if observed.all() else inverse.masked_fill_(~inside(observed), 0.0)
