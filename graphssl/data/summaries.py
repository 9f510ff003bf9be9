"""Event streams as columns: what a patient's measurements were over the time that may be looked at."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from graphssl.data.cohort import EXCLUDED_COLUMNS, Cohort, check_before_outcome
from graphssl.data.schema import Column, Schema
from graphssl.errors import ConfigError, DataError, SchemaError

Statistic = Literal["mean", "min", "max", "first", "last", "std", "count", "slope"]


@dataclass(frozen=True)
class EventSummary:
    """One column a code and statistic of the events that a cohort holds, which are those before the prediction time.

    What was never measured is missing, but for its count, which is zero; the standard deviation (divided by n - 1) of a single value is missing. A
    patient's columns depend on nobody else. The statistics taken by default are those on which gradient boosting beats published deep models of
    PhysioNet 2012. `slope` is that of the least-squares line through the values, per hour; missing where all were taken at one time.

    Args:
        statistics: What to say of the values of a code, in time order where that matters.
        min_subjects: Codes with a value in fewer subjects are left out, and listed.

    Raises:
        ConfigError: If there is no statistic, one is unknown or named twice, or `min_subjects` is not positive.
    """

    statistics: tuple[Statistic, ...] = ("mean", "min", "max", "first", "last", "std", "count")
    min_subjects: int = 10

    def __post_init__(self) -> None:
        known = get_args(Statistic)
        if not self.statistics or len(set(self.statistics)) < len(self.statistics) or not set(self.statistics) <= set(known):
            raise ConfigError(f"Expected statistics among {', '.join(known)}, each once; found {list(self.statistics)}.")
        if self.min_subjects < 1:
            raise ConfigError(f"Expected min_subjects of at least 1, found {self.min_subjects}.")

    def apply(self, cohort: Cohort) -> Cohort:
        """The cohort with the columns added, called such as `HR mean`, and described where the source says what the code means.

        Raises:
            DataError: If the cohort has no events, or no code has values in enough subjects.
            LeakageError: If it has an outcome and events with a time, but no prediction times: later events would become features.
            SchemaError: If a column of such a name is there already.
        """
        if cohort.events is None:
            raise DataError(f"Expected events in {cohort.name!r} to summarise, found none. Load a source with events.")
        check_before_outcome(cohort)
        table = cohort.events.table
        table = table[table["numeric_value"].notna()]
        # What was not measured is counted too: subjects and codes without a value keep their places.
        groups = table.groupby(["code", "subject_id"], observed=True)["numeric_value"]
        n_subjects = table.groupby("code", observed=False)["subject_id"].nunique()
        codes = sorted(str(code) for code in n_subjects.index[n_subjects >= self.min_subjects])
        if not codes:
            raise DataError(f"Expected a code with values in {self.min_subjects} subjects or more, found none. Lower min_subjects.")
        found = groups.agg([statistic for statistic in self.statistics if statistic != "slope"])
        if "slope" in self.statistics:
            found = found.join(_slopes(table).rename("slope"), how="outer")
        columns, described = {}, []
        for code in codes:
            part = found.loc[code].reindex(cohort.subjects.index)
            words = cohort.events.describe(code)
            for statistic in self.statistics:
                values = part[statistic].fillna(0) if statistic == "count" else part[statistic]
                columns[f"{code} {statistic}"] = values.astype(np.float32)
                described.append(Column(f"{code} {statistic}", "continuous", description=None if words is None else f"{words}, {statistic}"))
        clash = [name for name in columns if name in cohort.subjects.columns]
        if clash:
            raise SchemaError(f"Expected no column called {clash[0]!r} in the table of {cohort.name!r}, found one. Rename it.")
        rare = [(str(code), n) for code, n in n_subjects.items() if n < self.min_subjects]
        listed = [("column", code, f"events with a value in {n} subjects, fewer than {self.min_subjects}") for code, n in rare]
        return replace(
            cohort,
            subjects=pd.concat([cohort.subjects, pd.DataFrame(columns)], axis=1),
            schema=Schema([*cohort.schema, *described]),
            excluded=pd.concat([cohort.excluded, pd.DataFrame(listed, columns=list(EXCLUDED_COLUMNS), dtype="str")], ignore_index=True),
        )


def _slopes(table: pd.DataFrame) -> "pd.Series[float]":
    """Slope per hour of the values of each code and subject; no row where fewer than two times are known."""
    timed = table[table["time"].notna()]
    keys = [timed["code"], timed["subject_id"]]
    hours = (timed["time"] - timed["time"].min()) / pd.Timedelta(hours=1)
    hours -= hours.groupby(keys, observed=True).transform("mean")
    products = pd.DataFrame({"above": hours * timed["numeric_value"].astype(float), "below": hours**2}).groupby(keys, observed=True).sum()
    return (products["above"] / products["below"].where(products["below"] > _ONE_TIME)).dropna()


# Squared hours below which times differ by rounding only.
_ONE_TIME = 1e-8
