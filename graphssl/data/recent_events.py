"""Events by how long before the prediction time they were: what tokenizers of time read."""

from collections.abc import Collection, Sequence
from fnmatch import translate
from re import compile as pattern_of
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.errors import DataError

MICROSECONDS_PER_HOUR = 3_600_000_000


def recent_events(cohort: Cohort, span: int | None = None) -> pd.DataFrame:
    """The events with a time, counted back from each subject's prediction time, in time order within a subject.

    A cohort with prediction times holds nothing at them or after them, so nothing of the future can be here. Where it has none, time counts back from
    right behind the subject's last event.

    Args:
        cohort: Subjects with events.
        span: How far back to look, in microseconds; as far as there is something when left out.

    Returns:
        The columns `row` (place of the subject in the cohort), `before` (microseconds until the prediction time, 1 or more), `code` and
        `numeric_value`.

    Raises:
        DataError: If the cohort has no events.
    """
    table, rows = _events_and_rows(cohort)
    timed = table["time"].notna().to_numpy()
    table, rows = table[timed], rows[timed]
    times = table["time"].to_numpy().astype("int64")
    if cohort.prediction_times is None:
        ends = np.full(len(cohort), np.iinfo(np.int64).min)
        np.maximum.at(ends, rows, times + 1)
    else:
        ends = cohort.prediction_times.to_numpy(dtype="datetime64[us]").astype("int64")
    before = ends[rows] - times
    recent = before <= (np.iinfo(np.int64).max if span is None else span)
    found = {"row": rows[recent], "before": before[recent], "code": table["code"].array[recent], "numeric_value": table["numeric_value"][recent]}
    events = pd.DataFrame(found).reset_index(drop=True)
    return events.assign(code=events["code"].cat.remove_unused_categories())


def static_events(cohort: Cohort) -> pd.DataFrame:
    """The events without a time, which hold at all times: `row` (place of the subject), `code`, `numeric_value` and `text_value`.

    Raises:
        DataError: If the cohort has no events.
    """
    table, rows = _events_and_rows(cohort)
    static = table["time"].isna().to_numpy()
    return table.loc[static, ["code", "numeric_value", "text_value"]].assign(row=rows[static]).reset_index(drop=True)


def common_codes(events: pd.DataFrame, min_subjects: int, named: Collection[str] = ()) -> list[str]:
    """Codes of events of at least so many subjects, and those that are named in full however rare they are; sorted."""
    n_subjects = events.groupby("code", observed=True)["row"].nunique()
    return sorted(str(code) for code in n_subjects.index[(n_subjects >= min_subjects) | n_subjects.index.isin(list(named))])


def code_places(events: pd.DataFrame, codes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Place of each event's code among some codes `[n]`; -1 where it is none of them."""
    found = pd.Index(list(codes), dtype="str").get_indexer(events["code"].cat.categories)
    return np.asarray(found[events["code"].cat.codes], dtype=np.int64)


def matches(codes: "pd.Index[Any]", patterns: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Which codes a pattern fits; `*` stands for any letters and `?` for one, as in names of files."""
    if not patterns:
        return np.zeros(len(codes), dtype=bool)
    fits = pattern_of("|".join(translate(pattern) for pattern in patterns))
    return np.array([fits.match(str(code)) is not None for code in codes], dtype=bool)


def _events_and_rows(cohort: Cohort) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    if cohort.events is None:
        raise DataError(f"Expected events in {cohort.name!r}, found none. Load a source with events, or read its table with ColumnTokenizer.")
    places = cohort.subjects.index.get_indexer(pd.Index(cohort.events.ids)).astype(np.int64)
    table = cohort.events.table
    return table, places[table["subject_id"].cat.codes] if len(table) else np.empty(0, np.int64)
