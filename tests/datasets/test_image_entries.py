"""Names of images: what they hold, what they are called, and one form of several."""

import pytest

from graphssl.datasets.image_entries import Entry, form_of, of_one_form, stem_of, unique_ids
from graphssl.errors import ChoiceError, DataError


@pytest.mark.parametrize(
    ("name", "form", "stem"),
    [
        ("a/b.c.png", "image", "b.c"),
        ("X.NII.GZ", "volume", "X"),
        ("scan.nii", "volume", "scan"),
        ("film.mp4", "clip", "film"),
        ("IM0001", "image", "IM0001"),
        ("plain", "image", "plain"),
    ],
)
def test_names(name, form, stem):
    assert (form_of(name), stem_of(name)) == (form, stem)


def test_ids_have_their_folders_where_names_repeat():
    assert unique_ids(["a/1.png", "b/2.png"]) == ["1", "2"]
    assert unique_ids(["a/1.png", "b/1.png", "1.png"]) == ["a/1", "b/1", "1"]


def test_one_form_of_several():
    entries = [Entry("a", "a.png", "image"), Entry("b", "b.nii", "volume"), Entry("c", "c.png", "image")]
    with pytest.raises(ChoiceError, match="one form, found 2 images, 1 volumes. Choose with form='image'"):
        of_one_form(entries, None)
    kept, rows = of_one_form(entries, "volume")
    assert [entry.id for entry in kept] == ["b"]
    assert rows == [("image", "a", "a image, where volumes were chosen"), ("image", "c", "a image, where volumes were chosen")]
    with pytest.raises(DataError, match="files with a clip each, found 2 images, 1 volumes"):
        of_one_form(entries, "clip")
