"""Harmonising a cohort folder from the command line: what is written, from whom it is learned, and what is refused."""

import json

import numpy as np
import pytest

from graphssl.cli import main
from graphssl.data import Cohort, RegionData
from graphssl.graphs import CohortHarmonizer


@pytest.fixture
def folder(make_cohort, tmp_path, monkeypatch):
    """A saved cohort of three sites, the last of which raises every correlation; the working directory of the test."""
    made = make_cohort(n_subjects=60, n_regions=8, n_sites=3, n_timepoints=60)
    rng = np.random.default_rng(0)
    data = made.regions["toy"]
    values = {s: v + 1.5 * (made.sites[s] == "site-2") * rng.standard_normal((len(v), 1)) for s, v in data.values.items()}
    cohort = Cohort(made.name, made.subjects, made.schema, {"toy": RegionData(data.atlas, values, data.provenance)})
    cohort.save(tmp_path / "cohort")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def harmonize(capsys, *words):
    assert main(["harmonize", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words):
    assert main(["harmonize", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_harmonised_cohort_and_what_was_fitted(folder, capsys):
    record = harmonize(capsys, "cohort", "--out", "even", "--covariates", "[age, sex]")
    assert record["fitted"] == "on all 60 of 60 subjects"
    assert (record["fitted_sites"], record["unseen_sites"]) == (["site-0", "site-1", "site-2"], [])
    assert record["covariates"] == ["age", "sex"]
    probe = record["site_probe"]
    assert probe["chance"] == pytest.approx(1 / 3)
    assert probe["before"] > 0.55 > probe["after"]
    cohort = Cohort.load("cohort")
    expected = CohortHarmonizer(["age", "sex"]).fit_transform(cohort)
    assert Cohort.load("even").hash == expected.hash == record["hash"]
    assert CohortHarmonizer.load("even/harmonizer").transform(cohort).hash == expected.hash
    assert harmonize(capsys, "cohort", "--out", "even", "--covariates", "[age, sex]") == record, "the same command writes the same again"


def test_the_screen_says_what_was_done(folder, capsys):
    assert main(["harmonize", "cohort", "--out", "even"]) == 0
    text = capsys.readouterr().out
    assert "Harmonised on all 60 of 60 subjects, sites site-0, site-1, site-2" in text
    assert "Effects kept   none: what differs between sites goes" in text
    assert "0.333 by chance" in text
    assert "Unseen" not in text
    assert main(["harmonize", "cohort", "--out", "two", "--fit_sites", "[site-0, site-1]", "--unseen", "estimate"]) == 0
    assert "Unseen sites   site-2: estimated from all their scans in this cohort together" in capsys.readouterr().out


def test_fitted_on_some_sites_and_subjects(folder, capsys):
    cohort = Cohort.load("cohort")
    (folder / "train.txt").write_text("\n".join(cohort.ids[:40]) + "\n\n")
    words = ["--fit_sites", "[site-0, site-1]", "--fit_subjects", "train.txt", "--unseen", "pooled"]
    record = harmonize(capsys, "cohort", "--out", "even", *words)
    train = [subject for subject in cohort.ids[:40] if cohort.sites[subject] != "site-2"]
    assert record["fitted"] == f"on {len(train)} of 60 subjects"
    assert record["unseen_sites"] == ["site-2"]
    assert Cohort.load("even").hash == CohortHarmonizer(unseen="pooled").fit(cohort.select(train)).transform(cohort).hash


def test_applied_to_a_new_hospital(folder, capsys):
    cohort = Cohort.load("cohort")
    known, new = cohort.select(cohort.sites != "site-2"), cohort.select(cohort.sites == "site-2")
    known.save("known")
    new.save("new")
    assert harmonize(capsys, "known", "--out", "even")["unseen_sites"] == []
    assert "found 'site-2'" in refused(capsys, "new", "--out", "moved", "--apply", "even/harmonizer")
    assert not (folder / "moved").exists()
    record = harmonize(capsys, "new", "--out", "moved", "--apply", "even/harmonizer", "--unseen", "estimate")
    assert record["site_probe"] is None
    assert record["harmonizer"] == "even/harmonizer"
    assert not (folder / "moved" / "harmonizer").exists()
    assert Cohort.load("moved").hash == CohortHarmonizer(unseen="estimate").fit(known).transform(new).hash
    assert main(["harmonize", "new", "--out", "moved", "--apply", "even/harmonizer", "--unseen", "pooled"]) == 0
    assert "not measured: fewer than two sites" in capsys.readouterr().out


def test_a_policy_of_the_fit_is_kept(folder, capsys):
    harmonize(capsys, "cohort", "--out", "even", "--fit_sites", "[site-0, site-1]", "--unseen", "pooled")
    assert harmonize(capsys, "cohort", "--out", "again", "--apply", "even/harmonizer")["unseen"] == "pooled"
    assert Cohort.load("again").hash == Cohort.load("even").hash


def test_what_is_refused(folder, capsys):
    (folder / "nobody.txt").write_text("\n")
    (folder / "strangers.txt").write_text("sub-000\nsub-999\n")
    wrong = {
        "found 'site-9'": ["--fit_sites", "[site-9]"],
        "at least two training sites": ["--fit_sites", "site-0"],
        "Choose what to do|choose what to do": ["--fit_sites", "[site-0, site-1]"],
        "found none that are both": ["--fit_subjects", "nobody.txt"],
        "found 1 that are not: ['sub-999']": ["--fit_subjects", "strangers.txt"],
        "one a line; found none": ["--fit_subjects", "nowhere.txt"],
        "either --apply or what to fit on": ["--apply", "x", "--covariates", "age"],
        "saved harmoniser at nowhere": ["--apply", "nowhere"],
        "found the target 'diagnosis'": ["--covariates", "diagnosis"],
        "'unseen'": ["--unsen", "pooled"],
    }
    for words, options in wrong.items():
        found = refused(capsys, "cohort", "--out", "even", *options)
        assert any(part in found for part in words.split("|")), found
    assert "found cohort to hold cohort" in refused(capsys, "cohort", "--out", "cohort")
    assert "saved cohort at nowhere" in refused(capsys, "nowhere", "--out", "even")
    assert not (folder / "even").exists()
    harmonize(capsys, "cohort", "--out", "even")
    assert "found even to hold even/harmonizer" in refused(capsys, "cohort", "--out", "even", "--apply", "even/harmonizer")
