"""Two modalities of a patient belong together."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.classes import class_numbers
from graphssl.data.cohort import Cohort
from graphssl.data.multimodal import MultimodalBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.cross_modal import AbstractCrossModal, Targets, alone, of_modalities
from graphssl.views.base import AbstractView


class CrossModalContrast(AbstractCrossModal):
    """Find a patient's image among those of the minibatch by the table, and the table by the image; so for any two modalities.

    MMCL (Hager, Menten & Rueckert, CVPR 2023), with the loss of CLIP (Radford et al., ICML 2021): tables are corrupted as in SCARF, images seen
    through a view. Afterwards one modality alone knows what the other would tell. Of two modalities only patients who have both take part.

    Args:
        modalities: Names of the modalities to compare, two at least; all of the encoder when left out.
        view: A look at the patients before they are embedded, such as `PartViews`, one at each modality.
        corruption: Share of the columns of tables that is given values of other patients; 0 leaves them as they are.
        label: Column of labels that tables have as one more feature, so that images of one class are drawn together (label as a feature, LaaF); None
            for none. Labels are read in pre-training alone: they enter the projector behind the encoder of tables. Subjects without one have none.
        temperature: Temperature of the softmax; lower looks at the hardest others.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If an argument is out of range.
    """

    knows = ("class_of",)

    def __init__(
        self,
        modalities: Sequence[str] | None = None,
        view: AbstractView | None = None,
        corruption: float = 0.3,
        label: str | None = None,
        temperature: float = 0.1,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__(modalities, view, corruption, temperature, width, hidden)
        self.label = label
        self.class_of: dict[str, int] | None = None

    @property
    def reads_labels(self) -> bool:
        """Whether labels are a feature."""
        return self.label is not None

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with a view that knows what it must of the subjects, and with their labels where these are a feature and none were given.

        Raises:
            DataError: If fewer than two classes are labelled.
        """
        seen = super().for_cohort(cohort)
        return seen if self.label is None or self.class_of is not None else seen.with_labels(cohort.labels(self.label))

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The objective with the labels of some subjects, where they are a feature.

        Raises:
            DataError: If there are fewer than two classes.
        """
        return self if self.label is None else self.but(class_of=class_numbers(labels, "as a feature", "Choose another column, or leave it out."))

    def prepare(self, encoder: AbstractEncoder) -> "CrossModalContrast":
        """Make a projector a modality.

        Raises:
            ConfigError: If the encoder is none of several modalities or a named one is none of its, or labels are a feature and it was told none, or
                there is no table.
        """
        if self.label is not None:
            if self.class_of is None:
                raise ConfigError("Expected a CrossModalContrast that knows labels, found one without. Call for_cohort or with_labels first.")
            self.tables = tuple(name for name, part in of_modalities(encoder, "CrossModalContrast").encoders.items() if _reads_table(part))
            if not self.tables:
                raise ConfigError("Expected an encoder of tables where labels are a feature, found none. Leave label out.")
        super().prepare(encoder)
        return self

    def more_width(self, encoder: AbstractEncoder) -> int:
        """The number of classes, where labels are a feature of tables."""
        return 1 + max(self.class_of.values()) if self.class_of and _reads_table(encoder) else 0

    def described(self, name: str, pooled: Float[Tensor, "B P"], patients: MultimodalBatch) -> Float[Tensor, "B Q"]:
        """What the encoder makes of a modality; of tables also the label, zeros where there is none."""
        if not self.class_of or name not in self.tables:
            return pooled
        classes = torch.tensor([self.class_of.get(subject, -1) for subject in patients.subject_ids], device=pooled.device)
        known = F.one_hot(classes + 1, 2 + max(self.class_of.values()))[:, 1:]
        return torch.cat([pooled, known.to(pooled.dtype)], dim=1)

    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """Everybody is alone with oneself."""
        return alone(first)


def _reads_table(encoder: AbstractEncoder) -> bool:
    return isinstance(encoder, AbstractTableEncoder)
