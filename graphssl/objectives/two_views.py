"""What contrastive, redundancy-reducing, clustering and distilling objectives share: two looks at a subject are compared."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.batch import Batch
from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.heads import projector, spread
from graphssl.objectives.teacher import Teacher
from graphssl.views.base import AbstractView, Compose
from graphssl.views.graph import HideConnections, HideRegions
from graphssl.views.looks import AbstractLooks, MultiCrop

# Works on any connectome, matrices included; two windows of a scan are the better views where there are time series.
DEFAULT_VIEW = Compose((HideRegions(0.2), HideConnections(0.3)))


class AbstractTwoViews(AbstractObjective):
    """Draw two views of every row, a connectome or a patient's table, embed and project both, and compare.

    Beside the loss it notes `pooled_spread` and `projected_spread`: how far the directions of pooled and projected vectors are spread, 0 where all
    rows got the same vector, which is collapse. Both views have the covariates of a connectome's subject, by which they would be known as one without
    a look at the connectome; these are hidden.

    Args:
        view: The look at a row, drawn twice, or one that gives two at once; regions and connections out of sight when left out.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If a width is not positive, or the view gives another number of looks.
    """

    small_views = False  # whether there may be small ones beside the two
    teacher: Teacher

    def __init__(self, view: AbstractView | None, width: int, hidden: int) -> None:
        super().__init__()
        check_positive(width=width, hidden=hidden)
        check_looks(view, small_views=self.small_views)
        self.view, self.width, self.hidden = view or DEFAULT_VIEW, width, hidden

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    @property
    def reads_tokens(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    @property
    def target_encoder(self) -> AbstractEncoder | None:
        """That of the teacher, where it has one."""
        return self.teacher.encoder if hasattr(self, "teacher") else None

    def prepare(self, encoder: AbstractEncoder) -> "AbstractTwoViews":
        """Make the projector for the encoder's pooled width."""
        self.projector = projector(encoder.pooled_width, self.hidden, self.width)
        return self

    @abstractmethod
    def compare(self, projected: tuple[Float[Tensor, "B D"], ...], views: tuple[Any, ...]) -> Loss:
        """The loss of two projected views of the same rows, and of more where there are more."""

    def look(self, batch: Any, generator: torch.Generator) -> tuple[Any, ...]:
        """Two views of a batch: the view, drawn twice, unless it gives several at once."""
        return looks_of(self.view, batch, generator)

    def embedded(self, encoder: AbstractEncoder, views: tuple[Any, ...]) -> tuple[Float[Tensor, "B P"], ...]:
        """Pooled vectors of the views that the encoder is to see: all of them."""
        return tuple(encoder(view).pooled for view in views)

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
        pooled = self.embedded(encoder, views)
        projected = tuple(self.projector(vectors) for vectors in pooled)
        loss = self.compare(projected, views)
        return Loss(loss.total, {**loss.parts, "pooled_spread": spread(pooled[0]), "projected_spread": spread(projected[0])})


def looks_of(view: AbstractView, batch: Any, generator: torch.Generator) -> tuple[Any, ...]:
    """Two looks at each row by a view that gives one, or all that it gives."""
    if isinstance(view, AbstractLooks):
        views: tuple[Any, ...] = view(batch, generator)
        return views
    return view(batch, generator), view(batch, generator)


def check_looks(view: AbstractView | None, *, small_views: bool) -> None:
    """Check that a view gives two whole looks at a row, and small ones only where they are of use.

    Raises:
        ConfigError: If it gives another number.
    """
    n_whole = view.n_large if isinstance(view, MultiCrop) else 2
    n_looks = view.n_looks if isinstance(view, AbstractLooks) else 2
    if n_whole != 2 or n_looks < 2 or (n_looks > 2 and not small_views):
        allowed = "two large looks at a row" + (", and any number of small ones" if small_views else " and no small ones")
        raise ConfigError(f"Expected a view of {allowed}; found one of {n_whole} large and {n_looks - n_whole} small ones.")


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
    names = subject_names(batch)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([numbers[name] for name in names], device=batch.device)


def subject_names(batch: Batch) -> tuple[str, ...]:
    """Who each row is of; of images the group, such as the patient that several clips are of."""
    return batch.groups.get("group", batch.subject_ids) if isinstance(batch, ImageBatch) else batch.subject_ids
