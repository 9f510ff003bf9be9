"""All subjects in one file, in the keys and shapes of the projects that write them."""

import numpy as np
import pytest

from graphssl.data import Atlas
from graphssl.datasets import load_graph_dictionary
from graphssl.datasets.graph_dictionary import atlas_of_dictionary, is_dictionary, read_dictionary
from graphssl.datasets.listing import list_files
from graphssl.errors import AtlasError, ChoiceError, ConfigError, DataError

N, R, T = 5, 6, 40
ATLAS = Atlas("six", np.arange(1, R + 1), ("",) * R, np.zeros((R, 3)), ("",) * R)
SERIES = np.random.default_rng(0).normal(size=(N, R, T))
CORRELATION = np.stack([np.corrcoef(series) for series in SERIES])
FISHER = np.arctanh(np.where(np.eye(R, dtype=bool), 0.0, CORRELATION * 0.99))
FISHER *= 1.4 / np.abs(FISHER).max()


def save(path, content):
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


@pytest.mark.parametrize("key", ["timeseires", "timeseries"])
def test_braingb(tmp_path, key):
    sites = np.array(["NYU", "NYU", "UM_1", "UM_1", "UM_1"])
    path = save(tmp_path / "abide.npy", {key: SERIES, "corr": FISHER, "pcorr": CORRELATION, "label": np.array([0, 1, 0, 1, 1]), "site": sites})
    cohort = load_graph_dictionary(path, atlas=ATLAS, pipeline="cpac")
    assert (cohort.name, cohort.ids) == ("abide", ["0000", "0001", "0002", "0003", "0004"])
    assert cohort.subjects["label"].tolist() == ["0", "1", "0", "1", "1"]
    assert cohort.sites.tolist() == sites.tolist()
    data = cohort.regions["six"]
    np.testing.assert_allclose(data.values["0003"], SERIES[3].T, rtol=1e-6)
    assert (data.provenance.kind, data.provenance.n_timepoints, data.provenance.pipeline) == ("timeseries", (T, T), "cpac")
    assert cohort.excluded["id"].tolist() == ["corr", "pcorr"]


def test_r_and_z_are_told_apart(tmp_path):
    path = save(tmp_path / "a.npy", {"corr": FISHER, "pcorr": CORRELATION})
    told = {key: load_graph_dictionary(path, atlas=ATLAS, variable=key).regions["six"].provenance for key in ("corr", "pcorr")}
    assert (told["corr"].kind, told["corr"].fisher_z, told["corr"].diagonal) == ("correlation", True, "zero")
    assert (told["pcorr"].kind, told["pcorr"].fisher_z, told["pcorr"].diagonal) == ("partial correlation", False, "one")
    with pytest.raises(DataError, match=r"Expected correlations within \[-1, 1\]"):
        load_graph_dictionary(path, atlas=ATLAS, variable="corr", fisher_z=False)


def test_a_mixture_of_r_and_z_is_refused(tmp_path):
    mixed = CORRELATION.copy()
    mixed[2] = np.arctanh(np.where(np.eye(R, dtype=bool), 1.0, CORRELATION[2] * 0.5).clip(-1, 1 - 1e-16))
    mixed[2][np.eye(R, dtype=bool)] = np.inf
    with pytest.raises(DataError, match=r"ones on the diagonal of subject 0000 \(correlations\) and infinity on that of subject 0002"):
        load_graph_dictionary(save(tmp_path / "a.npy", {"corr": mixed}), atlas=ATLAS)


@pytest.mark.parametrize("labels", [[-1, 1, -1, 1, 1], [[-1], [1], [-1], [1], [1]], [-1.0, 1.0, -1.0, 1.0, 1.0]])
def test_ptgb(tmp_path, labels):
    counts = np.abs(np.rint(CORRELATION * 100))
    cohort = load_graph_dictionary(save(tmp_path / "BP.npy", {"adj": counts, "feat": counts, "label": np.array(labels)}), atlas=ATLAS)
    assert cohort.subjects["label"].tolist() == ["-1", "1", "-1", "1", "1"]
    assert cohort.schema["label"].categories == ("-1", "1")
    assert cohort.regions["six"].provenance.kind == "adjacency"


def test_braingfm(tmp_path):
    stored = np.empty(N, dtype=object)
    stored[:] = [{"node_feat": CORRELATION[k], "label": k % 2} for k in range(N)]
    np.save(tmp_path / "a.npy", stored, allow_pickle=True)
    cohort = load_graph_dictionary(tmp_path, atlas=ATLAS)
    assert cohort.subjects["label"].tolist() == ["0", "1", "0", "1", "0"]
    np.testing.assert_allclose(cohort.regions["six"].values["0004"], CORRELATION[4], rtol=1e-6)


def test_scans_of_several_lengths_and_the_same_arrays_in_npz(tmp_path):
    ragged = [SERIES[k][:, : 20 + k] for k in range(N)]
    cohort = load_graph_dictionary(save(tmp_path / "a.npy", {"timeseries": ragged}), atlas=ATLAS)
    assert cohort.regions["six"].provenance.n_timepoints == (20, 24)
    np.savez(tmp_path / "b.npz", corr=FISHER, label=np.arange(N) % 2)
    assert load_graph_dictionary(tmp_path / "b.npz", atlas=ATLAS).subjects["label"].tolist() == ["0", "1", "0", "1", "0"]


def test_regions_and_subjects_without_a_signal(tmp_path):
    matrices = CORRELATION.copy()
    matrices[1, 2], matrices[1, :, 2], matrices[3] = 0, 0, 0
    path = save(tmp_path / "a.npy", {"corr": matrices})
    cohort = load_graph_dictionary(path, atlas=ATLAS)
    assert cohort.ids == ["0000", "0001", "0002", "0004"]
    assert ["subject", "0003", "no region of six has a signal"] in cohort.excluded.to_numpy().tolist()
    assert cohort.regions["six"].observed["0001"].tolist() == [True, True, False, True, True, True]
    with pytest.raises(DataError, match="constant or NaN regions in 2 of 5 subjects"):
        load_graph_dictionary(path, atlas=ATLAS, missing_regions="error")


def test_what_is_such_a_file(tmp_path):
    def fits(path):
        return is_dictionary(list_files(path))

    assert fits(save(tmp_path / "a.npy", {"corr": FISHER}))
    assert fits(tmp_path)
    np.savez(tmp_path / "b.npz", corr=FISHER, label=np.zeros(N))
    assert fits(tmp_path / "b.npz")
    assert fits(tmp_path), "one of several has to be named"
    (tmp_path / "a.npy").rename(tmp_path / "z.npy")
    np.savez(tmp_path / "a.npz", series=FISHER[0], label=1)
    assert not fits(tmp_path), "archives of one subject each are a folder of scans"
    np.savez(tmp_path / "c.npz", series=FISHER)
    assert not fits(tmp_path / "c.npz")
    np.save(tmp_path / "d.npy", FISHER)
    assert not fits(tmp_path / "d.npy")
    (tmp_path / "e.npz").write_bytes(b"PK")
    assert not fits(tmp_path / "e.npz")
    assert len(atlas_of_dictionary(list_files(tmp_path / "z.npy"))) == R


def test_what_is_refused(tmp_path, write_malicious):
    path = save(tmp_path / "a.npy", {"graphs": FISHER, "flat": np.zeros(3), "label": np.zeros(2)})
    with pytest.raises(ChoiceError, match="Expected one of the arrays timeseires, .* found graphs, flat, label. Name the one to read with variable="):
        load_graph_dictionary(path, atlas=ATLAS)
    with pytest.raises(ChoiceError, match="Expected to know what 'graphs' holds, found no kind"):
        load_graph_dictionary(path, atlas=ATLAS, variable="graphs")
    with pytest.raises(ChoiceError, match="Expected the array 'x' in .*, found graphs, flat, label"):
        load_graph_dictionary(path, atlas=ATLAS, variable="x")
    with pytest.raises(DataError, match=r"Expected 'flat' in .* as \[subjects, regions, …\], found float64 of shape \(3,\)"):
        load_graph_dictionary(path, atlas=ATLAS, variable="flat", kind="adjacency")
    with pytest.raises(DataError, match=r"Expected one label a subject in .*, found shape \(2,\) for 5 subjects"):
        load_graph_dictionary(path, atlas=ATLAS, variable="graphs", kind="adjacency")
    with pytest.raises(ConfigError, match="Expected missing_regions to be one of"):
        load_graph_dictionary(path, atlas=ATLAS, missing_regions="drop")
    with pytest.raises(AtlasError, match="Expected 3 regions of atlas 'six' .* found 6"):
        load_graph_dictionary(save(tmp_path / "b.npy", {"corr": FISHER}), atlas=ATLAS.select([1, 2, 3]))
    with pytest.raises(DataError, match=r"Expected one \.npy or \.npz file at .*, found a\.npy, b\.npy\. Give one file"):
        load_graph_dictionary(tmp_path, atlas=ATLAS)
    with pytest.raises(DataError, match="Expected a dictionary of arrays, or a list of dictionaries, in .*, found list"):
        read_dictionary(save(tmp_path / "c.npy", [1, 2]))
    (tmp_path / "d.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="Expected arrays in .*, found a file that cannot be read"):
        read_dictionary(tmp_path / "d.npz")
    write_malicious(tmp_path / "e.npy", tmp_path / "victim")
    with pytest.raises(DataError, match="which is never constructed"):
        load_graph_dictionary(tmp_path / "e.npy", atlas=ATLAS)
    assert not (tmp_path / "victim").exists()
