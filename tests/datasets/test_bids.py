"""Names, contents and sidecars of BIDS derivatives."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from graphssl.datasets.bids import BidsName, find_bids, parse_name, with_participants
from graphssl.datasets.folder import People
from graphssl.datasets.listing import list_files
from graphssl.errors import DataError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def found(folder, *names):
    touch(folder, *names)
    return list(find_bids(list_files(folder)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/sub-01_ses-1_task-rest_relmat.tsv", BidsName({"sub": "01", "ses": "1", "task": "rest"}, "relmat", ".tsv")),
        ("sub-01_stat-mean_timeseries.ptseries.nii", BidsName({"sub": "01", "stat": "mean"}, "timeseries", ".ptseries.nii")),
        ("sub-01_dwi_desikan_measure-x_graph.GraphML", BidsName({"sub": "01", "measure": "x"}, "graph", ".graphml")),
        ("sub-01_task-rest.tsv", None),
        ("participants.tsv", None),
    ],
)
def test_names(name, expected):
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    ("name", "kind", "fisher_z"),
    [
        ("sub-1_seg-A_stat-mean_timeseries.tsv", "timeseries", False),
        ("sub-1_atlas-A_timeseries.1D", "timeseries", False),
        ("sub-1_space-fsLR_seg-A_stat-mean_timeseries.ptseries.nii", "timeseries", False),
        ("sub-1_seg-A_stat-pearsoncorrelation_relmat.tsv", "correlation", None),
        ("sub-1_atlas-A_measure-pearsoncorrelation_conmat.tsv", "correlation", None),
        ("sub-1_seg-A_meas-PearsonCorrelation_desc-simple_relmat.tsv", "correlation", None),
        ("sub-1_meas-FisherZ_relmat.tsv", "correlation", True),
        ("sub-1_atlas-A_desc-PearsonNilearn_correlations.tsv", "correlation", None),
        ("sub-1_atlas-A_desc-PartialNilearn_correlations.csv", "partial correlation", None),
        ("sub-1_atlas-A_desc-NilearnPearson_connectome.tsv", "correlation", None),
        ("sub-1_seg-A_stat-pearsoncorrelation_boldmap.pconn.nii", "correlation", None),
        ("sub-1_meas-covariance_relmat.tsv", "covariance", False),
        ("sub-1_meas-streamlineCount_relmat.tsv", "streamline count", False),
        ("sub-1_meas-tractLength_relmat.tsv", "adjacency", False),
        ("sub-1_relmat.tsv", None, None),
    ],
)
def test_what_a_name_says_of_its_content(tmp_path, name, kind, fisher_z):
    [scan] = found(tmp_path, name)
    assert (scan.content.kind, scan.content.fisher_z, scan.subject) == (kind, fisher_z, "sub-1")


@pytest.mark.parametrize(
    "name",
    [
        "sub-1_task-rest_desc-confounds_timeseries.tsv",
        "sub-1_seg-A_stat-coverage_bold.tsv",
        "sub-1_seg-A_stat-reho_bold.tsv",
        "sub-1_bold.nii.gz",
        "sub-1_timeseries.json",
        "relmat.tsv",
    ],
)
def test_other_files_of_a_pipeline_are_none(tmp_path, name):
    assert found(tmp_path, name) == []


def test_a_measure_that_is_not_known_keeps_its_name(tmp_path):
    [scan] = found(tmp_path, "sub-1_meas-coherence_relmat.tsv")
    assert (scan.content.kind, scan.content.measure) == (None, "coherence")


def test_entities_and_atlas(tmp_path):
    [scan] = found(tmp_path, "sub-1/ses-2/sub-1_ses-2_task-rest_run-03_space-MNI_seg-A_desc-x_relmat.tsv")
    assert scan.atlas == "A"
    assert scan.entities == {"ses": "2", "task": "rest", "run": "03", "space": "MNI", "desc": "x"}


def test_sidecars_are_inherited_and_nearer_ones_overrule(tmp_path):
    touch(tmp_path, "sub-1/func/sub-1_task-rest_relmat.tsv", "sub-2/func/sub-2_task-rest_relmat.tsv", "sub-2/func/sub-2_task-nback_relmat.tsv")
    (tmp_path / "relmat.json").write_text(json.dumps({"RelationshipMeasure": "Pearson correlation", "NumberOfVolumes": 100}))
    (tmp_path / "task-nback_relmat.json").write_text(json.dumps({"RelationshipMeasure": "Fisher z"}))
    (tmp_path / "sub-1" / "sub-1_relmat.json").write_text(json.dumps({"NumberOfVolumes": 80}))
    (tmp_path / "timeseries.json").write_text(json.dumps({"NumberOfVolumes": 1}))
    one, nback, rest = find_bids(list_files(tmp_path))
    assert (one.content.kind, one.content.fisher_z, one.n_timepoints) == ("correlation", None, 80)
    assert (nback.content.fisher_z, nback.n_timepoints) == (True, 100)
    assert (rest.content.fisher_z, rest.n_timepoints) == (None, 100)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"GeneratedBy": [{"Name": "XCP-D", "Version": "0.7"}, {"Name": "fMRIPrep"}]}, "XCP-D 0.7 + fMRIPrep"),
        ({"PipelineDescription": {"Name": "old", "Version": "1"}}, "old 1"),
        ({}, ""),
        ([], ""),
    ],
)
def test_the_pipeline(tmp_path, record, expected):
    (tmp_path / "xcp_d").mkdir()
    (tmp_path / "xcp_d" / "dataset_description.json").write_text(json.dumps(record))
    [scan] = found(tmp_path, "xcp_d/sub-1/sub-1_relmat.tsv")
    assert scan.pipeline == expected
    [scan] = find_bids(list_files(tmp_path / "xcp_d" / "sub-1"))
    assert scan.pipeline == expected, "the folder of one subject is a part of the derivatives"


def test_a_sidecar_that_cannot_be_read(tmp_path):
    (tmp_path / "relmat.json").write_text("{")
    with pytest.raises(DataError, match="Expected JSON in .*relmat.json, found a file that cannot be read"):
        found(tmp_path, "sub-1_relmat.tsv")


def test_a_file_of_qsirecon_is_a_scan_an_atlas_and_weight(tmp_path):
    content = {"aal_region_ids": [1, 2], "atlas_4S_region_ids": [1, 2, 3], "aal_region_labels": np.array(["a", "b"], dtype=object)}
    content |= {f"aal_{weight}_connectivity": np.eye(2) for weight in ("sift_radius2_count", "radius2_meanlength", "fancy")}
    savemat(tmp_path / "sub-1_msmtconnectome_connectivity.mat", {**content, "atlas_4S_radius2_count_connectivity": np.eye(3)})
    scans = list(find_bids(list_files(tmp_path)))
    assert {(scan.atlas, scan.entities["variable"], scan.content.kind) for scan in scans} == {
        ("aal", "sift_radius2_count", "streamline count"),
        ("aal", "radius2_meanlength", "adjacency"),
        ("aal", "fancy", "adjacency"),
        ("4S", "radius2_count", "streamline count"),
    }


def test_the_table_of_participants_of_the_data_set_above(tmp_path):
    folder = tmp_path / "study" / "derivatives" / "xcp_d"
    touch(folder, "sub-1_relmat.tsv")
    (tmp_path / "study" / "participants.tsv").write_text("participant_id\n")
    assert with_participants(People(), list_files(folder)).participants == tmp_path / "study" / "participants.tsv"
    (folder / "participants.csv").write_text("participant_id\n")
    assert with_participants(People(), list_files(folder)).participants == folder / "participants.csv"
    assert with_participants(People(participants="own.tsv"), list_files(folder)).participants == "own.tsv"
    (tmp_path / "participants.tsv").write_text("participant_id\n")
    touch(tmp_path / "elsewhere", "sub-1_relmat.tsv")
    assert with_participants(People(), list_files(tmp_path / "elsewhere")).participants is None, "a folder that merely lies beside"
