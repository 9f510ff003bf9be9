"""PhysioNet/CinC Challenge 2019: hourly rows of stays in two hospitals, and who becomes septic.

Source: Reyna et al., *Critical Care Medicine* 2020, doi:10.1097/CCM.0000000000004145; https://physionet.org/content/challenge-2019/1.0.0/.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from graphssl.data import Cohort, Column, Events, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.events import ORIGIN, as_category
from graphssl.datasets.listing import Listing
from graphssl.datasets.table_files import read_shards, stacked
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.folders import ordinary
from graphssl.progress import tracked

HOSPITALS = ("A", "B")
Rule = Literal["landmark", "matched", "hourly", "stay"]


def load_physionet2019(
    folder: str | os.PathLike[str],
    *,
    hospitals: Sequence[str] = HOSPITALS,
    rule: Rule = "landmark",
    hour: int = 12,
    lead: int = 6,
    latest: int = 54,
    n_patients: int | None = None,
    seed: int = 0,
    name: str = "physionet2019",
) -> Cohort:
    """Read the stays of the challenge: descriptors as columns, hourly measurements as events, sepsis as the target, the hospital as the site.

    Prediction times follow one rule for septic and other patients, so that a time says nothing of the outcome, but under `"stay"`. (Windows that
    end at the onset for the ones and at a random hour for the others can be told apart by their length alone.)

    - `"landmark"`: at `hour` of the stay for everybody who is still there and not septic yet; the target is whether sepsis begins later.
    - `"matched"`: `lead` hours before the onset for septic patients, and at the very same hours for equally many others each, drawn among those of
      their hospital who were still there (incidence density sampling); as many are kept as every hour of every hospital has. Left out are patients
      whose time would be before `hour` or after `latest`, and others that were not drawn.
    - `"hourly"`: the task of the challenge. Every hour of a stay is a row, such as `p000001_012`, predicted at its end with the events of that hour
      and of those before; the target is `SepsisLabel`, the column `patient` has the role `group`. A history is repeated in each of its hours, about
      20 times: draw patients by `n_patients` where memory is short.
    - `"stay"`: the whole record for those who stay free of sepsis, up to `lead` hours before the onset for septic patients, as published
      comparisons of time series models have it (Zhang et al., *Raindrop*, ICLR 2022). **The length of a record then tells the class, and a score
      says how well finished stays are told apart, not how well sepsis is foretold**: it is for such comparisons alone, and warns. Left out are
      patients whose time would be before `hour` or after `latest`.

    `SepsisLabel` turns 1 six hours before the onset. Events of row `ICULOS` lie at that hour after `graphssl.data.events.ORIGIN`, and only rows
    before the prediction time are kept. Who is left out is listed with the reason.

    Args:
        folder: Folder with `training_setA/p000001.psv` as published, or with `training_setA.parquet`, which has a column `patient_id`.
        hospitals: Which of A and B to read.
        rule: How prediction times are set.
        hour: Landmark, or the earliest prediction time of the rules matched and stay, in hours of the stay.
        lead: Hours from prediction to onset under the rules matched and stay.
        latest: Latest prediction time of the rules matched and stay; in hospital A few are there for longer than 54 hours.
        n_patients: How many patients to draw, each as likely; all when left out.
        seed: Seed of the draws.
        name: Name of the cohort.

    Raises:
        ConfigError: If an option is none that exists, or no patient fits the rule.
        DataError: If a file is absent or cannot be read.
        SchemaError: If a column is absent.
    """
    unknown = sorted(set(hospitals) - set(HOSPITALS))
    if unknown or not hospitals:
        raise ConfigError(f"Expected hospitals among {', '.join(HOSPITALS)}; found {unknown or 'none'}.")
    bounded = rule in ("matched", "stay")
    if rule not in get_args(Rule) or hour < 1 or lead < 0 or (bounded and latest < hour) or (n_patients is not None and n_patients < 1):
        raise ConfigError(
            f"Expected the rule {', '.join(get_args(Rule))}, hour ≥ 1, lead ≥ 0, latest ≥ hour and a patient at least; "
            f"found {rule}, {hour}, {lead}, {latest}, {n_patients}."
        )
    rows = stacked([_read_hospital(Path(folder), hospital) for hospital in hospitals])
    rng = np.random.default_rng(seed)
    stays, skipped = _drawn_stays(_stays(rows), n_patients, rng)
    if rule == "hourly":
        return _hourly(name, rows[rows["patient_id"].isin(stays.index)], stays, skipped)
    if rule == "landmark":
        times, reasons = _landmark(stays, hour)
    elif rule == "matched":
        times, reasons = _matched(stays, hour, lead, latest, rng)
    else:
        times, reasons = _whole(stays, hour, lead, latest)
    if times.empty:
        raise ConfigError(f"Expected patients who fit the rule {rule!r} at hour {hour}, found none among {len(stays)}. Choose another hour.")
    table = stays.loc[times.index]
    table = table.assign(sepsis=np.where(table["onset"].notna(), "yes", "no"))[[column.name for column in _COLUMNS]]
    kept = rows[rows["patient_id"].isin(times.index)]
    cohort = Cohort(name, table, Schema(_COLUMNS), {}, _excluded(skipped | reasons), _events(kept))
    return cohort.predict_at(ORIGIN + pd.to_timedelta(times, unit="h"))


def is_physionet2019(listing: Listing) -> bool:
    """Whether a listing has stays of the challenge."""
    return any(_FILE.search(name) for name in listing.names)


def _read_hospital(root: Path, hospital: str) -> pd.DataFrame:
    packed = root / f"training_set{hospital}.parquet"
    if packed.is_file():
        table = read_shards([packed])
    else:
        folders = (f"training_set{hospital}", "training") if hospital == "A" else (f"training_set{hospital}", "training_B")
        paths = [path for folder in folders for path in sorted((root / folder).glob("p*.psv"))]
        if not paths:
            raise DataError(f"Expected {packed.name} or files such as p000001.psv in {root / folders[0]}, found neither. Complete the download.")
        stays = [_read_stay(path) for path in tracked(paths, "Reading stays")]
        odd = next((path.name for path, stay in zip(paths, stays, strict=True) if list(stay) != list(stays[0])), None)
        if odd is not None:
            raise SchemaError(f"Expected the columns of {paths[0].name} in every file of hospital {hospital}, found others in {odd}. Copy it again.")
        table = pd.concat(stays, ignore_index=True)
    absent = [column for column in ("patient_id", *_STATIC, "ICULOS", "SepsisLabel") if column not in table.columns]
    if absent:
        raise SchemaError(f"Expected the columns of the challenge for hospital {hospital}, found none called {absent}. Give the original.")
    whole = table["ICULOS"].between(1, _LATEST) & (table["ICULOS"] % 1 == 0)
    if not whole.all():
        patient, hour = table.loc[~whole, ["patient_id", "ICULOS"]].iloc[0].tolist()
        raise DataError(f"Expected hours of the stay as whole numbers in ICULOS, found {hour} of {patient}. Copy the file again.")
    return table.assign(patient_id=as_category(table["patient_id"], "patient_id"), hospital=pd.Categorical([hospital] * len(table)))


def _read_stay(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(ordinary(path), sep="|", dtype="float64").assign(patient_id=path.stem)
    except (OSError, ValueError) as error:
        raise DataError(f"Expected numbers between bars in {path}, found something else ({error}). Copy it again.") from error


def _stays(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a patient: descriptors, the last hour, and the hour of the onset where there is one."""
    by_patient = rows.groupby("patient_id", sort=True, observed=True)
    first = by_patient[["hospital", *_STATIC]].first()
    septic = rows[rows["SepsisLabel"] == 1].groupby("patient_id", observed=True)["ICULOS"].min()
    unit = pd.Series(np.select([first["Unit1"] == 1, first["Unit2"] == 1], ["medical", "surgical"], "unknown"), index=first.index)
    return pd.DataFrame(
        {
            "hospital": first["hospital"].astype("str"),
            "age": first["Age"].astype("float64").round(2),  # as published, whatever the precision of the copy
            "sex": first["Gender"].map({0: "female", 1: "male"}),
            "unit": unit.mask(unit == "unknown"),
            "hours_to_icu": -first["HospAdmTime"].astype("float64").round(2),
            "last": by_patient["ICULOS"].max().astype("int64"),
            "onset": septic.reindex(first.index) + _SHIFT,
        }
    ).set_axis(pd.Index(first.index.tolist(), dtype="str"))


def _drawn_stays(stays: pd.DataFrame, n_patients: int | None, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, str]]:
    if n_patients is None or n_patients >= len(stays):
        return stays, {}
    kept = np.sort(rng.choice(len(stays), n_patients, replace=False))
    return stays.iloc[kept], dict.fromkeys(stays.index.delete(kept), f"not among the {n_patients} patients drawn")


def _hourly(name: str, rows: pd.DataFrame, stays: pd.DataFrame, reasons: dict[str, str]) -> Cohort:
    patients, hours = rows["patient_id"].astype("str"), rows["ICULOS"].astype("int64")
    ids = pd.Index((patients + "_" + hours.astype("str").str.zfill(3)).tolist(), dtype="str")
    table = stays.loc[patients.tolist()].set_axis(ids)
    times = pd.Series(ORIGIN + pd.to_timedelta(hours.to_numpy() + 1, unit="h"), index=ids)
    table = table.assign(sepsis=np.where(rows["SepsisLabel"] == 1, "yes", "no"), patient=patients.to_numpy(), hour=hours.to_numpy(dtype="float64"))
    events = _events(rows).of_samples(pd.DataFrame({"subject_id": table["patient"], "time": times}))
    columns = [*_COLUMNS, Column("patient", "categorical", "group"), Column("hour", "continuous", "feature", "hours")]
    return Cohort(name, table[[column.name for column in columns]], Schema(columns), {}, _excluded(reasons), events).predict_at(times)


def _excluded(reasons: Mapping[str, str]) -> pd.DataFrame:
    entries = [("subject", patient, reason) for patient, reason in reasons.items()]
    return pd.DataFrame([*entries, ("column", "SepsisLabel", "the outcome itself")], columns=list(EXCLUDED_COLUMNS), dtype="str")


def _landmark(stays: pd.DataFrame, hour: int) -> "tuple[pd.Series[Any], dict[str, str]]":
    early = stays["onset"] <= hour
    gone = ~early & (stays["last"] < hour)
    reasons = dict.fromkeys(stays.index[early], f"septic by hour {hour}") | dict.fromkeys(stays.index[gone], f"left before hour {hour}")
    kept = stays.index[~early & ~gone]
    return pd.Series(hour, index=kept), reasons


def _whole(stays: pd.DataFrame, hour: int, lead: int, latest: int) -> "tuple[pd.Series[Any], dict[str, str]]":
    times = (stays["onset"] - lead).fillna(stays["last"] + 1).astype("int64")
    outside = (times < hour) | (times > latest)
    kept = times[~outside]
    warnings.warn(
        f"Records are as long as the stay ({kept[stays['onset'].isna()].mean():.0f} hours on average), or as long as it takes to become septic "
        f"({kept[stays['onset'].notna()].mean():.0f}): their length tells the class, and no score of them is one of foretelling sepsis.",
        stacklevel=3,
    )
    return kept, dict.fromkeys(stays.index[outside], f"outside of hours {hour} to {latest}")


def _matched(stays: pd.DataFrame, hour: int, lead: int, latest: int, rng: np.random.Generator) -> "tuple[pd.Series[Any], dict[str, str]]":
    times = stays["onset"].dropna() - lead
    outside = times.index[(times < hour) | (times > latest)]
    reasons = dict.fromkeys(outside, f"septic outside of hours {hour} to {latest} + {lead}")
    lasts = stays.loc[stays["onset"].isna(), "last"]
    fallen = [values.sort_values(ascending=False, kind="stable") for values in (times.drop(outside), lasts)]
    hospitals = [tuple(values[stays.loc[values.index, "hospital"] == name] for values in fallen) for name in sorted(set(stays["hospital"]))]
    n_each = min((_n_each(cases, others) for cases, others in hospitals if len(cases)), default=1)
    if n_each < 1:
        raise ConfigError(
            f"Expected as many other patients as septic ones who were still there up to hour {latest}, found fewer. Lower the latest prediction time."
        )
    drawn: dict[str, float] = {}
    for cases, others in hospitals:
        drawn |= _drawn(cases, others, n_each, rng)
    reasons |= {str(other): "not drawn" for other in lasts.index if other not in drawn}
    found = pd.concat([*(cases for cases, _ in hospitals), pd.Series(drawn, dtype="float64")]).astype("int64")
    return found.loc[[patient for patient in stays.index if patient in found.index]], reasons


def _n_each(cases: "pd.Series[Any]", lasts: "pd.Series[Any]") -> int:
    """How many others every case can have: those with late times have the fewest to choose from. Both fall."""
    n_there = np.searchsorted(-lasts.to_numpy(), -cases.to_numpy(), side="right")
    return int((n_there // np.arange(1, len(cases) + 1)).min())


def _drawn(cases: "pd.Series[Any]", lasts: "pd.Series[Any]", n_each: int, rng: np.random.Generator) -> dict[str, float]:
    """Time by other patient: the latest cases draw first, among those who were still there."""
    drawn: dict[str, float] = {}
    waiting: list[str] = []
    others = iter([*lasts.items(), (None, -np.inf)])
    patient, last = next(others)
    for time in cases:
        while last >= time:
            waiting.append(str(patient))
            patient, last = next(others)
        for _ in range(n_each):
            drawn[waiting.pop(int(rng.integers(len(waiting))))] = time
    return drawn


def _events(rows: pd.DataFrame) -> Events:
    measured = [name for name in rows.columns if name not in ("patient_id", "hospital", *_STATIC, "ICULOS", "SepsisLabel")]
    hours = ORIGIN + pd.to_timedelta(rows["ICULOS"].astype("int64"), unit="h")
    parts = []
    for number, code in enumerate(measured):  # a column at a time, and what is there only: most cells are empty
        there = rows[code].notna()
        codes = pd.Categorical.from_codes(np.full(int(there.sum()), number), pd.Index(measured))
        parts.append(
            pd.DataFrame({"subject_id": rows.loc[there, "patient_id"], "time": hours[there], "code": codes, "numeric_value": rows.loc[there, code]})
        )
    return Events.of(pd.concat(parts).sort_index(kind="stable"))  # row by row again, as in the source


_SHIFT = 6  # hours by which SepsisLabel runs ahead of the onset
_STATIC = ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime")
_FILE = re.compile(r"(?:^|/)training_set[AB]\.parquet$|(?:^|/)training(?:_setA|_setB|_B)?/p\d{6}\.psv$")
_LATEST = 10_000  # hours; more than a year
_COLUMNS = (
    Column("sepsis", "binary", "target", categories=("no", "yes")),
    Column("hospital", "categorical", "site", categories=HOSPITALS),
    Column("age", "continuous", "feature", "years", (0.0, 120.0)),
    Column("sex", "binary", "feature", categories=("female", "male")),
    Column("unit", "categorical", "feature", categories=("medical", "surgical")),
    Column("hours_to_icu", "continuous", "feature", "hours"),
)
