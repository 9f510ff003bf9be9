"""MedMNIST, from tiny files in the true layout at an address of this machine: downloaded once, checked, and read with official splits and names."""

import hashlib

import numpy as np
import pytest

from graphssl.datasets import fetch_medmnist, medmnist
from graphssl.errors import DataError

SIZES = {"train": 6, "val": 2, "test": 3}


def published(folder, name, shape, n_labels=1):
    """A file as the project publishes it, and its MD5."""
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 256, (n, *shape), dtype=np.uint8) for part, n in SIZES.items()}
    arrays |= {f"{part}_labels": rng.integers(0, 2, (n, n_labels), dtype=np.uint8) for part, n in SIZES.items()}
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", **arrays)
    return arrays, hashlib.md5((folder / f"{name}.npz").read_bytes()).hexdigest()


@pytest.fixture
def zenodo(tmp_path, monkeypatch):
    """`zenodo(name, shape)` puts a file where the module asks for it, as the one that is published; gives its arrays."""
    monkeypatch.setattr(medmnist, "_RECORD", (tmp_path / "zenodo").as_uri())

    def put(name, shape, n_labels=1):
        arrays, md5 = published(tmp_path / "zenodo", name, shape, n_labels)
        monkeypatch.setitem(medmnist._SETS, name, (md5, medmnist._SETS[name][1]))
        return arrays

    return put


@pytest.mark.parametrize(("name", "shape"), [("breastmnist", (28, 28)), ("bloodmnist", (28, 28, 3)), ("adrenalmnist3d", (28, 28, 28))])
def test_a_set_is_downloaded_once_and_read_with_splits_and_names(zenodo, tmp_path, monkeypatch, name, shape):
    arrays = zenodo(name, shape)
    cohort = fetch_medmnist(name, tmp_path / "data")
    assert cohort.name == name
    assert cohort.subjects["split"].value_counts().to_dict() == SIZES
    numbers = np.concatenate([arrays[f"{part}_labels"].ravel() for part in SIZES])
    assert cohort.subjects["label"].tolist() == [medmnist._SETS[name][1][k] for k in numbers]
    assert list(cohort.images) == ["volume" if name.endswith("3d") else "image"]
    monkeypatch.setattr(medmnist, "_RECORD", "file:///nowhere")  # it is there, and not asked for again
    part = fetch_medmnist(name, tmp_path / "data", split="test")
    assert len(part) == SIZES["test"]
    assert set(part.ids) <= set(cohort.ids)


def test_findings_of_the_chest_are_columns(zenodo, tmp_path):
    arrays = zenodo("chestmnist", (28, 28), n_labels=14)
    cohort = fetch_medmnist("chestmnist", tmp_path / "data", split="train")
    np.testing.assert_array_equal(cohort.subjects["hernia"].to_numpy(dtype=int), arrays["train_labels"][:, 13])


def test_a_file_that_is_not_the_published_one_is_refused(zenodo, tmp_path, monkeypatch):
    zenodo("breastmnist", (28, 28))
    monkeypatch.setitem(medmnist._SETS, "breastmnist", ("0" * 32, ("malignant", "benign")))
    with pytest.raises(DataError, match=r"Expected the published file with MD5 0{32}, found one with [0-9a-f]{32}. Ask again"):
        fetch_medmnist("breastmnist", tmp_path / "data")
    assert not list((tmp_path / "data").glob("*"))  # nothing half is left
    published(tmp_path / "data", "breastmnist", (28, 28))
    with pytest.raises(DataError, match=r"found one with .* Remove .*breastmnist.npz to download it anew"):
        fetch_medmnist("breastmnist", tmp_path / "data")


def test_what_cannot_be_fetched_is_said(zenodo, tmp_path):
    with pytest.raises(DataError, match=r"Expected .*breastmnist.npz to answer, found .* Without a network, put the file at .*data/breastmnist.npz"):
        fetch_medmnist("breastmnist", tmp_path / "data")
    with pytest.raises(DataError, match=r"Expected one of the sets of MedMNIST \(adrenalmnist3d, .*\), found 'mnist'"):
        fetch_medmnist("mnist", tmp_path)
    with pytest.raises(DataError, match="Expected one of the official parts train, val and test, found 'all'"):
        fetch_medmnist("breastmnist", tmp_path, split="all")


def test_every_set_has_a_hash_and_names_of_its_own():
    assert len(medmnist._SETS) == 18
    assert len({md5 for md5, _ in medmnist._SETS.values()}) == 18
    assert all(len(md5) == 32 and len(set(names)) == len(names) >= 2 for md5, names in medmnist._SETS.values())


@pytest.mark.shared_data
def test_the_published_file_is_taken_as_it_is(shared_data):
    """AdrenalMNIST3D as it was downloaded: its hash is the published one."""
    cohort = fetch_medmnist("adrenalmnist3d", shared_data / "image" / "medmnist", split="test")
    assert len(cohort) == 298
    assert set(cohort.subjects["label"]) == {"normal", "hyperplasia"}
