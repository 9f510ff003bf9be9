"""Studies from a configuration: cells of questions, changes by level, and what is wrong with one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from graphssl.cli import main
from graphssl.errors import ConfigError
from graphssl.experiment.study import instantiate_study, is_study, study_parser
from graphssl.seal import broken

STUDY = {
    "name": "small",
    "questions": [
        {"title": "Does it help?", "axes": {"start": None, "shots": None}, "compare": {"start": "scratch"}, "along": "shots", "law": "n_labelled"},
        {"title": "Is it the width?", "axes": {"start": ["scratch"], "width": None}, "compare": {"width": "4"}},
    ],
    "base": {
        "evaluation": {"protocol": "k_fold", "n_splits": 2, "seeds": [0]},
        "pretraining": {"max_epochs": 1},
        "cell": {"validation_fraction": 0.25, "steps": {"n_steps": 3, "batch_size": 8, "n_checks": 3}},
    },
    "axes": {
        "start": {"scratch": {"cell": {"pretrain_on": []}}, "restored": {"objective": {"class_path": "graphssl.objectives.Restoration"}}},
        "shots": {"2": {"cell": {"shots": 2}}, "4": {"cell": {"shots": 4}}, "8": {"cell": {"shots": 8}}},
        "width": {"4": None, "8": {"encoder": {"init_args": {"width": 8}}}},
    },
    "parts": {
        "images": {
            "base": {
                "cohort": {"adapter": "simulate_images", "arguments": {"n_subjects": 48, "size": 8, "n_sites": 1, "effect": 3.0}},
                "images": {"size": [8, 8]},
                "encoder": {"class_path": "graphssl.encoders.ResNet", "init_args": {"width": 4, "blocks": [1, 1], "stem": "small", "norm": "group"}},
            }
        }
    },
}


def written(tmp_path, **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}), encoding="utf-8")
    return path


def read(path):
    return instantiate_study(study_parser().parse_args(["--config", str(path)]))[0]


def test_cells_are_those_of_the_questions(tmp_path):
    study = read(written(tmp_path))
    part = study.parts["images"]
    levels = study.levels_of(part)
    assert len(levels) == 2 * 3 + 1  # the cell of scratch, 2 shots and width 4 is asked for twice
    assert {"start": "scratch", "shots": "2", "width": "8"} in levels
    assert study.configuration(part, levels[-1])["encoder"]["init_args"]["width"] == 8
    assert study.configuration(part, levels[-1])["encoder"]["init_args"]["norm"] == "group"
    assert len(study.each_level(part)) == 3


def test_seeds_of_the_study_are_in_place_of_those_of_its_cells(tmp_path):
    study = instantiate_study(study_parser().parse_args(["--config", str(written(tmp_path)), "--seeds", "[3, 4]"]))[0]
    part = study.parts["images"]
    wanted = {"protocol": "k_fold", "n_splits": 2, "seeds": [3, 4]}
    assert all(study.configuration(part, levels)["evaluation"] == wanted for levels in study.levels_of(part))


def test_a_study_runs_from_the_command_line_and_its_report_is_made_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path)
    assert main(["evaluate", "--config", str(path), "--quiet", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["cells"] == {"images": 7}
    run = tmp_path / record["run"]
    table = pd.read_csv(run / "study.csv", dtype={"shots": str, "width": str})
    assert len(table[table["metric"] == "auroc"]) == 7 * 2
    pd.testing.assert_frame_equal(table, pd.read_parquet(run / "study.parquet"), check_dtype=False)
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in ("Does it help?", "Is it the width?", "Exponent b", "restored", "95% interval", "Nothing: the data allow every cell."):
        assert words in page
    cells = {each: each.stat().st_mtime_ns for each in (run / "cells").iterdir()}
    (run / "report.html").unlink()
    assert main(["evaluate", "--config", str(path), "--quiet"]) == 0
    assert {each: each.stat().st_mtime_ns for each in (run / "cells").iterdir()} == cells
    assert (run / "report.html").is_file()
    (run / "report.html").write_text("changed", encoding="utf-8")
    assert broken(run)
    assert main(["report", str(run)]) == 0
    assert broken(run) == []  # the page is sealed anew
    shutil.rmtree(run / "starts")
    assert main(["evaluate", "--config", str(written(tmp_path, metrics=["auprc"])), "--quiet"]) == 2  # another study
    assert "another one" in capsys.readouterr().err


# Imports once, then starts the study's shares in processes of their own: the first is killed as it puts its third cell in place, then both at once.
SHARES = """
import os, signal, sys
from graphssl.cli import main
import graphssl.experiment.study

def begun(share, fatal=0):
    child = os.fork()
    if child:
        return child
    placed = []
    def watch(event, arguments):
        if event == "os.rename" and os.fspath(arguments[1]).endswith(".json") and "cells" in os.fspath(arguments[1]):
            placed.append(arguments[1])
            if len(placed) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    os._exit(main(["evaluate", "--config", "study.yaml", "--share", share, "--quiet"]))

print(os.waitpid(begun("1/2", fatal=3), 0)[1], len(os.listdir("runs/small/cells")), flush=True)
print([os.waitpid(child, 0)[1] for child in [begun("1/2"), begun("2/2")]], flush=True)
"""


def test_shares_in_processes_of_their_own_make_the_table_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    # What a job array sets.
    environment = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "study", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    done = subprocess.run([sys.executable, "-c", SHARES], env=environment, capture_output=True, text=True, timeout=300, check=True)
    killed, both = [line for line in done.stdout.splitlines() if line[0] in "9["]
    assert killed.split()[0] == "9"
    assert 2 <= int(killed.split()[1]) <= 4  # the two that were whole, and what is beside the third
    assert both == "[0, 0]"
    cells = {path: path.stat().st_mtime_ns for path in Path("runs/small/cells").iterdir()}
    assert len(cells) == 7 * 2
    assert not Path("runs/small/study.csv").exists()
    assert main(["evaluate", "--config", "study.yaml", "--quiet", "--json"]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs/small/cells").iterdir()} == cells  # nothing was left to do
    assert broken("runs/small") == []
    assert main(["evaluate", "--config", "study.yaml", "--quiet", "--output", "alone"]) == 0
    together, alone = (pd.read_csv(f"{place}/small/study.csv").drop(columns="seconds") for place in ("runs", "alone"))
    pd.testing.assert_frame_equal(together, alone)
    capsys.readouterr()
    assert main(["evaluate", "--config", "study.yaml", "--share", "1/9", "--quiet", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["share"] == "1/9"
    assert "report" not in record
    assert main(["evaluate", "--config", "study.yaml", "--share", "0/9", "--quiet"]) == 2
    assert "Count from 1" in capsys.readouterr().err


def test_only_studies_have_parts(tmp_path):
    study, other, cut = written(tmp_path), tmp_path / "other.yaml", tmp_path / "cut.yaml"
    other.write_text("name: other\ncohort: {}\n")
    cut.write_text("{")
    assert is_study(["--config", str(study)])
    assert is_study([f"--config={study}", "--quiet"])
    assert not any(is_study(words) for words in ([], ["--config"], ["--config", "absent.yaml"], ["--config", str(other)], ["--config", str(cut)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": [{"title": "Q", "axes": {"strat": None}, "compare": {"start": "scratch"}}]}, "found 'strat'. Did you mean 'start'"),
        ({"questions": [{"title": "Q", "axes": {"start": ["scrach"]}, "compare": {"start": "scratch"}}]}, "Did you mean 'scratch'"),
        ({"questions": [{"title": "Q", "axes": {"start": None}, "compare": {}}]}, "Expected one axis to compare along"),
        ({"questions": []}, "Expected questions and parts of a study"),
        ({"only": ["image"]}, "Expected parts among images; found 'image'. Did you mean 'images'"),
        ({"axis": {"a": {"b": None}}}, "Did you mean 'axes'"),
    ],
)
def test_what_is_wrong_with_a_study_is_said(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        read(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"cell": {"shot": 2}}, "Did you mean 'shots'"),
        ({"encoder": {"init_args": {"widht": 8}}}, "widht"),
        ({"cell": {"shots": 2, "label_fraction": 0.5}}, "Expected shots or a label fraction"),
        ({"cell": {"pretrain_on": ["source"]}}, "Expected a source to pre-train on"),
    ],
)
def test_a_wrong_level_is_refused_before_anything_is_computed(tmp_path, monkeypatch, capsys, level, message):
    monkeypatch.chdir(tmp_path)
    axes = {**STUDY["axes"], "width": {"4": None, "8": level}}
    assert main(["evaluate", "--config", str(written(tmp_path, axes=axes)), "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_the_cells_cannot_have_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--config", str(written(tmp_path, metrics=["recall: maligant"])), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "Expected metrics of the part 'images' among auroc" in said
    assert "found 'recall: maligant'. Did you mean 'recall: malignant'" in said
    assert main(["evaluate", "--config", str(written(tmp_path, metrics=["dice"])), "--quiet"]) == 2
    assert not (tmp_path / "runs").exists()


def test_a_part_that_answers_no_question_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parts = {**STUDY["parts"], "bare": {"axes": {"shots": None, "width": None}, "base": STUDY["parts"]["images"]["base"]}}
    assert main(["evaluate", "--config", str(written(tmp_path, parts=parts)), "--quiet"]) == 2
    assert "a question that the part 'bare' can answer" in capsys.readouterr().err
