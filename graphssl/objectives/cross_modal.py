"""What contrasts of modalities share: each modality of a patient is embedded alone, projected, and compared with the others."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from graphssl.data.multimodal import MultimodalBatch
from graphssl.data.population_batch import PopulationBatch
from graphssl.data.table import TableBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.cross_modal_loss import cosines, found_share, soft_contrast
from graphssl.objectives.heads import projector, spread
from graphssl.objectives.two_views import check_positive
from graphssl.views.base import AbstractView
from graphssl.views.columns import CorruptColumns
from graphssl.views.looks import AbstractLooks

Targets = tuple[Float[Tensor, "A B"], Float[Tensor, "B A"]]


class AbstractCrossModal(AbstractObjective):
    """Embed each modality of a patient alone, project it, and compare every two modalities over the minibatch.

    Who belongs to whom is said by subclasses. A modality that a patient lacks, or that is hidden, enters no comparison; two modalities that too few
    patients of the minibatch have are left out of its loss.

    Args:
        modalities: Names of the modalities to compare, two at least; all of the encoder when left out.
        view: A look at the patients before they are embedded, such as `PartViews`, one at each modality.
        corruption: Share of the columns of tables that is then given values of other patients (`CorruptColumns`); 0 leaves tables as they are.
        temperature: Temperature of the softmax over cosines.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If fewer than two modalities are named, the view gives several looks, or an argument is out of range.
    """

    def __init__(
        self, modalities: Sequence[str] | None, view: AbstractView | None, corruption: float, temperature: float, width: int, hidden: int
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature, width=width, hidden=hidden)
        if not 0 <= corruption < 1:
            raise ConfigError(f"Expected a share of corrupted columns in [0, 1), found {corruption}.")
        if modalities is not None and len(set(modalities)) < 2:
            raise ConfigError(f"Expected two modalities or more to compare, found {list(modalities)}.")
        if isinstance(view, AbstractLooks):
            raise ConfigError(f"Expected a view of one look, found {type(view).__name__}, of several. The other look is the other modality.")
        self.modalities = None if modalities is None else tuple(modalities)
        self.view, self.corruption, self.temperature, self.width, self.hidden = view, corruption, temperature, width, hidden

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "AbstractCrossModal":
        """Make a projector a modality.

        Raises:
            ConfigError: If the encoder is none of several modalities, or a named one is none of its.
        """
        reader = of_modalities(encoder, type(self).__name__)
        self.names = chosen_modalities(reader, self.modalities)
        # A list, for a dictionary of modules refuses names such as `values`.
        widths = [part.pooled_width + self.more_width(part) for part in (reader.encoders[name] for name in self.names)]
        self.projectors = nn.ModuleList(projector(width, self.hidden, self.width) for width in widths)
        return self

    def scale(self) -> Tensor | float:
        """What cosines are multiplied by: one over the temperature."""
        return 1 / self.temperature

    def more_width(self, encoder: AbstractEncoder) -> int:
        """How much wider what is projected of a modality is than what its encoder makes of it."""
        return 0

    def described(self, name: str, pooled: Float[Tensor, "B P"], patients: MultimodalBatch) -> Float[Tensor, "B Q"]:
        """What is projected of a modality: what its encoder makes of it.

        Args:
            name: The modality.
            pooled: What its encoder made of the rows `[B, P]`.
            patients: The rows.
        """
        return pooled

    @abstractmethod
    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """Shares of the second in the first, and of the first in the second, for rows of the batch.

        Args:
            batch: The rows.
            first: Those that enter of the first modality `[A]`.
            second: Those that enter of the second `[B]`.
        """

    def entering(self, first: Tensor, second: Tensor) -> tuple[Int[Tensor, "A"], Int[Tensor, "B"]]:
        """Rows that enter of two modalities, of which there are `first` and `second`: those of patients who have both."""
        both = (first & second).nonzero().squeeze(1)
        return both, both

    def look(self, patients: MultimodalBatch, generator: torch.Generator) -> MultimodalBatch:
        """The patients through the view, with corrupted tables."""
        seen = patients if self.view is None else self.view(patients, generator)
        return corrupted(seen, self.names, self.corruption, generator)

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The mean loss over pairs of modalities; zero where no two patients have two modalities.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("projectors")
        patients = self.look(patients_of(batch), generator)
        present = presence_by_name(patients, self.names)
        separate = of_modalities(encoder, type(self).__name__).separate(patients)
        return self.compared(self.projected(separate, present, patients), present, batch)

    def projected(
        self, separate: Mapping[str, Embedding], present: Mapping[str, Tensor], patients: MultimodalBatch
    ) -> dict[str, Float[Tensor, "B D"]]:
        """Projected vectors of each modality, zero for those who lack it."""
        heads = zip(self.names, self.projectors, strict=True)
        return {name: project(head, self.described(name, separate[name].pooled, patients), present[name]) for name, head in heads}

    def compared(self, projected: Mapping[str, Float[Tensor, "B D"]], present: Mapping[str, Tensor], batch: Any) -> Loss:
        """The mean loss over pairs of projected modalities, and how often a partner is the most alike."""
        losses, parts = [], {}
        for a, b in combinations(projected, 2):
            first, second = self.entering(present[a], present[b])
            if min(len(first), len(second)) < 2:
                continue
            logits = cosines(projected[a][first], projected[b][second]) * self.scale()
            forth, back = (shares.to(logits.dtype) for shares in self.targets(batch, first, second))
            losses.append(soft_contrast(logits, forth, back))
            parts[f"{a}_to_{b}_accuracy"], parts[f"{b}_to_{a}_accuracy"] = found_share(logits, forth), found_share(logits.T, back)
        parts |= {f"{name}_spread": spread(vectors[present[name]]) for name, vectors in projected.items() if present[name].any()}
        nothing = torch.stack([parameter.sum() for parameter in self.projectors.parameters()]).sum() * 0.0
        return Loss(torch.stack(losses).mean() if losses else nothing, parts)


def of_modalities(encoder: AbstractEncoder, objective: str) -> MultimodalEncoder:
    """What reads the modalities in an encoder, which an objective needs to be one of several.

    Raises:
        ConfigError: If it is another.
    """
    reader = encoder.reader
    if not isinstance(reader, MultimodalEncoder):
        raise ConfigError(f"Expected an encoder of several modalities for {objective}, found {type(reader).__name__}. Use MultimodalEncoder.")
    return reader


def alone(rows: Int[Tensor, "A"]) -> Targets:
    """Targets of patients who are alone with themselves, as in CLIP."""
    own = torch.eye(len(rows), device=rows.device)
    return own, own


def patients_of(batch: Any) -> MultimodalBatch:
    """The patients of a batch, alone."""
    patients: Any = batch.patients if isinstance(batch, PopulationBatch) else batch
    assert isinstance(patients, MultimodalBatch)
    return patients


def chosen_modalities(reader: MultimodalEncoder, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the modalities that are wanted, all when none is said.

    Raises:
        ConfigError: If the encoder lacks one, or has only one.
    """
    known = reader.modalities
    strange = [name for name in wanted or () if name not in known]
    if strange:
        raise ConfigError(f"Expected modalities among {', '.join(known)}; found {strange[0]!r}.")
    if len(known) < 2:
        raise ConfigError(f"Expected an encoder of two modalities or more, found one of {', '.join(known) or 'none'}.")
    return known if wanted is None else tuple(wanted)


def corrupted(patients: MultimodalBatch, names: Sequence[str], share: float, generator: torch.Generator) -> MultimodalBatch:
    """Patients in whose tables a share of the columns has values of other patients; a table of one patient stays as it is.

    Args:
        patients: The patients.
        names: Names of the modalities that may be corrupted.
        share: Share of the columns.
        generator: Source of randomness.
    """
    tables = {name: part for name, part in patients.parts.items() if name in names and isinstance(part, TableBatch) and len(part) > 1}
    if not share or not tables:
        return patients
    view = CorruptColumns(share)
    return patients.with_parts(**{name: view(part, generator) for name, part in tables.items()})


def presence_by_name(patients: MultimodalBatch, names: Sequence[str]) -> dict[str, Bool[Tensor, "B"]]:
    """Who has which modality, by name."""
    presence = patients.presence
    return {name: presence[:, patients.modalities.index(name)] for name in names}


def project(head: nn.Module, pooled: Float[Tensor, "B P"], present: Bool[Tensor, "B"]) -> Float[Tensor, "B D"]:
    """Projected vectors of those who have a modality, zero for others; batch normalisation needs two of them."""
    rows = present.nonzero().squeeze(1)
    if len(rows) < 2:
        return pooled.new_zeros(len(pooled), 1)
    made = head(pooled[rows])
    return made.new_zeros(len(present), made.shape[1]).index_copy(0, rows, made)
