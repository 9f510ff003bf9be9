"""What the tests of sources share: a small cohort, the table of its atlas, and both as a folder of files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
