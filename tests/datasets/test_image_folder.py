"""What folders and names say of images; nothing is opened but DICOM headers."""

import numpy as np
import pytest

from graphssl.datasets.image_folder import find_images, image_names
from graphssl.datasets.listing import list_files
from graphssl.errors import ChoiceError, ConfigError, DataError


@pytest.fixture
def found(tmp_path):
    """Entries of files with these names, empty ones; `found(*names, **options)` gives entries by id, and what was left out."""

    def find(*names, **options):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        entries, rows = find_images(list_files(tmp_path), **options)
        return {entry.id: entry for entry in entries}, rows

    return find


def test_a_plain_folder(found):
    entries, rows = found("a.png", "b.jpg", "c.nii.gz", "notes.txt", "table.csv")
    assert {name: entry.form for name, entry in entries.items()} == {"a": "image", "b": "image", "c": "volume"}
    assert rows == []
    assert all(not entry.columns for entry in entries.values())


def test_folders_of_classes(found):
    entries, _ = found(*(f"{label}/{label}_{k}.png" for label in ("benign", "malignant") for k in "abcde"))
    assert {entry.columns["label"] for entry in entries.values()} == {"benign", "malignant"}
    assert entries["benign_a"].columns == {"label": "benign"}


def test_folders_of_splits_with_classes_in_them(found):
    names = [f"{split}/{label}/{k}.png" for split in ("train", "valid", "Test") for label in ("no", "yes") for k in "abc"]
    entries, _ = found(*names)
    assert entries["train/no/a"].columns == {"split": "train", "label": "no"}
    assert {entry.columns["split"] for entry in entries.values()} == {"train", "val", "test"}


def test_folders_of_splits_alone(found):
    entries, _ = found("train/a_1.png", "test/a_2.png", "val/a_3.png")
    assert entries["a_1"].columns == {"split": "train"}


def test_folders_of_unclear_use_have_to_be_told(found):
    names = [f"{who}/{k}.png" for who in ("p012", "p013", "p014") for k in "abcdef"]
    with pytest.raises(ChoiceError, match=r"what the 3 sub-folders are, such as p012 \(6\).*folders='class' or folders='person'"):
        found(*names)
    entries, _ = found(*names, folders="person")
    assert entries["p013/b"].columns == {"person": "p013"}
    entries, _ = found(*names, folders="class")
    assert entries["p013/b"].columns == {"label": "p013"}


def test_slices_of_a_volume_are_of_one_person(found):
    entries, _ = found("la_001_frame_1.png", "la_001_frame_20.png", "la_002_frame_3.png", "other.png")
    assert {name: entry.columns["person"] for name, entry in entries.items()} == {
        "la_001_frame_1": "la_001",
        "la_001_frame_20": "la_001",
        "la_002_frame_3": "la_002",
        "other": "other",
    }


def test_a_person_by_a_pattern(found):
    entries, _ = found("x7-1.png", "x7-2.png", "x8-1.png", person=r"x\d")
    assert [entry.columns["person"] for entry in entries.values()] == ["x7", "x7", "x8"]
    with pytest.raises(ConfigError, match=r"to find the person in every id, found none in 3 of 3: \['x7-1'"):
        found(person="z")
    with pytest.raises(ConfigError, match="a regular expression"):
        found(person="(")


def test_numbers_at_the_end_that_group_nothing_are_no_persons(found):
    entries, _ = found("a_f1.png", "b_f1.png")
    assert all(not entry.columns for entry in entries.values())


@pytest.mark.parametrize(
    "names",
    [
        ("images/a.nii.gz", "labels/a.nii.gz", "images/b.nii.gz", "labels/b.nii.gz"),
        ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"),
        ("a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz"),
        ("x/images/a.nii.gz", "x/masks/a_mask.nii.gz", "x/images/b.nii.gz", "x/masks/b_mask.nii.gz"),
    ],
)
def test_masks_beside_images(found, names):
    entries, rows = found(*names)
    assert set(entries) == {"a", "b"}
    assert {entry.path for entry in entries.values()} == {names[0], names[2]}
    assert {entry.mask_path for entry in entries.values()} == {names[1], names[3]}
    assert rows == []


def test_masks_in_a_named_folder_and_masks_without_an_image(found):
    entries, rows = found("scans/a.png", "scans/b.png", "truth/a.png", "truth/c.png", masks="truth")
    assert entries["a"].mask_path == "truth/a.png"
    assert entries["b"].mask_path == ""
    assert rows == [("image", "truth/c.png", "a mask, without an image")]


def test_masks_of_images_that_are_called_alike_lie_in_folders_that_are(found):
    names = ("train/images/a.png", "train/masks/a.png", "test/images/a.png", "test/masks/a.png")
    entries, _ = found(*names)
    assert {entry.path: entry.mask_path for entry in entries.values()} == {names[0]: names[1], names[2]: names[3]}
    with pytest.raises(DataError, match=r"one mask of train/images/a.png, found .*a.png.*a_mask.png"):
        found("train/masks/a_mask.png")


def test_a_folder_called_labels_that_holds_the_images(found):
    entries, _ = found("labels/a.png", "labels/b.png")
    assert set(entries) == {"a", "b"}


def test_series_are_volumes_and_single_files_images(tmp_path, write_dicom):
    values = np.zeros((3, 4, 5), np.int16)
    write_dicom(tmp_path / "p1" / "ct", values, series="1.1", patient="anna")
    write_dicom(tmp_path / "p2" / "two", values, series="1.2", patient="bert", name="x")
    write_dicom(tmp_path / "p2" / "two", values, series="1.3", patient="bert", name="y")
    write_dicom(tmp_path / "p3", values[:1], series="1.4", patient="carl")
    (tmp_path / "p1" / "ct" / "slice-00.dcm").rename(tmp_path / "p1" / "ct" / "IM0")
    entries, _ = find_images(list_files(tmp_path), folders="person")
    assert {(entry.id, entry.form, entry.part) for entry in entries} == {
        ("p1/ct", "volume", "1.1"),
        ("p2/two/1.2", "volume", "1.2"),
        ("p2/two/1.3", "volume", "1.3"),
        ("p3/slice-00", "image", ""),
    }
    assert {entry.columns["person"] for entry in entries} == {"anna", "bert", "carl"}
    assert "p1/ct/IM0" in image_names(list_files(tmp_path))


def test_patterns_choose_files_and_nothing_found_is_refused(found):
    entries, _ = found("t1/a.nii.gz", "t2/a.nii.gz", pattern="t1/*")
    assert [entry.path for entry in entries.values()] == ["t1/a.nii.gz"]
    with pytest.raises(DataError, match="Expected images in .* found none that fit 'x/\\*' among 2 files"):
        found(pattern="x/*")
