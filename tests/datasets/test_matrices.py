"""Matrices from a folder: kinds, Fisher z, and the diagonals that tools write."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from graphssl.data import Atlas
from graphssl.datasets import load_matrices
from graphssl.errors import AtlasError, DataError

NAMES = ("LH_Vis_1", "LH_Vis_2", "RH_Vis_1", "RH_Vis_2")
ATLAS = Atlas("schaefer4", np.array([1, 2, 4, 7]), NAMES, np.arange(12.0).reshape(4, 3), ("Vis",) * 4)
IDS = ("a1", "b2", "c3")
OFF = ~np.eye(4, dtype=bool)
MATRICES = {subject: np.corrcoef(np.random.default_rng(k).normal(size=(4, 30))).astype(np.float32) for k, subject in enumerate(IDS)}


@pytest.fixture
def folder(tmp_path):
    for subject, matrix in MATRICES.items():
        np.save(tmp_path / f"{subject}.npy", matrix)
    return tmp_path


def test_correlations(folder):
    pd.DataFrame({"participant_id": IDS, "sex": ["F", "M", "F"]}).to_csv(folder / "participants.csv", index=False)
    cohort = load_matrices(folder, atlas=ATLAS, target="sex", pipeline="xcp_d")
    data = cohort.regions["schaefer4"]
    for subject, matrix in MATRICES.items():
        np.testing.assert_array_equal(data.values[subject], matrix)
    assert (data.provenance.kind, data.provenance.fisher_z, data.provenance.pipeline) == ("correlation", False, "xcp_d")
    assert cohort.target().tolist() == ["F", "M", "F"]


@pytest.mark.parametrize("diagonal", [0.0, 1.0, np.nan, np.inf])
def test_the_diagonal_of_a_correlation_may_be_anything(folder, diagonal):
    for subject, matrix in MATRICES.items():
        z = np.arctanh(np.where(OFF, matrix, 0))
        np.fill_diagonal(z, diagonal)
        savemat(folder / f"{subject}.mat", {"connectivity": z})
    cohort = load_matrices(folder, atlas=ATLAS, fisher_z=True, pattern="*.mat")
    data = cohort.regions["schaefer4"]
    assert data.provenance.fisher_z
    assert all(seen.all() for seen in data.observed.values())
    np.testing.assert_allclose(np.tanh(data.values["b2"][OFF]), MATRICES["b2"][OFF], rtol=1e-5)


def test_relmat_of_xcp_d_in_another_order_with_a_region_not_covered(tmp_path):
    order = [3, 1, 0, 2]
    for subject, matrix in MATRICES.items():
        table = pd.DataFrame(matrix, index=pd.Index(NAMES, name="Node"), columns=list(NAMES)).iloc[order, order]
        if subject == "b2":
            table.loc["LH_Vis_2"] = np.nan
            table["LH_Vis_2"] = np.nan
        table.to_csv(tmp_path / f"sub-{subject}_task-rest_stat-pearsoncorrelation_relmat.tsv", sep="\t", na_rep="n/a")
    table = pd.DataFrame({"participant_id": [f"sub-{subject}" for subject in IDS]})
    cohort = load_matrices(tmp_path, atlas=ATLAS, participants=table, missing_regions="mask")
    data = cohort.regions["schaefer4"]
    np.testing.assert_allclose(data.values["sub-c3"], MATRICES["c3"], rtol=1e-6)
    assert data.observed["sub-b2"].tolist() == [True, False, True, True]
    assert cohort.excluded.to_numpy().tolist() == [["region", "sub-b2", "1 of 4 regions of schaefer4 without signal: 2"]]
    with pytest.raises(DataError, match=r"found constant or NaN regions in 1 of 3 subjects: 'sub-b2' in labels 2\. Pass"):
        load_matrices(tmp_path, atlas=ATLAS, participants=table)


def test_other_kinds(folder):
    for subject, matrix in MATRICES.items():
        np.savez(folder / f"{subject}.npz", covariance=matrix * 25, precision=np.linalg.inv(matrix))
    for kind in ("covariance", "precision"):
        cohort = load_matrices(folder, atlas=ATLAS, kind=kind, pattern="*.npz", variable=kind)
        assert cohort.regions["schaefer4"].provenance.kind == kind


def test_fisher_z_declared_as_correlation(folder):
    z = np.arctanh(np.where(OFF, 0.95, 0)).astype(np.float32)
    np.save(folder / "b2.npy", z)
    with pytest.raises(DataError, match=r"b2\.npy: Expected correlations within \[-1, 1\], found 1\.83\. .*say so with fisher_z=True"):
        load_matrices(folder, atlas=ATLAS)


def test_a_matrix_that_is_not_symmetric(folder):
    np.save(folder / "b2.npy", np.triu(MATRICES["b2"]))
    with pytest.raises(DataError, match=r"found 1 that does not\. b2\.npy: Expected a symmetric matrix"):
        load_matrices(folder, atlas=ATLAS)


def test_a_matrix_that_is_not_square_or_of_another_atlas(folder):
    np.save(folder / "b2.npy", MATRICES["b2"][:3])
    with pytest.raises(DataError, match="Expected a square matrix"):
        load_matrices(folder, atlas=ATLAS)
    with pytest.raises(AtlasError, match=r"Expected the 2 files in .* to fit.*a1\.npy, c3\.npy: Expected 3 regions of atlas 'schaefer4', found 4"):
        load_matrices(folder, atlas=ATLAS.select([1, 2, 4]), pattern="[ac]*.npy")


def test_unknown_kind(folder):
    with pytest.raises(DataError, match="Expected the kind of region data to be one of .*; found 'coherence'"):
        load_matrices(folder, atlas=ATLAS, kind="coherence")


def test_header_may_be_ignored(tmp_path):
    for subject, matrix in MATRICES.items():
        pd.DataFrame(matrix, columns=list("wxyz"), index=list("wxyz")).to_csv(tmp_path / f"{subject}.csv")
    with pytest.raises(AtlasError, match='only in the file: w, x, y, z; .*pass header="ignore"'):
        load_matrices(tmp_path, atlas=ATLAS)
    assert len(load_matrices(tmp_path, atlas=ATLAS, header="ignore")) == 3


def test_counts_of_streamlines(folder):
    counts = {subject: np.triu(np.rint(np.abs(matrix) * 40)) for subject, matrix in MATRICES.items()}
    for subject, half in counts.items():
        np.savetxt(folder / f"{subject}_connectome.csv", half, fmt="%d")
    data = load_matrices(folder, atlas=ATLAS, kind="streamline count", pattern="*.csv", log1p=True).regions["schaefer4"]
    for half, matrix in zip(counts.values(), data.values.values(), strict=True):
        np.testing.assert_allclose(matrix[OFF], np.log1p(half + np.triu(half, 1).T)[OFF], rtol=1e-6)
    assert data.provenance.kind == "log streamline count"


def test_one_file(folder):
    cohort = load_matrices(folder / "a1.npy", atlas=ATLAS)
    assert (cohort.name, cohort.ids) == ("a1", ["a1"])
