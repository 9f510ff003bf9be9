"""Converting between atlases from the command line: what is written and can be read back, what is said of it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphssl.atlases import AtlasConverter, AtlasMap, load_atlas, load_label_volume
from graphssl.cli import main
from graphssl.data import Cohort, Provenance, RegionData
from graphssl.datasets import load_matrices, load_timeseries, read_array

ATLASES = ("--from", "coarse.nii.gz", "--to", "fine.nii.gz")
N_COARSE, N_FINE = 12, 32


@pytest.fixture
def folder(tmp_path, monkeypatch, volumes):
    """The working directory of the test, with two label volumes and one scan in coarse, as C-PAC and as XCP-D write it."""
    monkeypatch.chdir(tmp_path)
    series = made_series(1)
    labels = range(10, 10 * N_COARSE + 1, 10)
    np.savetxt("scan.1D", series, fmt="%.6f", delimiter="\t", header="\t".join(f"#{label}" for label in labels)[1:], comments="#")
    pd.DataFrame(series, columns=list(map(str, labels))).to_csv("scan.tsv", sep="\t", index=False, float_format="%.6f")
    return tmp_path


def made_series(seed, n_regions=N_COARSE, n_timepoints=40):
    rng = np.random.default_rng(seed)
    return 100 + rng.standard_normal((n_timepoints, 4)) @ rng.standard_normal((4, n_regions)) + rng.standard_normal((n_timepoints, n_regions))


def save_cohort(name, n_subjects=6, atlases=("coarse",), kind="timeseries", fisher_z=False):
    """A cohort folder; series of fine are the overlap's of those of coarse, and noise."""
    regions, ids = {}, [f"s{k}" for k in range(n_subjects)]
    coarse, fine = (load_label_volume(f"{atlas}.nii.gz") for atlas in ("coarse", "fine"))
    there = AtlasConverter(coarse, fine).fit().map_.weights
    for atlas in atlases:
        values = {subject: made_series(10 + k) for k, subject in enumerate(ids)}
        if atlas == "fine":
            noise = np.random.default_rng(5)
            values = {s: (v - 100) @ there.T + 0.3 * noise.standard_normal((40, N_FINE)) for s, v in values.items()}
        if kind != "timeseries":
            values = {s: np.corrcoef(v.T) for s, v in values.items()}
            values = {s: np.arctanh(np.clip(v, -0.999999, 0.999999)) if fisher_z else v for s, v in values.items()}
        regions[atlas] = RegionData((coarse if atlas == "coarse" else fine).atlas, values, Provenance(kind, fisher_z))
    whole = Cohort.from_arrays(list(regions[atlases[0]].values.values()), regions[atlases[0]].atlas, kind=kind, fisher_z=fisher_z, ids=ids)
    Cohort(name, whole.subjects, whole.schema, regions).save(name)
    return Cohort.load(name)


def convert(capsys, *words):
    assert main(["convert-atlas", *map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def said(capsys, *words):
    assert main(["convert-atlas", *map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys, *words):
    """The sentence of a refusal: exit code 2, one line on stderr, nothing new on the disk."""
    before = sorted(map(str, Path().rglob("*")))
    assert main(["convert-atlas", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sorted(map(str, Path().rglob("*"))) == before
    return line.removeprefix("graphssl: ")


def expected_means(values, volumes):
    """Each fine region as the mean over its voxels of the coarse region each lies in, in loops."""
    found = np.full((len(values), N_FINE), np.nan)
    for column, label in enumerate(range(10, 10 * N_FINE + 1, 10)):
        inside = [owner for owner in volumes["coarse"][volumes["fine"] == label].tolist() if owner]
        if inside:
            found[:, column] = np.mean([values[:, owner // 10 - 1] for owner in inside], axis=0)
    return found


@pytest.mark.parametrize(
    ("scan", "out"), [("scan.1D", "moved.1D"), ("scan.tsv", "below/moved.tsv"), ("scan.tsv", "moved.csv"), ("scan.1D", "moved.npy")]
)
def test_one_file_becomes_one_file(folder, volumes, capsys, scan, out):
    record = convert(capsys, *ATLASES, scan, "--out", out)
    values, columns = read_array(out)
    np.testing.assert_allclose(values, expected_means(read_array(scan)[0].astype(float), volumes), rtol=1e-5)
    assert columns == (None if out.endswith("npy") else tuple(map(str, range(10, 10 * N_FINE + 1, 10))))
    assert (record["method"], record["n_subjects"], record["not_served"]) == ("overlap", 1, [10])
    assert record["written"] == out
    assert record["report"] == str(Path(out).with_name("moved_report") / "report.html")
    assert 0 < record["round_trip"]["r"] <= 1
    assert record["coverage"]["median"] == 1
    assert record["expected_error_from"] == "from coverage"


def test_what_was_written_is_read_by_the_readers_of_cohorts(folder, capsys):
    convert(capsys, *ATLASES, "scan.1D", "--out", "made/scan.tsv")
    cohort = load_timeseries("made/scan.tsv", atlas=load_atlas("fine.nii.gz"), missing_regions="mask")
    assert (~cohort.regions["fine"].observed["scan"]).nonzero()[0].tolist() == [0]
    record = convert(capsys, "--from", "fine.nii.gz", "--to", "coarse.nii.gz", "made/scan.tsv", "--out", "back.tsv")
    assert record["remarks"]["Without signal"].startswith("1 source region in 1 of 1 subject")
    before, after = read_array("scan.1D")[0], read_array("back.tsv")[0]
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.5


def test_matrices_stay_what_they_are(folder, capsys):
    matrix = np.corrcoef(made_series(2).T)
    z = np.arctanh(np.where(np.eye(N_COARSE), 1 - 1e-9, matrix))
    np.fill_diagonal(z, np.inf)
    for name, values in (("r", matrix), ("z", z)):
        np.savetxt(f"{name}.tsv", values, delimiter="\t")
        convert(capsys, *ATLASES, f"{name}.tsv", "--out", f"fine_{name}.tsv")
    r, z = read_array("fine_r.tsv")[0][1:, 1:], read_array("fine_z.tsv")[0][1:, 1:]
    assert np.isinf(z.diagonal()).all()
    np.testing.assert_allclose(np.tanh(z), r, atol=2e-5)
    cohort = load_matrices("fine_z.tsv", atlas=load_atlas("fine.nii.gz"), fisher_z=True, missing_regions="mask")
    assert (~cohort.regions["fine"].observed["fine_z"]).sum() == 1


def test_counts_of_streamlines_keep_their_sum(folder, volumes, capsys):
    counts = np.triu(np.random.default_rng(0).poisson(9, (N_COARSE, N_COARSE)), 1)
    np.savetxt("fibres.csv", counts + counts.T, delimiter=",", fmt="%d")
    said_of = convert(capsys, *ATLASES, "fibres.csv", "--out", "moved.csv")
    # A region of coarse lies wholly in regions of fine, and fibres within one region are no connection.
    assert 0.8 * 2 * counts.sum() < np.nansum(read_array("moved.csv")[0]) <= 2 * counts.sum()
    assert said_of["method"] == "overlap"


def test_a_cohort_becomes_a_cohort_with_its_report(folder, capsys):
    cohort = save_cohort("both")
    text = said(capsys, *ATLASES, "both", "--out", "moved")
    moved = Cohort.load("moved")
    expected = AtlasConverter("coarse.nii.gz", "fine.nii.gz").fit().transform(cohort)
    assert moved.hash == expected.hash
    assert list(moved.regions) == ["fine"]
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith(("Not ", "Worst ", "Round ", "Written ")))
    assert lines["Converted"] == "6 subjects, time series, from coarse (12 regions) to fine (32 regions)"
    assert "Not served      1 region cannot be served, NaN and masked: fine-10" in text
    assert lines["Volumes"] == "one grid"
    assert "median of 6 subjects" in text
    regions = pd.read_csv("moved/report/regions.csv")
    assert regions["label"].tolist() == list(range(10, 10 * N_FINE + 1, 10))
    assert regions["served"].tolist() == [False] + [True] * (N_FINE - 1)
    assert pd.isna(regions["largest_source"][0])
    assert (Path("moved/report/report.html").read_text(encoding="utf-8")).startswith("<!DOCTYPE html>")
    assert moved.excluded["reason"].tolist() == ["1 of 32 regions of fine without signal: 10"] * 6
    kept = convert(capsys, *ATLASES, "both", "--out", "moved", "--keep")
    assert sorted(Cohort.load("moved").regions) == ["coarse", "fine"]
    assert kept["written"] == "moved"


def test_a_folder_of_files_with_its_table(folder, capsys):
    (folder / "scans").mkdir()
    for k in range(3):
        np.savetxt(f"scans/sub-{k}.csv", made_series(k), delimiter=",")
    pd.DataFrame({"participant_id": ["0", "1", "2"], "age": [20, 30, 40]}).to_csv("scans/participants.tsv", sep="\t", index=False)
    convert(capsys, *ATLASES, "scans", "--out", "moved", "--covariates", "[age]")
    moved = Cohort.load("moved")
    assert (moved.ids, moved.schema["age"].role) == (["0", "1", "2"], "covariate")
    one = np.load("moved/fine.npz")["values"][:40]
    convert(capsys, *ATLASES, "scans/sub-0.csv", "--out", "alone.npy")
    np.testing.assert_array_equal(np.load("alone.npy"), one)


def test_a_region_without_signal_is_done_without(folder, capsys):
    series = made_series(3)
    series[:, 4] = 0.0
    np.savetxt("flat.csv", series, delimiter=",")
    record = convert(capsys, *ATLASES, "flat.csv", "--out", "moved.csv")
    assert record["remarks"]["Without signal"].startswith("1 source region in 1 of 1 subject; the others stand in")
    assert np.isfinite(read_array("moved.csv")[0]).any(axis=0).sum() >= N_FINE - 4
    assert "missing_regions mask" in refused(capsys, *ATLASES, "flat.csv", "--out", "again.csv", "--missing_regions", "error")


def test_learned_saved_applied_and_chained(folder, capsys):
    save_cohort("both", n_subjects=12, atlases=("coarse", "fine"))
    cohort = save_cohort("new", n_subjects=4)
    record = convert(capsys, *ATLASES, "new", "--out", "moved", "--fit", "both", "--save_map", "maps/there")
    assert (record["method"], record["map"]) == ("joint", "maps/there.safetensors")
    assert record["expected_error_from"] == "held-out subjects, 12 in 5 folds"
    assert record["remarks"]["Learned from"] == "12 subjects of both with both atlases"
    assert record["remarks"]["Same people"].startswith("4 of the 4 converted")
    again = convert(capsys, "--map", "maps/there.safetensors", *ATLASES, "new", "--out", "again")
    assert Cohort.load("again").hash == Cohort.load("moved").hash
    assert again["method"] == "joint (from maps/there.safetensors)"
    ridge = convert(capsys, *ATLASES, "new", "--out", "ridge", "--fit", "both", "--method", "ridge", "--options", '{"penalty": 0.5}')
    assert ridge["coverage"] is not None
    convert(capsys, "--from", "fine.nii.gz", "--to", "coarse.nii.gz", "moved", "--out", "returned", "--save_map", "maps/back")
    chained = convert(capsys, "--map", "[maps/there.safetensors, maps/back.safetensors]", "scan.tsv", "--out", "home.tsv")
    assert chained["expected_error"] is None
    product = AtlasMap.load("maps/there.safetensors").then(AtlasMap.load("maps/back.safetensors"))
    series = read_array("scan.tsv")[0]
    z = (series - series.mean(axis=0)) / series.std(axis=0)
    np.testing.assert_allclose(read_array("home.tsv")[0], z @ product.weights.T, atol=1e-4)
    assert cohort.ids == Cohort.load("moved").ids


def test_without_voxels_geometry_stands_in_and_is_marked(folder, capsys):
    np.savetxt("scan20.csv", made_series(4, 20), delimiter=",")
    text = said(capsys, "--from", "simulated20", "--to", "simulated30", "scan20.csv", "--out", "moved.csv")
    assert "Method          geometry\nVolumes         balls around centroids\nCoverage        not known" in text
    assert "from the spatial model" in text
    assert read_array("moved.csv")[0].shape == (40, 30)


def test_parameters_of_geometry_come_from_a_cohort(folder, capsys):
    save_cohort("training")
    record = convert(capsys, *ATLASES, "scan.1D", "--out", "moved.1D", "--fit", "training", "--method", "geometry")
    assert record["remarks"] == {"Learned from": "6 subjects of training, parameters only"}


def test_matrices_that_are_not_definite_are_said_and_repaired(folder, capsys):
    cohort = save_cohort("matrices", kind="correlation")
    odd = np.array(cohort.regions["coarse"].values["s0"])
    odd[0, 1] = odd[1, 0] = odd[0, 2] = odd[2, 0] = 0.95
    odd[1, 2] = odd[2, 1] = -0.95
    np.savetxt("odd.csv", odd, delimiter=",")
    left = convert(capsys, "--from", "coarse.nii.gz", "--to", "coarse=coarse.nii.gz", "odd.csv", "--out", "left.csv")
    assert (
        left["remarks"]["Not definite"]
        == "1 of 1 converted matrices are not positive semi-definite: left as they are (--repair gives the nearest that are)"
    )
    mended = convert(capsys, "--from", "coarse.nii.gz", "--to", "coarse=coarse.nii.gz", "odd.csv", "--out", "mended.csv", "--repair")
    assert mended["remarks"]["Not definite"].endswith("replaced by the nearest that are")
    assert np.linalg.eigvalsh(read_array("left.csv")[0])[0] < -0.1
    assert np.linalg.eigvalsh(read_array("mended.csv")[0].astype(float))[0] > -1e-5


def test_the_same_command_writes_the_same_bytes(folder, capsys):
    found = []
    for _ in range(2):
        convert(capsys, *ATLASES, "scan.1D", "--out", "moved.tsv")
        found.append({path.name: path.read_bytes() for path in [Path("moved.tsv"), *sorted(Path("moved_report").iterdir())]})
        Path("moved.tsv").unlink()
    assert found[0] == found[1]
    assert sorted(found[0]) == ["moved.tsv", "regions.csv", "report.html"]


def test_options_that_do_not_go_together_are_refused(folder, capsys):
    assert "found no --to" in refused(capsys, "--from", "coarse.nii.gz", "scan.1D", "--out", "x.1D")
    assert "found --map and --method" in refused(capsys, "--map", "m", "--method", "ridge", "scan.1D", "--out", "x.1D")
    assert "needs volumes only" in refused(capsys, *ATLASES, "--fit", "both", "--method", "overlap", "scan.1D", "--out", "x.1D")
    assert "method to be one of overlap, geometry, " in refused(capsys, *ATLASES, "--method", "magic", "scan.1D", "--out", "x.1D")
    assert "found ['penalty']" in refused(capsys, *ATLASES, "--options", '{"penalty": 1}', "scan.1D", "--out", "x.1D")
    words = ("--from", "coarse.nii.gz", "--to", "power264", "--method", "overlap")
    assert "found only centroids of 'power264'" in refused(capsys, *words, "scan.1D", "--out", "x.1D")
    assert "found x.1D to write" in refused(capsys, *ATLASES, "--keep", "scan.1D", "--out", "x.1D")
    assert "Did you mean 'from'?" in refused(capsys, "--form", "coarse.nii.gz", "--to", "fine.nii.gz", "scan.1D", "--out", "x.1D")
    assert "apply to one file, found target" in refused(capsys, *ATLASES, "scan.1D", "--out", "x.1D", "--target", "age")


def test_places_that_are_read_or_taken_are_not_written_to(folder, capsys):
    save_cohort("both")
    Path("taken.tsv").write_text("mine")
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    assert "Expected no file at taken.tsv yet, found one" in refused(capsys, *ATLASES, "scan.1D", "--out", "taken.tsv")
    assert "Expected another place" in refused(capsys, *ATLASES, "both", "--out", "both/moved")
    assert "Expected another place" in refused(capsys, *ATLASES, "both", "--out", "both")
    assert "to hold both" in refused(capsys, *ATLASES, "both", "--out", ".")
    assert "found other files" in refused(capsys, *ATLASES, "both", "--out", "full")
    assert "endings .1D" in refused(capsys, *ATLASES, "scan.1D", "--out", "fine.xlsx")
    assert "found 6 subjects" in refused(capsys, *ATLASES, "both", "--out", "x.tsv")
    assert "would be read as the names of the regions of fine.nii.gz" in refused(capsys, *ATLASES, "scan.1D", "--out", "fine.csv")
    assert "found the file taken.tsv" in refused(capsys, *ATLASES, "both", "--out", "taken.tsv/moved")
    assert Path("taken.tsv").read_text() == "mine"


def test_data_that_do_not_fit_are_refused(folder, capsys):
    save_cohort("both", atlases=("coarse", "fine"))
    save_cohort("other", atlases=("fine",))
    np.savetxt("odd.csv", made_series(0, 11), delimiter=",")
    np.savetxt("flat.csv", np.ones((40, N_COARSE)), delimiter=",")
    np.savetxt("odd_matrix.csv", np.corrcoef(made_series(0, 11).T), delimiter=",")
    partial = np.linalg.inv(np.corrcoef(made_series(0).T))
    np.savetxt("precision.csv", partial, delimiter=",")
    assert "Expected 12 regions of atlas 'coarse', found 11" in refused(capsys, *ATLASES, "odd.csv", "--out", "x.csv")
    assert "found 11" in refused(capsys, *ATLASES, "odd_matrix.csv", "--out", "x.csv")
    assert "a signal in some region" in refused(capsys, *ATLASES, "flat.csv", "--out", "x.csv")
    assert "it belongs to its regions" in refused(capsys, *ATLASES, "precision.csv", "--kind", "precision", "--out", "x.csv")
    assert "found nothing" in refused(capsys, *ATLASES, "nowhere", "--out", "moved")
    assert "found fine (32 regions). Name one of these --from" in refused(capsys, *ATLASES, "other", "--out", "moved")
    assert "no data in 'fine' yet" in refused(capsys, *ATLASES, "both", "--out", "moved")
    assert "data in 'coarse', found none" in refused(capsys, *ATLASES, "--method", "joint", "scan.1D", "--out", "x.1D")
    assert "with the 32 labels of atlas 'fine', found 12 columns" in refused(
        capsys, "--from", "fine.nii.gz", "--to", "coarse.nii.gz", "scan.1D", "--out", "x.1D"
    )


def test_volumes_that_do_not_fit_are_refused(folder, volumes, write_volume, capsys):
    moved = np.array([[10.0, 0, 0, -55], [0, 10, 0, 20], [0, 0, 10, 30], [0, 0, 0, 1]])
    bare = np.diag([10.0, 10, 10, 1])
    write_volume(folder / "moved.nii.gz", volumes["fine"], moved)
    write_volume(folder / "bare.nii.gz", volumes["fine"], bare)
    write_volume(folder / "sided.nii.gz", volumes["fine"])
    names = {str(label): f"Area {'R' if place < 16 else 'L'} {label}" for place, label in enumerate(range(10, 10 * N_FINE + 1, 10))}
    (folder / "sided.json").write_text(json.dumps(names))
    words = ("--from", "coarse.nii.gz", "scan.1D", "--out", "x.1D", "--to")
    assert "has no origin" in refused(capsys, *words, "bare.nii.gz")
    assert "The volume is mirrored" in refused(capsys, *words, "sided.nii.gz")
    assert "'coarse' and 'moved' in one space" in refused(capsys, *words, "moved.nii.gz")


def test_a_map_of_other_labels_of_one_name_is_refused(folder, volumes, write_volume, capsys):
    convert(capsys, *ATLASES, "scan.1D", "--out", "moved.1D", "--save_map", "there")
    (folder / "other").mkdir()
    write_volume(folder / "other" / "coarse.nii.gz", np.where(volumes["coarse"] == 120, 121, volumes["coarse"]))
    assert "found 12 regions (hash" in refused(capsys, "--map", "there.safetensors", "--from", "other/coarse.nii.gz", "scan.1D", "--out", "x.1D")
    cohort = save_cohort("both")
    atlas = load_atlas("other/coarse.nii.gz")
    data = RegionData(atlas, cohort.regions["coarse"].values, Provenance("timeseries"))
    Cohort("strange", cohort.subjects, cohort.schema, {"coarse": data}).save("strange")
    assert f"hash {atlas.hash}" in refused(capsys, "--map", "there.safetensors", "strange", "--out", "moved")
    assert "Expected atlas 'fine' with 32 regions" in refused(capsys, "--map", "[there.safetensors, there.safetensors]", "scan.1D", "--out", "x.1D")
    Path("there.safetensors").write_bytes(Path("there.safetensors").read_bytes()[:200])
    assert "truncated" in refused(capsys, "--map", "there.safetensors", "scan.1D", "--out", "x.1D")


@pytest.mark.shared_data
def test_a_real_scan_from_cc200_to_ho111(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    brain = shared_data / "brain"
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(brain / "atlases" / "nifti_pcp_3mm"))
    scans = sorted((brain / "abide1" / "pcp_layout" / "cpac").rglob("*_rois_cc200.1D"))
    record = convert(capsys, "--from", "cc200", "--to", "ho111", scans[0], "--out", "moved.1D")
    assert (record["n_source_regions"], record["n_target_regions"], record["not_served"]) == (200, 111, [])
    values, columns = read_array("moved.1D")
    assert columns == tuple(map(str, load_atlas("ho111").labels.tolist()))
    assert values.shape == (len(read_array(scans[0])[0]), 111)
    assert 0.5 < record["round_trip"]["r"] < 1
