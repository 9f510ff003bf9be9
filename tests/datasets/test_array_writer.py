"""What is written is read back: numbers, labels and what is missing."""

import numpy as np
import pytest

from graphssl.datasets import read_array
from graphssl.datasets.array_writer import WRITTEN_ENDINGS, write_array
from graphssl.errors import ConfigError

LABELS = np.array([3, 7, 2001, 9170])


@pytest.fixture
def series():
    values = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    values[:, 2] = np.nan
    return values


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_an_array_comes_back_with_its_labels_and_gaps(tmp_path, series, ending):
    path = write_array(tmp_path / "below" / f"scan{ending}", series, LABELS)
    values, columns = read_array(path)
    np.testing.assert_array_equal(values, series)
    assert columns == (None if ending == ".npy" else ("3", "7", "2001", "9170"))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_infinite_diagonals_of_a_fisher_z_come_back(tmp_path):
    matrix = np.full((4, 4), 0.25, np.float32)
    np.fill_diagonal(matrix, np.inf)
    np.testing.assert_array_equal(read_array(write_array(tmp_path / "z.tsv", matrix, LABELS))[0], matrix)


def test_one_in_the_first_column_is_no_row_name(tmp_path):
    matrix = np.eye(4, dtype=np.float32)
    matrix[0, 1] = matrix[1, 0] = 0.5
    values, columns = read_array(write_array(tmp_path / "r.csv", matrix, LABELS))
    assert values.shape == (4, 4)
    assert columns == ("3", "7", "2001", "9170")


def test_other_endings_are_refused(tmp_path, series):
    with pytest.raises(ConfigError, match=r"endings \.1D, \.tsv, \.csv, \.txt, \.npy; found .*scan\.xlsx"):
        write_array(tmp_path / "scan.xlsx", series, LABELS)
    assert not list(tmp_path.iterdir())
