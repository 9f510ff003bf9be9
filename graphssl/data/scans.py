"""Time series beside a batch of connectomes, from which those of a part of the time can be made."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from graphssl.errors import DataError

# arctanh(1) is infinite; correlations are cut off here before the transform.
LARGEST_CORRELATION = 1 - 1e-6


@dataclass(frozen=True, eq=False)
class Scans:
    """Time series of the rows of a batch, and how its weights were made of them.

    A row whose connectome was loaded as a matrix has no time point.

    Args:
        series: Standardised time series `[B, T, R]`; zero in padding and in regions that were not observed.
        timepoints: Which time points there are `[B, T]`; padding is False.
        scale: Spread by which a row's connectivity was divided `[B]`; 1 where it was not.
        fisher_z: Whether a row's correlations were transformed by arctanh `[B]`.

    Raises:
        DataError: If the shapes do not fit one another.
    """

    series: Float[Tensor, "B T R"]
    timepoints: Bool[Tensor, "B T"]
    scale: Float[Tensor, "B"]
    fisher_z: Bool[Tensor, "B"]

    def __post_init__(self) -> None:
        n = len(self.series)
        expected = {"timepoints": tuple(self.series.shape[:2]), "scale": (n,), "fisher_z": (n,)}
        wrong = {name: tuple(getattr(self, name).shape) for name, shape in expected.items() if tuple(getattr(self, name).shape) != shape}
        if self.series.dim() != 3 or wrong:
            raise DataError(f"Expected shapes {expected} beside series [B, T, R] of shape {tuple(self.series.shape)}, found {wrong}.")

    def __len__(self) -> int:
        return len(self.series)

    @classmethod
    def of(cls, arrays: Sequence[npt.NDArray[Any]], observed: Bool[Tensor, "B R"], *, scale: float = 1.0, fisher_z: bool = True) -> "Scans":
        """Scans of one atlas.

        Args:
            arrays: Time series `[T_i, R]`.
            observed: Regions with a signal `[B, R]`; what the others hold is not read.
            scale: Spread by which connectivity is divided.
            fisher_z: Whether correlations are transformed by arctanh.
        """
        standard = [_standardised(array, seen) for array, seen in zip(arrays, observed.numpy(), strict=True)]
        length = torch.tensor([len(array) for array in standard])
        series = pad_sequence(standard, batch_first=True)
        timepoints = torch.arange(series.shape[1]) < length.unsqueeze(1)
        return cls(series, timepoints, torch.full((len(standard),), scale), torch.full((len(standard),), fisher_z))

    @classmethod
    def none(cls, n_rows: int, n_regions: int) -> "Scans":
        """Rows without a time point."""
        return cls(
            torch.zeros(n_rows, 0, n_regions),
            torch.zeros(n_rows, 0, dtype=torch.bool),
            torch.ones(n_rows),
            torch.zeros(n_rows, dtype=torch.bool),
        )

    @classmethod
    def cat(cls, parts: Sequence["Scans"]) -> "Scans":
        """Scans below one another, padded to the longest and to the largest atlas."""
        length, width = (max(part.series.shape[axis] for part in parts) for axis in (1, 2))
        series = [pad(part.series, (0, width - part.series.shape[2], 0, length - part.series.shape[1])) for part in parts]
        timepoints = [pad(part.timepoints, (0, length - part.timepoints.shape[1])) for part in parts]
        return cls(torch.cat(series), torch.cat(timepoints), *(torch.cat([getattr(p, name) for p in parts]) for name in ("scale", "fisher_z")))

    def take(self, rows: Tensor, n_regions: int) -> "Scans":
        """The rows of the given numbers, with the first regions of each and without time that none of them needs."""
        timepoints = self.timepoints[rows]
        used = timepoints.any(dim=0).nonzero()
        length = int(used.max()) + 1 if len(used) else 0
        return Scans(self.series[rows, :length, :n_regions], timepoints[:, :length], self.scale[rows], self.fisher_z[rows])

    def to(self, device: torch.device | str) -> "Scans":
        """The scans on another device."""
        return Scans(*(getattr(self, field.name).to(device) for field in fields(self)))

    def during(self, kept: Bool[Tensor, "B T"]) -> "Scans":
        """The scans with the kept time points only."""
        return replace(self, timepoints=self.timepoints & kept)

    def connectivity(self) -> tuple[Float[Tensor, "B R R"], Bool[Tensor, "B R"]]:
        """Correlations over the time points there are, Fisher z where it was done, and which regions vary in that time.

        All rows at once; zero are the diagonal and the rows and columns of regions that do not vary.
        """
        with torch.autocast(self.series.device.type, enabled=False):  # half precision is too coarse for a correlation near 1
            there = self.timepoints.unsqueeze(-1)
            count = there.sum(dim=1, keepdim=True).clamp(min=1)
            centred = (self.series - (self.series * there).sum(dim=1, keepdim=True) / count) * there
            norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)  # [B, 1, R]
            varies = norm > _SMALLEST_DEVIATION * count.sqrt()
            unit = torch.where(varies, centred / norm.masked_fill(~varies, 1.0), 0.0)
            found = (unit.mT @ unit).clamp(-LARGEST_CORRELATION, LARGEST_CORRELATION)
            torch.diagonal(found, dim1=-2, dim2=-1).zero_()
            return torch.where(self.fisher_z[:, None, None], found.atanh(), found), varies.squeeze(1)


# Series have standard deviation 1 over the whole scan; what is left of a constant stretch in single precision is far below.
_SMALLEST_DEVIATION = 1e-4


def _standardised(array: npt.NDArray[Any], observed: npt.NDArray[np.bool_]) -> Tensor:
    series = np.where(observed, array, 0.0).astype(np.float64)
    series -= series.mean(axis=0)
    deviation = series.std(axis=0)
    return torch.from_numpy((series / np.where(deviation > 0, deviation, 1.0)).astype(np.float32))
