"""Axes of a study: all combinations of levels, and configurations laid over one another."""

from graphssl.experiment.study_axes import grid, merged


def test_a_grid_is_every_combination():
    assert grid({"a": ["1", "2"], "b": ["x", "y"]}) == [{"a": a, "b": b} for a in "12" for b in "xy"]
    assert grid({}) == [{}]


def test_changes_are_laid_over_a_configuration():
    base = {"encoder": {"class_path": "A", "init_args": {"width": 8, "depth": 2}}, "cell": {"shots": 1}}
    assert merged(base, {"encoder": {"init_args": {"width": 16}}})["encoder"] == {"class_path": "A", "init_args": {"width": 16, "depth": 2}}
    assert merged(base, {"encoder": {"class_path": "B"}})["encoder"] == {"class_path": "B"}
    assert merged(base, {"cell": {"mode": "probe"}}, {"cell": {"shots": None}})["cell"] == {"shots": None, "mode": "probe"}
    assert base["cell"] == {"shots": 1}
