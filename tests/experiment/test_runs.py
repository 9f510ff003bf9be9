"""The run folder: one run, whole, and refused to any other."""

import json
from dataclasses import replace
from importlib.metadata import version

import pandas as pd
import pytest
import torch
import yaml

from graphssl.data import Cohort
from graphssl.data.splits import Split
from graphssl.errors import RunFolderError
from graphssl.experiment import runs
from graphssl.experiment.runs import RunFolder, describe, held, joint_hash, read_manifest, run_hash
from graphssl.seal import broken

CONFIGURATION = yaml.safe_dump({"name": "study", "seed": 0, "output": "runs", "pretraining": {"max_epochs": 3, "progress": False}})


@pytest.fixture(scope="module")
def cohort(make_cohort):
    excluded = pd.DataFrame(
        {"what": ["subject", "subject", "region"], "id": ["a", "b", "c"], "reason": ["no file", "no row", "1 of 12"]}, dtype="str"
    )
    return replace(make_cohort(n_subjects=12), excluded=excluded)


def opened(path, cohort, verb="evaluate", configuration=CONFIGURATION, **details):
    return RunFolder(path, verb, configuration).open(cohort, {"seeds": [0], **details})


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_begins_with_configuration_manifest_and_what_was_left_out(tmp_path, cohort):
    folder = opened(tmp_path / "deep" / "run", cohort)
    assert files_in(folder.path).keys() == {"config.yaml", "manifest.json", "excluded.csv"}
    assert (folder.path / "config.yaml").read_text() == CONFIGURATION
    assert pd.read_csv(folder.path / "excluded.csv", dtype="str").to_dict("list") == cohort.excluded.to_dict("list")


def test_the_manifest_says_what_ran_on_what(tmp_path, cohort):
    manifest = read_manifest(opened(tmp_path / "run", cohort, task={"target": "diagnosis"}).path)
    assert (manifest["verb"], manifest["seeds"], manifest["task"]) == ("evaluate", [0], {"target": "diagnosis"})
    assert manifest["versions"]["torch"] == version("torch")
    assert {"python", "graphssl", "numpy", "scikit-learn", "pytorch-lightning", "nilearn"} <= manifest["versions"].keys()
    assert manifest["command"].startswith("graphssl ")
    assert manifest["threads"] == torch.get_num_threads()
    assert pd.Timestamp(manifest["created"]).tzinfo is not None
    assert len(manifest["run_hash"]) == 12
    found = manifest["cohort"]
    assert (found["name"], found["hash"], found["n_subjects"]) == ("toy", cohort.hash, 12)
    assert found["sites"] == {"site-0": 6, "site-1": 6}
    assert found["targets"] == {"diagnosis": {"control": 6, "patient": 6}}
    assert found["excluded_count"] == {"subject": 2, "region": 1}
    atlas = found["atlases"]["toy"]
    assert (atlas["n_regions"], atlas["n_subjects"], atlas["kind"]) == (12, 12, "timeseries")
    assert atlas["hash"] == cohort.atlas("toy").hash


def test_a_cohort_without_site_and_target_is_described(cohort):
    bare = Cohort("bare", cohort.subjects[[]], type(cohort.schema)([]))
    assert describe(bare)["sites"] == describe(bare)["targets"] == describe(bare)["atlases"] == {}
    json.dumps(describe(bare))


def test_splits_and_files_are_written_whole(tmp_path, cohort):
    folder = opened(tmp_path / "run", cohort)
    split = Split("site-0", ("a", "b"), ("c",))
    folder.write_splits([split])
    assert json.loads((folder.path / "splits.json").read_text()) == [{"name": "site-0", "hash": split.hash, "train": ["a", "b"], "test": ["c"]}]
    folder.write_text("history.csv", "é\n")
    assert (folder.path / "history.csv").read_text(encoding="utf-8") == "é\n"
    assert not list(folder.path.glob("*.part"))


# Whose folder it is


def test_the_same_run_goes_on(tmp_path, cohort):
    first = opened(tmp_path / "run", cohort)
    (first.path / "units").mkdir()
    (first.path / "units" / "done.json").write_text("{}")
    second = opened(tmp_path / "run", cohort)
    assert second.hash == first.hash
    assert (second.path / "units" / "done.json").is_file()


@pytest.mark.parametrize(
    ("verb", "change"),
    [
        ("evaluate", {"seed": 1}),
        ("evaluate", {"pretraining": {"max_epochs": 4, "progress": False}}),
        ("evaluate", {"name": "other"}),
    ],
)
def test_another_run_is_refused_and_nothing_changes(tmp_path, cohort, verb, change):
    before = files_in(opened(tmp_path / "run", cohort).path)
    other = yaml.safe_dump({**yaml.safe_load(CONFIGURATION), **change})
    with pytest.raises(RunFolderError, match=r"hold this very run, found another one \(made by `graphssl evaluate`.*Choose another name"):
        opened(tmp_path / "run", cohort, verb, other)
    assert files_in(tmp_path / "run") == before


@pytest.mark.parametrize("change", [{"output": "elsewhere"}, {"pretraining": {"max_epochs": 3, "progress": True}}])
def test_what_changes_no_number_makes_no_other_run(tmp_path, cohort, change):
    opened(tmp_path / "run", cohort)
    other = yaml.safe_dump({**yaml.safe_load(CONFIGURATION), **change})
    assert opened(tmp_path / "run", cohort, configuration=other).path == tmp_path / "run"


def test_foreign_files_are_refused_and_stay(tmp_path, cohort):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match="absent, empty or a run folder, found other files"):
        opened(tmp_path / "run", cohort)
    assert files_in(tmp_path / "run") == {"thesis.tex": b"mine"}


def test_a_file_where_the_folder_should_be(tmp_path, cohort):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunFolderError, match="absent, empty or a run folder"):
        opened(tmp_path / "run", cohort)


def test_an_empty_folder_may_become_a_run(tmp_path, cohort):
    (tmp_path / "run").mkdir()
    assert (opened(tmp_path / "run", cohort).path / "manifest.json").is_file()


def test_other_data_are_refused(tmp_path, cohort, make_cohort):
    before = files_in(opened(tmp_path / "run", cohort).path)
    with pytest.raises(RunFolderError, match=rf"cohort hash {cohort.hash}\), found others"):
        opened(tmp_path / "run", make_cohort(n_subjects=12, seed=1))
    assert files_in(tmp_path / "run") == before


# Kills


def test_a_run_killed_while_it_began_is_known_again(tmp_path, cohort):
    """Whatever moment of the beginning is the last: nothing, a part of the first file, or the first file alone."""
    whole = opened(tmp_path / "whole", cohort).path
    for name in ("empty", "part", "manifest"):
        (tmp_path / name).mkdir()
    (tmp_path / "part" / "manifest.json.part").write_text('{"verb": "eva')
    (tmp_path / "manifest" / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    for name in ("empty", "part", "manifest"):
        assert files_in(whole).keys() <= files_in(opened(tmp_path / name, cohort).path).keys()


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_damaged_manifest(tmp_path, cohort, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunFolderError, match=r"run folder with manifest\.json at .*, found none that can be read"):
        RunFolder(tmp_path, "evaluate", CONFIGURATION)


def test_no_manifest(tmp_path):
    with pytest.raises(RunFolderError, match="found none that can be read"):
        read_manifest(tmp_path)


def test_a_beginning_can_be_forgotten_but_not_work(tmp_path, cohort):
    bare, worked = opened(tmp_path / "bare", cohort), opened(tmp_path / "worked", cohort)
    bare.write_splits([Split("site-0", ("a",), ("b",))])
    (worked.path / "checkpoints").mkdir()
    (worked.path / "checkpoints" / "last.ckpt").write_text("hours")
    for folder in (bare, worked):
        folder.forget()
    assert not bare.path.exists()
    assert (worked.path / "checkpoints" / "last.ckpt").read_text() == "hours"
    assert (worked.path / "manifest.json").is_file()


# One process at a time, and the seal


def test_a_folder_that_a_process_holds_is_refused_to_others(tmp_path, cohort):
    with RunFolder(tmp_path / "run", "evaluate", CONFIGURATION).opened(cohort, {}) as folder:
        before = files_in(folder.path)
        with (
            pytest.raises(RunFolderError, match=r"no other process to write into .*run, found one\. Wait until it is done"),
            RunFolder(tmp_path / "run", "evaluate", CONFIGURATION).opened(cohort, {}),
        ):
            pass
        assert files_in(folder.path) == before
    with held(tmp_path / "run"):
        pass


def test_parts_hold_a_folder_together_and_against_others(tmp_path, cohort, monkeypatch):
    monkeypatch.setattr(runs, "_PATIENCE", 0.0)

    def made():
        return RunFolder(tmp_path / "run", "evaluate", CONFIGURATION)

    def refused():
        return pytest.raises(RunFolderError, match="no other process to write into")

    with made().opened_in_part(cohort, {}, "share-1-of-2") as first, made().opened_in_part(cohort, {}, "share-2-of-2"):
        with refused(), made().opened(cohort, {}):
            pass
        with refused(), made().opened_in_part(cohort, {}, "share-1-of-2"):
            pass
        first.write_text("history.csv", "epoch")
    assert not (tmp_path / "run" / "SHA256SUMS").exists()
    with made().opened(cohort, {}), refused(), made().opened_in_part(cohort, {}, "share-1-of-2"):
        pass
    assert broken(tmp_path / "run") == []
    assert "history.csv" in files_in(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("*.lock")] == [".lock"]


def test_a_finished_run_is_sealed_and_an_interrupted_one_is_not(tmp_path, cohort):
    def run(fails=False):
        with RunFolder(tmp_path / "run", "evaluate", CONFIGURATION).opened(cohort, {}) as folder:
            folder.write_text("history.csv", "epoch")
            if fails:
                raise KeyboardInterrupt

    run()
    assert broken(tmp_path / "run") == []
    with pytest.raises(KeyboardInterrupt):
        run(fails=True)
    assert not (tmp_path / "run" / "SHA256SUMS").exists()


def test_wrong_input_takes_a_new_folder_away_with_its_lock(tmp_path, cohort):
    with pytest.raises(RunFolderError, match="wrong"), RunFolder(tmp_path / "run", "evaluate", CONFIGURATION).opened(cohort, {}):
        raise RunFolderError("wrong")
    assert not (tmp_path / "run").exists()


def test_hashes(tmp_path):
    assert run_hash(CONFIGURATION) == RunFolder(tmp_path / "run", "evaluate", CONFIGURATION).hash
    assert joint_hash(["a", "b"]) != joint_hash(["b", "a"])
