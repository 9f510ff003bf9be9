"""What tokenizers of event streams share: normal scores, static columns, and how both are saved."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, from_numpy

from graphssl.data.builder import AbstractTokenizer
from graphssl.data.cohort import Cohort
from graphssl.data.normal_scores import N_QUANTILES, NormalScores
from graphssl.data.schema import Role
from graphssl.data.static_columns import StaticColumns
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.errors import CheckpointError


class AbstractStreamTokenizer(AbstractTokenizer):
    """A tokenizer of event streams, with static columns beside.

    Attributes:
        codes_: Codes that are read, learned from training patients.
        scores_: Fitted `NormalScores` of the codes with numbers.
        static_: Fitted `StaticColumns`.
    """

    words: ClassVar[tuple[str, ...]]
    """Names of the fitted attributes that hold words."""

    columns: Sequence[str] | None
    roles: Sequence[Role]
    n_pieces: int
    min_subjects: int
    codes_: tuple[str, ...]
    scores_: NormalScores
    static_: StaticColumns

    def static_columns(self) -> StaticColumns:
        """The static columns of these arguments, not fitted."""
        return StaticColumns(self.columns, self.roles, self.n_pieces, self.min_subjects)

    def fit_streamed(self, cohort: StreamedCohort) -> Self:
        """Learn from as many training patients as the window holds, drawn at random: codes, quantiles and static columns are those of this sample.

        Raises:
            DataError: If the cohort has no events, or no code is of enough patients of the sample.
        """
        return self.fit(cohort.sample())

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments, codes and static columns as plain values, and quantiles as tensors.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "scores_")
        arguments = {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in self.get_params().items()}
        static, tensors = self.static_.state()
        words = {name: list(getattr(self, name)) for name in self.words}
        record = {"arguments": arguments, **words, "scored": list(self.scores_.codes), "static": static}
        return record, {**{f"static.{name}": tensor for name, tensor in tensors.items()}, "quantiles": from_numpy(self.scores_.quantiles_)}

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing or does not fit the others.
        """
        try:
            tokenizer = cls(**record["arguments"])
            for name in cls.words:
                setattr(tokenizer, name, tuple(record[name]))
            tokenizer.scores_ = NormalScores(record["scored"])
            tokenizer.scores_.quantiles_ = tensors["quantiles"].numpy().astype(np.float64).reshape(len(record["scored"]), N_QUANTILES)
            static = {name.removeprefix("static."): tensor for name, tensor in tensors.items() if name.startswith("static.")}
            tokenizer.static_ = tokenizer.static_columns().restore(record["static"], static)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Expected the fitted state of a {cls.__name__}, found a problem with {error}. The file is damaged.") from error
        return tokenizer

    def readable(self, cohort: Cohort) -> list[str]:
        """Patients with an event; columns that do not change are read beside."""
        there = set() if cohort.events is None else set(cohort.events.ids)
        return [patient for patient in cohort.ids if patient in there]

    def unknown(self, cohort: Cohort) -> pd.DataFrame:
        """Who has a category that no training patient had, by static column of categories.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent.
        """
        check_is_fitted(self, "scores_")
        return self.static_.unknown(cohort)

    def static_names(self) -> str:
        """Names of the static columns, for the model card."""
        layout = self.static_.layout()
        return ", ".join([*layout["numbers"], *layout["categories"]]) or "none"
