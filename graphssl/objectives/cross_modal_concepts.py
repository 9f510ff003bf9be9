"""Modalities of any two patients belong together as far as the patients share concepts."""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from graphssl.data.cohort import Cohort
from graphssl.data.transforms import ColumnEncoder, as_numbers, as_table, as_words
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.cross_modal import AbstractCrossModal, Targets
from graphssl.objectives.two_views import check_positive
from graphssl.views.base import AbstractView

LARGEST_LOG_SCALE = math.log(100.0)


class ConceptContrast(AbstractCrossModal):
    """Bring images and tables together as far as concepts of their patients agree; pairs are not needed.

    MedCLIP (Wang, Wu, Agarwal & Sun, EMNLP 2022), with columns of a table in place of findings in a text. Every patient has a vector of concepts, 1
    where one is there, -1 where it is not, and 0 where nothing is known; the target is a softmax over the products of these vectors. Anybody's
    image is compared with anybody's table, so that patients with one modality take part too. Cosines are multiplied by a learned number, at most 100.

    Args:
        concepts: Names of the columns that hold concepts. Every category is one; a column of two categories or of numbers is one by itself, numbers
            being 1 where they are above the usual (by more than one standard deviation of the subjects of pre-training) and -1 where they are below.
        modalities: Names of the modalities to compare, two at least; all of the encoder when left out.
        view: A look at the patients before they are embedded, such as `PartViews`, one at each modality.
        corruption: Share of the columns of tables that is given values of other patients; 0 leaves them as they are.
        temperature: Temperature at the start, of the softmax over cosines.
        concept_temperature: Temperature of the softmax over concepts in common.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If no concept is named, or an argument is out of range.
    """

    knows = ("concepts_of",)

    def __init__(
        self,
        concepts: Sequence[str],
        modalities: Sequence[str] | None = None,
        view: AbstractView | None = None,
        corruption: float = 0.3,
        temperature: float = 0.07,
        concept_temperature: float = 1.0,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__(modalities, view, corruption, temperature, width, hidden)
        if not concepts:
            raise ConfigError("Expected columns that hold concepts, found none named. Name columns such as diagnoses.")
        check_positive(concept_temperature=concept_temperature)
        if not 0.01 <= temperature <= 1:
            raise ConfigError(f"Expected a temperature in [0.01, 1], found {temperature}.")
        self.concepts, self.concept_temperature = tuple(concepts), concept_temperature
        self.concepts_of: dict[str, Float[Tensor, "C"]] | None = None
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with the concepts of the subjects of a cohort.

        Raises:
            LeakageError: If a column is a target, a split or an identifier.
            SchemaError: If a column is absent, or holds neither numbers nor categories.
        """
        concepts_of = dict(zip(cohort.ids, concept_vectors(cohort, self.concepts), strict=True))
        return super().for_cohort(cohort).but(concepts_of=concepts_of)

    def prepare(self, encoder: AbstractEncoder) -> "ConceptContrast":
        """Make a projector a modality.

        Raises:
            ConfigError: If it was not told the concepts, the encoder is none of several modalities, or a named one is none of its.
        """
        if self.concepts_of is None:
            raise ConfigError("Expected a ConceptContrast that knows concepts, found one without. Call for_cohort(cohort) first.")
        super().prepare(encoder)
        return self

    def scale(self) -> Tensor:
        """What is learned; never above 100."""
        return self.log_scale.exp()

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Keep the scale between 1 and 100."""
        with torch.no_grad():
            self.log_scale.clamp_(0.0, LARGEST_LOG_SCALE)

    def entering(self, first: Tensor, second: Tensor) -> tuple[Int[Tensor, "A"], Int[Tensor, "B"]]:
        """Everybody who has either modality."""
        return first.nonzero().squeeze(1), second.nonzero().squeeze(1)

    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """A softmax over concepts in common."""
        known = self.concepts_of or {}
        nothing = torch.zeros_like(next(iter(known.values())))
        vectors = torch.stack([known.get(subject, nothing) for subject in batch.subject_ids]).to(batch.device)
        return concept_shares(vectors[first], vectors[second], self.concept_temperature)


def concept_shares(first: Float[Tensor, "A C"], second: Float[Tensor, "B C"], temperature: float = 1.0) -> Targets:
    """Softmax over the products of vectors of concepts, in both directions.

    Args:
        first: Concepts of the first, each -1, 0 or 1.
        second: Concepts of the second.
        temperature: Temperature of the softmax.
    """
    common = first @ second.T / temperature
    return common.softmax(dim=1), common.T.softmax(dim=1)


def concept_vectors(cohort: Cohort, columns: Sequence[str]) -> Float[Tensor, "n C"]:
    """Concepts of every subject: 1 there, -1 not there, 0 not known.

    Args:
        cohort: Subjects of pre-training.
        columns: Names of the columns that hold concepts.

    Raises:
        LeakageError: If a column is a target, a split or an identifier.
        SchemaError: If a column is absent, or holds neither numbers nor categories.
    """
    encoder, table = ColumnEncoder(columns).fit(cohort), as_table(cohort)
    blocks = [np.zeros((len(table), 0))]
    for column, mean, spread in zip(encoder.continuous, encoder.mean_, encoder.scale_, strict=True):
        deviation = np.nan_to_num((as_numbers(column, table) - mean) / spread)
        blocks.append(np.sign(deviation) * (np.abs(deviation) > 1))
    for column in encoder.categorical:
        words, known = as_words(column, table), encoder.categories_[column.name]
        shown = known[1:] if len(known) == 2 else known  # the second of two is the first reversed
        blocks += [np.where(words.isna(), 0.0, np.where(words == word, 1.0, -1.0)) for word in shown]
    return torch.from_numpy(np.column_stack(blocks).astype(np.float32))
