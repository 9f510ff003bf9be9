"""A patient's row is more like itself with some columns corrupted than like the rows of other patients."""

from typing import Any

import torch
from torch import Tensor

from graphssl.data.table import TableBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.table_encoder import of_tables
from graphssl.objectives.base import Loss
from graphssl.objectives.contrastive import contrast
from graphssl.objectives.two_views import AbstractTwoViews, check_positive
from graphssl.views.columns import CorruptColumns


class Scarf(AbstractTwoViews):
    """Find a patient's row among those of the minibatch after columns of it were given values of other patients (SCARF, Bahri et al., ICLR 2022).

    One view is the row as it is, the other a corrupted one; the loss is that of [`NTXent`][graphssl.objectives.NTXent].

    Args:
        ratio: Share of the columns that are corrupted.
        temperature: Temperature of the softmax; lower looks at the hardest others.
        width: Width of the projected vectors.
        hidden: Width of the projector's inner layer.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, ratio: float = 0.6, temperature: float = 1.0, width: int = 64, hidden: int = 128) -> None:
        super().__init__(CorruptColumns(ratio), width, hidden)
        check_positive(temperature=temperature)
        self.ratio, self.temperature = ratio, temperature

    def prepare(self, encoder: AbstractEncoder) -> "Scarf":
        """Make the projector for the encoder's pooled width.

        Raises:
            ConfigError: If the encoder is none of tables.
        """
        of_tables(encoder, "Scarf")
        super().prepare(encoder)
        return self

    def look(self, batch: TableBatch, generator: torch.Generator) -> tuple[TableBatch, TableBatch]:
        """The rows as they are, and corrupted."""
        return batch, self.view(batch, generator)

    def compare(self, projected: tuple[Tensor, ...], views: tuple[Any, ...]) -> Loss:
        """The loss, and how often the other view was the most alike."""
        return contrast(projected, views[0], self.temperature)
