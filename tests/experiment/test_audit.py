"""The audit of a run folder: silent over an honest one, and loud over each thing that is not as it was, sealed anew or not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl.atlases import load_atlas
from graphssl.cli import main
from graphssl.data import Cohort
from graphssl.datasets import simulate
from graphssl.errors import DataError, RunFolderError
from graphssl.experiment.audit import audit_run
from graphssl.experiment.runs import held, joint_hash, run_hash
from graphssl.seal import broken, files_of, seal

CONFIGURATION = {
    "name": "run",
    "target": "diagnosis",
    "encoder": {"class_path": "graphssl.encoders.MLP", "init_args": {"width": 8}},
    "objective": {"class_path": "graphssl.objectives.MaskedRegions"},
    "pretraining": {"max_epochs": 1, "accelerator": "cpu"},
    "finetuning": {"max_epochs": 1, "accelerator": "cpu"},
    "evaluation": {"methods": ["scratch_probe"], "baselines": ["logistic_correlation", "covariates"], "audited": ["covariates"], "seeds": [0]},
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A finished run of a saved cohort in which pairs of subjects are families, and the cohort."""
    place = tmp_path_factory.mktemp("audit")
    cohort = simulate(atlases=[load_atlas("simulated20")], n_subjects=40, sites=2, seed=1).cohort
    cohort.save(place / "cohort")
    text = yaml.safe_dump({**CONFIGURATION, "cohort": {"path": str(place / "cohort")}, "output": str(place)})
    (place / "run.yaml").write_text(text)
    assert main(["evaluate", "--config", str(place / "run.yaml"), "--quiet"]) == 0
    return place / "run"


@pytest.fixture
def copy(honest, tmp_path):
    return Path(shutil.copytree(honest, tmp_path / "run"))


def findings(run, **options):
    return {check.about: check.found for check in audit_run(run, **options) if check.status == "finding"}


def edit(path, change):
    """Change a JSON file in place."""
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def edit_lines(path, change):
    """Change JSON lines in place."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in change(records)))


def edit_predictions(folder, change):
    table = pd.read_parquet(folder / "predictions.parquet")
    change(table).to_parquet(folder / "predictions.parquet", index=False)


# What is fine


def test_an_honest_run_has_no_findings_and_is_not_touched(honest, capsys):
    before = {name: (honest / name).read_bytes() for name in files_of(honest)}
    assert main(["audit", str(honest), "--shuffle"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("0 findings, 0 of 17 not checked\n")
    assert "covariates has a mean AUROC of" in said
    assert {name: (honest / name).read_bytes() for name in files_of(honest)} == before


def test_as_json(honest, capsys):
    assert main(["audit", str(honest), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["n_findings"] == 0
    assert {check["status"] for check in record["checks"]} == {"fine"}


def test_the_report_may_be_written_anew(copy):
    assert main(["report", str(copy), "--json"]) == 0
    assert findings(copy) == {}


def test_no_report_is_written_while_a_run_writes(copy, capsys):
    before = {name: (copy / name).read_bytes() for name in files_of(copy)}
    with held(copy):
        assert main(["report", str(copy)]) == 2
    assert "Expected no other process to write into" in capsys.readouterr().err
    assert {name: (copy / name).read_bytes() for name in files_of(copy)} == before


def test_no_folder_is_made_to_report_on(tmp_path):
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert list(tmp_path.iterdir()) == []


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


# What is not


def broken_or_damaged(folder):
    try:
        return broken(folder)
    except DataError:
        return True


def test_one_byte_of_any_file_is_found(honest):
    names = files_of(honest)
    assert len(names) > 20
    for name in (*names, "SHA256SUMS"):
        path = honest / name
        whole = path.read_bytes()
        for place in sorted({0, len(whole) // 2, len(whole) - 1}):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                assert broken_or_damaged(honest), (name, place)
            finally:
                path.write_bytes(whole)
    assert broken(honest) == []


def test_a_run_that_was_not_finished_is_not_sealed(copy):
    (copy / "SHA256SUMS").unlink()
    assert "hashes of a finished run" in findings(copy)["files: as they were sealed"]


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
        lambda f: edit_lines(f / "results.jsonl", raised),
        {"results: follow from the predictions", "results: those of the finished parts"},
    ),
    "one method hidden": (
        lambda f: edit_lines(f / "results.jsonl", lambda rs: [r for r in rs if r["method"] != "covariates"]),
        {"results: follow from the predictions"},
    ),
    "more trained": (lambda f: edit_lines(f / "results.jsonl", more_trained), {"results: of the numbers of subjects in the splits"}),
    "no such split": (
        lambda f: edit_lines(f / "results.jsonl", other_split),
        {"results: of the numbers of subjects in the splits", "results: follow from the predictions"},
    ),
    "predictions turned": (
        lambda f: edit_predictions(f, lambda t: t.assign(p_0=t["p_1"], p_1=t["p_0"])),
        {"results: follow from the predictions"},
    ),
    "no probabilities": (
        lambda f: edit_predictions(f, lambda t: t.assign(p_1=t["p_1"] + 1)),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "labels turned": (
        lambda f: edit_predictions(f, lambda t: t.assign(y_true=1 - t["y_true"])),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "labels that differ": (
        lambda f: edit_predictions(f, lambda t: t.assign(y_true=t["y_true"].where(t.index != 0, 1 - t["y_true"]))),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "a subject not predicted": (
        lambda f: edit_predictions(f, lambda t: t.drop(index=0)),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "a split not predicted": (
        lambda f: edit_predictions(f, lambda t: t[(t["method"] != "covariates") | (t["split"] != t["split"].iloc[0])]),
        {"predictions: of the test subjects, with their labels", "results: follow from the predictions"},
    ),
    "sides swapped": (
        lambda f: edit(f / "splits.json", swap_sides),
        {"predictions: of the test subjects, with their labels", "splits: those of the protocol"},
    ),
    "a subject on both sides": (
        lambda f: edit(f / "splits.json", share_a_subject),
        {"splits: as recorded", "splits: no subject, family or site on two sides"},
    ),
    "a subject moved": (
        lambda f: edit(f / "splits.json", move_a_subject),
        {"splits: as recorded", "splits: no subject, family or site on two sides", "predictions: of the test subjects, with their labels"},
    ),
    "a subject forgotten": (
        lambda f: edit(f / "splits.json", forget_a_subject),
        {"splits: as recorded", "splits: those of the protocol", "results: of the numbers of subjects in the splits"},
    ),
    "a stranger": (lambda f: edit(f / "splits.json", a_stranger), {"splits: as recorded", "splits: no subject, family or site on two sides"}),
    "the joint hash": (
        lambda f: edit(f / "manifest.json", lambda m: m["protocol"].update(splits_hash="0" * 12)),
        {"splits: as recorded"},
    ),
    "other data": (lambda f: edit(f / "manifest.json", lambda m: m["cohort"].update(hash="0" * 12)), {"data: those of the run"}),
    "another configuration": (
        lambda f: (f / "config.yaml").write_text((f / "config.yaml").read_text().replace("seed: 0", "seed: 1")),
        {"configuration: that of the run"},
    ),
    "a manifest that is none": (lambda f: (f / "manifest.json").write_text("[1]"), {"manifest: whole"}),
    "a pickle for weights": (lambda f: (f / "model" / "model.safetensors").write_bytes(b"\x80\x04N."), {"models: whole"}),
    "a pickle for a checkpoint": (lambda f: (f / "checkpoints" / "pretrain" / "last.ckpt").write_bytes(b"\x80\x04N."), {"models: whole"}),
    "results that are none": (lambda f: (f / "results.jsonl").write_text("{"), {"results: follow from the predictions"}),
    "predictions that are none": (lambda f: (f / "predictions.parquet").write_bytes(b"PAR1"), {"results: follow from the predictions"}),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_changed_and_sealed_anew_is_found(copy, case):
    tamper, wanted = TAMPERED[case]
    tamper(copy)
    seal(copy)
    found = findings(copy)
    assert set(found) >= wanted
    assert "files: as they were sealed" not in found


def test_other_versions_are_said_and_are_no_finding(copy):
    edit(copy / "manifest.json", lambda m: m["versions"].update(numpy="1.0"))
    seal(copy)
    (check,) = [check for check in audit_run(copy) if check.about.startswith("versions")]
    assert (check.status, "numpy 1.0 (here" in check.found) == ("not checked", True)


def test_a_scan_under_two_ids_is_found(honest, copy, tmp_path):
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


def test_a_family_on_two_sides_is_found(honest, copy, tmp_path):
    cohort = Cohort.load(honest.parent / "cohort")
    family = pd.Series([f"family {k % 20}" for k in range(40)], index=cohort.subjects.index)
    related = cohort.with_column(type(cohort.schema["diagnosis"])("family", "categorical", "group"), family)
    related.save(tmp_path / "related")
    edit(copy / "manifest.json", lambda m: m["cohort"].update(hash=related.hash))
    found = findings(copy, cohort=tmp_path / "related")
    assert "family or repeated scans on one side" in found["splits: no subject, family or site on two sides"]
    assert "splits: those of the protocol" in found


def test_shuffled_labels_that_score_are_found(copy):
    def lucky(records):
        return [{**r, "value": 1.0} if r["method"] == "covariates|shuffled_labels" else r for r in records]

    edit_lines(copy / "results.jsonl", lucky)
    assert "mean AUROC of 1.000" in findings(copy)["shuffled labels: score chance"]


def test_a_run_without_the_control_says_so(copy):
    edit_lines(copy / "results.jsonl", lambda rs: [r for r in rs if "|" not in r["method"]])
    (check,) = [check for check in audit_run(copy) if check.about == "shuffled labels: score chance"]
    assert (check.status, "--shuffle fits one now" in check.found) == ("not checked", True)


def test_code_that_a_configuration_names_is_not_run(copy, tmp_path, monkeypatch):
    """A folder that somebody sent may name any function as an adapter, and any module as a class."""
    (tmp_path / "hostile.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for change in (
        {"cohort": {"adapter": "os.system", "arguments": {"command": f"touch {tmp_path / 'ran'}"}}},
        {"encoder": {"class_path": "hostile.Encoder"}},
    ):
        text = yaml.safe_dump({**config, **change})
        (copy / "config.yaml").write_text(text)
        edit(copy / "manifest.json", lambda m, text=text: m.update(run_hash=run_hash(text)))
        (check,) = [check for check in audit_run(copy) if check.about == "data: those of the run"]
        assert check.status == "not checked"
        assert "names code outside of graphssl" in check.found
    assert not (tmp_path / "ran").exists()


def test_splits_that_were_moved_with_all_hashes_are_found(copy):
    """Who moves a subject and computes every hash anew is still found by the protocol."""

    def move(told):
        move_a_subject(told)
        from graphssl.data import Split

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


def test_a_stage_that_learned_from_the_cohort_is_found(honest, copy, tmp_path):
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


META = {
    "name": "meta",
    "target": {"cohort": {"path": "target"}, "target": "diagnosis", "by_site": False},
    "sources": [{"cohort": {"path": "source"}, "target": "diagnosis"}],
    "strategy": "joint",
    "baselines": [],
    "similarity": False,
    "encoder": {"class_path": "graphssl.encoders.MLP", "init_args": {"width": 8}},
    "settings": {"max_epochs": 1, "steps_per_epoch": 1, "n_support": 2, "n_query": 2, "accelerator": "cpu"},
    "adaptation": {"n_support": [2], "n_draws": 1, "n_steps": 1},
}


def test_a_target_that_was_meta_trained_on_is_found(tmp_path, monkeypatch):
    """The data of a subject of the target lie under another id in a source of another name."""
    monkeypatch.chdir(tmp_path)
    target, source = (simulate(atlases=[load_atlas("simulated20")], n_subjects=24, sites=2, seed=seed).cohort for seed in (1, 2))
    replace(target, name="target").save("target")
    replace(source, name="source").save("source")
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(META))
    assert main(["meta-train", "--config", "meta.yaml", "--quiet"]) == 0
    checks = {check.about: check for check in audit_run("runs/meta")}
    assert {check.status for check in checks.values()} == {"fine"}
    assert checks["leakage: no subject of a target in a source"].found == "24 subjects of targets, none in 2 sources"
    data = source.regions["simulated20"]
    twin, one = target.ids[0], source.ids[5]
    copied = replace(data, values={**data.values, one: target.regions["simulated20"].values[twin]})
    leaking = replace(source, name="source", regions={"simulated20": copied})
    leaking.save("source")
    found = findings("runs/meta")
    assert "which the manifest does not know" in found["data: those of the run"]
    hashes = {str(site): leaking.select(list(ids)).hash for site, ids in leaking.subjects.groupby(leaking.sites).groups.items()}
    edit(tmp_path / "runs" / "meta" / "manifest.json", lambda m: [told.update(hash=hashes[told["source"]]) for told in m["sources"]])
    found = findings("runs/meta")
    assert f"{twin!r} of the target 'target', or the family, is in the source" in found["leakage: no subject of a target in a source"]
    assert main(["meta-train", "--config", "meta.yaml", "--quiet", "--name", "again"]) == 2
    shutil.rmtree("target")
    checks = {check.about: check for check in audit_run("runs/meta")}
    assert checks["data: those of the run"].found == "there is nothing at target"
    assert checks["leakage: no subject of a target in a source"].status == "not checked"


def test_no_run_folder(tmp_path, capsys):
    with pytest.raises(RunFolderError, match=r"run folder with manifest.json at .*, found none"):
        audit_run(tmp_path)
    assert main(["audit", str(tmp_path / "absent")]) == 2
    assert "Give the folder of a run" in capsys.readouterr().err


def test_the_text_marks_findings(copy, capsys):
    (copy / "extra").touch()
    assert main(["audit", str(copy)]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("BAD  files: as they were sealed")
    assert "extra was added" in text
    assert text.splitlines()[-1].startswith("1 finding, 0 of 16")
    assert np.all([len(line) < 400 for line in text.splitlines()])
