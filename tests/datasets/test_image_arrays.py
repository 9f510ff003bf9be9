"""NPZ files of images in their true layouts."""

import numpy as np
import pytest

from graphssl.datasets.image_arrays import array_file, find_arrays
from graphssl.datasets.listing import list_files
from graphssl.errors import ChoiceError, DataError

RANDOM = np.random.default_rng(0)


def medmnist(path, shape=(28, 28), flat=False, n=(12, 3, 4), **changes):
    arrays = {}
    for split, count in zip(("train", "val", "test"), n, strict=True):
        arrays[f"{split}_images"] = RANDOM.integers(0, 255, (count, *shape), dtype=np.uint8)
        labels = (np.arange(count) % 2).astype(np.uint8)
        arrays[f"{split}_labels"] = labels if flat else labels[:, None]
    np.savez_compressed(path, **{**arrays, **changes})
    return path


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("shape", "form"), [((28, 28), "image"), ((28, 28, 3), "image"), ((28, 28, 28), "volume")])
def test_medmnist_has_its_official_splits(tmp_path, shape, form, flat):
    entries = find_arrays(medmnist(tmp_path / "m.npz", shape, flat))
    assert len(entries) == 19
    assert {entry.form for entry in entries} == {form}
    assert [entries[k].id for k in (0, 11, 12, 18)] == ["train-00", "train-11", "val-0", "test-3"]
    assert entries[13].part == "val_images[1]"
    assert entries[13].columns == {"label": "1", "split": "val"}


@pytest.mark.parametrize("name", ["label", "labels"])
def test_labels_of_another_number_are_refused(tmp_path, name):
    np.savez(tmp_path / "m.npz", images=RANDOM.random((5, 8, 8)), **{name: np.arange(4)})
    with pytest.raises(DataError, match=rf"Expected a label for each of 5 images in .*m\.npz, found 4 in '{name}'\. Mend the file"):
        find_arrays(tmp_path / "m.npz")


def test_labels_have_names_and_several_columns_where_there_are_several(tmp_path):
    entries = find_arrays(medmnist(tmp_path / "m.npz"), labels=("benign", "malignant"))
    assert [entry.columns["label"] for entry in entries[:3]] == ["benign", "malignant", "benign"]
    many = {f"{split}_labels": np.tile([0, 1, 1], (n, 1)) for split, n in (("train", 12), ("val", 3), ("test", 4))}
    entries = find_arrays(medmnist(tmp_path / "n.npz", **many))
    assert entries[0].columns == {"label_0": 0, "label_1": 1, "label_2": 1, "split": "train"}


@pytest.mark.parametrize(
    ("labels", "names", "match"),
    [
        (np.full((3, 1), 2), ("a", "b"), r"labels 0 to 1 in .*m\.npz, found \[2\]"),
        (np.full((3, 1), -1), (), r"whole numbers from 0 .* found \[-1\]"),
        (np.full((3, 1), 0.5), (), r"found \[0\.5\]"),
        (np.zeros((5, 1)), (), "a label for each of 3 images of 'val_images' .* found 5"),
    ],
)
def test_labels_outside_of_the_classes_are_refused(tmp_path, labels, names, match):
    with pytest.raises(DataError, match=match):
        find_arrays(medmnist(tmp_path / "m.npz", val_labels=labels), labels=names)


def test_no_label_is_no_label(tmp_path):
    entries = find_arrays(medmnist(tmp_path / "m.npz", val_labels=np.array([0.0, np.nan, 1.0])))
    assert [entry.columns["label"] for entry in entries[12:15]] == ["0", None, "1"]


def test_arrays_with_columns_beside_them(tmp_path):
    clips = RANDOM.integers(0, 255, (3, 5, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "c.npz", clips=clips, label=np.array(["a", "b", "a"]), patient=np.array(["7", "8", "7"]), age=[1.5, 2, 3], note=np.zeros(9))
    entries = find_arrays(tmp_path / "c.npz")
    assert [entry.id for entry in entries] == ["clip-0", "clip-1", "clip-2"]
    assert entries[1].form == "clip"
    assert entries[1].columns == {"label": "b", "patient": "8", "age": 2.0}
    np.savez(tmp_path / "v.npz", images=clips, masks=clips > 100)
    volume = find_arrays(tmp_path / "v.npz")[2]
    assert (volume.form, volume.mask_path, volume.mask_part) == ("volume", "v.npz", "masks[2]")
    assert find_arrays(tmp_path / "v.npz", "clip")[0].form == "clip"


def test_the_file_of_a_folder(tmp_path):
    np.savez(tmp_path / "series.npz", timeseries=np.zeros((3, 4, 5)))
    (tmp_path / "broken.npz").write_text("no file")
    assert array_file(list_files(tmp_path)) is None
    medmnist(tmp_path / "m.npz")
    assert array_file(list_files(tmp_path)) == tmp_path / "m.npz"
    assert array_file(list_files(tmp_path / "m.npz")) == tmp_path / "m.npz"
    medmnist(tmp_path / "n.npz")
    with pytest.raises(ChoiceError, match=r"one file of images in .* found \['m.npz', 'n.npz'\]"):
        array_file(list_files(tmp_path))
