"""A batch of patients as tokens of columns: what encoders of tables see, and what is learned of columns to make it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from graphssl.data.builder import AbstractTokenizer
from graphssl.data.cohort import Cohort
from graphssl.data.records import AbstractRecords
from graphssl.data.schema import Role
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.data.transforms import ColumnEncoder, as_numbers, as_table, as_words, with_column
from graphssl.errors import CheckpointError, ConfigError, DataError


@dataclass(frozen=True, eq=False)
class TableBatch(AbstractRecords):
    """Patients by columns: numbers first, then categories. A value that was not measured and one that an objective hides are two different things.

    Args:
        subject_ids: Patient of each row `[B]`.
        numbers: Continuous columns in units of the training patients' spread around their mean `[B, N]`; zero where not measured.
        pieces: Piecewise-linear encoding of each number `[B, N, Q]`; zero where not measured.
        codes: Number of the category of each other column `[B, K]`; as many as there are categories for one that the training patients had not, zero
            where not measured.
        measured: Which values there are `[B, N + K]`.
        hidden: Which of them must not be read `[B, N + K]`; none when left out.

    Raises:
        DataError: If the shapes do not fit one another.
    """

    subject_ids: tuple[str, ...]
    numbers: Float[Tensor, "B N"]
    pieces: Float[Tensor, "B N Q"]
    codes: Int[Tensor, "B K"]
    measured: Bool[Tensor, "B C"]
    hidden: Bool[Tensor, "B C"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))

    def __post_init__(self) -> None:
        if self.hidden.numel() == 0:  # none was given
            object.__setattr__(self, "hidden", torch.zeros_like(self.measured))
        n, (n_numbers, n_codes) = len(self.subject_ids), (self.numbers.shape[1], self.codes.shape[1])
        expected = {
            "numbers": (n, n_numbers),
            "pieces": (n, n_numbers, self.pieces.shape[-1]),
            "codes": (n, n_codes),
            "measured": (n, n_numbers + n_codes),
            "hidden": (n, n_numbers + n_codes),
        }
        wrong = {name: tuple(getattr(self, name).shape) for name, shape in expected.items() if tuple(getattr(self, name).shape) != shape}
        if wrong:
            raise DataError(f"Expected shapes {expected} for a batch of {n} patients, found {wrong}.")

    def __repr__(self) -> str:
        share = float(self.measured.float().mean()) if self.measured.numel() else 0.0
        return f"TableBatch({len(self)} patients × {self.numbers.shape[1]} numbers and {self.codes.shape[1]} categories, {share:.0%} measured)"

    @property
    def visible(self) -> Bool[Tensor, "B C"]:
        """Which values can be read: measured and not hidden."""
        return self.measured & ~self.hidden

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {name: getattr(self, name) for name in _TENSORS}

    @classmethod
    def of_tensors(cls, subject_ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> "TableBatch":
        """The inverse of `tensors`; nothing is hidden where no `hidden` is given."""
        return cls(subject_ids, **tensors)

    def signature(self) -> bytes:
        """What tells these rows from others: patients and the sums of each row's values."""
        sums = torch.stack([self.numbers.double().sum(dim=1), self.codes.double().sum(dim=1), self.measured.double().sum(dim=1)])
        return "\n".join(self.subject_ids).encode() + sums.cpu().numpy().tobytes()

    def hide(self, hidden: Bool[Tensor, "B C"]) -> "TableBatch":
        """The batch with some measured values made unreadable too; what was not measured stays as it is."""
        return replace(self, hidden=self.hidden | (hidden & self.measured))


_TENSORS = tuple(entry.name for entry in fields(TableBatch) if entry.name != "subject_ids")


class ColumnTokenizer(AbstractTokenizer):
    """A table in, a `TableBatch` out; scales, categories and the pieces of numbers are learned from training patients.

    A number is written as how far it has come through each of a few pieces of its range, piecewise-linear encoding (Gorishniy et al., NeurIPS 2022):
    pieces end at quantiles of the training patients, the first and the last go on beyond them. A network reads steps and thresholds from it that it
    does not read from the bare number.

    Args:
        columns: Names of the columns; all with one of the `roles` that hold numbers or categories when left out.
        roles: Roles of the columns to take where none are named.
        n_pieces: Pieces of each number, at most.

    Attributes:
        encoder_: Fitted `ColumnEncoder`: columns, means, scales and categories.
        edges_: Ends of the pieces, in units of the spread `[N, n_pieces + 1]`; a piece without width is not used.
    """

    def __init__(self, columns: Sequence[str] | None = None, roles: Sequence[Role] = ("covariate", "feature"), n_pieces: int = 16) -> None:
        self.columns = columns
        self.roles = roles
        self.n_pieces = n_pieces

    def fit(self, X: Cohort | StreamedCohort | pd.DataFrame, y: object = None) -> "ColumnTokenizer":
        """Learn from training patients, one column after the other.

        Raises:
            ConfigError: If there are no pieces.
            SchemaError: If a named column is absent or is text or a timestamp, there is none to take, or values are not of their kind.
        """
        if self.n_pieces < 1:
            raise ConfigError(f"Expected at least one piece of each number, found n_pieces={self.n_pieces}.")
        self.encoder_ = ColumnEncoder(self.columns, roles=self.roles).fit(X)
        self.edges_ = np.zeros((len(self.numbers), self.n_pieces + 1))
        for k, column in enumerate(self.encoder_.continuous):
            values = as_numbers(column, with_column(column, X))
            standard = (values[~np.isnan(values)] - self.encoder_.mean_[k]) / self.encoder_.scale_[k]
            if len(standard):
                self.edges_[k] = np.quantile(standard, np.linspace(0, 1, self.n_pieces + 1))
        return self

    def fit_streamed(self, cohort: StreamedCohort) -> "ColumnTokenizer":
        """Learn from training patients of whom one column at a time is in memory: exactly what `fit` learns.

        Raises:
            ConfigError: If there are no pieces.
            SchemaError: If a named column is absent or is text or a timestamp, there is none to take, or values are not of their kind.
        """
        return self.fit(cohort)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the continuous columns `[N]`, in the order of the batch."""
        return tuple(column.name for column in self.encoder_.continuous)

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Categories of the other columns by name `[K]`, in the order of the batch."""
        return self.encoder_.categories_

    def transform(self, X: Cohort | pd.DataFrame) -> TableBatch:
        """The columns of any patients.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent, its values are not of its kind, or a cohort says that it is of another kind or unit.
        """
        check_is_fitted(self, "edges_")
        self.encoder_.check_fits(X)
        table = as_table(X)
        numbers, has_number = self._numbers(table)
        codes, has_code = self._codes(table)
        return TableBatch(
            tuple(str(patient) for patient in table.index),
            torch.from_numpy(numbers.astype(np.float32)),
            torch.from_numpy(self._pieces(numbers, has_number)),
            torch.from_numpy(codes),
            torch.from_numpy(np.concatenate([has_number, has_code], axis=1)),
        )

    def fit_transform(self, X: Cohort | pd.DataFrame, y: object = None) -> TableBatch:
        """Fit on training patients and give their columns."""
        return self.fit(X).transform(X)

    def unknown(self, X: Cohort | pd.DataFrame) -> pd.DataFrame:
        """Who has a category that no training patient had, by column of categories.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent.
        """
        check_is_fitted(self, "edges_")
        return self.encoder_.unknown(X)

    def readable(self, cohort: Cohort) -> list[str]:
        """Patients with a value in one of the columns."""
        encoder = getattr(self, "encoder_", None) or ColumnEncoder(self.columns, roles=self.roles).fit(cohort)
        names = [column.name for column in encoder.columns_ if column.name in cohort.subjects.columns]
        return [str(patient) for patient in cohort.subjects.index[cohort.subjects[names].notna().any(axis=1)]]

    def layout(self) -> dict[str, Any]:
        """Names of numbers, categories of the other columns, and the number of pieces.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "edges_")
        return {"numbers": self.numbers, "categories": self.categories, "n_pieces": self.n_pieces}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments, columns, scales and categories as plain values, and the ends of pieces as a tensor.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "edges_")
        record = self.encoder_.state()
        return {**record, "arguments": {**record["arguments"], "n_pieces": self.n_pieces}}, {"edges": torch.from_numpy(self.edges_)}

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "ColumnTokenizer":
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing or does not fit the others.
        """
        try:
            tokenizer = cls(**record["arguments"])
            arguments = {name: value for name, value in record["arguments"].items() if name != "n_pieces"}
            tokenizer.encoder_ = ColumnEncoder.from_state({**record, "arguments": arguments})
            tokenizer.edges_ = tensors["edges"].numpy().astype(np.float64).reshape(len(tokenizer.numbers), tokenizer.n_pieces + 1)
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Expected the fitted state of a ColumnTokenizer, found a problem with {error}. The file is damaged.") from error
        return tokenizer

    def describe(self) -> dict[str, str]:
        """The columns, for the model card."""
        return {"numbers": ", ".join(self.numbers) or "none", "categories": ", ".join(self.categories) or "none"}

    def _numbers(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Standardised numbers and which were measured, both `[n, N]`."""
        values = np.column_stack([np.zeros((len(table), 0)), *(as_numbers(column, table) for column in self.encoder_.continuous)])
        measured = ~np.isnan(values)
        return np.where(measured, (values - self.encoder_.mean_) / self.encoder_.scale_, 0.0), measured

    def _codes(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Category numbers and which were measured, both `[n, K]`."""
        codes = np.zeros((len(table), len(self.categories)), dtype=np.int64)
        measured = np.zeros(codes.shape, dtype=bool)
        for k, column in enumerate(self.encoder_.categorical):
            words, known = as_words(column, table), self.categories[column.name]
            measured[:, k] = words.notna()
            found = pd.Index(known).get_indexer(pd.Index(words))
            codes[:, k] = np.where(measured[:, k], np.where(found < 0, len(known), found), 0)
        return codes, measured

    def _pieces(self, numbers: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """How far each number has come through each piece, in single precision `[n, N, Q]`; zero where not measured."""
        made = np.zeros((*numbers.shape, self.n_pieces), dtype=np.float32)
        for first in range(0, len(numbers), _CHUNK):  # in double precision all pieces of a million patients would fill the memory several times
            rows = slice(first, first + _CHUNK)
            made[rows] = self._come(numbers[rows]) * measured[rows, :, None]
        return made

    def _come(self, numbers: np.ndarray) -> np.ndarray:
        """How far each number has come through each piece `[n, N, Q]`."""
        low, width = self.edges_[None, :, :-1], np.diff(self.edges_, axis=1)[None]
        used = width > _SMALLEST_WIDTH
        come = np.where(used, (numbers[:, :, None] - low) / np.where(used, width, 1.0), 0.0)
        bound = np.clip(come, 0.0, 1.0)
        for k in range(numbers.shape[1]):
            pieces = np.flatnonzero(used[0, k])
            if len(pieces):  # outside of the training patients' range the first and the last piece go on
                bound[:, k, pieces[0]] = np.minimum(come[:, k, pieces[0]], bound[:, k, pieces[0]])
                bound[:, k, pieces[-1]] = np.maximum(come[:, k, pieces[-1]], bound[:, k, pieces[-1]])
        return bound


_SMALLEST_WIDTH = 1e-9
_CHUNK = 16_384
