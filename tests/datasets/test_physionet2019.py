"""PhysioNet 2019: one rule of prediction times for septic and other patients, and nothing after them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from graphssl.datasets import load_physionet2019, recognise
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.evaluation import evaluate, make_baseline
from graphssl.statistics import sepsis_utility

HEAD = "HR|Temp|Age|Gender|Unit1|Unit2|HospAdmTime|ICULOS|SepsisLabel\n"


def stay(hours, label_from=None, age=60, units="1|0"):
    rows = [
        f"{80 + hour}|{'NaN' if hour % 2 else 37}|{age}|1|{units}|-3.5|{hour}|{int(label_from is not None and hour >= label_from)}"
        for hour in range(1, hours + 1)
    ]
    return HEAD + "\n".join(rows) + "\n"


def write(root, hospital, stays):
    folder = root / f"training_set{hospital}"
    folder.mkdir(parents=True)
    for patient, text in stays.items():
        (folder / f"{patient}.psv").write_text(text)
    return root


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "c", "A", {"p000001": stay(30), "p000002": stay(30, 20), "p000003": stay(8), "p000004": stay(20, 4, units="NaN|NaN")})
    return write(tmp_path / "c", "B", {"p100001": stay(40, age=80, units="0|1")})


def test_landmark(folder):
    cohort = load_physionet2019(folder)
    assert cohort.ids == ["p000001", "p000002", "p100001"]
    assert cohort.target().tolist() == ["no", "yes", "no"]
    assert cohort.sites.tolist() == ["A", "A", "B"]
    assert cohort.subjects["unit"].tolist() == ["medical", "medical", "surgical"]
    assert cohort.subjects["hours_to_icu"].tolist() == [3.5] * 3
    assert len(set(cohort.prediction_times)) == 1, "no outcome moves it"
    hours = (cohort.events.table["time"] - pd.Timestamp("2000-01-01")) / pd.Timedelta(hours=1)
    assert hours.max() == 11
    assert sorted(cohort.events.table["code"].unique()) == ["HR", "Temp"]
    left_out = cohort.excluded.set_index("id")["reason"]
    assert left_out["p000003"] == "left before hour 12"
    assert left_out["p000004"] == "septic by hour 12"
    assert set(load_physionet2019(folder, hour=5).ids) - set(cohort.ids) == {"p000003", "p000004"}, "onset six hours after the label"


def test_a_planted_future_value_changes_nothing(folder):
    before = load_physionet2019(folder)
    path = folder / "training_setA" / "p000001.psv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:12], lines[12].replace("92|", "999|"), *lines[13:]]) + "\n")
    after = load_physionet2019(folder)
    assert "999|" in path.read_text()
    assert after.events.hash == before.events.hash


def test_matched_times_tell_nothing(tmp_path):
    rng = np.random.default_rng(0)
    septic = {f"p{k:06}": stay(60, int(rng.integers(6, 50))) for k in range(8)}
    others = {f"p{k:06}": stay(int(rng.integers(5, 70))) for k in range(100, 160)}
    root = write(tmp_path, "A", {**septic, **others})
    cohort = load_physionet2019(root, hospitals=["A"], rule="matched", hour=6)
    hours = (cohort.prediction_times - pd.Timestamp("2000-01-01")) / pd.Timedelta(hours=1)
    by_class = {label: hours[cohort.target() == label].value_counts() for label in ("yes", "no")}
    n_each = by_class["no"].sum() / by_class["yes"].sum()
    assert n_each >= 1
    pd.testing.assert_series_equal(by_class["yes"] * int(n_each), by_class["no"], check_dtype=False, check_like=True)
    last = {patient: len(text.splitlines()) - 1 for patient, text in others.items()}
    assert all(hours[patient] <= last[patient] for patient in cohort.ids if patient in last), "still there"
    onset = {patient: 6 + next(k for k, line in enumerate(text.splitlines()[1:], 1) if line.endswith("|1")) for patient, text in septic.items()}
    assert all(hours[patient] == onset[patient] - 6 for patient in cohort.ids if patient in onset)
    assert load_physionet2019(root, hospitals=["A"], rule="matched", hour=6).hash == cohort.hash
    assert set(cohort.excluded["reason"]) >= {"not drawn"}


def test_times_are_matched_within_each_hospital(tmp_path):
    rng = np.random.default_rng(1)
    for number, (hospital, longest) in enumerate((("A", 50), ("B", 70))):
        septic = {f"p{number}{k:05}": stay(longest, int(rng.integers(6 + 10 * number, 40))) for k in range(6)}
        others = {f"p{number}{k:05}": stay(int(rng.integers(30, longest))) for k in range(100, 180)}
        write(tmp_path, hospital, {**septic, **others})
    cohort = load_physionet2019(tmp_path, rule="matched", hour=6)
    hours = (cohort.prediction_times - pd.Timestamp("2000-01-01")) / pd.Timedelta(hours=1)
    septic = cohort.target() == "yes"
    for hospital in "AB":
        here = cohort.sites == hospital
        assert roc_auc_score(septic[here], hours[here]) == pytest.approx(0.5)
    assert roc_auc_score(septic, hours) == pytest.approx(0.5)
    shares = septic.groupby(cohort.sites).mean()
    assert septic.sum() > 6
    assert shares["A"] == shares["B"] < 0.5, "equally many others in both"


def test_a_rule_that_leaves_nobody_to_compare_with(tmp_path):
    write(tmp_path, "A", {"p000001": stay(60, 40), "p000002": stay(60, 42), "p000003": stay(50), "p000004": stay(20)})
    with pytest.raises(ConfigError, match="Expected as many other patients as septic ones who were still there up to hour 54, found fewer"):
        load_physionet2019(tmp_path, hospitals=["A"], rule="matched")


def test_hourly_rows_see_their_own_hour_and_no_later_one(folder):
    cohort = load_physionet2019(folder, rule="hourly")
    assert len(cohort) == 30 + 30 + 8 + 20 + 40
    assert cohort.ids[:2] == ["p000001_001", "p000001_002"]
    assert cohort.groups["p000002_020"] == cohort.groups["p000002_001"] != cohort.groups["p000001_001"]
    labels = cohort.target()
    assert (labels["p000002_019"], labels["p000002_020"]) == ("no", "yes")
    assert (labels == "yes").sum() == 11 + 17
    heart_rate = cohort.events.table[cohort.events.table["code"] == "HR"].groupby("subject_id", observed=True)["numeric_value"]
    assert heart_rate.count()["p000001_007"] == 7
    assert heart_rate.last()["p000001_007"] == 87, "that of hour 7"
    assert cohort.subjects.loc["p100001_040", ["hospital", "age", "hour"]].tolist() == ["B", 80, 40]
    assert cohort.events.n_reordered == 0
    some = load_physionet2019(folder, rule="hourly", n_patients=2, seed=1)
    assert some.subjects["patient"].nunique() == 2
    assert (some.excluded["reason"] == "not among the 2 patients drawn").sum() == 3


def test_the_utility_of_hourly_predictions(tmp_path):
    write(tmp_path, "A", {f"p{k:06}": stay(14 + k, None if k % 3 else 10) for k in range(24)})
    cohort = load_physionet2019(tmp_path, hospitals=["A"], rule="hourly")
    found = evaluate(cohort, {"majority": make_baseline("majority")}, protocol="k_fold", n_splits=2, scores=["physionet2019_utility"])
    utilities = {result.split: result.value for result in found.results if result.metric == "physionet2019_utility"}
    for split in found.splits:
        assert not {s[:7] for s in split.train} & {s[:7] for s in split.test}
        rows = [s for s in cohort.ids if s in set(split.test)]
        everybody = sepsis_utility((cohort.target()[rows] == "yes").astype(int), np.ones(len(rows)), [s[:7] for s in rows], 0.5)
        assert utilities[split.name] == pytest.approx(everybody), "one risk for all, and so many septic that calling all is best"


def test_whole_stays_up_to_the_label_and_a_warning_of_what_they_tell(folder):
    with pytest.warns(UserWarning, match=r"as long as the stay \(36 hours on average\).*become septic \(20\).*tells the class"):
        cohort = load_physionet2019(folder, rule="stay", hour=10, latest=41)
    assert cohort.ids == ["p000001", "p000002", "p100001"]
    hours = ((cohort.prediction_times - pd.Timestamp("2000-01-01")) / pd.Timedelta(hours=1)).astype(int)
    assert hours.tolist() == [31, 20, 41], "the end of the stay; for the septic one the hour of the first label"
    assert cohort.events.table[cohort.events.table["code"] == "HR"].groupby("subject_id", observed=True).size().tolist() == [30, 19, 40]
    left_out = cohort.excluded.set_index("id")["reason"]
    assert {left_out["p000003"], left_out["p000004"]} == {"outside of hours 10 to 41"}
    with pytest.warns(UserWarning, match="tells the class"):
        assert load_physionet2019(folder, rule="stay", hour=10, latest=40).ids == ["p000001", "p000002"]


def test_packed_copies(folder, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    for hospital in "AB":
        paths = sorted((folder / f"training_set{hospital}").glob("*.psv"))
        table = pd.concat([pd.read_csv(path, sep="|").assign(patient_id=path.stem) for path in paths])
        table.to_parquet(packed / f"training_set{hospital}.parquet", index=False)
    assert load_physionet2019(packed).events.hash == load_physionet2019(folder).events.hash
    assert load_physionet2019(packed).ids == load_physionet2019(folder).ids
    assert recognise(packed).name == recognise(folder).name == "physionet2019"
    pd.read_parquet(packed / "training_setA.parquet").drop(columns="Unit1").to_parquet(packed / "training_setA.parquet")
    with pytest.raises(SchemaError, match=r"Expected the columns of the challenge for hospital A, found none called \['Unit1'\]"):
        load_physionet2019(packed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hospitals": ["C"]}, r"Expected hospitals among A, B; found \['C'\]"),
        ({"rule": "onset"}, "Expected the rule landmark, matched, hourly, stay.*found onset"),
        ({"n_patients": 0}, "a patient at least; found landmark, 12, 6, 54, 0"),
        ({"hour": 99}, "Expected patients who fit the rule 'landmark' at hour 99, found none among 5. Choose another hour"),
    ],
)
def test_options_that_do_not_exist(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        load_physionet2019(folder, **options)


def test_files_that_do_not_fit(folder, tmp_path):
    (folder / "training_setA" / "p000001.psv").write_text(HEAD + "high|37|60|1|1|0|-3|1|0\n")
    with pytest.raises(DataError, match=r"Expected numbers between bars in .*p000001\.psv"):
        load_physionet2019(folder)
    with pytest.raises(DataError, match=r"Expected training_setA\.parquet or files such as p000001\.psv"):
        load_physionet2019(tmp_path)


@pytest.mark.shared_data
@pytest.mark.parametrize("options", [{}, {"rule": "matched", "hour": 6}], ids=["landmark", "matched"])
def test_the_length_of_a_real_window_does_not_tell_who_becomes_septic(shared_data, options):
    cohort = load_physionet2019(shared_data / "ehr/icu_timeseries/p2019", **options)
    assert len(cohort) + (cohort.excluded["what"] == "subject").sum() == 35336
    septic = cohort.target() == "yes"
    assert 1000 < septic.sum() < 0.2 * len(cohort)
    hours = (cohort.prediction_times - pd.Timestamp("2000-01-01")) / pd.Timedelta(hours=1)
    rows = cohort.events.table.groupby("subject_id", observed=True)["time"].nunique().reindex(cohort.ids).fillna(0)
    for here in (septic.notna(), cohort.sites == "A", cohort.sites == "B"):
        assert roc_auc_score(septic[here], hours[here]) == pytest.approx(0.5)
        # Records that begin after the admission are somewhat more common among one or the other.
        assert roc_auc_score(septic[here], rows[here]) == pytest.approx(0.5, abs=0.03)


def test_files_of_one_hospital_have_the_same_columns(folder):
    path = folder / "training_setA" / "p000003.psv"
    path.write_text(path.read_text().replace("Temp", "Temperature"))
    with pytest.raises(SchemaError, match=r"columns of p000001\.psv in every file of hospital A, found others in p000003\.psv"):
        load_physionet2019(folder)


@pytest.mark.parametrize("hour", ["NaN", "1.5", "-3", "1e9"])
def test_hours_that_are_none(folder, hour):
    path = folder / "training_setA" / "p000003.psv"
    lines = path.read_text().splitlines()
    cells = lines[1].split("|")
    cells[-2] = hour
    path.write_text("\n".join([lines[0], "|".join(cells), *lines[2:]]))
    with pytest.raises(DataError, match=r"whole numbers in ICULOS, found .* of p000003"):
        load_physionet2019(folder)
