"""Scans as rows of a cohort: repeated ones are chosen or grouped, and none is merged or dropped in silence."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Atlas
from graphssl.datasets.bids import find_bids
from graphssl.datasets.folder import People
from graphssl.datasets.listing import list_files
from graphssl.datasets.scan_files import Choices, Content, Scan
from graphssl.datasets.scan_rows import load_scans
from graphssl.errors import ChoiceError, DataError

R = 5
NAMES = tuple("abcde")
ATLAS = Atlas("A", np.arange(1, R + 1), NAMES, np.zeros((R, 3)), ("",) * R)


def matrix_of(name):
    rng = np.random.default_rng([ord(letter) for letter in name])
    return np.corrcoef(rng.standard_normal((R, 30)))


def write(folder, *names, names_of_regions=NAMES, matrix=None):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(matrix_of(path.name) if matrix is None else matrix, columns=names_of_regions).to_csv(path, sep="\t", index=False)


def load(folder, atlases=(ATLAS,), people=None, **choices):
    return load_scans(
        folder, list(find_bids(list_files(folder))), atlases=atlases, choices=Choices(**choices), people=people or People(), source="bids"
    )


# Sessions and runs


@pytest.fixture
def repeated(tmp_path):
    write(tmp_path, *(f"sub-{s}_ses-{e}_run-{r}_stat-pearson_relmat.tsv" for s in "12" for e in ("pre", "post") for r in ("1", "2")))
    write(tmp_path, "sub-3_ses-pre_run-1_stat-pearson_relmat.tsv")
    return tmp_path


def test_several_scans_of_a_subject_have_to_be_chosen(repeated):
    with pytest.raises(
        ChoiceError,
        match=r'several of 2 subjects \(ses: post, pre; run: 1, 2\)\. Choose with select=\["ses-post", "run-1"\], or keep all of them with repeats=',
    ):
        load(repeated)
    assert load(repeated, select=["ses-post", "run-02"]).ids == ["sub-1", "sub-2"], "02 is 2"
    with pytest.raises(ChoiceError, match="Expected files with ses-later, found ses: post, pre"):
        load(repeated, select=["ses-later"])
    with pytest.raises(ChoiceError, match="Expected files with acq-1, found acq: none"):
        load(repeated, select=["acq-1"])


def test_or_are_kept_as_a_group(repeated):
    cohort = load(repeated, repeats="group")
    assert len(cohort) == 9
    assert cohort.ids[:2] == ["sub-1_ses-post_run-1", "sub-1_ses-post_run-2"]
    assert cohort.schema.named("group") == ["person"]
    assert cohort.groups.nunique() == 3
    np.testing.assert_allclose(cohort.regions["A"].values["sub-2_ses-pre_run-1"], matrix_of("sub-2_ses-pre_run-1_stat-pearson_relmat.tsv"), rtol=1e-5)
    train, test = cohort.split(0.34)
    assert not set(train.groups) & set(test.groups)


def test_rows_of_the_table_are_repeated_with_the_scans(repeated):
    table = pd.DataFrame({"participant_id": ["2", "1", "9"], "age": [20, 10, 90], "family": ["x", "x", "y"]})
    cohort = load(repeated, repeats="group", select=["ses-pre"], people=People(table, covariates=["age"], group="family"))
    assert cohort.ids == ["2_run-1", "2_run-2", "1_run-1", "1_run-2"]
    assert cohort.subjects["age"].tolist() == [20, 20, 10, 10]
    assert cohort.subjects["person"].tolist() == ["2", "2", "1", "1"]
    assert len(set(cohort.groups)) == 1, "the family holds both"
    assert [row[:2] for row in cohort.excluded.to_numpy().tolist()] == [["subject", "9"], ["subject", "sub-3.tsv"]]


SESSIONS = pd.DataFrame(
    {"participant_id": ["sub-1", "sub-1", "sub-2", "sub-2"], "session_id": ["pre", "post", "pre", "post"], "score": [1.5, 2.5, 3.5, 4.5]}
)


def test_a_table_with_a_row_a_session(repeated):
    cohort = load(repeated, repeats="group", people=People(SESSIONS))
    assert cohort.ids == [f"sub-{s}_ses-{e}_run-{r}" for s in "12" for e in ("pre", "post") for r in "12"]
    assert cohort.subjects["score"].tolist() == [1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 4.5, 4.5]
    assert cohort.subjects["person"].tolist() == ["sub-1"] * 4 + ["sub-2"] * 4
    assert cohort.schema.named("group") == ["person"]
    np.testing.assert_allclose(cohort.regions["A"].values["sub-2_ses-pre_run-1"], matrix_of("sub-2_ses-pre_run-1_stat-pearson_relmat.tsv"), rtol=1e-5)
    assert ["subject", "sub-3_ses-pre.tsv", "a file, without a row in the table"] in cohort.excluded.to_numpy().tolist()


def test_one_session_of_such_a_table(repeated):
    cohort = load(repeated, select=["ses-post", "run-1"], people=People(SESSIONS, target="score"))
    assert cohort.ids == ["sub-1_ses-post", "sub-2_ses-post"]
    assert cohort.subjects["score"].tolist() == [2.5, 4.5]
    assert cohort.excluded["id"].tolist() == ["sub-1_ses-pre", "sub-2_ses-pre"]


def test_runs_put_together_have_no_run_in_their_name(tmp_path):
    write(tmp_path, *(f"sub-{s}_task-rest{run}_relmat.tsv" for s in "12" for run in ("", "_run-1", "_run-2")))
    with pytest.raises(ChoiceError, match=r"several of 2 subjects \(run: none, 1, 2\)"):
        load(tmp_path)
    data = load(tmp_path, select=["run-none"]).regions["A"]
    np.testing.assert_allclose(data.values["sub-1"], matrix_of("sub-1_task-rest_relmat.tsv"), rtol=1e-5)


# What is read


def test_a_measure_that_is_not_known_needs_a_kind(tmp_path):
    write(tmp_path, "sub-1_meas-coherence_relmat.tsv")
    with pytest.raises(ChoiceError, match="Expected a measure that is known, found 'coherence' in sub-1_meas-coherence_relmat.tsv"):
        load(tmp_path)
    assert load(tmp_path, kind="adjacency").regions["A"].provenance.kind == "adjacency"


def test_contents_do_not_mix(tmp_path):
    scans = [Scan(tmp_path / "x", "1", Content("r", "correlation", False)), Scan(tmp_path / "y", "2", Content("z", "correlation", True))]
    with pytest.raises(ChoiceError, match="Expected files of one content in atlas 'A', found r, z"):
        load_scans(tmp_path, scans, atlases=[ATLAS], choices=Choices(), people=People(), source="x")


def test_the_same_scan_twice(tmp_path):
    write(tmp_path, "one/sub-1_relmat.tsv", "two/sub-1_relmat.tsv")
    with pytest.raises(DataError, match="Expected one file a scan, found 2 of the same: .*one.*two"):
        load(tmp_path)


def test_no_scan_of_a_subject_in_the_table(tmp_path):
    write(tmp_path, "sub-1_seg-A_relmat.tsv", "sub-2_seg-B_relmat.tsv")
    second = Atlas("B", ATLAS.labels, NAMES, ATLAS.centroids, ATLAS.networks)
    with pytest.raises(DataError, match="Expected scans in atlas 'B' of subjects in the table, found none"):
        load(tmp_path, atlases=[ATLAS, second], people=People(pd.DataFrame({"participant_id": ["sub-1"]})))


# Label orders


def test_other_orders_of_columns_become_that_of_the_atlas(tmp_path):
    matrix = matrix_of("x")
    order = [3, 1, 0, 4, 2]
    write(tmp_path, "sub-1_relmat.tsv", matrix=matrix)
    write(tmp_path, "sub-2_relmat.tsv", matrix=matrix[np.ix_(order, order)], names_of_regions=[NAMES[k] for k in order])
    values = load(tmp_path).regions["A"].values
    np.testing.assert_array_equal(values["sub-1"], values["sub-2"])


def test_files_with_and_without_names_do_not_mix(tmp_path):
    write(tmp_path, "sub-1_relmat.tsv")
    np.savetxt(tmp_path / "sub-2_relmat.tsv", matrix_of("x"), delimiter="\t")
    with pytest.raises(DataError, match=r"named in every file or in none, found names in sub-1_relmat\.tsv and none in sub-2_relmat\.tsv"):
        load(tmp_path)
    assert len(load(tmp_path, header="ignore")) == 2


def test_r_and_z_do_not_mix(tmp_path):
    z = np.arctanh(matrix_of("x").clip(-1 + 1e-9, 1 - 1e-9))
    np.fill_diagonal(z, np.inf)
    write(tmp_path, "sub-1_relmat.tsv", matrix=z)
    write(tmp_path, "sub-2_relmat.tsv")
    with pytest.raises(DataError, match=r"ones on the diagonal of sub-2_relmat\.tsv \(correlations\) and infinity on that of sub-1_relmat\.tsv"):
        load(tmp_path, fisher_z=True)
