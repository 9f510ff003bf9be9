"""What contrastive, redundancy-reducing, clustering and distilling objectives share: two looks at a subject are compared."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.batch import Batch
from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.heads import projector, spread
from graphssl.views.base import AbstractView, Compose
from graphssl.views.graph import HideConnections, HideRegions

# Works on any connectome, matrices included; two windows of a scan are the better views where there are time series.
DEFAULT_VIEW = Compose((HideRegions(0.2), HideConnections(0.3)))


class AbstractTwoViews(AbstractObjective):
    """Draw two views of every row, a connectome or a patient's table, embed and project both, and compare.

    Beside the loss it notes `pooled_spread` and `projected_spread`: how far the directions of pooled and projected vectors are spread, 0 where all
    rows got the same vector, which is collapse. Both views have the covariates of a connectome's subject, by which they would be known as one without
    a look at the connectome; these are hidden.

    Args:
        view: The look at a row, drawn twice; regions and connections out of sight when left out.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a width is not positive.
    """

    def __init__(self, view: AbstractView | None, width: int, hidden: int) -> None:
        super().__init__()
        check_positive(width=width, hidden=hidden)
        self.view, self.width, self.hidden = view or DEFAULT_VIEW, width, hidden

    @property
    def needs_series(self) -> bool:
        """Whether the view must see the time series."""
        return self.view.needs_series

    def for_cohort(self, cohort: Cohort) -> "AbstractTwoViews":
        """The objective with a view that knows what it must of the subjects; itself where it needs nothing."""
        view = self.view.for_cohort(cohort)
        return self if view == self.view else type(self)(**{**self.arguments(), "view": view})

    def prepare(self, encoder: AbstractEncoder) -> "AbstractTwoViews":
        """Make the projector for the encoder's pooled width."""
        self.projector = projector(encoder.pooled_width, self.hidden, self.width)
        return self

    @abstractmethod
    def compare(self, projected: tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]], views: tuple[Any, Any]) -> Loss:
        """The loss of two projected views of the same rows."""

    def look(self, batch: Any, generator: torch.Generator) -> tuple[Any, Any]:
        """Two views of a batch: the view, drawn twice."""
        return self.view(batch, generator), self.view(batch, generator)

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The loss on two views of a batch.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If the batch holds one subject only, or the view needs time series that it lacks.
        """
        self.check_prepared("projector")
        check_subjects(batch)
        if isinstance(batch, ConnectomeBatch):
            batch = batch.hide_covariates()
        views = self.look(batch, generator)
        pooled = encoder(views[0]).pooled, encoder(views[1]).pooled
        projected = self.projector(pooled[0]), self.projector(pooled[1])
        loss = self.compare(projected, views)
        return Loss(loss.total, {**loss.parts, "pooled_spread": spread(pooled[0]), "projected_spread": spread(projected[0])})


def check_positive(**values: float) -> None:
    """Check arguments that must be above zero.

    Raises:
        ConfigError: If one is not.
    """
    wrong = {name: value for name, value in values.items() if not value > 0}
    if wrong:
        raise ConfigError(f"Expected {', '.join(values)} above 0, found {wrong}.")


def check_subjects(batch: Batch) -> None:
    """Check that there is somebody to compare with: with one subject there is neither a contrast nor a batch statistic.

    Raises:
        DataError: If all rows are of one subject.
    """
    n_subjects = len(set(batch.subject_ids))
    if n_subjects < 2:
        raise DataError(
            f"Expected at least two subjects in a minibatch to compare, found {n_subjects}. "
            "Raise the batch size, or the share of validation subjects."
        )


def subject_index(batch: Batch) -> Tensor:
    """A number a subject `[B]`, the same for all of its rows."""
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(batch.subject_ids))}
    return torch.tensor([numbers[subject] for subject in batch.subject_ids], device=batch.device)
