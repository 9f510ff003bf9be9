"""The population graph: patients and those they learn from, with how alike they are."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from graphssl.data.cohort import check_ids
from graphssl.errors import DataError


@dataclass(frozen=True, eq=False)
class PopulationGraph:
    """Patients as nodes, and for each the neighbours it learns from. It checks itself when made.

    Edges run from the neighbour to the patient, the way messages go. They are stored by patient (compressed rows), the neighbours of one behind one
    another. New patients have edges from training patients only, so that what is computed for a patient does not depend on other new ones; a graph
    in which it may is `transductive` and says so.

    Args:
        subject_ids: Patient of each node `[N]`.
        starts: Where the neighbours of each patient start among the edges, and at last the number of edges `[N + 1]`.
        neighbors: Node at the far end of each edge `[E]`.
        similarity: Similarity of the two ends of each edge in every group of features `[E, G]`.
        groups: Names of the groups `[G]`.
        training: Which patients are training patients `[N]`.
        transductive: Whether new patients were there when the neighbours were chosen.

    Raises:
        SchemaError: If ids repeat or are not strings.
        DataError: If shapes do not fit, an edge leads nowhere or to itself, or a new patient is a neighbour in a graph that is not transductive.
    """

    subject_ids: tuple[str, ...]
    starts: Int[Tensor, "N+1"]
    neighbors: Int[Tensor, "E"]
    similarity: Float[Tensor, "E G"]
    groups: tuple[str, ...]
    training: Bool[Tensor, "N"]
    transductive: bool = False

    def __post_init__(self) -> None:
        check_ids(list(self.subject_ids))
        self._check_shapes()
        n, starts = len(self), self.starts
        if n and (int(starts[0]) != 0 or int(starts[-1]) != len(self.neighbors) or bool((starts.diff() < 0).any())):
            raise DataError(f"Expected starts to rise from 0 to the {len(self.neighbors)} edges, found {starts.tolist()[:8]}.")
        outside = self.neighbors[(self.neighbors < 0) | (self.neighbors >= n)]
        if len(outside):
            raise DataError(f"Expected neighbours among the {n} patients, found node {int(outside[0])}.")
        source, target = self.edge_index
        if bool((source == target).any()):
            raise DataError(f"Expected no patient to be its own neighbour, found {self.subject_ids[int(target[source == target][0])]!r}.")
        if not self.transductive and not bool(self.training[source].all()):
            stranger = self.subject_ids[int(source[~self.training[source]][0])]
            raise DataError(
                f"Expected training patients as neighbours, found the new patient {stranger!r}. Mark the graph as transductive if that is meant."
            )

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __repr__(self) -> str:
        kind = "transductive" if self.transductive else "inductive"
        return (
            f"PopulationGraph({len(self)} patients, {int((~self.training).sum())} of them new; {len(self.neighbors)} edges; "
            f"groups {', '.join(self.groups)}; {kind}; {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.neighbors.device

    @property
    def edge_index(self) -> Int[Tensor, "2 E"]:
        """Both ends of every edge: the neighbour, then the patient who learns from it; PyTorch Geometric's convention."""
        return torch.stack([self.neighbors, torch.arange(len(self), device=self.device).repeat_interleave(self.starts.diff())])

    @property
    def in_links(self) -> Int[Tensor, "N"]:
        """How many training patients have a patient among their neighbours `[N]`.

        In a graph of k nearest neighbours everybody has k neighbours, which tells nothing of anybody; how often one is chosen does. New patients do
        not count, so that it stays the same whoever is attached.
        """
        source, target = self.edge_index
        return torch.bincount(source[self.training[target]], minlength=len(self))

    def to(self, device: torch.device | str) -> "PopulationGraph":
        """The graph on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("starts", "neighbors", "similarity", "training")})

    def _check_shapes(self) -> None:
        n, n_edges = len(self.subject_ids), self.neighbors.shape[0]
        expected = {"starts": (n + 1,), "neighbors": (n_edges,), "similarity": (n_edges, len(self.groups)), "training": (n,)}
        wrong = {name: tuple(getattr(self, name).shape) for name, shape in expected.items() if tuple(getattr(self, name).shape) != shape}
        if wrong:
            raise DataError(f"Expected shapes {expected} for {n} patients, {n_edges} edges and {len(self.groups)} groups; found {wrong}.")
