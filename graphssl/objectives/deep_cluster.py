"""Both views of a subject belong to the cluster that k-means found for one of them, over everything that is remembered."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.batch import Batch
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import Loss
from graphssl.objectives.heads import Prototypes, used_share
from graphssl.objectives.kmeans import spherical_kmeans
from graphssl.objectives.multi_crop import check_share
from graphssl.objectives.two_views import AbstractTwoViews, check_positive
from graphssl.views.base import AbstractView


class DeepCluster(AbstractTwoViews):
    """Predict the cluster of a subject, where clusters are found anew from time to time among the vectors of all subjects.

    DeepCluster-v2 (Caron et al., NeurIPS 2020, appendix) with the clustering agreement of Nguyen et al. (AAAI 2023, arXiv 2212.01893). A memory holds
    the last vector of both views of every row. Each head has its own clusters; heads take turns in which view's memory is clustered, and that
    assignment is what both views must predict, so that the views agree. Centroids become the prototypes. A row that was not in the memory when it was
    clustered, such as one of the validation subjects, belongs to the prototype that is nearest to it.

    Args:
        view: The look at a row, drawn twice.
        n_clusters: Number of clusters of each head.
        n_clusterings: How often clusters are found anew, at even distances over the training; the number of epochs is the paper's.
        temperature: Temperature of the softmax that predicts.
        frozen: Share of the training in which the prototypes move with the clusters alone.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.
        rows: Rows of each subject, for the size of the memory; where it is left out, pre-training takes those of its cohort.

    Raises:
        ConfigError: If a number is not positive, a share is not in [0, 1], or there is no head.
    """

    progress: Tensor
    memory: Tensor
    remembered: Tensor
    assigned: Tensor

    def __init__(
        self,
        view: AbstractView | None = None,
        n_clusters: Sequence[int] = (8, 8, 8),
        n_clusterings: int = 30,
        temperature: float = 0.1,
        frozen: float = 0.0,
        width: int = 64,
        hidden: int = 128,
        rows: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(view, width, hidden)
        if not n_clusters:
            raise ConfigError("Expected the number of clusters of at least one head, found none.")
        check_positive(n_clusters=min(n_clusters), n_clusterings=n_clusterings, temperature=temperature)
        check_share(frozen=frozen)
        self.n_clusters, self.n_clusterings, self.temperature, self.frozen = tuple(n_clusters), n_clusterings, temperature, frozen
        self.rows = None if rows is None else dict(rows)
        self._noted: list[tuple[Tensor, Tensor]] = []

    @property
    def selects_epoch(self) -> bool:
        """No: clusters move with the encoder that must predict them."""
        return False

    def for_cohort(self, cohort: Cohort) -> "DeepCluster":
        """The objective with room for every image, or every connectome, of the cohort, unless it was told the rows."""
        if self.rows is not None:
            return self
        found = super().for_cohort(cohort)
        sources: list[Mapping[str, Any]] = [images.values for images in cohort.images.values()]
        sources += [regions.values for regions in cohort.regions.values()]
        counts = {subject: [_rows_of(values, subject) for values in sources] for subject in cohort.ids}
        return DeepCluster(**{**found.arguments(), "rows": {subject: max(1, sum(numbers)) for subject, numbers in counts.items()}})

    def prepare(self, encoder: AbstractEncoder) -> "DeepCluster":
        """Make the projector, prototypes of every head, and an empty memory.

        Raises:
            ConfigError: If it was not told the rows, or there are fewer than clusters.
        """
        super().prepare(encoder)
        if self.rows is None:
            raise ConfigError("Expected a DeepCluster that knows the subjects, found one without. Give rows, or call for_cohort(cohort) first.")
        n = sum(self.rows.values())
        if n < max(self.n_clusters):
            raise ConfigError(f"Expected at least as many rows as clusters, found {n} for {max(self.n_clusters)}. Ask for fewer clusters.")
        starts = torch.tensor([0, *self.rows.values()]).cumsum(dim=0).tolist()
        self.start = dict(zip(self.rows, starts, strict=False))
        self.prototypes = nn.ModuleList(Prototypes(self.width, k) for k in self.n_clusters)
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("memory", torch.zeros(n, 2, self.width))
        self.register_buffer("remembered", torch.zeros(n, dtype=torch.bool))
        self.register_buffer("assigned", torch.full((len(self.n_clusters), n), -1))
        return self

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The mean loss of both views over all heads, and how evenly the predictions of the first head use its prototypes."""
        places = self.places(views[0]).to(projected[0].device)
        frozen, losses = bool(self.progress < self.frozen), []
        for head, prototypes in enumerate(self.prototypes):
            scores: list[Tensor] = [prototypes(vectors, frozen=frozen).float() for vectors in projected]
            target = self._targets(head, places, scores[head % 2].detach())
            losses.append(torch.stack([F.cross_entropy(each / self.temperature, target) for each in scores]).mean())
            if head == 0:
                used = used_share(torch.softmax(torch.cat(scores).detach() / self.temperature, dim=1))
        if self.training:
            vectors = torch.stack([F.normalize(each.detach().float(), dim=1) for each in projected], dim=1)
            self._noted.append((places, vectors))
        return Loss(torch.stack(losses).mean(), {"prototypes_used": used})

    def places(self, batch: Batch) -> Int[Tensor, "B"]:
        """Where each row is remembered: rows of a subject one after the other, in the order in which they stand in the batch.

        Raises:
            DataError: If a subject is not known, or has more rows than were told.
        """
        rows, seen, found = self.rows or {}, dict.fromkeys(batch.subject_ids, 0), []
        for subject in batch.subject_ids:
            if seen[subject] >= rows.get(subject, 0):
                raise DataError(f"Expected {rows.get(subject, 0)} rows of subject {subject!r} at most, found more. Tell the rows of all subjects.")
            found.append(self.start[subject] + seen[subject])
            seen[subject] += 1
        return torch.tensor(found)

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Remember the vectors of the step, and find the clusters anew where it is time."""
        for places, vectors in self._noted:
            self.memory[places], self.remembered[places] = vectors, True
        self._noted = []
        number = int(progress * self.n_clusterings + 1e-6)
        if number > int(float(self.progress) * self.n_clusterings + 1e-6):
            self.cluster(number)
        self.progress.fill_(progress)

    @torch.no_grad()
    def cluster(self, number: int) -> None:
        """Find the clusters of each head in the memory of its view; the number of the clustering is the seed of where it starts.

        As long as fewer rows are remembered than there are clusters, nothing is done.
        """
        known = self.remembered.nonzero().flatten()
        if len(known) < max(self.n_clusters):
            return
        for head, prototypes in enumerate(self.prototypes):
            vectors = self.memory[known, head % 2]
            centroids = spherical_kmeans(vectors, self.n_clusters[head], torch.Generator().manual_seed(1_000 * number + head))
            prototypes.get_parameter("directions").copy_(centroids)
            self.assigned[head, known] = (vectors @ centroids.T).argmax(dim=1)

    def _targets(self, head: int, places: Int[Tensor, "B"], scores: Float[Tensor, "B K"]) -> Int[Tensor, "B"]:
        stored = self.assigned[head, places]
        return torch.where(stored >= 0, stored, scores.argmax(dim=1))


def _rows_of(values: Mapping[str, Any], subject: str) -> int:
    """Rows that a subject has in one source: a number of images, or one connectome."""
    found = values.get(subject, 0)
    return found if isinstance(found, int) else 1
