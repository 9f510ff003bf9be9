"""Transforms of a cohort's table, fitted on training subjects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column, Role, Schema
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.errors import CheckpointError, LeakageError, SchemaError


class ColumnEncoder(TransformerMixin, BaseEstimator):
    """Columns of a table as numbers, with everything learned from training subjects.

    A continuous column is centred and scaled (population standard deviation), with the mean in place of a missing value, and followed by a
    column that says which were missing. A binary, categorical or ordinal column becomes one column a category that the training subjects had, one for
    categories they had not, and one for missing. The layout is fixed by the training subjects: a site or a code met later changes no width.

    Args:
        columns: Names of the columns; all with one of the `roles` that hold numbers or categories when left out.
        roles: Roles of the columns to take where none are named. A target never belongs here.

    Attributes:
        columns_: The columns encoded, in order.
        mean_: Mean of each continuous column among the training subjects `[n_continuous]`.
        scale_: Standard deviation likewise; 1 where the column is constant.
        categories_: Categories among the training subjects, by name of the column.

    Example:
        >>> table = pd.DataFrame({"age": [20.5, 40.5], "sex": ["female", "male"]}, index=["a", "b"])
        >>> encoder = ColumnEncoder().fit(table)
        >>> encoder.get_feature_names_out().tolist()
        ['age', 'age_missing', 'sex_female', 'sex_male', 'sex_unknown', 'sex_missing']
    """

    def __init__(self, columns: Sequence[str] | None = None, *, roles: Sequence[Role] = ("covariate", "feature")) -> None:
        self.columns = columns
        self.roles = roles

    def fit(self, X: Cohort | StreamedCohort | pd.DataFrame, y: object = None) -> "ColumnEncoder":
        """Learn means, scales and categories from training subjects, one column after the other.

        Args:
            X: A cohort, or a table whose columns' kinds are guessed.
            y: Ignored.

        Raises:
            SchemaError: If a named column is absent or is text or a timestamp, there is none to take, or values are not of their kind.
            LeakageError: If a named column is a target, a split or an identifier.
        """
        self.columns_ = self._chosen(Schema.infer(X) if isinstance(X, pd.DataFrame) else X.schema)
        moments = [(_mean(values), _scale(values)) for values in (as_numbers(column, with_column(column, X)) for column in self.continuous)]
        self.mean_, self.scale_ = np.array(moments).reshape(-1, 2).T
        self.categories_: dict[str, tuple[str, ...]] = {
            column.name: tuple(sorted(set(as_words(column, with_column(column, X)).dropna()))) for column in self.categorical
        }
        return self

    @property
    def continuous(self) -> list[Column]:
        """The columns of numbers, in order."""
        return [column for column in self.columns_ if column.kind == "continuous"]

    @property
    def categorical(self) -> list[Column]:
        """The columns of categories (binary and ordinal ones too), in order."""
        return [column for column in self.columns_ if column.kind != "continuous"]

    def transform(self, X: Cohort | pd.DataFrame) -> npt.NDArray[np.float32]:
        """Encode subjects.

        Args:
            X: A cohort or table with the columns of the training subjects.

        Returns:
            Features `[n, F]` in single precision, named by `get_feature_names_out`.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent, its values are not of its kind, or a cohort says that it is of another kind or unit.
        """
        self.check_fits(X)
        table = as_table(X)
        moments = dict(zip((column.name for column in self.continuous), zip(self.mean_, self.scale_, strict=True), strict=True))
        blocks = []
        for column in self.columns_:
            if column.kind == "continuous":
                mean, scale = moments[column.name]
                values = as_numbers(column, table)
                missing = np.isnan(values)
                blocks.append(np.column_stack([np.where(missing, 0.0, (values - mean) / scale), missing]))
            else:
                blocks.append(_one_hot(as_words(column, table), self.categories_[column.name]))
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[Any]:
        """Names of the features `[F]`: the column, and the category, `unknown` or `missing` behind an underscore.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self)
        names: list[str] = []
        for column in self.columns_:
            states = ["unknown", "missing"]
            first = [column.name, f"{column.name}_missing"]
            names += first if column.kind == "continuous" else [f"{column.name}_{s}" for s in (*self.categories_[column.name], *states)]
        return np.asarray(names, dtype=object)

    def check_fits(self, X: Cohort | pd.DataFrame) -> None:
        """Check that a cohort does not say of a column that it is of another kind or unit than that of the training subjects.

        Where either side tells no unit, it is taken to be the other's; a bare table says neither.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If it does.
        """
        check_is_fitted(self)
        if not isinstance(X, Cohort):
            return
        for learned in (column for column in self.columns_ if column.name in X.schema):
            found = X.schema[learned.name]
            if (found.kind == "continuous") != (learned.kind == "continuous") or (found.unit or learned.unit) != (learned.unit or found.unit):
                kinds = [f"{column.kind}{f' in {column.unit}' if column.unit else ''}" for column in (learned, found)]
                raise SchemaError(
                    f"Expected the column {learned.name!r} as the training subjects have it ({kinds[0]}), found {kinds[1]} in {X.name!r}. "
                    "Convert the values, or correct the schema."
                )

    def unknown(self, X: Cohort | pd.DataFrame) -> pd.DataFrame:
        """Who has a category that no training subject had: a row a subject, a column a column of categories, True where it is so.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent.
        """
        check_is_fitted(self)
        table = as_table(X)
        found = {column.name: as_words(column, table) for column in self.categorical}
        return pd.DataFrame({name: words.notna() & ~words.isin(self.categories_[name]) for name, words in found.items()}, index=table.index)

    def count_unknown(self, X: Cohort | pd.DataFrame) -> Mapping[str, int]:
        """How many subjects have a category that no training subject had, by name of the column.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            SchemaError: If a column is absent.
        """
        return {str(name): int(flags.sum()) for name, flags in self.unknown(X).items()}

    def state(self) -> dict[str, Any]:
        """Arguments and what was fitted, as plain values for JSON.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self)
        arguments = {"columns": None if self.columns is None else list(self.columns), "roles": list(self.roles)}
        columns = Schema(self.columns_).to_dict()
        return {
            "arguments": arguments,
            "columns": columns,
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "categories": self.categories_,
        }

    @classmethod
    def from_state(cls, record: Mapping[str, Any]) -> "ColumnEncoder":
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing.
        """
        try:
            encoder = cls(**record["arguments"])
            encoder.columns_ = tuple(Schema.from_dict(record["columns"]))
            encoder.mean_, encoder.scale_ = np.asarray(record["mean"], dtype=np.float64), np.asarray(record["scale"], dtype=np.float64)
            encoder.categories_ = {name: tuple(found) for name, found in record["categories"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Expected the fitted state of a ColumnEncoder, found none of {error}. The file is damaged.") from error
        return encoder

    def _chosen(self, schema: Schema) -> tuple[Column, ...]:
        if self.columns is None:
            chosen = tuple(column for column in schema if column.role in self.roles and column.kind in _KINDS)
            if not chosen:
                raise SchemaError(
                    f"Expected columns of numbers or categories with one of the roles {', '.join(self.roles)}, found none in {schema!r}. "
                    "Name columns=…, or leave out what reads the table."
                )
            return chosen
        chosen = tuple(schema[name] for name in self.columns)
        told = [f"{column.role} {column.name!r}" for column in chosen if column.role in ("target", "split", "identifier")]
        if told:
            raise LeakageError(f"Expected columns that are known of a new subject, found the {told[0]}. Leave it out, or correct its role.")
        odd = [f"{column.name} ({column.kind})" for column in chosen if column.kind not in _KINDS]
        if odd or not chosen:
            raise SchemaError(f"Expected columns of numbers or categories, found {', '.join(odd) or 'none'}. Name others.")
        return chosen


_KINDS = ("continuous", "binary", "categorical", "ordinal")


def as_table(X: Cohort | pd.DataFrame) -> pd.DataFrame:
    """The table of a cohort, or the table that is given."""
    return X.subjects if isinstance(X, Cohort) else X


def with_column(column: Column, X: Cohort | StreamedCohort | pd.DataFrame) -> pd.DataFrame:
    """A table with a column in it: that of a cohort; of a streamed one the column alone."""
    return X.column(column.name).to_frame() if isinstance(X, StreamedCohort) else as_table(X)


def _column(column: Column, table: pd.DataFrame) -> "pd.Series[Any]":
    if column.name not in table.columns:
        raise SchemaError(f"Expected the column {column.name!r} of the training subjects, found {list(table.columns)}. Add it.")
    return table[column.name]


def as_numbers(column: Column, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Values of a continuous column `[n]`; missing ones are NaN.

    Raises:
        SchemaError: If the column is absent or holds what is no finite number.
    """
    values = _column(column, table)
    numbers = pd.to_numeric(values, errors="coerce")
    odd = values[(numbers.isna() & values.notna()) | np.isinf(numbers.to_numpy(dtype=np.float64, na_value=np.nan))]
    if len(odd):
        raise SchemaError(f"Expected finite numbers in column {column.name!r}, found {str(odd.iloc[0])!r} for {odd.index[0]!r}. Mend the cell.")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def as_words(column: Column, table: pd.DataFrame) -> "pd.Series[Any]":
    """Values of a column of categories as text; a code is the same word whether or not missing values made it a fraction.

    Raises:
        SchemaError: If the column is absent.
    """
    values = _column(column, table)
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    return values.astype("str").mask(values.isna())


def _mean(values: npt.NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 0.0


def _scale(values: npt.NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    spread = float(present.std()) if len(present) else 0.0
    # A constant column keeps a spread of rounding errors, which must not be blown up.
    return spread if spread > 1e-9 * max(1.0, float(np.abs(present).max(initial=0.0))) else 1.0


def _one_hot(words: "pd.Series[Any]", categories: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """A column a category, then unknown, then missing `[n, C + 2]`; each row has a single one."""
    missing = words.isna().to_numpy()
    known = np.column_stack([*(words.eq(name).fillna(False).to_numpy(dtype=bool) for name in categories), np.zeros(len(words), dtype=bool)])[:, :-1]
    unknown = ~missing & ~known.any(axis=1)
    return np.column_stack([known, unknown, missing]).astype(np.float64)
