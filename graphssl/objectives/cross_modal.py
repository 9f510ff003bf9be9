"""What contrasts of modalities share: each modality of a patient is embedded alone, projected, and compared with the others."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from graphssl.data.cohort import Cohort
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
        views: A look at some modalities before they are embedded, by name.
        corruption: Share of the columns of each table without a view of its own that is given values of other patients (`CorruptColumns`); 0 leaves
            tables as they are.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If fewer than two modalities are named, a view gives several looks, or an argument is out of range.
    """

    def __init__(
        self, modalities: Sequence[str] | None, views: Mapping[str, AbstractView] | None, corruption: float, width: int, hidden: int
    ) -> None:
        super().__init__()
        check_positive(width=width, hidden=hidden)
        if not 0 <= corruption < 1:
            raise ConfigError(f"Expected a share of corrupted columns in [0, 1), found {corruption}.")
        if modalities is not None and len(set(modalities)) < 2:
            raise ConfigError(f"Expected two modalities or more to compare, found {list(modalities)}.")
        several = [name for name, view in (views or {}).items() if isinstance(view, AbstractLooks)]
        if several:
            raise ConfigError(f"Expected a view of one look at {several[0]!r}, found one of several. The other look is the other modality.")
        self.modalities = None if modalities is None else tuple(modalities)
        self.views, self.corruption, self.width, self.hidden = dict(views or {}), corruption, width, hidden

    @property
    def needs_series(self) -> bool:
        """Whether a view must see time series."""
        return any(view.needs_series for view in self.views.values())

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def for_cohort(self, cohort: Cohort) -> "AbstractCrossModal":
        """The objective with views that know what they must of the subjects."""
        return type(self)(**{**self.arguments(), "views": {name: view.for_cohort(cohort) for name, view in self.views.items()}})

    def prepare(self, encoder: AbstractEncoder) -> "AbstractCrossModal":
        """Make a projector a modality.

        Raises:
            ConfigError: If the encoder is none of several modalities, or a named one is none of its.
        """
        reader = of_modalities(encoder, type(self).__name__)
        self.names = chosen_modalities(reader, self.modalities)
        check_views(self.views, self.names)
        # A list, for a dictionary of modules refuses names such as `values`.
        self.projectors = nn.ModuleList(projector(reader.encoders[name].pooled_width, self.hidden, self.width) for name in self.names)
        return self

    @abstractmethod
    def scale(self) -> Tensor | float:
        """What cosines are multiplied by, one over the temperature."""

    @abstractmethod
    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """Shares of the second in the first, and of the first in the second, for rows of the batch."""

    def entering(self, first: Tensor, second: Tensor) -> tuple[Int[Tensor, "A"], Int[Tensor, "B"]]:
        """Rows that enter of two modalities, of which there are `first` and `second`: those of patients who have both."""
        both = (first & second).nonzero().squeeze(1)
        return both, both

    def look(self, patients: MultimodalBatch, generator: torch.Generator) -> MultimodalBatch:
        """The patients, each modality through its view."""
        return seen_through(patients, {name: self.view_of(name, patients) for name in self.names}, generator)

    def view_of(self, name: str, patients: MultimodalBatch) -> AbstractView | None:
        """The view of a modality, or None."""
        if name in self.views:
            return self.views[name]
        corrupted = self.corruption > 0 and isinstance(patients.parts[name], TableBatch) and len(patients.parts[name]) > 1
        return CorruptColumns(self.corruption) if corrupted else None

    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The mean loss over pairs of modalities; zero where no two patients have two modalities.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("projectors")
        patients = self.look(patients_of(batch), generator)
        present = presence_by_name(patients, self.names)
        separate = of_modalities(encoder, type(self).__name__).separate(patients)
        return self.compared(self.projected(separate, present), present, batch)

    def projected(self, separate: Mapping[str, Embedding], present: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "B D"]]:
        """Projected vectors of each modality, zero for those who lack it."""
        heads = zip(self.names, self.projectors, strict=True)
        return {name: project(head, separate[name].pooled, present[name]) for name, head in heads}

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


def check_views(views: Mapping[str, AbstractView], names: Sequence[str]) -> None:
    """Check that every view is one of a modality there is.

    Raises:
        ConfigError: If one is not.
    """
    strange = [name for name in views if name not in names]
    if strange:
        raise ConfigError(f"Expected views of the modalities {', '.join(names)}; found one of {strange[0]!r}.")


def seen_through(patients: MultimodalBatch, views: Mapping[str, AbstractView | None], generator: torch.Generator) -> MultimodalBatch:
    """Patients with some modalities seen through a view; one that nobody has stays as it is."""
    parts = dict(patients.parts)
    for name, view in views.items():
        if view is not None and name in parts and len(parts[name]):
            parts[name] = view(parts[name], generator)
    return patients.with_parts(**parts)


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
