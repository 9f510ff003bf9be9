"""Cells of a study: settings that go together, and the numbers they are measured by."""

import pytest

from graphssl.errors import ConfigError
from graphssl.evaluation.cell import CellSettings, rare_class


def test_settings_that_do_not_go_together(make_cell):
    with pytest.raises(ConfigError, match="Expected shots or a label fraction"):
        CellSettings(shots=1, label_fraction=0.5)
    with pytest.raises(ConfigError, match="Expected each of source and cohort once"):
        CellSettings(pretrain_on=("cohort", "cohort"))
    with pytest.raises(ConfigError, match="Expected a source to pre-train on in start s"):
        make_cell({"start": "s"}, pretrain_on=("source",))


def test_the_rare_class_by_its_name():
    assert rare_class(CellSettings(rare="b"), ["a", "b"]) == 1
    assert rare_class(CellSettings(), ["a", "b"]) is None
    with pytest.raises(ConfigError, match=r"Expected the rare class to be one of \['a', 'b'\], found 'c'"):
        rare_class(CellSettings(rare="c"), ["a", "b"])


def test_a_cell_is_measured_by_curves_where_there_are_some(make_cell):
    curves = {"curve_area", "late_spread"}
    assert curves <= set(make_cell({}, validation_fraction=0.25).metrics)
    assert not curves & {*make_cell({}).metrics, *make_cell({}, validation_fraction=0.25, mode="probe").metrics}
    assert {"recall: benign", "recall: malignant"} <= set(make_cell({}).metrics)
