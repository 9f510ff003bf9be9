"""The most alike of all pairs of patients, block by block: no matrix of all pairs is ever there."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.graphs.similarity import AbstractGroupSimilarity, Operand

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SPARE = 8  # candidates beyond those asked for, which are looked at in double precision too
_ROUNDING = 4e-6  # of the elementwise functions in single precision
_ROWS = 64  # fewest patients asked about in one block
_TILE = 2**18  # pairs that fit into the cache of a processor
_RUN = 16


class BlockSearch:
    """Finds the patients most like others, exactly.

    Single precision proposes a few more candidates than are asked for, by similarities never too small; double precision settles their order.
    Where the last one settled is not clearly above the last one proposed, whoever else could be among the most alike is settled too.

    Args:
        similarities: Fitted similarity of each group `[G]`.
        weights: Weights of the groups, which add up to one `[G]`.
        values: Encoded values of the patients to find, by group `[n, C]`.
    """

    def __init__(self, similarities: Sequence[AbstractGroupSimilarity], weights: Floats, values: Sequence[Floats]) -> None:
        self.similarities = similarities
        self.weights = weights
        self.values = values

    def nearest(self, values: Sequence[Floats], k: int, own: Integers | None = None) -> tuple[Integers, Floats]:
        """Places and similarities of the `k` most alike `[m, k]`, the most alike first, of equals the first.

        Args:
            values: Encoded values of those asked about, by group `[m, C]`.
            k: How many.
            own: A place that does not count for each `[m]`.
        """
        n, m = len(self.values[0]), len(values[0])
        if k + SPARE >= n:
            return self.settle(values, np.broadcast_to(np.arange(n), (m, n)), k, own)
        operands = [similarity.operands(x, y) for similarity, x, y in zip(self.similarities, values, self.values, strict=True)]
        indices, similarity = np.empty((m, k), dtype=np.int64), np.empty((m, k))
        height = max(_ROWS, _TILE // n)
        for start in range(0, m, height):
            rows = slice(start, min(start + height, m))
            block = self._block([(x.rows(rows), y) for x, y in operands], n)
            mine = None if own is None else own[rows]
            if mine is not None:
                block[torch.arange(len(mine)), torch.from_numpy(mine)] = -torch.inf
            indices[rows], similarity[rows] = self._settled(block, [x[rows] for x in values], k, mine)
        return indices, similarity

    def settle(self, values: Sequence[Floats], candidates: Integers, k: int, own: Integers | None = None) -> tuple[Integers, Floats]:
        """The `k` most alike of the candidates `[m, c]`, in double precision; places and similarities `[m, k]`."""
        candidates = np.sort(candidates, axis=1)
        total = np.zeros(candidates.shape)
        for similarity, weight, x, y in zip(self.similarities, self.weights, values, self.values, strict=True):
            step = max(1, 16 * _TILE // (candidates.shape[1] * x.shape[1]))
            for start in range(0, len(x), step):
                rows = slice(start, start + step)
                total[rows] += weight * similarity.exact(x[rows, None], y[candidates[rows]])
        if own is not None:
            total[candidates == own[:, None]] = -np.inf
        order = np.argsort(-total, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(total, order, axis=1)

    def _block(self, operands: Sequence[tuple[Operand, Operand]], n: int) -> Float[Tensor, "b n"]:
        """Similarities of some patients to all, or a little more; padded with -∞ to whole runs."""
        block = torch.zeros(operands[0][0].height, -(-n // _RUN) * _RUN)
        block[:, n:] = -torch.inf
        width = _TILE // max(_ROWS, len(block))
        for start in range(0, n, width):
            columns = slice(start, min(start + width, n))
            for similarity, weight, (x, y) in zip(self.similarities, self.weights.tolist(), operands, strict=True):
                block[:, columns].add_(similarity.upper(x, y.rows(columns)), alpha=weight)
        return block

    def _settled(self, block: Float[Tensor, "b n"], values: Sequence[Floats], k: int, own: Integers | None) -> tuple[Integers, Floats]:
        most, candidates = _largest(block, k + SPARE)
        indices, similarity = self.settle(values, candidates.numpy(), k, own)
        # Whoever is no candidate is at most as alike as the last candidate, but for rounding.
        least = most[:, -1].numpy().astype(np.float64)
        slack = _ROUNDING * (np.abs(least) + 0.1)
        for row in np.flatnonzero(similarity[:, -1] <= least + slack):
            possible = np.flatnonzero(block[row].numpy() >= similarity[row, -1] - slack[row])[None]
            one, mine = [x[row : row + 1] for x in values], None if own is None else own[row : row + 1]
            indices[row], similarity[row] = (found[0] for found in self.settle(one, possible, k, mine))
        return indices, similarity


def _largest(block: Float[Tensor, "b n"], k: int) -> tuple[Tensor, Tensor]:
    """The largest of each row and where they are `[b, k]`, falling.

    They are among the k runs of sixteen with the largest maxima, which saves most of the sorting.
    """
    runs = block.unflatten(1, (-1, _RUN))
    if runs.shape[1] <= 2 * k:
        return block.topk(k, dim=1)
    best = runs.amax(dim=2).topk(k, dim=1, sorted=False).indices
    few = runs.gather(1, best.unsqueeze(2).expand(-1, -1, _RUN)).flatten(1)
    most, place = few.topk(k, dim=1)
    return most, best.gather(1, place // _RUN) * _RUN + place % _RUN
