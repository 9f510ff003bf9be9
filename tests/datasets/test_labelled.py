"""An array with the names of its rows and columns, and where it is."""

from pathlib import Path

import numpy as np

from graphssl.datasets.labelled import LabelledArray, Page


def test_transposing_swaps_values_and_names():
    found = LabelledArray(np.arange(6, dtype=np.float32).reshape(2, 3), ("a", "b", "c"), ("x", "y"))
    turned = found.transposed
    np.testing.assert_array_equal(turned.values, found.values.T)
    assert (turned.columns, turned.rows) == (("x", "y"), ("a", "b", "c"))
    assert turned.values.flags.c_contiguous


def test_a_page_is_called_by_its_place():
    page = Page(Path("folder") / "a.mat", 0)
    assert (page.name, page.parent) == ("a.mat (matrix 1)", Path("folder"))
