"""What of a patient does not change, beside what does: columns of the table and events without a time, as tokens of columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.recent_events import common_codes, static_events
from graphssl.data.schema import Column, Role, Schema
from graphssl.data.table import ColumnTokenizer, TableBatch
from graphssl.errors import CheckpointError, SchemaError

_NOTED = "yes"


class StaticColumns:
    """A `ColumnTokenizer` over a cohort's columns and its events without a time, one column a code; no columns at all are a state too.

    A code with numbers becomes a continuous column, one with text a categorical column, any other a column that says whether it was noted.

    Args:
        columns: Names of the columns of the table; all with one of the `roles` that hold numbers or categories when left out.
        roles: Roles of the columns to take where none are named.
        n_pieces: Pieces of each number, at most.
        min_subjects: Codes of fewer training subjects are left out.

    Attributes:
        kinds_: Kind of each code's column, by code.
        tokenizer_: The fitted tokenizer, None where there is no column.
    """

    def __init__(self, columns: Sequence[str] | None, roles: Sequence[Role], n_pieces: int, min_subjects: int) -> None:
        self.columns, self.roles, self.n_pieces, self.min_subjects = columns, roles, n_pieces, min_subjects

    def layout(self) -> dict[str, Any]:
        """Names of numbers, categories of the other columns, and the number of pieces."""
        nothing: dict[str, Any] = {"numbers": (), "categories": {}, "n_pieces": self.n_pieces}
        return nothing if self.tokenizer_ is None else self.tokenizer_.layout()

    def fit(self, cohort: Cohort) -> "StaticColumns":
        """Learn columns, scales and categories from training subjects.

        Raises:
            SchemaError: If a named column is absent or holds neither numbers nor categories, or a code is called as a column is.
        """
        events = static_events(cohort)
        common = events[events["code"].isin(common_codes(events, self.min_subjects))]
        said = common.groupby("code", observed=True)[["numeric_value", "text_value"]].count()
        kinds = {"numeric_value": "continuous", "text_value": "categorical"}
        self.kinds_ = {str(code): next((kinds[name] for name in kinds if row[name]), "binary") for code, row in said.iterrows()}
        clash = sorted(set(self.kinds_) & set(cohort.subjects.columns))
        if clash:
            raise SchemaError(f"Expected no column called {clash[0]!r}, as events without a time are, in {cohort.name!r}, found one. Rename it.")
        named = [column.name for column in cohort.schema if column.role in self.roles and column.kind not in ("text", "timestamp")]
        names = [*(named if self.columns is None else self.columns), *self.kinds_]
        added = [Column(code, kind) for code, kind in self.kinds_.items()]  # type: ignore[arg-type]
        whole = Cohort(cohort.name, self._table(cohort), Schema([*cohort.schema, *added]))
        self.tokenizer_ = ColumnTokenizer(names, n_pieces=self.n_pieces).fit(whole) if names else None
        return self

    def transform(self, cohort: Cohort) -> TableBatch:
        """The columns of any patients.

        Raises:
            SchemaError: If a column is absent, its values are not of its kind, or the cohort says that it is of another kind or unit.
        """
        if self.tokenizer_ is not None:
            self.tokenizer_.encoder_.check_fits(cohort)
            return self.tokenizer_.transform(self._table(cohort))
        n = len(cohort)
        nothing = torch.zeros(n, 0)
        return TableBatch(tuple(cohort.ids), nothing, torch.zeros(n, 0, self.n_pieces), nothing.long(), nothing.bool())

    def unknown(self, cohort: Cohort) -> pd.DataFrame:
        """Who has a category that no training subject had, by column of categories."""
        return pd.DataFrame(index=cohort.subjects.index) if self.tokenizer_ is None else self.tokenizer_.unknown(self._table(cohort))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Codes, columns, scales and categories as plain values, and the ends of pieces as a tensor."""
        record, tensors = ({}, {}) if self.tokenizer_ is None else self.tokenizer_.state()
        return {"codes": self.kinds_, "tokenizer": record}, tensors

    def restore(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "StaticColumns":
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing or does not fit the others.
        """
        try:
            self.kinds_ = dict(record["codes"])
            self.tokenizer_ = ColumnTokenizer.from_state(record["tokenizer"], tensors) if record["tokenizer"] else None
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Expected the fitted state of static columns, found a problem with {error}. The file is damaged.") from error
        return self

    def _table(self, cohort: Cohort) -> pd.DataFrame:
        """The table with a column a code; the last word where there are several."""
        if not self.kinds_:
            return cohort.subjects
        events = static_events(cohort)
        added = {}
        for code, kind in self.kinds_.items():
            mine = events[events["code"] == code]
            values = (
                mine["numeric_value"].astype("float64") if kind == "continuous" else mine["text_value"].astype("str").mask(mine["text_value"].isna())
            )
            values = pd.Series(_NOTED, index=mine.index, dtype="str") if kind == "binary" else values
            last = values.groupby(mine["row"]).last().reindex(range(len(cohort)))
            added[code] = last.set_axis(cohort.subjects.index)
        return pd.concat([cohort.subjects, pd.DataFrame(added, index=cohort.subjects.index)], axis=1)
