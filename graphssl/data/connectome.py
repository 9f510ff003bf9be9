"""A batch of connectomes: dense, padded, masked; the one form in which encoders see brain graphs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from graphssl.data.batch import row_numbers
from graphssl.data.scans import Scans
from graphssl.data.table import TableBatch
from graphssl.errors import DataError


@dataclass(frozen=True, eq=False)
class ConnectomeBatch:
    """Connectomes of any atlases side by side; one row is one scan in one atlas.

    Args:
        subject_ids: Subject of each row `[B]`; a subject may have a row an atlas.
        weights: Connection weights `[B, R, R]`, symmetric and signed; zero where not visible.
        visible: Which connections can be read `[B, R, R]`: both regions observed, not the diagonal, not hidden by an objective.
        mask: Which regions exist and were observed `[B, R]`; padding is False.
        centroids: Centroids in MNI mm `[B, R, 3]`; zero in padding.
        networks: Index into `network_names` `[B, R]`; -1 where unknown.
        atlas: Atlas name of each row `[B]`.
        network_names: Names of the networks.
        scans: The time series, where views need them; None where nobody asked for them.
        covariates: What is known of the subject of each row, such as age and motion; None where nobody asked for it.
    """

    subject_ids: tuple[str, ...]
    weights: Float[Tensor, "B R R"]
    visible: Bool[Tensor, "B R R"]
    mask: Bool[Tensor, "B R"]
    centroids: Float[Tensor, "B R 3"]
    networks: Int[Tensor, "B R"]
    atlas: tuple[str, ...]
    network_names: tuple[str, ...] = ()
    scans: Scans | None = None
    covariates: TableBatch | None = None

    def __post_init__(self) -> None:
        n, r = self.mask.shape
        expected = {"weights": (n, r, r), "visible": (n, r, r), "centroids": (n, r, 3), "networks": (n, r)}
        wrong = {name: tuple(getattr(self, name).shape) for name, shape in expected.items() if tuple(getattr(self, name).shape) != shape}
        if wrong or len(self.subject_ids) != n or len(self.atlas) != n:
            raise DataError(
                f"Expected shapes {expected} and {n} ids for a batch of {n} connectomes, found {wrong or (len(self.subject_ids), len(self.atlas))}."
            )
        if self.scans is not None and (len(self.scans), self.scans.series.shape[2]) != (n, r):
            raise DataError(f"Expected time series of {n} connectomes and {r} regions, found series of shape {tuple(self.scans.series.shape)}.")
        if self.covariates is not None and self.covariates.subject_ids != self.subject_ids:
            raise DataError(f"Expected the covariates of the {n} rows' subjects in their order, found those of {self.covariates!r}.")

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __repr__(self) -> str:
        atlases = ", ".join(f"{name} {self.atlas.count(name)}" for name in dict.fromkeys(self.atlas))
        return f"ConnectomeBatch({len(self)} connectomes, up to {self.mask.shape[1]} regions; {atlases}; {self.weights.device})"

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.weights.device

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> "ConnectomeBatch":
        """The given rows, by number or by a mask of booleans, with padding that none of them needs cut off."""
        index = row_numbers(rows, self.device)
        chosen = index.tolist()
        used = self.mask[index].any(dim=0).nonzero()
        width = int(used.max()) + 1 if len(used) else 1
        return ConnectomeBatch(
            tuple(self.subject_ids[i] for i in chosen),
            self.weights[index, :width, :width],
            self.visible[index, :width, :width],
            self.mask[index, :width],
            self.centroids[index, :width],
            self.networks[index, :width],
            tuple(self.atlas[i] for i in chosen),
            self.network_names,
            None if self.scans is None else self.scans.take(index, width),
            None if self.covariates is None else self.covariates[index],
        )

    def to(self, device: torch.device | str) -> "ConnectomeBatch":
        """The batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("weights", "visible", "mask", "centroids", "networks")}
        scans = None if self.scans is None else self.scans.to(device)
        covariates = None if self.covariates is None else self.covariates.to(device)
        return replace(self, **moved, scans=scans, covariates=covariates)

    def signature(self) -> bytes:
        """What tells these rows from others: subjects, atlases, the sum of each row's weights, and covariates where there are."""
        sums = self.weights.double().sum(dim=(1, 2)).cpu().numpy()
        known = b"" if self.covariates is None else self.covariates.signature()
        return "\n".join(self.subject_ids + self.atlas).encode() + sums.tobytes() + known

    def hide(self, hidden: Bool[Tensor, "B R R"]) -> "ConnectomeBatch":
        """The batch with some connections made unreadable: not visible, weight zero."""
        return replace(self, weights=self.weights.masked_fill(hidden, 0.0), visible=self.visible & ~hidden)

    def hide_covariates(self) -> "ConnectomeBatch":
        """The batch with its covariates made unreadable, where it has any: by them two looks at a subject would be known as one."""
        if self.covariates is None:
            return self
        return replace(self, covariates=self.covariates.hide(torch.ones_like(self.covariates.measured)))

    @classmethod
    def cat(cls, batches: Sequence["ConnectomeBatch"]) -> "ConnectomeBatch":
        """Batches below one another, padded to the largest atlas.

        Raises:
            DataError: If there is none, their networks are named differently, or some have covariates and others none.
        """
        if not batches:
            raise DataError("Expected at least one batch of connectomes, found none.")
        names = {batch.network_names for batch in batches}
        if len(names) > 1:
            raise DataError(f"Expected the same network names in all batches, found {sorted(names)[:2]}.")
        width = max(batch.mask.shape[1] for batch in batches)

        def stacked(name: str, value: float | bool, region_axes: int) -> Tensor:
            parts = []
            for batch in batches:
                tensor = getattr(batch, name)
                room = width - batch.mask.shape[1]
                trailing = [0, 0] * (tensor.dim() - 1 - region_axes)
                parts.append(torch.nn.functional.pad(tensor, [*trailing, *[0, room] * region_axes], value=value))
            return torch.cat(parts)

        return cls(
            tuple(subject for batch in batches for subject in batch.subject_ids),
            stacked("weights", 0.0, 2),
            stacked("visible", False, 2),
            stacked("mask", False, 1),
            stacked("centroids", 0.0, 1),
            stacked("networks", -1, 1),
            tuple(name for batch in batches for name in batch.atlas),
            batches[0].network_names,
            _scans(batches),
            _covariates(batches),
        )


def _scans(batches: Sequence[ConnectomeBatch]) -> Scans | None:
    """Time series of all batches; rows of a batch without any have no time point."""
    if all(batch.scans is None for batch in batches):
        return None
    return Scans.cat([Scans.none(len(b), b.mask.shape[1]).to(b.device) if b.scans is None else b.scans for b in batches])


def _covariates(batches: Sequence[ConnectomeBatch]) -> TableBatch | None:
    tables = [batch.covariates for batch in batches if batch.covariates is not None]
    if tables and len(tables) < len(batches):
        raise DataError(f"Expected covariates in all batches or in none, found them in {len(tables)} of {len(batches)}. Use one builder.")
    return TableBatch.cat(tables) if tables else None
