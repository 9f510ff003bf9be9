"""Random looks at time: the connectome of a part of a scan, made anew from its time series."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import DataError
from graphssl.views.base import AbstractView
from graphssl.views.graph import check_ratio

# A correlation over fewer time points says next to nothing; readers ask scans for as many.
_FEWEST_TIME_POINTS = 10


@dataclass(frozen=True)
class AbstractTimeView(AbstractView):
    """Keep a share of the time points of each scan and make its connectome of those.

    The weights of the builder are differences from a mean in units of a spread; the mean cancels in the change from all time points to the kept ones:
    `weights + (connectivity(kept) - connectivity(all)) / scale`. What was hidden stays so; a region that does not vary in the kept time is hidden.

    Args:
        share: Share of the time points to keep, in (0, 1); ten at least, or all there are.

    Raises:
        ConfigError: If the share is out of range.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        check_ratio(self.share)

    @property
    def needs_series(self) -> bool:
        """It must see the time series."""
        return True

    @abstractmethod
    def _order(self, there: Bool[Tensor, "B T"], n_kept: Int[Tensor, "B 1"], generator: torch.Generator) -> Int[Tensor, "B T"]:
        """A number a time point; those from 0 to `n_kept` (excluded) are kept."""

    def draw(self, batch: ConnectomeBatch, generator: torch.Generator) -> Bool[Tensor, "B T"]:
        """Which time points are kept.

        Raises:
            DataError: If a row has no time series.
        """
        _check_series(batch)
        assert batch.scans is not None
        there = batch.scans.timepoints.cpu()
        count = there.sum(dim=1, keepdim=True)
        n_kept = torch.minimum((self.share * count.double()).round().long().clamp(min=_FEWEST_TIME_POINTS), count)
        order = self._order(there, n_kept, generator)
        return (there & (order >= 0) & (order < n_kept)).to(batch.device)

    def apply(self, batch: ConnectomeBatch, draw: Bool[Tensor, "B T"]) -> ConnectomeBatch:
        """The connectomes of the kept time points.

        Raises:
            DataError: If a row has no time series.
        """
        _check_series(batch)
        assert batch.scans is not None
        scans = batch.scans.during(draw)
        (before, _), (after, varies) = batch.scans.connectivity(), scans.connectivity()
        visible = batch.visible & varies.unsqueeze(1) & varies.unsqueeze(2)
        weights = batch.weights + (after - before) / batch.scans.scale[:, None, None]
        return replace(batch, weights=weights.masked_fill(~visible, 0.0), visible=visible, scans=scans)


@dataclass(frozen=True)
class TimeWindow(AbstractTimeView):
    """The connectome of one stretch of a scan that begins anywhere; two draws are two views of a subject.

    Args:
        share: Length of the stretch as a share of the scan.
    """

    def _order(self, there: Bool[Tensor, "B T"], n_kept: Int[Tensor, "B 1"], generator: torch.Generator) -> Int[Tensor, "B T"]:
        """Position of a time point counted from the first of the stretch."""
        room = there.sum(dim=1, keepdim=True) - n_kept + 1
        start = (torch.rand(room.shape, generator=generator) * room).long().clamp(max=room - 1)
        return there.cumsum(dim=1) - 1 - start


@dataclass(frozen=True)
class TimePointDropout(AbstractTimeView):
    """The connectome of time points chosen one by one: a pseudo-connectome, as in BrainMass (Yang et al., 2024).

    Args:
        share: Share of the time points to keep.
    """

    def _order(self, there: Bool[Tensor, "B T"], n_kept: Int[Tensor, "B 1"], generator: torch.Generator) -> Int[Tensor, "B T"]:
        """A random rank among the time points there are."""
        return torch.rand(there.shape, generator=generator).masked_fill(~there, 2.0).argsort(dim=1).argsort(dim=1)


def _check_series(batch: ConnectomeBatch) -> None:
    absent = list(batch.subject_ids)
    if batch.scans is not None:
        has_time = batch.scans.timepoints.any(dim=1).tolist()
        absent = [subject for subject, there in zip(batch.subject_ids, has_time, strict=True) if not there]
    if absent:
        raise DataError(
            f"Expected the time series of every connectome for a view of a part of the time, found none for {len(absent)}: {absent[:5]}. "
            "Load time series and build with transform(cohort, series=True), or use views of connections: matrices have no time."
        )
