"""What a run says of its patients: ids and values stand only in the files that are for them."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl.cli import main
from graphssl.data import Cohort, Column, Schema

# Nobody else is called so, and no number of a model is this one.
MARK = "zqx"
AGES = [41.271 + k / 1000 for k in range(24)]
# Files that are for patients: who is in which split, what was predicted of whom, who was left out; and what is kept to go on with.
FOR_PATIENTS = {"splits.json", "predictions.parquet", "excluded.csv"}


@pytest.fixture(scope="module")
def place(make_cohort, configuration, tmp_path_factory):
    """A folder with a saved cohort of marked patients, of whom two were left out, and a configuration."""
    folder = tmp_path_factory.mktemp("private")
    cohort = make_cohort(n_subjects=24, n_regions=12, n_timepoints=30)
    ids = [f"{MARK}{k:03d}" for k in range(24)]
    table = cohort.subjects.set_axis(pd.Index(ids, dtype="str")).assign(age_at_scan=AGES)
    data = cohort.regions["toy"]
    regions = {"toy": type(data)(data.atlas, dict(zip(ids, data.values.values(), strict=True)), data.provenance)}
    excluded = pd.DataFrame({"what": "subject", "id": [f"{MARK}900", f"{MARK}901"], "reason": "no file"}, dtype="str")
    schema = Schema([*cohort.schema, Column("age_at_scan", "continuous", "covariate")])
    Cohort("marked", table, schema, regions, excluded).save(folder / "cohort")
    (folder / "run.yaml").write_text(yaml.safe_dump(configuration(epochs=1, baselines=("logistic_correlation", "covariates"))))
    return folder


def leaks(text):
    """Ids and values of patients in a text."""
    found = set(re.findall(rf"{MARK}\d+", text))
    return sorted(found | {str(age) for age in AGES if re.search(rf"(?<![\d.]){re.escape(f'{age:.3f}')}", text)})


def text_of(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return " ".join([*stored.files, *(" ".join(map(str, stored[name].ravel())) for name in stored.files if stored[name].dtype.kind == "U")])
    return path.read_bytes().decode("latin-1")


@pytest.fixture
def run(place, monkeypatch, capfd, caplog):
    """Run a verb and give all that it said, log records too."""
    monkeypatch.chdir(place)

    def call(*words):
        assert main(list(words)) == 0
        said = capfd.readouterr()
        return "\n".join([said.out, said.err, *(record.getMessage() for record in caplog.records)])

    return call


def test_verbs_say_nothing_of_a_patient(place, run):
    """Every verb that is given marked patients, with its progress on. Whom a source leaves out is what `validate` and `build` are asked for."""
    for words in (("validate", "cohort"), ("build", "cohort", "--out", "again")):
        assert set(leaks(run(*words))) <= {f"{MARK}900", f"{MARK}901"}
    for words in (
        ("harmonize", "cohort", "--out", "even"),
        ("evaluate", "--config", "run.yaml"),
        ("embed", "--model", "runs/run/model", "--cohort", "cohort", "--out", "vectors.csv"),
        ("report", "runs/run"),
        ("explain", "runs/run", "--refits", "0"),
        ("audit", "runs/run"),
        ("audit", "runs/run", "--json"),
    ):
        assert leaks(run(*words)) == [], words
    of_run = {path.relative_to(place / "runs" / "run").as_posix(): path for path in (place / "runs" / "run").rglob("*") if path.is_file()}
    assert len(of_run) > 20
    leaking = {name for name, path in of_run.items() if leaks(text_of(path))}
    assert {name for name in leaking if not name.startswith("units/")} == FOR_PATIENTS
    assert leaks((place / "vectors.csv").read_text()) == sorted(f"{MARK}{k:03d}" for k in range(24)), "what was asked for: an embedding of each"


def test_who_was_left_out_stands_in_the_report_when_asked(place, run):
    run("report", "runs/run", "--ids")
    page = (place / "runs" / "run" / "report.html").read_text()
    assert leaks(page) == [f"{MARK}900", f"{MARK}901"]
    run("report", "runs/run")
    assert leaks((place / "runs" / "run" / "report.html").read_text()) == []
    assert main(["audit", "runs/run", "--json"]) == 0


def test_the_manifest_counts_patients_and_names_none(place):
    manifest = json.loads((place / "runs" / "run" / "manifest.json").read_text())
    assert manifest["cohort"]["n_subjects"] == 24
    assert manifest["cohort"]["excluded_count"] == {"subject": 2}
