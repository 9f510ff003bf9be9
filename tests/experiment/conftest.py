"""What the tests of sources share: a small cohort, the table of its atlas, and both as a folder of files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort


@pytest.fixture(scope="session")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    """Eight subjects of thirty time points in twelve regions."""
    return make_cohort(n_subjects=8, n_regions=12, n_timepoints=30)


@pytest.fixture
def atlas_file(tmp_path: Path, cohort: Cohort) -> str:
    """The atlas of that cohort as a table, in the words of an option: `NAME=FILE`."""
    atlas = cohort.atlas("toy")
    table = pd.DataFrame({"label": atlas.labels, "name": atlas.names, "network": atlas.networks})
    table[["x", "y", "z"]] = atlas.centroids
    table.to_csv(tmp_path / "toy.csv", index=False)
    return f"toy={tmp_path / 'toy.csv'}"


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    """Writes a cohort as a folder of arrays with its table: `write_folder(folder, cohort, matrices=False, ids=None)`."""

    def write(folder: Path, cohort: Cohort, matrices: bool = False, ids: Any = None) -> Path:
        folder.mkdir()
        for subject in ids or cohort.ids:
            series = cohort.regions["toy"].values[subject]
            np.save(folder / f"{subject}.npy", np.corrcoef(series.T.astype(float)) if matrices else series)
        cohort.subjects.rename_axis("participant_id").to_csv(folder / "participants.tsv", sep="\t")
        return folder

    return write


AFFINE = np.array([[10.0, 0, 0, -55], [0, 10, 0, -80], [0, 0, 10, -30], [0, 0, 0, 1]])
SHAPE = (12, 14, 10)


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, np.ndarray]:
    """Labels of two parcellations of one box, whose files `coarse.nii.gz` and `fine.nii.gz` are in the folder of the test.

    Coarse has 12 regions and leaves out what is region 10 of the 32 of fine.
    """
    fine, coarse = blocks((3, 4, 5)), blocks((4, 7, 5))
    coarse[fine == 10] = 0
    for name, values in (("coarse", coarse), ("fine", fine)):
        save_volume(tmp_path / f"{name}.nii.gz", values)
    return {"coarse": coarse, "fine": fine}


@pytest.fixture(scope="session")
def write_volume() -> Callable[..., Path]:
    """Writes labels as a NIfTI file: `write_volume(path, values, affine=…)`."""
    return save_volume


def blocks(size: tuple[int, int, int]) -> np.ndarray:
    """A box cut into blocks of voxels, labelled 10, 20, …: gaps are the rule in the field."""
    places = np.stack(np.meshgrid(*[np.arange(n) // step for n, step in zip(SHAPE, size, strict=True)], indexing="ij"))
    n_blocks = [-(-n // step) for n, step in zip(SHAPE, size, strict=True)]
    return 10 * (np.ravel_multi_index(tuple(places), n_blocks) + 1)


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), path)
    return path
