"""PhysioNet 2012: both layouts give one cohort, and nothing after the prediction time is in it."""

import numpy as np
import pandas as pd
import pytest

from graphssl.datasets import load_physionet2012, load_source, recognise
from graphssl.errors import ConfigError, DataError, SchemaError

STAY = (
    "Time,Parameter,Value\n00:00,RecordID,{id}\n00:00,Age,{age}\n00:00,Gender,{sex}\n00:00,Height,-1\n00:00,ICUType,{unit}\n00:00,Weight,{weight}\n"
)
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"
STAYS = {
    "132539": (54, 0, 4, -1, "00:07,HR,73\n36:15,HR,80\n24:00,GCS,15\n47:59,Weight,-1\n", 0),
    "132540": (76, 1, 2, 76, "00:42,pH,7.4\n00:42,,7.4\n48:00,HR,99\n", 1),
    "132541": (-1, -1, 3, 56.7, "", 0),
}


@pytest.fixture
def folder(tmp_path):
    """Set a, as published: one text file a stay."""
    root = tmp_path / "challenge-2012"
    (root / "set-a").mkdir(parents=True)
    for record, (age, sex, unit, weight, rows, _) in STAYS.items():
        (root / "set-a" / f"{record}.txt").write_text(STAY.format(id=record, age=age, sex=sex, unit=unit, weight=weight) + rows)
    lines = [f"{record},6,1,5,-1,{died}\n" for record, (*_, died) in STAYS.items()]
    (root / "Outcomes-a.txt").write_text(OUTCOMES + "".join(lines))
    return root


def pack(folder):
    """The same as long Parquet."""
    parts = [pd.read_csv(path).assign(RecordID=int(path.stem)) for path in sorted((folder / "set-a").glob("*.txt"))]
    table = pd.concat(parts)[["RecordID", "Time", "Parameter", "Value"]]
    other = folder.with_name("packed")
    other.mkdir()
    table.astype({"RecordID": "int32"}).to_parquet(other / "set-a.parquet", index=False)
    (other / "Outcomes-a.csv").write_text((folder / "Outcomes-a.txt").read_text())
    return other


def test_stays(folder):
    cohort = load_physionet2012(folder, subsets=["a"])
    assert cohort.ids == list(STAYS)
    assert cohort.target().tolist() == ["survived", "died", "survived"]
    assert cohort.sites.tolist() == ["surgical", "cardiac surgery recovery", "medical"]
    np.testing.assert_array_equal(cohort.subjects["age"], [54, 76, np.nan])
    np.testing.assert_array_equal(cohort.subjects["weight"], [np.nan, 76, np.float64(56.7)])
    assert cohort.subjects["sex"].tolist()[:2] == ["female", "male"]
    assert cohort.subjects["height"].isna().all()
    assert not {"SAPS-I", "Length_of_stay"} & set(cohort.subjects.columns)
    assert ["event", "1", "without the name of a parameter"] in cohort.excluded.values.tolist()
    assert {"SAPS-I", "SOFA", "Length_of_stay", "Survival"} <= set(cohort.excluded["id"])
    first = cohort.events.table.query("subject_id == '132539'")
    assert first["code"].tolist() == ["HR", "GCS", "HR"], "in time, -1 left out"
    assert (first["time"] - pd.Timestamp("2000-01-01")).tolist() == [pd.Timedelta(minutes=7), pd.Timedelta(hours=24), pd.Timedelta(hours=36.25)]
    assert cohort.events.table.query("subject_id == '132541'")["code"].tolist() == ["Weight"]


def test_nothing_at_or_after_the_prediction_time(folder):
    cohort = load_physionet2012(folder, subsets=["a"])
    assert 99 not in cohort.events.table["numeric_value"].tolist(), "measured at hour 48"
    day = load_physionet2012(folder, subsets=["a"], hours=24)
    assert sorted(day.events.table["code"]) == ["HR", "Weight", "Weight", "pH"]
    assert day.excluded["reason"].tolist()[-1] == "at the prediction time or after it"
    path = folder / "set-a" / "132541.txt"
    path.write_text(path.read_text() + "24:00,HR,1000\n")
    assert load_physionet2012(folder, subsets=["a"], hours=24).events.hash == day.events.hash


def test_both_layouts_are_one_cohort(folder):
    packed = pack(folder)
    assert load_physionet2012(packed, subsets=["a"]).hash == load_physionet2012(folder, subsets=["a"]).hash
    for root in (folder, packed):
        assert recognise(root).name == "physionet2012"
    assert load_source(packed, subsets=["a"]).ids == list(STAYS)


def test_published_splits(folder):
    (folder / "raindrop_splits.csv").write_text("RecordID,split1\n132539,train\n132540,test\n")
    cohort = load_physionet2012(folder, subsets=["a"])
    assert cohort.schema.named("split") == ["split1"]
    assert cohort.subjects["split1"].tolist()[:2] == ["train", "test"]
    assert cohort.subjects["split1"].isna().tolist() == [False, False, True]


def test_what_does_not_fit_is_named(folder):
    with pytest.raises(ConfigError, match=r"Expected subsets among a, b, c; found \['d'\]"):
        load_physionet2012(folder, subsets=["d"])
    with pytest.raises(ConfigError, match="up to 48 hours, found 72"):
        load_physionet2012(folder, hours=72)
    with pytest.raises(DataError, match=r"Expected set-b\.parquet or text files of stays in .*set-b, found neither"):
        load_physionet2012(folder)
    stay = folder / "set-a" / "132540.txt"
    text = stay.read_text()
    stay.write_text(text + "1 day,HR,70\n")
    with pytest.raises(DataError, match=r"Expected times as hours and minutes .*found \['1 day'\]"):
        load_physionet2012(folder, subsets=["a"])
    stay.write_text(text + "02:00,HR,fast\n")
    with pytest.raises(DataError, match=r"Expected lines of Time,Parameter,Value in .*132540\.txt"):
        load_physionet2012(folder, subsets=["a"])
    stay.write_text(text)
    packed = pack(folder)
    pd.read_parquet(packed / "set-a.parquet").drop(columns="Value").to_parquet(packed / "set-a.parquet")
    with pytest.raises(SchemaError, match=r"found none called \['Value'\]"):
        load_physionet2012(packed, subsets=["a"])
    (folder / "Outcomes-a.txt").write_text("RecordID,Survival\n132539,3\n")
    with pytest.raises(SchemaError, match=r"Expected the columns \['In-hospital_death'\] in .*Outcomes-a\.txt"):
        load_physionet2012(folder, subsets=["a"])
    (folder / "Outcomes-a.txt").unlink()
    with pytest.raises(DataError, match=r"Expected Outcomes-a\.txt or \.csv"):
        load_physionet2012(folder, subsets=["a"])


@pytest.mark.shared_data
def test_the_real_stays(shared_data):
    cohort = load_physionet2012(shared_data / "ehr/icu_timeseries/p2012")
    assert len(cohort) == 12000
    assert (cohort.target() == "died").sum() == 1707
    assert cohort.schema.named("split") == [f"split{k}" for k in range(1, 6)]
    assert len(cohort.events.table["code"].cat.categories) == 37
    assert cohort.subjects["split1"].notna().sum() == 11988
