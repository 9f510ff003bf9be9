"""PhysioNet/CinC Challenge 2012: 48 hours of 12,000 stays in intensive care, and who died in hospital.

Source: Silva et al., *Computing in Cardiology* 2012; https://physionet.org/content/challenge-2012/1.0.0/.
"""

import os
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.data import Cohort, Column, Events, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.events import ORIGIN, as_category
from graphssl.datasets.listing import Listing
from graphssl.datasets.table_files import read_shards, read_text_file, stacked
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.folders import ordinary
from graphssl.progress import tracked

SETS = ("a", "b", "c")


def load_physionet2012(folder: str | os.PathLike[str], *, subsets: Sequence[str] = SETS, hours: float = 48.0, name: str = "physionet2012") -> Cohort:
    """Read the stays of the challenge: descriptors at admission as columns, measurements as events, death in hospital as the target.

    Events count from hour 0 of the stay, which is `graphssl.data.events.ORIGIN`. The site is the kind of unit (`ICUType`). -1 is missing. Of the
    outcomes only the target is taken: length of stay and survival are known after the stay, SAPS-I and SOFA are scores of somebody else's model.
    Where `raindrop_splits.csv` lies beside the sets (the five published splits of Raindrop), its columns have the role `split`.

    Args:
        folder: Folder with `set-a/132539.txt`, … and `Outcomes-a.txt` as published, or with `set-a.parquet` and `Outcomes-a.csv`.
        subsets: Which of the sets a, b and c to read.
        hours: Prediction time, in hours from admission: no later measurement enters.
        name: Name of the cohort.

    Raises:
        ConfigError: If a subset or the prediction time is none that exists.
        DataError: If a file is absent or cannot be read, or a time is not hours and minutes.
        SchemaError: If a column is absent.
    """
    unknown = sorted(set(subsets) - set(SETS))
    if unknown or not subsets:
        raise ConfigError(f"Expected subsets among {', '.join(SETS)}; found {unknown or 'none'}.")
    if not 0 < hours <= _LONGEST:
        raise ConfigError(f"Expected a prediction time of more than 0 and up to {_LONGEST:g} hours, found {hours}.")
    root = Path(folder)
    records = stacked([_read_set(root, subset) for subset in subsets])
    outcomes = pd.concat([_read_outcomes(root, subset) for subset in subsets])
    table = _descriptors(records).join(outcomes, how="right")
    columns = [*_COLUMNS, Column("subset", "categorical", categories=SETS, role="covariate")]
    published = _published_splits(root)
    if published is not None:
        table = table.join(published)
        columns += [Column(split, "categorical", "split", categories=("train", "val", "test")) for split in published.columns]
    measured = records[~records["Parameter"].isin(_DESCRIPTORS) & (records["Value"] != -1)]
    measured = measured[measured["RecordID"].isin(table.index)]
    excluded = [("column", outcome, "known only after the stay, or a score of another model") for outcome in _LATE]
    nameless = measured["Parameter"].isna() | (measured["Parameter"] == "")
    excluded += [("event", str(int(nameless.sum())), "without the name of a parameter")] if nameless.any() else []
    measured = measured[~nameless]
    times = ORIGIN + pd.to_timedelta(_minutes(measured["Time"]), unit="min")
    stream = pd.DataFrame({"subject_id": measured["RecordID"], "time": times, "code": measured["Parameter"], "numeric_value": measured["Value"]})
    listed = pd.DataFrame(excluded, columns=list(EXCLUDED_COLUMNS), dtype="str")
    cohort = Cohort(name, table[[column.name for column in columns]], Schema(columns), {}, listed, Events.of(stream))
    return cohort.predict_at(pd.Series(ORIGIN + timedelta(hours=hours), index=table.index))


def is_physionet2012(listing: Listing) -> bool:
    """Whether a listing has outcomes and a set of the challenge."""
    return listing.here(re.compile(r"Outcomes-[abc]\.(?:txt|csv)").fullmatch) and any(_SET.match(name) for name in listing.names)


def _read_set(root: Path, subset: str) -> pd.DataFrame:
    """Rows of `RecordID, Time, Parameter, Value` of one set; ids and parameters are categories."""
    packed = root / f"set-{subset}.parquet"
    if packed.is_file():
        table = read_shards([packed])
        absent = [column for column in ("RecordID", "Time", "Parameter", "Value") if column not in table.columns]
        if absent:
            raise SchemaError(f"Expected the columns RecordID, Time, Parameter, Value in {packed}, found none called {absent}. Give the original.")
        return table.assign(**{column: as_category(table[column], column) for column in ("RecordID", "Time", "Parameter")})
    paths = sorted((root / f"set-{subset}").glob("*.txt"))
    if not paths:
        raise DataError(f"Expected {packed.name} or text files of stays in {root / f'set-{subset}'}, found neither. Complete the download.")
    parts = []
    for path in tracked(paths, f"Reading stays of set {subset}"):
        try:
            part = pd.read_csv(ordinary(path), usecols=["Time", "Parameter", "Value"], dtype={"Time": "str", "Parameter": "str", "Value": "float64"})
        except (OSError, ValueError) as error:
            raise DataError(f"Expected lines of Time,Parameter,Value in {path}, found something else ({error}). Copy it again.") from error
        parts.append(part.assign(RecordID=path.stem))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(**{column: as_category(table[column], column) for column in ("RecordID", "Time", "Parameter")})


def _read_outcomes(root: Path, subset: str) -> pd.DataFrame:
    path = next((root / f"Outcomes-{subset}.{ending}" for ending in ("txt", "csv") if (root / f"Outcomes-{subset}.{ending}").is_file()), None)
    if path is None:
        raise DataError(f"Expected Outcomes-{subset}.txt or .csv in {root}, found neither. Complete the download.")
    table = read_text_file(path)
    absent = [column for column in ("RecordID", "In-hospital_death") if column not in table.columns]
    if absent:
        raise SchemaError(f"Expected the columns {absent} in {path}, found {list(table.columns)}. Give the original.")
    died = table["In-hospital_death"].map({"0": "survived", "1": "died"})
    return pd.DataFrame({"in_hospital_death": died.to_numpy(), "subset": subset}, index=pd.Index(table["RecordID"], dtype="str", name=None))


def _descriptors(records: pd.DataFrame) -> pd.DataFrame:
    """What is known at admission, one row a stay: the first value of each descriptor, the weight included."""
    at_start = records[records["Parameter"].isin([*_DESCRIPTORS, "Weight"]) & (records["Time"] == "00:00")]
    first = at_start.assign(RecordID=at_start["RecordID"].astype("str"), Parameter=at_start["Parameter"].astype("str"))
    wide = first.pivot_table(index="RecordID", columns="Parameter", values="Value", aggfunc="first").rename_axis(index=None, columns=None)
    wide = wide.reindex(columns=[*_DESCRIPTORS, "Weight"]).astype("float64").round(2)  # as published, whatever the precision of the copy
    wide = wide.mask(wide < 0)
    return pd.DataFrame(
        {
            "age": wide["Age"],
            "sex": wide["Gender"].map({0.0: "female", 1.0: "male"}),
            "height": wide["Height"],
            "weight": wide["Weight"],
            "icu_type": wide["ICUType"].map(dict(enumerate(_UNITS, start=1))),
        }
    )


def _published_splits(root: Path) -> pd.DataFrame | None:
    path = next((root / name for name in ("raindrop_splits.csv", "raindrop_splits.csv.gz") if (root / name).is_file()), None)
    return None if path is None else read_text_file(path).set_index("RecordID").rename_axis(None)


def _minutes(times: "pd.Series[Any]") -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Minutes of times such as 36:15."""
    words = times.cat.remove_unused_categories().cat
    odd = [word for word in words.categories if not re.fullmatch(r"\d{2,3}:[0-5]\d", word)]
    if odd or (words.codes < 0).any():
        raise DataError(
            f"Expected times as hours and minutes from admission, such as 36:15; found {odd[:3] or 'an empty one'}. Copy the files again."
        )
    minutes = np.array([60 * int(word[:-3]) + int(word[-2:]) for word in words.categories], dtype=np.int64)
    found: np.ndarray[Any, np.dtype[np.int64]] = minutes[words.codes]
    return found


_LONGEST = 48.0
_UNITS = ("coronary care", "cardiac surgery recovery", "medical", "surgical")
_DESCRIPTORS = ("RecordID", "Age", "Gender", "Height", "ICUType")
_LATE = ("SAPS-I", "SOFA", "Length_of_stay", "Survival")
_SET = re.compile(r"set-[abc](?:\.parquet$|/\d+\.txt$)")
_COLUMNS = (
    Column("in_hospital_death", "binary", "target", categories=("survived", "died")),
    Column("icu_type", "categorical", "site", categories=_UNITS),
    Column("age", "continuous", "feature", "years", (0.0, 120.0)),
    Column("sex", "binary", "feature", categories=("female", "male")),
    Column("height", "continuous", "feature", "cm"),
    Column("weight", "continuous", "feature", "kg"),
)
