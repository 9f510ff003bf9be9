"""MEDS: shards, splits and labels become samples that see only their past."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort
from graphssl.data.summaries import EventSummary
from graphssl.datasets import load_meds, load_source, recognise
from graphssl.errors import ChoiceError, DataError, SchemaError

TRAIN = [
    (1, None, "GENDER//F", np.nan),
    (1, "2130-01-01 08:00", "HR", 80.0),
    (1, "2130-01-03 08:00", "HR", 90.0),
    (1, "2130-01-05 08:00", "MEDS_DEATH", np.nan),
]
HELD_OUT = [(20, "2130-02-01 08:00", "HR", 70.0), (20, "2130-02-01 07:00", "LAB//K", 4.5)]


def shard(rows):
    table = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
    return table.assign(time=pd.to_datetime(table["time"]).astype("datetime64[us]"), numeric_value=table["numeric_value"].astype("float32"))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "demo"
    for split, rows in (("train", TRAIN), ("held_out", HELD_OUT)):
        (root / "data" / split).mkdir(parents=True)
        shard(rows).to_parquet(root / "data" / split / "0.parquet", index=False)
    (root / "metadata").mkdir()
    pd.DataFrame({"subject_id": [1, 20], "split": ["train", "held_out"]}).to_parquet(root / "metadata" / "subject_splits.parquet", index=False)
    (root / "labels").mkdir()
    times = pd.to_datetime(["2130-01-04 00:00", "2130-01-02 00:00", "2130-02-01 08:00", "2130-01-01 00:00"]).astype("datetime64[us]")
    labels = pd.DataFrame({"subject_id": [1, 1, 20, 99], "prediction_time": times, "boolean_value": [True, False, False, False]})
    labels.to_parquet(root / "labels" / "death.parquet", index=False)
    return root


def test_samples_see_their_past_only(folder):
    cohort = load_meds(folder, labels="death")
    assert cohort.ids == ["1_0", "1_1", "20_0"]
    assert cohort.target().tolist() == ["no", "yes", "no"]
    assert cohort.subjects["split"].tolist() == ["train", "train", "held_out"]
    assert cohort.groups.tolist() == ["1_0", "1_0", "20_0"]
    table = cohort.events.table
    seen = {sample: table.loc[table["subject_id"] == sample, "code"].tolist() for sample in cohort.ids}
    assert seen == {"1_0": ["GENDER//F", "HR"], "1_1": ["GENDER//F", "HR", "HR"], "20_0": ["LAB//K"]}
    assert "MEDS_DEATH" not in table["code"].cat.categories, "no trace of the future"
    assert cohort.excluded.values.tolist() == [["subject", "99_0", "labelled, without an event"]]


def test_subjects_without_labels(folder):
    cohort = load_meds(folder)
    assert cohort.ids == ["1", "20"]
    assert cohort.prediction_times is None
    assert len(cohort.events) == 6
    assert cohort.events.n_reordered == 1
    (folder / "metadata" / "subject_splits.parquet").unlink()
    assert load_meds(folder).schema.named("split") == []
    assert recognise(folder).name == "meds"
    assert load_source(folder, labels="death").name == "demo"


def test_what_codes_mean(folder, tmp_path):
    codes = pd.DataFrame(
        {"code": ["HR", "LAB//K", "OTHER"], "description": ["Heart rate", None, "Another"], "parent_codes": [["LOINC/8867-4"], None, None]}
    )
    codes.to_parquet(folder / "metadata" / "codes.parquet", index=False)
    cohort = load_meds(folder, labels="death")
    assert cohort.events.describe("HR") == "Heart rate"
    assert list(cohort.events.codes.loc["HR", "parent_codes"]) == ["LOINC/8867-4"]
    assert cohort.events.describe("LAB//K") is cohort.events.describe("GENDER//F") is None
    told = EventSummary(("mean", "count"), min_subjects=1).apply(cohort).schema
    assert told["HR mean"].description == "Heart rate, mean"
    assert told["LAB//K mean"].description is None
    assert "Heart rate, count" in str(told)
    kept = Cohort.load(cohort.save(tmp_path / "saved"))
    assert kept.events.describe("HR") == "Heart rate"
    assert kept.hash == cohort.hash == load_meds(folder, labels="death").hash
    assert kept.select(["20_0"]).events.describe("HR") == "Heart rate", "of all codes"
    assert (kept.select(["20_0"]) | kept.select(["1_0"])).events.describe("OTHER") == "Another"
    pd.concat([codes, codes[:1]]).to_parquet(folder / "metadata" / "codes.parquet", index=False)
    with pytest.raises(SchemaError, match=r"Expected each code once in .*codes\.parquet, found several rows of \['HR'\]"):
        load_meds(folder)
    codes.rename(columns={"code": "name"}).to_parquet(folder / "metadata" / "codes.parquet", index=False)
    with pytest.raises(SchemaError, match=r"found none called \['code'\]"):
        load_meds(folder)
    codes[["code"]].to_parquet(folder / "metadata" / "codes.parquet", index=False)
    assert load_meds(folder).events.describe("HR") is None


@pytest.mark.parametrize(
    ("column", "values", "kind"), [("float_value", [0.5, 1.5, 2.5], "continuous"), ("categorical_value", ["a", "b", "c"], "categorical")]
)
def test_other_labels(folder, column, values, kind):
    labels = pd.read_parquet(folder / "labels" / "death.parquet").drop(columns="boolean_value").iloc[:3]
    labels.assign(**{column: values}).to_parquet(folder / "labels" / "other.parquet", index=False)
    cohort = load_meds(folder, labels=folder / "labels" / "other.parquet")
    assert cohort.schema["other"].kind == kind
    assert cohort.subjects["other"].tolist() == [values[1], values[0], values[2]]


def test_what_does_not_fit_is_named(folder):
    with pytest.raises(ChoiceError, match=r"Expected labels 'los' in .*labels, found death\. Name one of them"):
        load_meds(folder, labels="los")
    labels = pd.read_parquet(folder / "labels" / "death.parquet")
    pd.concat([labels, labels]).to_parquet(folder / "labels" / "twice.parquet", index=False)
    with pytest.raises(SchemaError, match="Expected one label a subject and prediction time"):
        load_meds(folder, labels="twice")
    labels.drop(columns="boolean_value").to_parquet(folder / "labels" / "none.parquet", index=False)
    with pytest.raises(SchemaError, match="Expected labels in one of the columns boolean_value"):
        load_meds(folder, labels="none")
    labels.drop(columns="prediction_time").to_parquet(folder / "labels" / "late.parquet", index=False)
    with pytest.raises(SchemaError, match=r"found none called \['prediction_time'\]"):
        load_meds(folder, labels="late")
    broken = folder / "data" / "train" / "1.parquet"
    broken.write_bytes(b"PAR1PAR1")
    with pytest.raises(DataError, match=r"found 1 of 3 that cannot be read: 1\.parquet"):
        load_meds(folder)
    broken.unlink()
    for path in (folder / "data").rglob("*.parquet"):
        shard([]).to_parquet(path, index=False)
    with pytest.raises(DataError, match="Expected events in .*data, found none"):
        load_meds(folder)


@pytest.mark.shared_data
def test_the_real_demo(shared_data):
    cohort = load_meds(shared_data / "ehr/standards/meds/mimic_iv_demo", labels="in_hospital_death_24h")
    assert len(cohort) == 244
    assert cohort.subjects["person"].nunique() <= 100
    times = cohort.prediction_times.loc[cohort.events.table["subject_id"].astype("str")].to_numpy()
    seen = cohort.events.table["time"].to_numpy()
    assert not (seen >= times).any()
    assert len(cohort.events.codes) == 7035, "of which this copy describes none"
    assert cohort.events.describe("BMI (kg/m2)") is None
