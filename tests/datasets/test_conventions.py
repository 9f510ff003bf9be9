"""File names of toolboxes."""

import pytest

from graphssl.datasets import conventions
from graphssl.datasets.conventions import find_by
from graphssl.datasets.listing import Listing

KNOWN = [
    ("CONN", "firstlevel/SBC_01/resultsROI_Subject012_Condition002.mat", "Subject012", {"cond": "002"}, ("correlation", True, "Z")),
    ("CONN", "NDAR_7_resultsROI_Condition002.mat", "NDAR_7", {"cond": "002"}, ("correlation", True, "Z")),
    ("CONN", "resultsROI_Condition002.mat", "", {"cond": "002"}, ("correlation", True, "Z")),
    ("DPABI", "ROISignals_Sub_001.mat", "Sub_001", {}, ("timeseries", False, "ROISignals")),
    ("DPABI", "ROICorrelation_Sub_001.txt", "Sub_001", {}, ("correlation", False, None)),
    ("DPABI", "ROICorrelation_FisherZ_Sub_001.mat", "Sub_001", {}, ("correlation", True, "ROICorrelation_FisherZ")),
    ("GRETNA", "GretnaSFCMatrixR/rHC001.txt", "HC001", {}, ("correlation", False, None)),
    ("GRETNA", "results/GretnaSFCMatrixZ/zHC001.txt", "HC001", {}, ("correlation", True, None)),
    ("GRETNA", "GretnaTimeCourse/HC001.txt", "HC001", {}, ("timeseries", False, None)),
    ("POPULATION_GCN", "50003/50003_ho_correlation.mat", "50003", {}, ("correlation", None, "connectivity")),
    ("POPULATION_GCN", "50003_cc200_partial_correlation.mat", "50003", {}, ("partial correlation", None, "connectivity")),
    ("HCP", "100307.pconn.nii", "100307", {}, ("correlation", None, None)),
    ("HCP", "100307_rfMRI_REST1_LR.ptseries.nii", "100307", {"run": "rfMRI_REST1_LR"}, ("timeseries", False, None)),
    ("HCP", "patient_a.ptseries.nii", "patient_a", {}, ("timeseries", False, None)),
    ("MRTRIX", "S01_connectome.csv", "S01", {}, ("streamline count", False, None)),
    ("GRAPHS", "site1_S01.graphml", "site1_S01", {}, (None, None, None)),
    ("GRAPHS", "sub-7_ses-2_dwi_desikan_measure-spatial-ds.ssv", "sub-7", {}, (None, None, None)),
    ("BRAINNET_VIEWER", "S01.edge", "S01", {}, (None, None, None)),
]


@pytest.mark.parametrize(("tool", "name", "subject", "entities", "content"), KNOWN)
def test_names(tmp_path, tool, name, subject, entities, content):
    [scan] = find_by(getattr(conventions, tool), Listing(tmp_path, tmp_path, (name,)))
    assert (scan.subject, scan.entities, scan.path) == (subject, entities, tmp_path / name)
    assert (scan.content.kind, scan.content.fisher_z, scan.content.variable) == content


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("CONN", "resultsDATA_Subject001_Condition001.mat"),
        ("DPABI", "ROI_OrderKey_Sub_001.tsv"),
        ("GRETNA", "GretnaSFCMatrixR/NodalIndex.txt"),
        ("POPULATION_GCN", "correlation.mat"),
        ("MRTRIX", "connectome.csv"),
    ],
)
def test_other_names(tmp_path, tool, name):
    assert not list(find_by(getattr(conventions, tool), Listing(tmp_path, tmp_path, (name,))))


def test_the_folder_that_was_given_may_say_what_its_files_are(tmp_path):
    folder = tmp_path / "GretnaSFCMatrixZ"
    folder.mkdir()
    [scan] = find_by(conventions.GRETNA, Listing(folder, folder, ("zHC001.txt",)))
    assert (scan.subject, scan.content.fisher_z) == ("HC001", True)


@pytest.mark.parametrize("name", ["GretnaDFCMatrixR/rHC001.mat", "GretnaDFCMatrixZ/zHC001.mat"])
def test_windows_of_a_scan_are_known_and_no_scans(tmp_path, name):
    [scan] = find_by(conventions.GRETNA, Listing(tmp_path, tmp_path, (name,)))
    assert scan.content.no_scan.startswith("sliding windows of a scan")


def test_the_atlas_in_a_name(tmp_path):
    [scan] = find_by(conventions.POPULATION_GCN, Listing(tmp_path, tmp_path, ("50003_ho_correlation.mat",)))
    assert scan.atlas == "ho"
