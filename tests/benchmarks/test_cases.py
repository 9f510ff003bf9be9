"""Benchmarks as they are run: one of two lines, and those of the repository at tiny sizes. No test asserts a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = """
'''Sums of numbers.'''
from functools import partial
import numpy as np
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal

def loop(off, numbers):
    return lambda: sum(numbers.tolist()) + off

def check(numbers):
    return {name: Agreement("sums", float(abs(numbers.sum() - side(numbers)())), 1e-6) for name, side in SIDES.items()}

SIDES = {"loop": partial(loop, 0), "other loop": partial(loop, 1)}
peers = [*(Peer(name, side) for name, side in SIDES.items()), Peer("half", SIDES["loop"], scale=len, differs="half"), Peer("who", absent="gone")]
main(__doc__, [Case("sum of {}", (100, 1000), (10, 20), np.arange, lambda n: n.sum, peers, check, Bare("ones", lambda n, device: n.any), Goal())])
"""


def run(file, *words):
    command = [sys.executable, str(file), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    ).stdout.splitlines()


def test_sides_are_measured_and_compared(tmp_path):
    file = tmp_path / "sums.py"
    file.write_text(BENCHMARK)
    *lines, last = run(file, "--smoke", "--json")
    found = json.loads(last)
    parts = {part["peer"]: part for part in found["parts"]}
    assert found["name"] == "sums"
    assert list(parts) == ["loop", "other loop", "half", "who"]
    assert [part.get("equal") for part in parts.values()] == [True, False, None, None]
    assert len(lines) == 4
    assert lines[1].endswith("NOT EQUAL")
    assert parts["who"] == {"name": "sum of 20", "peer": "who", "absent": "gone"}
    assert parts["loop"]["growth"]["sizes"] == [10, 20]
    assert parts["loop"]["floor"]["what"] == "ones"
    assert parts["loop"]["repeats"] == 1


def test_an_unknown_name_is_refused_with_the_known_ones():
    command = [sys.executable, str(ROOT / "benchmarks"), "conectivity", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert "expected names of atlas_conversion, connectivity," in done.stderr
    assert done.stderr.rstrip().endswith("found conectivity")


@pytest.mark.slow
def test_every_benchmark_runs_at_tiny_sizes():
    lines = run(ROOT / "benchmarks", "--smoke")
    n_files = len([path for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")])
    assert lines[-1] == f"{n_files} of {n_files} benchmarks ran"
    assert not [line for line in lines if "NOT EQUAL" in line]
