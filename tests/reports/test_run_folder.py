import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import DataError, RunFolderError
from graphssl.reports.run_folder import read_run

OPTIONAL = (
    "config.yaml", "predictions.parquet", "history.csv", "excluded.csv",
    "explain/connectome.npz", "explain/regions.csv", "explain/network_pairs.csv", "explain/truth.json",
)  # fmt: skip


@pytest.fixture
def copied(rich_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rich_run, tmp_path / "copy"))


def test_everything_is_read(rich_run: Path) -> None:
    run = read_run(rich_run)
    assert run.name == "fake"
    assert run.part("task")["classes"] == ["control", "patient"]
    assert run.connectome is not None
    assert run.connectome.atlas == "cc200"
    assert run.connectome.mean.shape == (40, 40)
    assert run.truth == {"affected": [["motor", "default"]]}
    assert all(part is not None for part in (run.configuration, run.predictions, run.history, run.excluded, run.regions, run.network_pairs))


def test_optional_parts_may_be_absent(copied: Path) -> None:
    for name in OPTIONAL:
        (copied / name).unlink()
    run = read_run(copied)
    parts = (run.configuration, run.predictions, run.history, run.excluded, run.connectome, run.regions, run.network_pairs, run.truth)
    assert parts == (None,) * 8


def test_a_run_without_a_name_is_called_like_its_folder(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "name": None, "task": "damaged"}))
    run = read_run(copied)
    assert run.name == "copy"
    assert run.part("task") == {}


def test_what_must_be_there(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="a run folder at .*nowhere, found none"):
        read_run(tmp_path / "nowhere")
    results = (copied / "results.jsonl").read_text()
    (copied / "results.jsonl").write_text("")
    with pytest.raises(DataError, match=r"results in .*results\.jsonl, found an empty file"):
        read_run(copied)
    (copied / "results.jsonl").unlink()
    with pytest.raises(DataError, match="graphssl evaluate"):
        read_run(copied)
    (copied / "results.jsonl").write_text(results)
    for text, message in (("{", "Expected .*manifest.json whole, found a damaged file"), ("[]", "a JSON object in .*manifest.json, found list")):
        (copied / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=message):
            read_run(copied)
    (copied / "manifest.json").unlink()
    with pytest.raises(RunFolderError, match=r"manifest\.json in the run folder"):
        read_run(copied)


@pytest.mark.parametrize("name", ["predictions.parquet", "explain/connectome.npz", "explain/truth.json"])
def test_a_damaged_file_is_named(copied: Path, name: str) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{name}.*damaged file"):
        read_run(copied)


@pytest.mark.parametrize("name", ["history.csv", "excluded.csv", "explain/regions.csv", "explain/network_pairs.csv"])
def test_a_table_with_other_columns_is_named(copied: Path, name: str) -> None:
    (copied / name).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=rf"Expected the columns .* in .*{name}, found \['a', 'b'\]"):
        read_run(copied)
    (copied / name).write_text("")
    with pytest.raises(DataError, match=f"{name} whole, found a damaged file"):
        read_run(copied)


def test_predictions_with_other_columns_are_named(copied: Path) -> None:
    pd.read_parquet(copied / "predictions.parquet").drop(columns="y_true").to_parquet(copied / "predictions.parquet")
    with pytest.raises(DataError, match="predictions with the columns subject_id"):
        read_run(copied)


def test_arrays_that_do_not_fit_are_named(copied: Path) -> None:
    path = copied / "explain" / "connectome.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "centroids": arrays["centroids"][:3]})
    with pytest.raises(DataError, match=r"arrays of 40 regions in .*connectome\.npz, found \{'centroids': \(3, 3\)\}"):
        read_run(copied)
    np.savez(path, labels=arrays["labels"])
    with pytest.raises(DataError, match=r"connectome\.npz whole, found a damaged file"):
        read_run(copied)


def test_networks_may_be_called_na(copied: Path) -> None:
    table = pd.read_csv(copied / "explain" / "regions.csv")
    table["network"] = ["NA", *table["network"][1:]]
    table.to_csv(copied / "explain" / "regions.csv", index=False)
    regions = read_run(copied).regions
    assert regions is not None
    assert regions.loc[0, "network"] == "NA"
