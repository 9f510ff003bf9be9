"""The audit of a meta-training: other data, and a subject of the target in a source."""

import shutil
from dataclasses import replace

import yaml

from graphssl.atlases import load_atlas
from graphssl.cli import main
from graphssl.datasets import simulate
from graphssl.experiment.audit import audit_run

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


def test_a_target_that_was_meta_trained_on_is_found(tmp_path, monkeypatch, findings, edit):
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
