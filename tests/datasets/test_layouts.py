"""Every layout from its files to a saved cohort, through the command line; what is recognised, and what is refused."""

import json

import numpy as np
import pytest

from graphssl.cli import main
from graphssl.data import Cohort
from graphssl.datasets import load_source, recognise
from graphssl.datasets.layouts import LAYOUTS
from graphssl.errors import AtlasError, ChoiceError, ConfigError, DataError

# What each layout is recognised as, the kind of its values, whether these are Fisher z, and something its provenance says.
KNOWN = {
    "xcpd": ("bids", "timeseries", False, "xcp_d 0.7.3"),
    "xcpd_old": ("bids", "correlation", False, ""),
    "xcpd_cifti": ("bids", "timeseries", False, ""),
    "giga_connectome": ("bids", "correlation", False, "giga_connectome 0.5.0"),
    "cpac": ("bids", "correlation", False, ""),
    "qsirecon": ("bids", "streamline count", False, ""),
    "hcp": ("cifti", "correlation", True, ""),
    "conn": ("conn", "correlation", True, "CONN"),
    "conn_all_subjects": ("conn", "correlation", True, "CONN"),
    "dpabi": ("dpabi", "correlation", True, "DPABI"),
    "gretna": ("gretna", "correlation", False, "GRETNA"),
    "population_gcn": ("population_gcn", "correlation", True, "population-gcn"),
    "mrtrix": ("bids", "log streamline count", False, ""),
    "graphml": ("bids", "streamline count", False, ""),
    "edge_list": ("graphs", "streamline count", False, ""),
    "brainnet_viewer": ("brainnet_viewer", "correlation", False, "BrainNet Viewer"),
    "braingb": ("graph_dictionary", "timeseries", False, ""),
    "ptgb": ("graph_dictionary", "adjacency", False, ""),
    "braingfm": ("graph_dictionary", "correlation", False, ""),
    "plain_series": ("timeseries", "timeseries", False, ""),
    "plain_matrices": ("matrices", "correlation", False, ""),
}


def said(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", KNOWN)
def test_from_files_to_a_saved_cohort(name, write_layout, tmp_path, capsys):
    folder, words = write_layout(name)
    recognised, kind, fisher_z, pipeline = KNOWN[name]
    without_atlas = [word for word in words if not word.startswith(("--atlas", "sim20="))]
    assert main(["validate", str(folder), *without_atlas, "--json", "--quiet"]) == 0
    looked = said(capsys)
    assert looked["recognised"] == recognised
    atlas = [] if "--atlas" in words or name == "brainnet_viewer" else ["--atlas", "simulated20"]
    if name != "qsirecon":  # two atlases in a file: one has to be named
        assert looked["n_subjects"] == 4
        assert looked["complete"] == (name == "brainnet_viewer")
        assert any("20 regions" in advice for advice in looked["advice"]) != looked["complete"]
    assert main(["build", str(folder), *words, *atlas, "--out", str(tmp_path / "cohort"), "--json", "--quiet"]) == 0
    built = said(capsys)
    cohort = Cohort.load(tmp_path / "cohort")
    assert (len(cohort), built["n_subjects"], built["complete"]) == (4, 4, True)
    [data] = cohort.regions.values()
    assert len(data.atlas) == 20
    assert (data.provenance.kind, data.provenance.fisher_z, data.provenance.pipeline) == (kind, fisher_z, pipeline)
    assert data.provenance.source in (recognised, "matrices", "timeseries")
    if kind == "timeseries":
        assert data.provenance.n_timepoints == (30, 30)
    else:
        assert data.provenance.diagonal


@pytest.mark.parametrize("name", KNOWN)
def test_the_screen_says_what_was_found_and_what_to_do(name, write_layout, capsys):
    folder, _ = write_layout(name)
    assert main(["validate", str(folder)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Recognised as {KNOWN[name][0]}: ")
    assert f"\nPath          {folder}\n" in text
    assert "To do: " in text
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("giga_connectome", "several: denoiseSimple, scrubbing5. Choose with --select desc-denoiseSimple"),
        ("conn", "(cond: 001, 002). Choose with --select cond-001, or keep all of them with --repeats group"),
        ("qsirecon", "Expected one matrix a scan, found 2 in each file: radius2_count, radius2_meanlength. Name the one to read with --variable …"),
        ("graphml", "for Fisher z, or --kind … with one of"),
    ],
)
def test_what_only_the_user_can_decide_is_asked_for(name, words, write_layout, capsys):
    folder, _ = write_layout(name)
    if name == "graphml":
        for path in folder.iterdir():
            path.write_text(path.read_text().replace(".0</data>", ".5</data>"))
    atlas = ["--atlas", "sim20=simulated20"] if name == "qsirecon" else ["--atlas", "simulated20"]
    assert main(["validate", str(folder), *atlas, "--json"]) == 0
    record = said(capsys)
    assert not record["complete"]
    assert words in record["advice"][0]
    assert main(["build", str(folder), *atlas, "--out", str(folder.parent / "cohort")]) == 2
    assert words in capsys.readouterr().err
    assert not (folder.parent / "cohort").exists()


def test_a_single_file_is_a_path_too(write_layout, atlas, tmp_path):
    folder, _ = write_layout("braingb")
    assert recognise(folder / "abide.npy").name == "graph_dictionary"
    assert len(load_source(folder / "abide.npy", atlases=[atlas])) == 4
    matrices, _ = write_layout("plain_matrices")
    assert recognise(matrices / "01.csv").name == "matrices"
    assert load_source(matrices / "01.csv", atlases=[atlas]).ids == ["01"]


def test_a_saved_cohort_needs_no_atlas(make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=4)
    assert load_source(cohort.save(tmp_path / "saved")).hash == cohort.hash


def test_options_that_do_not_apply_are_refused(make_cohort, tmp_path, write_layout, atlas):
    saved = make_cohort(n_subjects=4).save(tmp_path / "saved")
    with pytest.raises(ConfigError, match="Expected options that apply to a saved cohort, found target. Leave them out"):
        load_source(saved, target="age")
    folder, _ = write_layout("plain_series")
    with pytest.raises(ConfigError, match="Expected one atlas for a folder of time series, found 2"):
        load_source(folder, atlases=[atlas, atlas])


def test_graphs_of_pytorch_geometric_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "processed").mkdir()
    (tmp_path / "processed" / "data.pt").write_bytes(b"PK")
    assert recognise(tmp_path).name == "pyg"
    with pytest.raises(DataError, match=r"found objects of PyTorch Geometric \(data\.pt\), which are pickled and never read.*convert it where"):
        load_source(tmp_path)


def test_nothing_and_nothing_known(tmp_path):
    with pytest.raises(DataError, match="Expected a folder or a file at .*none, found nothing"):
        recognise(tmp_path / "none")
    (tmp_path / "scan.raw").write_text("x")
    with pytest.raises(DataError, match=r"Expected files with one of the endings \.1D, .* found none"):
        recognise(tmp_path)
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"Expected an array in .*a\.npy, found an empty file"):
        recognise(tmp_path)


def test_files_of_several_sizes_are_several_atlases(tmp_path, atlas):
    for size in (20, 30):
        for subject in "ab":
            np.savetxt(tmp_path / f"{subject}_{size}.csv", np.eye(size), delimiter=",")
    with pytest.raises(
        ChoiceError, match=r"one size, found 20 × 20 in 2 files such as a_20\.csv; 30 × 30 in 2 files .*pattern=…, such as '\*a_20\.csv'"
    ):
        load_source(tmp_path, atlases=[atlas])


def test_one_odd_size_is_a_mistake(tmp_path, atlas):
    for subject, size in (("a", 20), ("b", 20), ("c", 19)):
        np.savetxt(tmp_path / f"{subject}.csv", np.ones((size, size)), delimiter=",")
    with pytest.raises((DataError, AtlasError), match=r"c\.csv: Expected 20 regions .* found 19"):
        load_source(tmp_path, atlases=[atlas])


def test_names_are_unique():
    names = [layout.name for layout in LAYOUTS]
    assert len(set(names)) == len(names)


def spoil(path):
    path.write_bytes(path.read_bytes()[: max(len(path.read_bytes()) // 3, 1)])


@pytest.mark.parametrize("name", ["cpac", "xcpd_old", "xcpd_cifti", "qsirecon", "hcp", "conn", "graphml", "braingb", "ptgb"])
def test_damaged_files_end_with_one_sentence_and_no_cohort(name, write_layout, capsys):
    folder, words = write_layout(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json" and path.name != "participants.tsv")
    spoil(files[0])
    atlas = [] if "--atlas" in words else ["--atlas", "simulated20"]
    assert main(["build", str(folder), *words, *atlas, "--out", str(folder.parent / "cohort")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert files[0].name in lines[0]
    assert "Traceback" not in lines[0]
    assert {path.name for path in folder.parent.iterdir()} == {name}


def test_series_whose_first_numbers_are_alike_are_series(tmp_path):
    np.savetxt(tmp_path / "one.csv", np.ones((12, 4)), delimiter=",")
    assert recognise(tmp_path / "one.csv").name == "timeseries"
