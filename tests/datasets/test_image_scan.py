"""One look at every image: what is whole, what is damaged, what masks show."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from graphssl.data.image_files import content_hash
from graphssl.datasets.image_entries import Entry
from graphssl.datasets.image_scan import look_at
from graphssl.errors import ChoiceError, DataError


def images(folder, n=4, values=(0, 255), empty=(), size=(6, 8)):
    """Images `0.png`, `1.png`, … with masks of these values in `masks/`; those of some show nothing."""
    (folder / "masks").mkdir()
    entries = []
    for k in range(n):
        Image.fromarray(np.full(size, k, np.uint8)).save(folder / f"{k}.png")
        mask = np.zeros(size, np.uint8) if k in empty else np.resize(np.array(values, np.uint8), size)
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
        entries.append(Entry(f"i{k}", f"{k}.png", "image", mask_path=f"masks/{k}.png"))
    return entries


def test_references_say_what_was_found(tmp_path):
    data, rows = look_at(images(tmp_path), tmp_path, "image")
    assert rows == []
    assert (data.rank, data.clip, data.classes, data.mask_values) == (2, False, ("background", "class 255"), (0, 255))
    row = data.table.iloc[2]
    assert (row["subject_id"], row["path"], row["shape"], row["channels"], row["spacing"]) == ("i2", "2.png", (6, 8), 1, ())
    assert row["hash"] == content_hash(tmp_path / "2.png")
    assert row["mask_hash"] == content_hash(tmp_path / "masks" / "2.png")


def test_volumes_of_mixed_spacing_and_orientation_are_told_and_turned(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 2, 1])), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(values[::-1], np.array([[-1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])), tmp_path / "b.nii")
    data, _ = look_at([Entry("a", "a.nii", "volume"), Entry("b", "b.nii", "volume")], tmp_path, "volume")
    assert data.table["spacing"].tolist() == [(2.0, 1.0, 1.0), (3.0, 1.0, 1.0)]
    assert data.summary == "2 volumes of 2 subjects, 4 × 3 × 2, 2 spacings"


def test_damaged_images_are_named_and_counted_or_left_out(tmp_path):
    entries = images(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:50])
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "masks" / "3.png")
    with pytest.raises(DataError, match=r"whole images, found 2 of 4 that are not: .*1\.png.*truncated.*masks/3\.png.*\(6, 8\).*damaged='exclude'"):
        look_at(entries, tmp_path, "image")
    data, rows = look_at(entries, tmp_path, "image", damaged="exclude")
    assert data.table["subject_id"].tolist() == ["i0", "i2"]
    assert [(what, name) for what, name, _ in rows] == [("image", "i1"), ("image", "i3")]
    with pytest.raises(DataError, match="found 1 of 1 that are not: .*Check the folder"):
        look_at(entries[1:2], tmp_path, "image", damaged="exclude")


def test_four_axes_where_three_are_meant(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.float32), np.eye(4)), tmp_path / "fmri.nii")
    with pytest.raises(DataError, match=r"Expected 3 axes of space and time in .*fmri\.nii, found 4, of lengths 2 × 3 × 4 × 5"):
        look_at([Entry("fmri", "fmri.nii", "volume")], tmp_path, "volume")


def test_a_clip_of_one_frame_is_a_clip(tmp_path):
    np.savez(tmp_path / "c.npz", clips=np.zeros((2, 1, 4, 4), np.uint8))
    data, _ = look_at([Entry(f"c{k}", "c.npz", "clip", f"clips[{k}]") for k in range(2)], tmp_path, "clip")
    assert (data.clip, data.table["shape"].tolist()) == (True, [(1, 4, 4)] * 2)


def test_masks_that_show_nothing_have_to_be_told(tmp_path):
    entries = images(tmp_path, empty=(1, 2))
    with pytest.raises(ChoiceError, match=r"2 of 4 with background only, such as \['i1', 'i2'\].*empty_masks='keep'"):
        look_at(entries, tmp_path, "image")
    assert len(look_at(entries, tmp_path, "image", empty_masks="keep")[0]) == 4
    data, rows = look_at(entries, tmp_path, "image", empty_masks="exclude")
    assert data.table["subject_id"].tolist() == ["i0", "i3"]
    assert rows == [("image", "i1", "a mask that shows nothing"), ("image", "i2", "a mask that shows nothing")]
    with pytest.raises(DataError, match="with a mask that shows something, found none among 2"):
        look_at(entries[1:3], tmp_path, "image", empty_masks="exclude")


def test_classes_have_the_names_that_are_given(tmp_path):
    entries = images(tmp_path, values=(0, 1, 2))
    assert look_at(entries, tmp_path, "image", mask_classes=("nothing", "liver", "spleen", "cyst"))[0].mask_values == (0, 1, 2, 3)
    with pytest.raises(DataError, match=r"values of the 2 classes \['nothing', 'liver'\] in masks, found \[0, 1, 2\]"):
        look_at(entries, tmp_path, "image", mask_classes=("nothing", "liver"))


def test_values_that_are_given_by_their_order(tmp_path):
    data, _ = look_at(images(tmp_path, values=(0, 128, 255)), tmp_path, "image", mask_classes=("nothing", "liver", "spleen"))
    assert (data.classes, data.mask_values) == (("nothing", "liver", "spleen"), (0, 128, 255))


def test_an_image_in_place_of_a_mask_is_refused(tmp_path):
    entries = images(tmp_path, n=1, size=(16, 16))
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "masks" / "0.png")
    with pytest.raises(DataError, match=r"whole numbers of classes in the mask .*0\.png, found 256 values"):
        look_at(entries, tmp_path, "image")
    Image.fromarray(np.stack([np.zeros((16, 16)), np.ones((16, 16)), np.zeros((16, 16))], axis=-1).astype(np.uint8)).save(
        tmp_path / "masks" / "0.png"
    )
    with pytest.raises(DataError, match="a mask of one channel .* found 3 that differ"):
        look_at(entries, tmp_path, "image")
