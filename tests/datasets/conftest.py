"""Tiny data sets in the layouts of the field, written as the tools write them: names, headers and keys as in the wild."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import networkx as nx
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from graphssl.atlases import load_atlas
from graphssl.data import Atlas

N_REGIONS, N_TIMEPOINTS = 20, 30
SUBJECTS = ("01", "02", "03", "04")


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """The atlas of all written files; the command line knows it as `simulated20`."""
    return load_atlas("simulated20")


def series_of(subject: str, n_timepoints: int = N_TIMEPOINTS) -> np.ndarray:
    """Series `[T, R]` of a subject."""
    rng = np.random.default_rng([ord(letter) for letter in subject])
    shared = rng.standard_normal((n_timepoints, 4))
    return (shared @ rng.standard_normal((4, N_REGIONS)) + rng.standard_normal((n_timepoints, N_REGIONS))).astype(np.float32)


def correlation_of(subject: str) -> np.ndarray:
    """Correlation matrix of a subject, with ones on its diagonal."""
    return np.corrcoef(series_of(subject).T.astype(float))


def fisher_of(subject: str, diagonal: float = np.inf) -> np.ndarray:
    """Fisher z of a subject."""
    matrix = correlation_of(subject)
    np.fill_diagonal(matrix, 0.0)
    matrix = np.arctanh(matrix)
    np.fill_diagonal(matrix, diagonal)
    return matrix


def counts_of(subject: str) -> np.ndarray:
    """Symmetric streamline counts of a subject, with a diagonal."""
    rng = np.random.default_rng([ord(letter) for letter in subject])
    upper = np.triu(rng.poisson(30, (N_REGIONS, N_REGIONS)))
    return upper + np.triu(upper, 1).T


def write_participants(folder: Path, ids: tuple[str, ...] = SUBJECTS, prefix: str = "sub-") -> None:
    """A table as BIDS has it."""
    table = pd.DataFrame({"participant_id": [prefix + subject for subject in ids], "diagnosis": ["a", "b"] * 2, "site": ["x", "x", "y", "y"]})
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)


def write_json(path: Path, record: object) -> None:
    """A JSON file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def write_table(path: Path, values: np.ndarray, names: tuple[str, ...], index: str | None = None, mark: str = "\t") -> None:
    """A text table with a header, and names of rows where `index` says what to call them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(values, columns=list(names), index=list(names) if index is not None else None)
    frame.to_csv(path, sep=mark, index=index is not None, index_label=index, na_rep="n/a")


def parcels(names: tuple[str, ...]) -> nib.cifti2.ParcelsAxis:
    """One grayordinate a parcel."""
    n = len(names)
    voxels = [np.array([[k, 0, 0]]) for k in range(n)]
    return nib.cifti2.ParcelsAxis(list(names), voxels, [{} for _ in range(n)], np.eye(4), (n, 1, 1), {})


def write_cifti(path: Path, values: np.ndarray, names: tuple[str, ...]) -> None:
    """A `.ptseries.nii` or `.pconn.nii`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = nib.cifti2.SeriesAxis(0, 0.8, len(values)) if path.name.endswith(".ptseries.nii") else parcels(names)
    nib.Cifti2Image(np.asarray(values, dtype=np.float32), (rows, parcels(names))).to_filename(path)


def xcpd(folder: Path, atlas: Atlas) -> list[str]:
    """XCP-D 0.7: header and index `Node`; the second subject lacks a region, as below the coverage threshold."""
    write_json(folder / "dataset_description.json", {"DatasetType": "derivative", "GeneratedBy": [{"Name": "xcp_d", "Version": "0.7.3"}]})
    for subject in SUBJECTS:
        stem = folder / f"sub-{subject}" / "func" / f"sub-{subject}_task-rest_space-MNI152NLin2009cAsym_seg-Sim20_stat"
        matrix, series = correlation_of(subject), series_of(subject)
        if subject == "02":
            matrix[3], matrix[:, 3], series[:, 3] = np.nan, np.nan, np.nan
        write_table(Path(f"{stem}-mean_timeseries.tsv"), series, atlas.names)
        write_table(Path(f"{stem}-pearsoncorrelation_relmat.tsv"), matrix, atlas.names, "Node")
        write_table(Path(f"{stem}-coverage_bold.tsv"), np.ones((1, N_REGIONS)), atlas.names)
        write_json(Path(f"{stem}-mean_timeseries.json"), {"RepetitionTime": 2.0})
    (folder / "sub-01" / "func" / "sub-01_task-rest_desc-confounds_timeseries.tsv").write_text("a\tb\n1\t2\n")
    write_participants(folder)
    return []


def xcpd_old(folder: Path, atlas: Atlas) -> list[str]:
    """XCP-D 0.4: `conmat`, `measure-`, `atlas-`, and commas in a `.tsv`."""
    for subject in SUBJECTS:
        name = f"sub-{subject}_task-rest_space-MNI152NLin2009cAsym_atlas-Sim20_measure-pearsoncorrelation_conmat.tsv"
        write_table(folder / f"sub-{subject}" / "func" / name, correlation_of(subject), atlas.names, "Node", ",")
    write_participants(folder)
    return []


def xcpd_cifti(folder: Path, atlas: Atlas) -> list[str]:
    """XCP-D on fsLR: parcellated CIFTI files."""
    for subject in SUBJECTS:
        stem = folder / f"sub-{subject}" / "func" / f"sub-{subject}_task-rest_space-fsLR_seg-Sim20_den-91k_stat"
        write_cifti(Path(f"{stem}-mean_timeseries.ptseries.nii"), series_of(subject), atlas.names)
        write_cifti(Path(f"{stem}-pearsoncorrelation_boldmap.pconn.nii"), correlation_of(subject), atlas.names)
    return []


def giga_connectome(folder: Path, atlas: Atlas) -> list[str]:
    """giga_connectome: one JSON a measure at the root, no header in the matrices; the strategy has to be chosen."""
    write_json(folder / "dataset_description.json", {"GeneratedBy": [{"Name": "giga_connectome", "Version": "0.5.0"}]})
    write_json(folder / "meas-PearsonCorrelation_relmat.json", {"RelationshipMeasure": "Pearson correlation", "NumberOfVolumes": 120})
    for subject in SUBJECTS:
        for strategy in ("denoiseSimple", "scrubbing5"):
            name = f"sub-{subject}_task-rest_seg-Sim20_meas-PearsonCorrelation_desc-{strategy}_relmat.tsv"
            place = folder / f"sub-{subject}" / "func" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(place, correlation_of(subject), delimiter="\t")
    write_participants(folder)
    return ["--select", "desc-denoiseSimple"]


def cpac(folder: Path, atlas: Atlas) -> list[str]:
    """C-PAC 1.8: label ids behind hashes, zeros on the diagonal."""
    for subject in SUBJECTS:
        name = f"sub-{subject}_ses-1_task-rest_atlas-Sim20_space-MNI152NLin6ASym_reg-default_desc-PearsonNilearn_correlations.tsv"
        place = folder / f"sub-{subject}" / "ses-1" / "func" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        matrix = correlation_of(subject)
        np.fill_diagonal(matrix, 0.0)
        np.savetxt(place, matrix, delimiter="\t", header="\t".join(f"#{label}" for label in atlas.labels), comments="")
    write_participants(folder)
    return []


def qsirecon(folder: Path, atlas: Atlas) -> list[str]:
    """QSIRecon: matrices of two atlases and two weights in a file."""
    for subject in SUBJECTS:
        place = folder / f"sub-{subject}" / "dwi" / f"sub-{subject}_space-T1w_desc-preproc_msmtconnectome_connectivity.mat"
        place.parent.mkdir(parents=True, exist_ok=True)
        content = {}
        for name, size in (("sim20", N_REGIONS), ("atlas_4S5Parcels", 5)):
            content[f"{name}_region_ids"] = atlas.labels[:size]
            content[f"{name}_region_labels"] = np.array(atlas.names[:size], dtype=object)
            content[f"{name}_radius2_count_connectivity"] = counts_of(subject)[:size, :size].astype(float)
            content[f"{name}_radius2_meanlength_connectivity"] = counts_of(subject)[:size, :size] / 3
        savemat(place, content)
    write_participants(folder)
    return ["--variable", "radius2_count", "--atlas", "sim20=simulated20"]


def hcp(folder: Path, atlas: Atlas) -> list[str]:
    """Connectome Workbench: `<subject>.pconn.nii`, Fisher z."""
    for subject in SUBJECTS:
        write_cifti(folder / f"1003{subject}.pconn.nii", fisher_of(subject), atlas.names)
    return []


def conn(folder: Path, atlas: Atlas) -> list[str]:
    """CONN: `Z` with more targets than sources, NaN on its diagonal; two conditions."""
    place = folder / "results" / "firstlevel" / "SBC_01"
    place.mkdir(parents=True)
    for number, subject in enumerate(SUBJECTS, start=1):
        for condition in (1, 2):
            names = np.array(atlas.names, dtype=object)
            wide = np.hstack([fisher_of(subject, np.nan), np.ones((N_REGIONS, 2))])
            content = {"Z": wide, "names": names, "names2": np.append(names, ["x", "y"]), "DOF": 40.0, "SE": np.ones(3)}
            savemat(place / f"resultsROI_Subject{number:03d}_Condition{condition:03d}.mat", content)
    return ["--select", "cond-001"]


def write_hdf5(path: Path, **variables: object) -> None:
    """A MATLAB 7.3 file: HDF5 behind 512 bytes of header, axes in reverse, text as numbers, cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            store_variable(file, name, value)
    with path.open("r+b") as stored:
        stored.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64 HDF5 schema 1.00 .".ljust(116) + b" " * 8 + b"\x00\x02IM")


def store_variable(file: h5py.File, name: str, value: object) -> h5py.Dataset:
    if isinstance(value, str):
        node = file.create_dataset(name, data=np.array([[ord(letter)] for letter in value], dtype=np.uint16))
        node.attrs["MATLAB_class"] = np.bytes_("char")
    elif isinstance(value, list):
        cells = [store_variable(file, f"#refs#/{name}{number}", entry).ref for number, entry in enumerate(value)]
        node = file.create_dataset(name, data=np.array(cells, dtype=h5py.ref_dtype).reshape(-1, 1), dtype=h5py.ref_dtype)
        node.attrs["MATLAB_class"] = np.bytes_("cell")
    else:
        node = file.create_dataset(name, data=np.asarray(value).T)
        node.attrs["MATLAB_class"] = np.bytes_("double")
    return node


def conn_all_subjects(folder: Path, atlas: Atlas) -> list[str]:
    """CONN: all subjects of a condition in one file, of MATLAB 7.3 as those of large projects are, and a table with CONN's names of them."""
    place = folder / "results" / "firstlevel" / "SBC_01"
    place.mkdir(parents=True)
    wide = [np.hstack([fisher_of(subject, np.nan), np.ones((N_REGIONS, 2))]) for subject in SUBJECTS]
    names = list(atlas.names)
    write_hdf5(place / "resultsROI_Condition001.mat", Z=np.stack(wide, axis=2), names=names, names2=[*names, "x", "y"], SE=np.ones((4, 22)))
    write_participants(folder, ("Subject001", "Subject002", "Subject003", "Subject004"), prefix="")
    return []


def dpabi(folder: Path, atlas: Atlas) -> list[str]:
    """DPABI: r, Fisher z with an infinite diagonal, as .mat and as text."""
    for subject in SUBJECTS:
        for name, matrix in (("ROICorrelation", correlation_of(subject)), ("ROICorrelation_FisherZ", fisher_of(subject))):
            savemat(folder / f"{name}_Sub_{subject}.mat", {name: matrix})
            np.savetxt(folder / f"{name}_Sub_{subject}.txt", matrix, delimiter="\t")
        (folder / f"ROI_OrderKey_Sub_{subject}.tsv").write_text("Order\tLabel in Mask\n1\t1\n")
    return ["--fisher_z", "true"]


def gretna(folder: Path, atlas: Atlas) -> list[str]:
    """GRETNA: static and dynamic matrices in folders of their own, with a node index beside them; r is cut off below one before it becomes z."""
    for kind, letter, matrix_of in (("R", "r", correlation_of), ("Z", "z", lambda subject: fisher_of(subject, 18.7))):
        place = folder / f"GretnaSFCMatrix{kind}"
        place.mkdir()
        for subject in SUBJECTS:
            np.savetxt(place / f"{letter}HC0{subject}.txt", matrix_of(subject), delimiter="\t")
        (place / "NodalIndex.txt").write_text("1\n2\n")
    windows = folder / "GretnaDFCMatrixR"
    windows.mkdir()
    for subject in SUBJECTS:
        savemat(windows / f"rHC0{subject}.mat", {"DRStruct": {"W_0001_0015": correlation_of(subject), "W_0016_0030": correlation_of(subject)}})
    return []


def population_gcn(folder: Path, atlas: Atlas) -> list[str]:
    """population-gcn: variable `connectivity`, Fisher z."""
    for subject in SUBJECTS:
        (folder / f"500{subject}").mkdir()
        savemat(folder / f"500{subject}" / f"500{subject}_ho_correlation.mat", {"connectivity": fisher_of(subject)})
    return []


def mrtrix(folder: Path, atlas: Atlas) -> list[str]:
    """MRtrix3: blanks in a `.csv`, upper triangle only."""
    for subject in SUBJECTS:
        np.savetxt(folder / f"sub-{subject}_connectome.csv", np.triu(counts_of(subject)), fmt="%d", delimiter=" ")
    write_participants(folder)
    return ["--kind", "streamline count", "--log1p", "true"]


def graphml(folder: Path, atlas: Atlas) -> list[str]:
    """GraphML with the names of the regions in another order."""
    for subject in SUBJECTS:
        graph = nx.Graph()
        graph.add_nodes_from(reversed(atlas.names))
        counts = counts_of(subject)
        graph.add_weighted_edges_from((atlas.names[i], atlas.names[j], float(counts[i, j])) for i in range(N_REGIONS) for j in range(i))
        nx.write_graphml(graph, folder / f"sub-{subject}_dwi_desikan_graph.graphml")
    return ["--kind", "streamline count"]


def edge_list(folder: Path, atlas: Atlas) -> list[str]:
    """m2g: an edge list of label ids."""
    for subject in SUBJECTS:
        counts = counts_of(subject)
        lines = [f"{i + 1} {j + 1} {counts[i, j]}" for i in range(N_REGIONS) for j in range(i + 1, N_REGIONS)]
        (folder / f"sub-{subject}_ses-1_dwi_desikan_space-MNI152NLin6_res-2x2x2_measure-spatial-ds.edgelist").write_text("\n".join(lines) + "\n")
    return []


def brainnet_viewer(folder: Path, atlas: Atlas) -> list[str]:
    """BrainNet Viewer: one node file, an edge file a subject."""
    lines = [f"{x}\t{y}\t{z}\t1\t1\t{name}" for (x, y, z), name in zip(atlas.centroids.tolist(), atlas.names, strict=True)]
    (folder / "atlas.node").write_text("\n".join(lines) + "\n")
    for subject in SUBJECTS:
        np.savetxt(folder / f"S{subject}.edge", correlation_of(subject), delimiter="\t")
    return []


def braingb(folder: Path, atlas: Atlas) -> list[str]:
    """BrainGB and BrainNetworkTransformer: a pickled dictionary, with the spelling of its key."""
    content = {
        "timeseires": np.stack([series_of(subject).T for subject in SUBJECTS]).astype(float),
        "corr": np.stack([fisher_of(subject, 0.0) for subject in SUBJECTS]),
        "label": np.array([0, 1, 0, 1]),
        "site": np.array(["NYU", "NYU", "PITT", "PITT"]),
    }
    np.save(folder / "abide.npy", np.array(content, dtype=object), allow_pickle=True)
    return []


def ptgb(folder: Path, atlas: Atlas) -> list[str]:
    """PTGB: `adj` and labels of -1 and 1."""
    adjacency = np.stack([counts_of(subject) for subject in SUBJECTS]).astype(float)
    content = {"adj": adjacency, "feat": adjacency, "label": np.array([[-1], [1], [-1], [1]])}
    np.save(folder / "BP.npy", np.array(content, dtype=object), allow_pickle=True)
    return []


def braingfm(folder: Path, atlas: Atlas) -> list[str]:
    """BrainGFM: a pickled list of dictionaries."""
    entries = [{"node_feat": correlation_of(subject), "label": number % 2} for number, subject in enumerate(SUBJECTS)]
    stored = np.empty(len(entries), dtype=object)
    stored[:] = entries
    np.save(folder / "adhd.npy", stored, allow_pickle=True)
    return []


def plain_series(folder: Path, atlas: Atlas) -> list[str]:
    """A folder of time series in no particular layout."""
    for subject in SUBJECTS:
        np.save(folder / f"{subject}.npy", series_of(subject))
    write_participants(folder, prefix="")
    return ["--target", "diagnosis", "--site", "site"]


def plain_matrices(folder: Path, atlas: Atlas) -> list[str]:
    """A folder of matrices in no particular layout."""
    for subject in SUBJECTS:
        np.savetxt(folder / f"{subject}.csv", correlation_of(subject), delimiter=",")
    return []


WRITERS: dict[str, Callable[[Path, Atlas], list[str]]] = {
    writer.__name__: writer
    for writer in (
        *(xcpd, xcpd_old, xcpd_cifti, giga_connectome, cpac, qsirecon, hcp, conn, conn_all_subjects, dpabi, gretna, population_gcn),
        *(mrtrix, graphml, edge_list, brainnet_viewer, braingb, ptgb, braingfm, plain_series, plain_matrices),
    )
}


@pytest.fixture
def write_layout(tmp_path: Path, atlas: Atlas) -> Callable[[str], tuple[Path, list[str]]]:
    """Write a layout by name: gives its folder, and the options that a user has to add on the command line."""

    def write(name: str) -> tuple[Path, list[str]]:
        folder = tmp_path / name
        folder.mkdir()
        return folder, WRITERS[name](folder, atlas)

    return write


class Malicious:
    """Something that touches a file when it is unpickled the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def write_malicious() -> Callable[[Path, Path], None]:
    """Write a `.npy` file that would make another one: `write_malicious(path, victim)`; asserts that the ordinary way does."""

    def write(path: Path, victim: Path) -> None:
        np.save(path, np.array({"corr": np.zeros((2, 3, 3)), "label": Malicious(victim)}, dtype=object), allow_pickle=True)
        pickle.loads(pickle.dumps(Malicious(victim)))
        assert victim.exists(), "the trap works"
        victim.unlink()

    return write
