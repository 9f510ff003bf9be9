"""`graphssl info`: what is installed, what is missing with its install line, and what lies in folders that variables name."""

import json
import os

import numpy as np
import pytest
import torch

from graphssl import cli
from graphssl.experiment import info


@pytest.fixture
def no_folders(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GRAPHSSL_")]:
        monkeypatch.delenv(name)


def test_versions_extras_and_devices_are_told(no_folders, capsys):
    assert cli.main(["info"]) == cli.DONE
    said = capsys.readouterr().out
    assert said.startswith("graphssl 0.")
    assert f"torch {torch.__version__}" in said
    assert "Device    cpu: " in said
    assert "Atlases   dosenbach160, power264" in said
    assert "no variable GRAPHSSL_… names a folder" in said
    assert cli.main(["info", "--json"]) == cli.DONE
    record = json.loads(capsys.readouterr().out)
    assert record["packages"]["torch"] == torch.__version__
    assert record["folders"] == {}


def test_a_missing_extra_names_its_install_line_and_developers_own_are_left_out(no_folders, monkeypatch):
    lines = ["torch>=2", "no-such-package>=1; extra == 'knn'", "nor-this; extra == 'dev'", "not-for-us; python_version < '3' and extra == 'dgl'"]
    monkeypatch.setattr(info, "requires", lambda name: lines)
    text, record = info.report_info()
    assert record["extras"] == {"knn": {"no-such-package": None}, "dev": {"nor-this": None}}
    assert "Extra     knn       lacks no-such-package: pip install 'graphssl[knn]'" in text
    assert "nor-this" not in text


def test_data_are_recognised_where_variables_point(no_folders, tmp_path, monkeypatch):
    scans, atlases = tmp_path / "data" / "clinic" / "scans", tmp_path / "atlases"
    scans.mkdir(parents=True)
    atlases.mkdir()
    np.savetxt(scans / "01.tsv", np.random.default_rng(0).standard_normal((30, 20)), delimiter="\t")
    (tmp_path / "data" / "notes").mkdir()
    (tmp_path / "data" / "notes" / "a.dat").write_text("nothing")
    (atlases / "ours.nii.gz").write_bytes(b"")
    (atlases / "theirs.csv").write_text("")
    monkeypatch.setenv("GRAPHSSL_DATA", f"{tmp_path / 'data'}{os.pathsep}{tmp_path / 'absent'}")
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(atlases))
    text, record = info.report_info()
    assert [entry["name"] for entry in record["folders"]["GRAPHSSL_ATLASES"][0]["found"]] == ["ours", "theirs"]
    assert record["folders"]["GRAPHSSL_DATA"][0]["found"] == [
        {"name": "clinic/scans", "what": "a folder of time series"},
        {"name": "notes", "what": "not recognised"},
    ]
    assert "absent is no folder. Mend or unset the variable." in text


def test_long_lists_are_cut(no_folders, tmp_path, monkeypatch):
    for k in range(40):
        (tmp_path / f"atlas{k:02d}.csv").write_text("")
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(tmp_path))
    text, record = info.report_info()
    assert len(record["folders"]["GRAPHSSL_ATLASES"][0]["found"]) == 40
    assert text.endswith("and 10 more")
