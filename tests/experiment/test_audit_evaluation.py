"""The audit of an evaluation: loud over everything in splits, predictions and results that does not follow, sealed anew or not."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from graphssl.atlases import load_atlas
from graphssl.data import Cohort, Split
from graphssl.datasets import simulate
from graphssl.experiment.audit import audit_run
from graphssl.experiment.runs import joint_hash, run_hash
from graphssl.seal import seal


def test_a_folder_elsewhere_says_what_it_could_not_check(copy):
    shutil.rmtree(copy / "units")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump({**config, "cohort": {"path": "nowhere"}}))
    checks = {check.about: check for check in audit_run(copy)}
    assert checks["data: those of the run"].status == "not checked"
    assert "there is nothing at nowhere; --cohort gives the data" in checks["data: those of the run"].found
    for about in ("splits: those of the protocol", "leakage: no scan on two sides under another id", "results: those of the finished parts"):
        assert checks[about].status == "not checked"
    assert checks["results: follow from the predictions"].status == "fine"


def raised(records):
    return [{**r, "value": (r["value"] or 0) + 0.01} if r["metric"] == "auroc" and r["method"] == "scratch_probe" else r for r in records]


def more_trained(records):
    return [{**r, "n_train": r["n_train"] + 1} for r in records]


def other_split(records):
    return [{**r, "split": "site-9"} if r["method"] == "covariates" else r for r in records]


def swap_sides(told):
    told[0]["train"], told[0]["test"] = told[0]["test"], told[0]["train"]


def share_a_subject(told):
    told[0]["train"].append(told[0]["test"][0])


def move_a_subject(told):
    told[0]["train"].append(told[0]["test"].pop())


def forget_a_subject(told):
    told[0]["train"].pop()


def a_stranger(told):
    told[0]["train"].append("sub-9999")


TAMPERED = {
    "results raised": (
        "results.jsonl",
        raised,
        {"results: follow from the predictions", "results: those of the finished parts"},
    ),
    "one method hidden": (
        "results.jsonl",
        lambda rs: [r for r in rs if r["method"] != "covariates"],
        {"results: follow from the predictions"},
    ),
    "more trained": ("results.jsonl", more_trained, {"results: of the numbers of subjects in the splits"}),
    "no such split": (
        "results.jsonl",
        other_split,
        {"results: of the numbers of subjects in the splits", "results: follow from the predictions"},
    ),
    "predictions turned": (
        "predictions.parquet",
        lambda t: t.assign(p_0=t["p_1"], p_1=t["p_0"]),
        {"results: follow from the predictions"},
    ),
    "no probabilities": (
        "predictions.parquet",
        lambda t: t.assign(p_1=t["p_1"] + 1),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "labels turned": (
        "predictions.parquet",
        lambda t: t.assign(y_true=1 - t["y_true"]),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "labels that differ": (
        "predictions.parquet",
        lambda t: t.assign(y_true=t["y_true"].where(t.index != 0, 1 - t["y_true"])),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "a subject not predicted": (
        "predictions.parquet",
        lambda t: t.drop(index=0),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "a split not predicted": (
        "predictions.parquet",
        lambda t: t[(t["method"] != "covariates") | (t["split"] != t["split"].iloc[0])],
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "sides swapped": (
        "splits.json",
        swap_sides,
        {"predictions: of the test subjects, with their labels", "splits: those of the protocol"},
    ),
    "a subject on both sides": (
        "splits.json",
        share_a_subject,
        {"splits: as recorded", "splits: no subject, family or site on two sides"},
    ),
    "a subject moved": (
        "splits.json",
        move_a_subject,
        {"splits: as recorded", "splits: no subject, family or site on two sides", "predictions: of the test subjects, with their labels"},
    ),
    "a subject forgotten": (
        "splits.json",
        forget_a_subject,
        {"splits: as recorded", "splits: those of the protocol", "results: of the numbers of subjects in the splits"},
    ),
    "a stranger": ("splits.json", a_stranger, {"splits: as recorded", "splits: no subject, family or site on two sides"}),
    "the joint hash": (
        "manifest.json",
        lambda m: m["protocol"].update(splits_hash="0" * 12),
        {"splits: as recorded"},
    ),
    "other data": ("manifest.json", lambda m: m["cohort"].update(hash="0" * 12), {"data: those of the run"}),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_changed_and_sealed_anew_is_found(copy, findings, edit, case):
    name, change, wanted = TAMPERED[case]
    edit(copy / name, change)
    seal(copy)
    found = findings(copy)
    assert set(found) >= wanted
    assert "files: as they were sealed" not in found


@pytest.mark.parametrize("name", ["results.jsonl", "predictions.parquet"])
def test_what_is_damaged_is_found_and_the_audit_goes_on(copy, findings, name):
    (copy / name).write_bytes(b"PAR1{")
    seal(copy)
    assert "results: follow from the predictions" in findings(copy)


def test_a_scan_under_two_ids_is_found(honest, copy, findings, edit, tmp_path):
    """The cohort is one of the run in which a subject of one site has the data of one of the other."""
    cohort = Cohort.load(honest.parent / "cohort")
    first, second = (cohort.sites.index[cohort.sites == site][0] for site in sorted(set(cohort.sites)))
    data = cohort.regions["simulated20"]
    data = replace(data, values={**data.values, second: data.values[first]})
    changed = Cohort("copied", cohort.subjects, cohort.schema, {"simulated20": data})
    changed.save(tmp_path / "copied")
    edit(copy / "manifest.json", lambda m: m["cohort"].update(hash=changed.hash))
    found = findings(copy, cohort=tmp_path / "copied")
    assert "has the data of" in found["leakage: no scan on two sides under another id"]


def test_a_family_on_two_sides_is_found(honest, copy, findings, edit, tmp_path):
    cohort = Cohort.load(honest.parent / "cohort")
    family = pd.Series([f"family {k % 20}" for k in range(40)], index=cohort.subjects.index)
    related = cohort.with_column(type(cohort.schema["diagnosis"])("family", "categorical", "group"), family)
    related.save(tmp_path / "related")
    edit(copy / "manifest.json", lambda m: m["cohort"].update(hash=related.hash))
    found = findings(copy, cohort=tmp_path / "related")
    assert "family or repeated scans on one side" in found["splits: no subject, family or site on two sides"]
    assert "splits: those of the protocol" in found


def test_shuffled_labels_that_score_are_found(copy, findings, edit):
    def lucky(records):
        return [{**r, "value": 1.0} if r["method"] == "covariates|shuffled_labels" else r for r in records]

    edit(copy / "results.jsonl", lucky)
    assert "mean AUROC of 1.000" in findings(copy)["shuffled labels: score chance"]


def test_a_run_without_the_control_says_so(copy, edit):
    edit(copy / "results.jsonl", lambda rs: [r for r in rs if "|" not in r["method"]])
    (check,) = [check for check in audit_run(copy) if check.about == "shuffled labels: score chance"]
    assert (check.status, "--shuffle fits one now" in check.found) == ("not checked", True)


def test_splits_that_were_moved_with_all_hashes_are_found(copy, findings, edit):
    """Who moves a subject and computes every hash anew is still found by the protocol."""

    def move(told):
        move_a_subject(told)
        told[0]["hash"] = Split("", tuple(told[0]["train"]), tuple(told[0]["test"])).hash

    edit(copy / "splits.json", move)
    hashes = [one["hash"] for one in json.loads((copy / "splits.json").read_text())]
    edit(copy / "manifest.json", lambda m: m["protocol"].update(splits_hash=joint_hash(hashes)))
    seal(copy)
    assert {"splits: those of the protocol", "splits: no subject, family or site on two sides"} <= set(findings(copy))


STAGES = [
    {"name": "others", "cohort": {"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 12, "seed": 3, "name": "others"}}},
    {"name": "own"},
]


def test_a_stage_that_learned_from_the_cohort_is_found(honest, copy, edit, tmp_path):
    """The cohort of a stage has another name and other ids, and of one subject the data of one who was tested."""
    mine, others = (Cohort.load(honest.parent / "cohort"), simulate(atlases=[load_atlas("simulated20")], n_subjects=12, seed=3).cohort)
    data, (twin, *_) = others.regions["simulated20"], mine.ids
    copied = replace(data, values={**data.values, others.ids[0]: mine.regions["simulated20"].values[twin]})
    replace(others, name="others", regions={"simulated20": copied}).save(tmp_path / "others")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for cohort, wanted in ((STAGES[0]["cohort"], set()), ({"path": str(tmp_path / "others")}, {twin})):
        text = yaml.safe_dump({**config, "stages": [{**STAGES[0], "cohort": cohort}, STAGES[1]]})
        (copy / "config.yaml").write_text(text)
        edit(copy / "manifest.json", lambda m, text=text: m.update(run_hash=run_hash(text)))
        (check,) = [check for check in audit_run(copy) if check.about == "leakage: nobody of the cohort in a stage with another"]
        assert check.status == ("finding" if wanted else "fine"), check.found
        assert {subject for subject in mine.ids if subject in check.found} == wanted, check.found
