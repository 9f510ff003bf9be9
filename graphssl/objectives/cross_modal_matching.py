"""Contrast of images and tables, telling true pairs from hard false ones, and filling in tables by the image."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.multimodal import MultimodalBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.encoders.population_encoder import taken
from graphssl.encoders.table_encoder import of_tables
from graphssl.encoders.token_fusion import CrossAttention
from graphssl.errors import ConfigError
from graphssl.objectives.base import Loss
from graphssl.objectives.choose import choose_share
from graphssl.objectives.cross_modal import AbstractCrossModal, Targets, alone, of_modalities, patients_of, presence_by_name
from graphssl.objectives.cross_modal_loss import cosines
from graphssl.objectives.masked_columns import ColumnDecoder
from graphssl.views.base import AbstractView

LEAST_CHANCE = 1e-4  # of a negative, so that one is drawn where the contrast is sure


class TIP(AbstractCrossModal):
    """Three tasks on images and tables with missing values: contrast, matching, and masked columns (TIP, Du et al., ECCV 2024).

    The contrast is that of [`CrossModalContrast`][graphssl.objectives.CrossModalContrast] with tables as they are. Matching tells the fused vector of
    a true pair from two false ones a patient, the wrong table and the wrong image; these are drawn by how much the contrast takes them for the right
    ones. Of every table values are hidden and told from its tokens after these attended to the image. The loss is the mean of the three.

    Patients with a table alone take part in the third. Modalities other than the two are not read.

    Args:
        image: Name of the modality that is no table.
        table: Name of the table.
        view: A look at the patients before they are embedded, such as `PartViews`.
        ratio: Share of the measured values of a patient that is hidden.
        temperature: Temperature of the softmax over cosines.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If an argument is out of range, or both modalities are the same.
    """

    def __init__(
        self,
        image: str = "image",
        table: str = "table",
        view: AbstractView | None = None,
        ratio: float = 0.3,
        temperature: float = 0.1,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__((image, table), view, 0.0, temperature, width, hidden)
        if not 0 < ratio < 1:
            raise ConfigError(f"Expected a share of hidden values in (0, 1), found {ratio}.")
        self.image, self.table, self.ratio = image, table, ratio

    def prepare(self, encoder: AbstractEncoder) -> "TIP":
        """Make the projectors, the head that matches, and the decoder of columns.

        Raises:
            ConfigError: If the encoder is none of both modalities, that of the table none of tables, or its fusion lets no columns attend to others.
        """
        super().prepare(encoder)
        reader = of_modalities(encoder, "TIP")
        fusion = reader.fusion
        if not isinstance(fusion, CrossAttention) or (fusion.asks or fusion.modalities[0]) != self.table:
            raise ConfigError(
                f"Expected a fusion in which tokens of {self.table!r} attend to the others for TIP, found {type(fusion).__name__}. "
                f"Use CrossAttention(asks={self.table!r})."
            )
        columns = of_tables(reader.encoders[self.table], "TIP")
        sizes = [len(known) + 1 for known in columns.categories.values()]
        self.matches = nn.Linear(fusion.width, 1)
        self.columns = ColumnDecoder(len(columns.numbers), sizes, fusion.width)
        return self

    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """Everybody is alone with oneself."""
        return alone(first)

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The mean of the three losses; those of pairs are zero where fewer than two patients have both.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("matches")
        reader, patients = of_modalities(encoder, "TIP"), self.look(patients_of(batch), generator)
        separate, present = reader.separate(patients), presence_by_name(patients, self.names)
        projected = self.projected(separate, present, patients)
        contrast = self.compared(projected, present, batch)
        both = (present[self.image] & present[self.table]).nonzero().squeeze(1)
        matching, matched = self.matched(reader, separate, projected, both, generator)
        masked, told = self.filled_in(reader, patients, separate, present, generator)
        parts = {"contrast_loss": contrast.total.detach(), "matching_loss": matching.detach(), "columns_loss": masked.detach()}
        total = (contrast.total + matching + masked) / 3
        return Loss(total, {**parts, **contrast.parts, **matched, **told})

    def matched(
        self,
        reader: MultimodalEncoder,
        separate: Mapping[str, Embedding],
        projected: Mapping[str, Tensor],
        both: Int[Tensor, "n"],
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of telling true pairs from false ones, and how often it is told right.

        Args:
            reader: The encoder of the modalities.
            separate: Embedding of each modality alone, by name.
            projected: Projected vectors `[B, W]` by name.
            both: Rows that have image and table `[n]`.
            generator: Source of the false partners, on the CPU.
        """
        if len(both) < 2:
            return self.matches.bias.sum() * 0.0, {}
        logits = cosines(projected[self.image][both], projected[self.table][both]) * self.scale()
        images = torch.cat([both, both, both[wrong_partners(logits.T, generator)]])
        tables = torch.cat([both, both[wrong_partners(logits, generator)], both])
        places = {name: images if name == self.image else tables for name in separate}
        parts = {name: taken(embedding, places[name]) for name, embedding in separate.items()}
        there = self._there(reader, dict.fromkeys(self.names, torch.ones_like(images, dtype=torch.bool)))
        score = self.matches(reader.fusion.fuse(parts, there).pooled).squeeze(1)
        true = (torch.arange(len(images), device=score.device) < len(both)).to(score.dtype)
        return F.binary_cross_entropy_with_logits(score, true), {"matching_accuracy": ((score.detach() > 0) == true.bool()).float().mean()}

    def filled_in(
        self,
        reader: MultimodalEncoder,
        patients: MultimodalBatch,
        separate: Mapping[str, Embedding],
        present: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The error of values that are hidden from the table and told from it and the image.

        Args:
            reader: The encoder of the modalities.
            patients: The rows.
            separate: Embedding of each modality alone, by name.
            present: Which rows have each modality `[B]`, by name.
            generator: Source of what is hidden, on the CPU.
        """
        own = present[self.table].nonzero().squeeze(1)
        if not len(own):
            return self.matches.bias.sum() * 0.0, {}
        place = patients.rows[self.table][own, 0]
        table, hidden = patients.parts[self.table][place], torch.zeros_like(patients.parts[self.table].hidden)
        chosen = choose_share(table.visible.cpu(), self.ratio, generator).to(hidden.device)
        hidden[place] = chosen
        others = [name for name in patients.modalities if name != self.table]
        part = patients.parts[self.table].hide(hidden)
        masked = reader.separate(patients.with_parts(**{self.table: part}).without(*others))[self.table]
        fused = reader.fusion.fuse({**separate, self.table: masked}, self._there(reader, present))
        first = sum(separate[name].tokens.shape[1] for name in reader.modalities[: reader.modalities.index(self.table)])
        tokens = fused.tokens[own, first : first + hidden.shape[1]]
        return self.columns.error(tokens, table, chosen)

    def _there(self, reader: MultimodalEncoder, present: Mapping[str, Tensor]) -> Bool[Tensor, "B M"]:
        """Who has which modality, in the order of the encoder; nobody has those that are not read."""
        nobody = torch.zeros_like(present[self.table])
        return torch.stack([present.get(name, nobody) for name in reader.modalities], dim=1)


def wrong_partners(logits: Float[Tensor, "B B"], generator: torch.Generator) -> Int[Tensor, "B"]:
    """A wrong one of the second for each of the first, drawn by how much it is taken for the right one.

    Args:
        logits: Scaled cosines of the first to the second, the right one on the diagonal.
        generator: Source of randomness, on the CPU.
    """
    chances = logits.detach().float().softmax(dim=1).cpu() + LEAST_CHANCE
    return torch.multinomial(chances.fill_diagonal_(0.0), 1, generator=generator).squeeze(1).to(logits.device)
