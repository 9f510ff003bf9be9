import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphssl.reports import brain, figures
from graphssl.reports.canvas import DPI, canvas, png
from graphssl.reports.evaluated_task import read_evaluated
from graphssl.reports.markup import Picture
from graphssl.reports.run_folder import Connectome, EvaluationRun, read_run

Make = Callable[[], Any]


def size(picture: Picture | None) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    assert picture is not None
    assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.alt
    assert picture.caption
    return int.from_bytes(picture.png[16:20], "big"), int.from_bytes(picture.png[20:24], "big")


@pytest.fixture(scope="module")
def run(rich_run: Path) -> EvaluationRun:
    return read_run(rich_run)


def test_a_canvas_leaves_pyplot_alone() -> None:
    with canvas(2, 1) as (figure, axes):
        axes.plot([0, 1], [0, 1])
        picture = Picture(png(figure), "a", "b")
    assert size(picture) == (2 * DPI, DPI)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_scores_are_drawn(run: EvaluationRun) -> None:
    evaluated = read_evaluated(run)
    assert size(figures.forest(evaluated))[0] == round(8.6 * DPI)
    assert size(figures.label_curve(evaluated))[1] == round(3.8 * DPI)
    assert size(figures.calibration(evaluated))[1] == round(4.6 * DPI)
    forest = figures.forest(evaluated)
    assert forest is not None
    mean = evaluated.score("pretrained", 1.0)
    assert mean is not None
    assert f"Pre-trained encoder {mean.mean:.3f}" in forest.alt


def test_every_figure_of_scores_tells_its_numbers(run: EvaluationRun) -> None:
    evaluated, history = read_evaluated(run), run.history
    assert history is not None
    drawn = {draw.__name__: draw(evaluated) for draw in (figures.forest, figures.label_curve, figures.calibration)}
    told = {name: [mark.told for mark in picture.marks] for name, picture in drawn.items() if picture is not None}
    mean = evaluated.score("pretrained", 1.0)
    assert mean is not None
    assert f"Mean over test sets, Pre-trained encoder: {mean.mean:.3f}, 95% interval {mean.low:.3f} to {mean.high:.3f}" in told["forest"]
    assert any(f": {mean.mean:.3f}, 95% interval" in line and "labels" in line for line in told["label_curve"])
    assert any(
        re.fullmatch(r"Pre-trained encoder: claimed 0\.\d{3}, true \d\.\d{3}, \d+\.\d% of the predictions", line) for line in told["calibration"]
    )
    losses = figures.learning_curves(history)
    assert losses is not None
    assert any(re.fullmatch(r"Epoch \d+, validation: [\d.]+", mark.told) for mark in losses.marks)


def test_figures_of_the_brain_name_their_regions(run: EvaluationRun) -> None:
    assert run.connectome is not None
    assert run.regions is not None
    names, n = set(run.regions["name"]), len(run.connectome.labels)
    glass = brain.glass_regions(run.connectome, run.regions)
    assert {mark.told.partition(": ")[0] for mark in glass.marks} == names
    assert len(glass.marks) == 3 * n  # seen from three sides
    matrix = brain.connectome_matrix(run.connectome, run.regions)
    assert len({mark.told.partition(": ")[0] for mark in matrix.marks}) == n * n
    assert brain.connectome_matrix(run.connectome, None).marks[0].told.startswith("region ")


def test_what_cannot_be_drawn_is_not(fake_run: Make) -> None:
    evaluated = read_evaluated(read_run(fake_run().method("pretrained", {"hold-out": 0.7}).write()))
    assert figures.forest(evaluated) is None
    assert figures.label_curve(evaluated) is None
    assert figures.calibration(evaluated) is None


def test_more_than_two_classes_are_calibrated_by_the_largest(fake_run: Make) -> None:
    run = fake_run().predicted({"pretrained": 1.0}, n_classes=3, seeds=(0,))
    evaluated = read_evaluated(read_run(run.write(task={"target": "diagnosis", "classes": ["a", "b", "c"]})))
    assert size(figures.calibration(evaluated))[0] > 0


def test_learning_curves(run: EvaluationRun) -> None:
    history = run.history
    assert history is not None
    assert size(figures.learning_curves(history))[0] == round(9.6 * DPI)
    one = history[history["stage"] == "pretrain"].drop(columns="validation_loss")
    assert size(figures.learning_curves(pd.concat([one.assign(seed=k) for k in range(3)])))[0] == round(4.8 * DPI)
    assert size(figures.learning_curves(one.head(1).drop(columns=["split", "seed"])))[0] == round(4.8 * DPI)
    assert figures.learning_curves(history.head(0)) is None


def test_regions_are_ordered_by_network(run: EvaluationRun) -> None:
    assert run.connectome is not None
    matrix = brain.connectome_matrix(run.connectome, run.regions)
    assert size(matrix)[0] == round(6.2 * DPI)
    assert "default, limbic, motor, visual" in matrix.caption
    assert "in the order of the atlas" in brain.connectome_matrix(run.connectome, None).caption


def test_the_strongest_connections_are_drawn_and_their_signs_explained(run: EvaluationRun) -> None:
    assert run.connectome is not None
    edges = brain.glass_edges(replace(run.connectome, edges=-run.connectome.edges))
    assert size(edges)[0] == round(9.6 * DPI)
    assert edges is not None
    assert edges.caption == "The 60 connections that weigh most in the prediction. Red speaks for the last class, blue against it."
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_one_blank_region_is_drawn() -> None:
    blank = Connectome("", np.ones(1, dtype=np.int64), np.zeros((1, 3)), np.full((1, 1), np.nan), np.zeros(1), np.zeros((1, 1)))
    assert size(brain.connectome_matrix(blank, None))[0] > 0
    assert size(brain.glass_regions(blank))[0] > 0
    assert brain.glass_edges(blank) is None
