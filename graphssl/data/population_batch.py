"""Patients of a population as a batch: the rows of some, and by reference the table and the graph of those they may learn from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from graphssl.data.batch import row_numbers
from graphssl.data.multimodal import MultimodalBatch
from graphssl.data.population import PopulationGraph
from graphssl.errors import DataError

Made = TypeVar("Made")

# What is kept of a population and follows from its records, not from its graph alone.
_OF_PATIENTS = ("signature", "on ", "once ")


class Patients(Protocol):
    """What a population asks of patients: records (`AbstractRecords`), or several kinds of data side by side (`MultimodalBatch`)."""

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Patient of each row `[B]`."""

    @property
    def hidden(self) -> Bool[Tensor, "B ..."]:
        """What must not be read of each."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Self: ...

    def to(self, device: torch.device | str) -> Self:
        """The patients on another device."""

    def signature(self) -> bytes:
        """What tells them from others."""

    def hide(self, hidden: Any) -> Self:
        """The patients with more made unreadable."""

    def hide_in(self, rows: Any, hidden: Any) -> Self:
        """The patients with more of some made unreadable."""

    def same_rows(self, other: Any) -> Bool[Tensor, "B"]:
        """Which rows hold the same as those of others."""

    def cat(self, batches: Sequence[Any]) -> Any:
        """Patients of one kind below one another."""


@dataclass(frozen=True, eq=False)
class Population:
    """The patients that others may learn from, as records and as a graph; made once, and shared by all batches.

    In an inductive setting these are the training patients, in a transductive one all patients.

    Args:
        patients: Their records, a row a node of the graph.
        graph: Their graph.

    Raises:
        DataError: If records and graph are not of the same patients.
    """

    patients: Patients
    graph: PopulationGraph
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.patients.subject_ids != self.graph.subject_ids:
            raise DataError(
                f"Expected records and graph of the same patients, found {len(self.patients)} rows and {len(self.graph)} nodes, or other ids."
            )

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.patients.device

    def keep(self, name: str, make: Callable[[], Made]) -> Made:
        """What follows from the population under this name, made when first asked for: distances need not be searched in every step."""
        if name not in self._kept:
            with torch.inference_mode(False), torch.no_grad():  # whoever asks first, it serves training too
                self._kept[name] = make()
        made: Made = self._kept[name]
        return made

    def with_patients(self, patients: Patients) -> "Population":
        """The same graph with other records of the same patients; what was made of the graph is kept.

        Args:
            patients: The records, in the order of the nodes.
        """
        other = Population(patients, self.graph)
        other._kept.update({name: made for name, made in self._kept.items() if not name.startswith(_OF_PATIENTS)})
        return other

    def to(self, device: torch.device | str) -> "Population":
        """The population on another device; it is moved once."""
        target = torch.device(device)
        if target.type == self.device.type and target.index in (None, self.device.index):
            return self
        return self.keep(f"on {target}", lambda: Population(self.patients.to(target), self.graph.to(target)))

    def signature(self) -> bytes:
        """What tells the population from others."""
        graph = self.graph
        return self.keep("signature", lambda: b"".join([self.patients.signature(), _bytes(graph.neighbors), _bytes(graph.similarity.sum(dim=1))]))


@dataclass(frozen=True, eq=False)
class PopulationBatch:
    """Some patients, each with its place in the population, or with its neighbours there.

    To objectives it is the records of its patients: whatever these have, such as `numbers` of a table or `values` of timelines, is read from it by
    the same name. What is hidden of a patient is hidden in the population too, so that no neighbour in the same batch reads it.

    Args:
        patients: Records of the batch's patients `[B]`, of the population's kind.
        nodes: Place of each in the population, -1 for one that is attached to it `[B]`.
        neighbors: Places of the neighbours of attached patients `[B, K]`; -1 where there is none, and for patients of the population.
        similarity: Similarity of each neighbour in every group `[B, K, G]`.
        population: Those they may learn from.
        changed: Whether a view has changed more of the batch's patients than what is hidden: they are then read from the batch, by whoever hears of
            them, and not from the population.
        share_of: The minibatch that these are a share of, where it passes an encoder in shares.

    Raises:
        DataError: If the shapes do not fit one another, or a place is none.
    """

    patients: Patients
    nodes: Int[Tensor, "B"]
    neighbors: Int[Tensor, "B K"]
    similarity: Float[Tensor, "B K G"]
    population: Population
    changed: bool = False
    share_of: "Minibatch | None" = None

    def __post_init__(self) -> None:
        b, k, g = len(self.patients), self.neighbors.shape[-1], len(self.population.graph.groups)
        expected = {"nodes": (b,), "neighbors": (b, k), "similarity": (b, k, g)}
        wrong = {name: tuple(getattr(self, name).shape) for name, shape in expected.items() if tuple(getattr(self, name).shape) != shape}
        if wrong:
            raise DataError(f"Expected shapes {expected} for a batch of {b} patients and {g} groups, found {wrong}.")
        places = torch.cat([self.nodes, self.neighbors.flatten()])
        outside = places[(places < -1) | (places >= len(self.population))]
        if len(outside):
            raise DataError(f"Expected places among the {len(self.population)} patients of the population, found {int(outside[0])}.")

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        return f"PopulationBatch({len(self)} patients, {int(self.attached.sum())} of them attached; population of {len(self.population)})"

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.nodes.device

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Patient of each row `[B]`."""
        return self.patients.subject_ids

    @property
    def attached(self) -> Bool[Tensor, "B"]:
        """Which patients are not of the population but attached to it."""
        return self.nodes < 0

    @property
    def places(self) -> Int[Tensor, "B"]:
        """Where each row stands among the population and, behind it, the attached patients of the batch."""
        return torch.where(self.attached, len(self.population) + self.attached.cumsum(0) - 1, self.nodes)

    def __getattr__(self, name: str) -> Any:
        """What the records of the batch's patients have."""
        if name.startswith("_") or name == "patients":  # copies ask before there are any
            raise AttributeError(name)
        return getattr(self.patients, name)

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> "PopulationBatch":
        """The given rows as a batch of their own; the population stays the same. Rows of a share are a share of the same minibatch."""
        index = row_numbers(rows, self.device)
        share_of = None if self.share_of is None else self.share_of._replace(rows=self.share_of.rows[index])
        taken = (self.patients[index], self.nodes[index], self.neighbors[index], self.similarity[index])
        return PopulationBatch(*taken, self.population, self.changed, share_of)

    def share(self, rows: Sequence[int], generator: torch.Generator | None = None) -> "PopulationBatch":
        """The given rows, which hear of others what they would hear in the whole batch: what is hidden in it is hidden from them.

        Args:
            rows: Numbers of the rows.
            generator: Source of the neighbourhoods that are sampled for the whole batch, on the CPU; the same wherever another share is. When left
                out each share samples its own.
        """
        index = row_numbers(rows, self.device)
        whole, numbers = (self, index) if self.share_of is None else (self.share_of.batch, self.share_of.rows[index])
        return replace(self[index], share_of=Minibatch(whole, numbers, generator))

    def to(self, device: torch.device | str) -> "PopulationBatch":
        """The batch on another device; the population is moved there once."""
        nodes, neighbors, similarity = (part.to(device) for part in (self.nodes, self.neighbors, self.similarity))
        share_of = self.share_of and Minibatch(self.share_of.batch.to(device), self.share_of.rows.to(device), self.share_of.generator)
        return PopulationBatch(self.patients.to(device), nodes, neighbors, similarity, self.population.to(device), self.changed, share_of)

    def signature(self) -> bytes:
        """What tells these rows from others."""
        return b"".join([self.patients.signature(), _bytes(self.nodes), _bytes(self.neighbors), self.population.signature()])

    def hide(self, hidden: Bool[Tensor, "B ..."]) -> "PopulationBatch":
        """The batch with some of what is known made unreadable too, whoever looks."""
        return replace(self, patients=self.patients.hide(hidden))

    def with_parts(self, **parts: Any) -> "PopulationBatch":
        """The batch with other rows in place of those of some modalities, such as a view of them; see `changed`."""
        return replace(self, patients=_modalities(self.patients).with_parts(**parts), changed=True)

    def without(self, *names: str) -> "PopulationBatch":
        """The batch as if nobody, in the population neither, had the given modalities.

        Raises:
            DataError: If there is no such modality.
        """
        population = self.population.with_patients(_modalities(self.population.patients).without(*names))
        return replace(self, patients=_modalities(self.patients).without(*names), population=population)

    def read(self, nodes: Int[Tensor, "M"] | None = None) -> Patients:
        """Patients of the population as they may be read: as the batch has them where a view has changed them, and without what it hides.

        Args:
            nodes: Their places, each at most once and rising; all when left out.
        """
        if self.share_of is not None:
            return self.share_of.batch.read(nodes)
        own = ~self.attached
        patients = self.population.patients if nodes is None else self.population.patients[nodes]
        if not self.changed and not bool(self.hidden[own].any()):
            return patients
        place = self.nodes[own] if nodes is None else torch.searchsorted(nodes, self.nodes[own]).clamp(max=len(nodes) - 1)
        found = torch.ones_like(place, dtype=torch.bool) if nodes is None else nodes[place] == self.nodes[own]
        if not self.changed:
            return patients.hide_in(place[found], self.hidden[own][found])
        others = torch.ones(len(patients), dtype=torch.bool, device=self.device)
        others[place[found]] = False
        kept, changed = others.nonzero().flatten(), own.nonzero().flatten()[found]
        where = torch.empty(len(patients), dtype=torch.long, device=self.device)
        where[torch.cat([kept, place[found]])] = torch.arange(len(patients), device=self.device)
        return patients.cat([patients[kept], self.patients[changed]])[where]

    def with_everybody(self) -> tuple[Patients, Int[Tensor, "B"]]:
        """The whole population as it may be read, the attached patients behind it, and the place of each row of the batch among them `[B]`."""
        attached = self.attached
        everybody = self.read()
        if bool(attached.any()):
            everybody = everybody.cat([everybody, self.patients[attached]])
        return everybody, self.places


class Minibatch(NamedTuple):
    """A whole minibatch, of which a process, or a part of a step, has some rows.

    Attributes:
        batch: The minibatch.
        rows: Numbers of the rows of the share `[b]`.
        generator: Source of the neighbourhoods that are sampled for the whole of it; None where each share samples its own.
    """

    batch: PopulationBatch
    rows: Int[Tensor, "b"]
    generator: torch.Generator | None


def _modalities(patients: Any) -> MultimodalBatch:
    if not isinstance(patients, MultimodalBatch):
        raise DataError(f"Expected patients with several kinds of data, found a {type(patients).__name__}. Make them with a MultimodalBuilder.")
    return patients


def _bytes(values: Tensor) -> bytes:
    return values.cpu().numpy().tobytes()
