"""CONN: the same matrices from a file a subject and from one of all subjects."""

import numpy as np
import pytest
from scipy.io import savemat

from graphssl.datasets import load_derivatives
from graphssl.datasets.conn import find_conn
from graphssl.datasets.listing import list_files
from graphssl.errors import ChoiceError, DataError

NAMES = np.array([f"atlas.region {k}" for k in range(20)], dtype=object)


def fisher_of(number):
    series = np.random.default_rng(number).standard_normal((20, 40))
    matrix = np.corrcoef(series) * (1 - np.eye(20))
    return np.arctanh(matrix) + np.diag(np.full(20, np.nan))


def write_all(folder, n_subjects, condition=1):
    wide = np.stack([np.hstack([fisher_of(number), np.ones((20, 3))]) for number in range(1, n_subjects + 1)], axis=2)
    savemat(folder / f"resultsROI_Condition{condition:03d}.mat", {"Z": wide, "names": NAMES, "SE": np.ones((n_subjects, 23))})


def write_one(folder, number, condition=1):
    content = {"Z": np.hstack([fisher_of(number), np.ones((20, 3))]), "names": NAMES}
    savemat(folder / f"resultsROI_Subject{number:03d}_Condition{condition:03d}.mat", content)


def load(folder, atlas, **options):
    return load_derivatives(folder, atlases=[atlas], header="ignore", **options)


@pytest.mark.parametrize("n_subjects", [1, 2, 5])
def test_all_subjects_of_one_file(tmp_path, atlas, n_subjects):
    write_all(tmp_path, n_subjects)
    values = load(tmp_path, atlas).regions["simulated20"].values
    assert list(values) == [f"Subject{number:03d}" for number in range(1, n_subjects + 1)]
    for number, matrix in enumerate(values.values(), start=1):
        np.testing.assert_allclose(matrix, fisher_of(number), rtol=1e-6)


def test_files_of_subjects_come_first_and_say_the_same(tmp_path, atlas):
    write_all(tmp_path, 3)
    alone = load(tmp_path, atlas)
    for number in (1, 2, 3):
        write_one(tmp_path, number)
    both = load(tmp_path, atlas)
    assert both.ids == alone.ids
    for subject in both.ids:
        np.testing.assert_array_equal(both.regions["simulated20"].values[subject], alone.regions["simulated20"].values[subject])
    assert both.excluded.to_numpy().tolist() == [["file", "resultsROI_Condition (Z) (1 file)", "resultsROI_Subject (Z) was read instead"]]


def test_conditions_have_to_be_chosen_or_grouped(tmp_path, atlas):
    for condition in (1, 2):
        write_all(tmp_path, 2, condition)
    with pytest.raises(ChoiceError, match=r"several of 2 subjects \(cond: 001, 002\)"):
        load(tmp_path, atlas)
    assert load(tmp_path, atlas, select=["cond-2"]).ids == ["Subject001", "Subject002"]
    assert len(load(tmp_path, atlas, repeats="group")) == 4


def test_copies_called_by_the_ids_of_subjects(tmp_path, atlas):
    for number, subject in ((1, "NDAR-7"), (2, "NDAR_8")):
        write_one(tmp_path, number)
        (tmp_path / f"resultsROI_Subject{number:03d}_Condition001.mat").rename(tmp_path / f"{subject}_resultsROI_Condition001.mat")
    assert load(tmp_path, atlas).ids == ["NDAR-7", "NDAR_8"]


def test_a_matrix_that_does_not_fit_is_named_by_its_place(tmp_path, atlas):
    wide = np.zeros((20, 20, 2))
    wide[0, 1, 1] = 1.0
    savemat(tmp_path / "resultsROI_Condition001.mat", {"Z": wide, "names": NAMES})
    with pytest.raises(DataError, match=r"resultsROI_Condition001\.mat \(matrix 2\): Expected"):
        load(tmp_path, atlas)


def test_the_number_of_subjects_is_that_of_the_file(tmp_path):
    write_all(tmp_path, 5)
    assert [scan.place.number for scan in find_conn(list_files(tmp_path))] == [0, 1, 2, 3, 4]
    savemat(tmp_path / "resultsROI_Condition001.mat", {"other": np.eye(3)})
    assert len(list(find_conn(list_files(tmp_path)))) == 1, "what is wrong with it is said when it is read"
