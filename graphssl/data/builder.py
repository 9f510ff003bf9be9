"""What turns a cohort into a batch, whatever the rows are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import pandas as pd
from sklearn.base import BaseEstimator
from torch import Tensor

from graphssl.data.batch import Batch
from graphssl.data.cohort import Cohort
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.errors import ConfigError


class AbstractBuilder(BaseEstimator, ABC):
    """A cohort in, a batch out; everything that is learned on the way is learned from training subjects by `fit`, and saved with the model."""

    @abstractmethod
    def fit(self, cohort: Cohort, y: object = None) -> Self:
        """Learn from training subjects."""

    def fit_streamed(self, cohort: StreamedCohort) -> Self:
        """Learn from training subjects of whom only a window is in memory.

        Raises:
            ConfigError: If it learns from all subjects at once only.
        """
        raise ConfigError(
            f"Expected a builder of connectomes, tables or events, which learns from some shards at a time, found {type(self).__name__}, which needs "
            f"all subjects. Give a window of all {cohort.n_shards} shards, or load the cohort without one."
        )

    @abstractmethod
    def transform(self, cohort: Cohort) -> Batch:
        """The batch of any subjects."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What was fitted: plain values, for JSON, and tensors."""

    @classmethod
    @abstractmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `state`."""

    def readable(self, cohort: Cohort) -> list[str]:
        """Subjects of whom there is anything that it reads, in their order; all of them where it does not say."""
        return cohort.ids

    def most_rows(self, cohort: Cohort) -> int:
        """Rows that a subject of a cohort has, at most."""
        return 1

    def absent(self, cohort: Cohort) -> list[str]:
        """Kinds of data that training subjects had and nobody of a cohort has, where it can do without."""
        return []

    def unknown(self, cohort: Cohort) -> pd.DataFrame:
        """Who has a category that no training subject had: a row a subject, a column a column of categories; no column where none are read."""
        return pd.DataFrame(index=cohort.subjects.index)

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What it was fitted on, for the model card."""


class AbstractTokenizer(AbstractBuilder):
    """A builder of patients' records, whose encoders are made for what it learned: columns, codes, categories."""

    @abstractmethod
    def layout(self) -> dict[str, Any]:
        """What its batches hold: constructor arguments of the encoders that read them."""
