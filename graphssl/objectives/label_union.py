"""Pre-train on the labels of several cohorts at once, where each knows some of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.views.base import AbstractView


class LabelUnion(AbstractObjective):
    """Binary cross-entropy of one logit a label, over the labels that are known of each subject: supervised pre-training on a union of data sets.

    Data sets name different findings; one that a data set does not name is missing for its subjects and neither right nor wrong. Chest X-ray sets are
    joined so by Cherti & Jitsev (IJCNN 2022, arXiv 2106.00116). A column of several categories becomes one label a category.

    Args:
        columns: Columns of the labels, binary or of categories; all with the role `target` when left out.
        view: A look at each row before it is embedded.
    """

    knows = ("known", "names")

    def __init__(self, columns: Sequence[str] | None = None, view: AbstractView | None = None) -> None:
        super().__init__()
        self.columns, self.view = None if columns is None else tuple(columns), view
        self.known: Mapping[str, tuple[float, ...]] | None = None
        self.names: tuple[str, ...] = ()

    @property
    def reads_labels(self) -> bool:
        """Yes."""
        return True

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with the labels of a cohort, unless it was given some, and a view that knows what it must.

        Raises:
            ConfigError: If the cohort lacks a column, or has no target.
            DataError: If no label tells subjects apart.
        """
        seen = super().for_cohort(cohort)
        if self.known is not None:
            return seen
        columns = self.columns or tuple(cohort.schema.named("target"))
        absent = [name for name in columns if name not in cohort.subjects]
        if absent or not columns:
            raise ConfigError(f"Expected columns of labels in {cohort.name!r}, found no {absent[0] if absent else 'column with the role target'!r}.")
        table = pd.concat([_labels(cohort.subjects[name], name) for name in columns], axis=1)
        return seen._told(table, f"{cohort.name!r} among {', '.join(columns)}")

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The objective with one label of each of some subjects.

        Raises:
            DataError: If there are fewer than two classes.
        """
        return self._told(_labels(pd.Series(dict(labels), dtype="str"), "label"), "the subjects that were given")

    def _told(self, table: pd.DataFrame, where: str) -> Self:
        table = table.loc[:, table.min() < table.max()]
        if table.empty:
            raise DataError(f"Expected a label with two values or more of {where}, found none. Choose other columns, or another objective.")
        known = {str(subject): tuple(row) for subject, row in zip(table.index, table.to_numpy(dtype=float).tolist(), strict=True)}
        return self.but(known=known, names=tuple(map(str, table.columns)))

    def prepare(self, encoder: AbstractEncoder) -> "LabelUnion":
        """Make the head.

        Raises:
            ConfigError: If it was not told the labels.
        """
        if self.known is None:
            raise ConfigError("Expected a LabelUnion that knows labels, found one without. Call for_cohort(cohort) first.")
        self.head = nn.Linear(encoder.pooled_width, len(self.names))
        return self

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The loss over the known labels of a batch, and the share of them told right.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("head")
        assert self.known is not None
        looked = batch if self.view is None else self.view(batch, generator)
        unknown = (float("nan"),) * len(self.names)
        target = torch.tensor([self.known.get(subject, unknown) for subject in batch.subject_ids], device=batch.device)
        logits = self.head(encoder(looked).pooled)
        right = ((logits.detach() > 0) == (target > 0.5))[~target.isnan()].float()
        return Loss(masked_cross_entropy(logits, target), {"accuracy": right.mean() if len(right) else right.new_zeros(())})


def masked_cross_entropy(logits: Float[Tensor, "B L"], target: Float[Tensor, "B L"]) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over the entries of the target that are known (not NaN); zero where none is.

    Args:
        logits: Logit of each label.
        target: 0, 1 or NaN.
    """
    known = ~target.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none")
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def _labels(column: "pd.Series[Any]", name: str) -> pd.DataFrame:
    """A column as one of 0, 1 and NaN, or one a category where there are more than two."""
    values = column.astype(object).where(column.notna(), np.nan)
    classes = sorted({str(value) for value in values.dropna()})
    chosen = classes[1:] if len(classes) == 2 else classes
    of_class = {f"{name}={label}": (values.astype(str) == label).astype(float).where(values.notna(), np.nan) for label in chosen}
    return pd.DataFrame(of_class, index=column.index)
