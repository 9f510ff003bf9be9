"""The most alike of all pairs of patients, block by block: no matrix of all pairs is ever there."""

from collections.abc import Iterator, Sequence

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
_ROWS = 128  # fewest patients asked about in one block
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
        tiles = Tiles(max(1, min(m, max(_ROWS, _TILE // n))), n)
        for start in range(0, m, len(tiles.block)):
            rows = slice(start, min(start + len(tiles.block), m))
            mine = None if own is None else own[rows]
            self._fill(tiles, [(x.rows(rows), y) for x, y in operands], mine)
            indices[rows], similarity[rows] = self._settled(tiles, [x[rows] for x in values], k, mine)
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

    def _fill(self, tiles: "Tiles", operands: Sequence[tuple[Operand, Operand]], own: Integers | None) -> None:
        """Write what ranks all patients for some, -∞ for their own places. One group ranks by what is cheapest, several by their weighted mean."""
        height = operands[0][0].height
        for start, tile in tiles.of(height):
            parts = [(x, y.rows(slice(start, start + tile.shape[1]))) for x, y in operands]
            if len(parts) == 1:
                self.similarities[0].key(*parts[0], tile)
            else:
                tile.zero_()
                one = tiles.scratch[:height, : tile.shape[1]]
                for similarity, weight, (x, y) in zip(self.similarities, self.weights.tolist(), parts, strict=True):
                    similarity.key(x, y, one)
                    tile.add_(similarity.from_key(one), alpha=weight)
            if own is not None:
                here = np.flatnonzero((own >= start) & (own < start + tile.shape[1]))
                if len(here):
                    tile[torch.from_numpy(here), torch.from_numpy(own[here] - start)] = -torch.inf
            tiles.note_maxima(start, height)

    def _similarity(self, block: Tensor) -> Floats:
        """Similarities, or a little more, of what a block ranks by."""
        found = self.similarities[0].from_key(block.clone()) if len(self.similarities) == 1 else block
        return found.numpy().astype(np.float64)

    def _settled(self, tiles: "Tiles", values: Sequence[Floats], k: int, own: Integers | None) -> tuple[Integers, Floats]:
        most, candidates = tiles.largest(len(values[0]), k + SPARE)
        indices, similarity = self.settle(values, candidates.numpy(), k, own)
        # Whoever is no candidate is at most as alike as the last candidate, but for rounding.
        least = self._similarity(most.amin(dim=1))
        slack = _ROUNDING * (np.abs(least) + 0.1)
        for row in np.flatnonzero(similarity[:, -1] <= least + slack):
            possible = np.flatnonzero(self._similarity(tiles.block[row, : tiles.n]) >= similarity[row, -1] - slack[row])[None]
            one, mine = [x[row : row + 1] for x in values], None if own is None else own[row : row + 1]
            indices[row], similarity[row] = (found[0] for found in self.settle(one, possible, k, mine))
        return indices, similarity


class Tiles:
    """Some patients by all others, worked on in tiles that fit into the cache, with the maxima of runs of sixteen by which the largest are found.

    The members of a run lie a sixteenth of a tile apart, so that all runs of a tile are compared at once, neighbours with neighbours.

    Args:
        height: How many patients at most.
        n: How many others.
    """

    def __init__(self, height: int, n: int) -> None:
        n_tiles = -(-n // max(_RUN, _TILE // max(_ROWS, height)))
        self.n, self.n_runs = n, -(-n // (n_tiles * _RUN))  # runs of a tile
        self.width = self.n_runs * _RUN
        self.block = torch.full((height, n_tiles * self.width), -torch.inf)  # what is behind the last stays so
        self.maxima = torch.full((height, n_tiles * self.n_runs), -torch.inf)
        self.scratch = torch.empty(height, self.width)

    def of(self, height: int) -> Iterator[tuple[int, Float[Tensor, "b t"]]]:
        """First place and values of each tile, for the first patients."""
        for start in range(0, self.n, self.width):
            yield start, self.block[:height, start : min(start + self.width, self.n)]

    def note_maxima(self, start: int, height: int) -> None:
        """Take the maxima of a tile that was written."""
        members = self.block[:height, start : start + self.width].unflatten(1, (_RUN, self.n_runs))
        first = start // _RUN
        torch.amax(members, dim=1, out=self.maxima[:height, first : first + self.n_runs])

    def largest(self, height: int, k: int) -> tuple[Tensor, Tensor]:
        """The largest of each row and where they are `[b, k]`, in any order. They are among the k runs with the largest maxima."""
        block, maxima = self.block[:height], self.maxima[:height]
        if maxima.shape[1] <= 2 * k:
            return block.topk(k, dim=1, sorted=False)
        run = maxima.topk(k, dim=1, sorted=False).indices
        first = run // self.n_runs * self.width + run % self.n_runs
        places = (first.unsqueeze(2) + self.n_runs * torch.arange(_RUN)).flatten(1)
        most, place = block.gather(1, places).topk(k, dim=1, sorted=False)
        return most, places.gather(1, place)
