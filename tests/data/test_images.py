"""References to images: what they say, and how they travel with a cohort."""

from pathlib import Path

import pandas as pd
import pytest

from graphssl.data import Cohort, ImageData, Schema
from graphssl.errors import DataError


def references(n_subjects=3, per_subject=2, shape=(6, 5), root=Path("pictures"), masks=False, **changes):
    """References to files that need not exist: subjects `s0`, `s1`, … with images `s0_0.png`, `s0_1.png`, …"""
    names = [(f"s{subject}", f"s{subject}_{k}.png") for subject in range(n_subjects) for k in range(per_subject)]
    table = pd.DataFrame(
        {
            "subject_id": [subject for subject, _ in names],
            "path": [path for _, path in names],
            "part": "",
            "hash": [f"hash of {path}" for _, path in names],
            "channels": 1,
            "shape": [shape] * len(names),
            "spacing": [(0.5, 0.5)] * len(names),
            "mask_path": [f"masks/{path}" if masks else "" for _, path in names],
            "mask_part": "",
            "mask_hash": [f"hash of mask {path}" if masks else "" for _, path in names],
            "volume": [subject for subject, _ in names],
        }
    )
    return ImageData(**{"table": table, "rank": 2, "root": root, "classes": ("background", "tumour") if masks else (), **changes})


def cohort_of(data, name="pictures"):
    ids = sorted(data.values)
    return Cohort(name, pd.DataFrame(index=pd.Index(ids, dtype="str")), Schema([]), images={"image": data})


def test_it_says_what_it_holds():
    data = references(masks=True)
    assert repr(data) == "ImageData(6 images of 3 subjects, 6 × 5, 0.5 × 0.5 mm, masks of 2 classes)"
    assert data.values == {"s0": 2, "s1": 2, "s2": 2}
    assert data.groups == ("volume",)
    assert "6 images of 3 subjects" in repr(cohort_of(data))
    assert references(shape=(4, 6, 5), rank=3).noun == "volume"
    assert references(shape=(4, 6, 5), clip=True).n_axes == 3


def test_selecting_keeps_the_order_of_the_subjects_and_all_their_images():
    data = references().select(["s2", "nobody", "s0"])
    assert data.table["path"].tolist() == ["s2_0.png", "s2_1.png", "s0_0.png", "s0_1.png"]
    cohort = cohort_of(references()).select(["s1"])
    assert cohort.images["image"].values == {"s1": 2}
    train, test = cohort_of(references(10)).split(0.3, seed=1)
    assert not set(train.images["image"].values) & set(test.images["image"].values)


def test_the_hash_is_that_of_contents_wherever_they_lie():
    data = references()
    assert data.at("/elsewhere").hash == data.hash == data._absolute().hash
    changed = data.table.assign(hash="other")
    assert ImageData(changed, 2).hash != data.hash
    assert cohort_of(data).hash != cohort_of(ImageData(changed, 2)).hash


def test_a_union_has_the_images_of_both_and_knows_where_they_lie(tmp_path):
    a, b = cohort_of(references(1, root=tmp_path / "a"), "a"), cohort_of(references(2, root=tmp_path / "b").select(["s1"]), "b")
    both = (a | b).images["image"]
    assert [both.place(path) for path in both.table["path"]] == [
        tmp_path / "a/s0_0.png",
        tmp_path / "a/s0_1.png",
        tmp_path / "b/s1_0.png",
        tmp_path / "b/s1_1.png",
    ]
    only = Cohort("c", pd.DataFrame(index=pd.Index(["x"], dtype="str")), Schema([]))
    assert (only | a).images["image"].values == {"s0": 2}


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"shape": (4, 6, 5), "rank": 3}, "same noun .* found image and volume"), ({"masks": True, "classes": ("nothing", "cyst")}, "same classes")],
)
def test_a_union_of_images_that_do_not_fit_is_refused(changes, match):
    with pytest.raises(DataError, match=match):
        references(masks=True).union(references(**changes))


def test_saving_and_loading_keeps_references(tmp_path):
    cohort = cohort_of(references(masks=True, root=tmp_path / "pictures"))
    cohort.save(tmp_path / "saved")
    loaded = Cohort.load(tmp_path / "saved")
    assert loaded.hash == cohort.hash
    pd.testing.assert_frame_equal(loaded.images["image"].table, cohort.images["image"].table)
    assert loaded.images["image"].place("s0_0.png") == tmp_path / "pictures" / "s0_0.png"
    assert loaded.images["image"].classes == ("background", "tumour")


def test_saving_with_copies_takes_the_files_along(tmp_path):
    data = references(masks=True, root=tmp_path / "pictures")
    for column in ("path", "mask_path"):
        for path in data.table[column]:
            (tmp_path / "pictures" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "pictures" / path).write_text(f"{column} {path}")
    cohort_of(data).save(tmp_path / "saved", copy_images=True)
    (tmp_path / "saved").rename(tmp_path / "moved")
    loaded = Cohort.load(tmp_path / "moved").images["image"]
    assert [loaded.place(path).read_text() for path in loaded.table["path"]] == [f"path {path}" for path in data.table["path"]]
    assert loaded.place(loaded.table["mask_path"][3]).read_text() == f"mask_path {data.table['mask_path'][3]}"
    assert loaded.hash == data.hash
    Cohort.load(tmp_path / "moved").save(tmp_path / "moved")  # over itself: what the old folder held of images is in the new one
    again = Cohort.load(tmp_path / "moved").images["image"]
    assert [again.place(path).read_text() for path in again.table["path"]] == [f"path {path}" for path in data.table["path"]]
    assert again.lies_in(tmp_path / "moved")
    assert not data.lies_in(tmp_path / "moved")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"table": pd.DataFrame({"subject_id": ["a"]})}, "found none called .*'path'"),
        ({"rank": 4}, "found rank 4"),
        ({"rank": 3, "clip": True}, "found rank 3 of clips"),
        ({"classes": ("background", "tumour"), "mask_values": (0, 1, 2)}, r"Expected a value in the masks for each .* found \[0, 1, 2\]"),
        ({"shape": (4, 6, 5)}, r"Expected 2 axes of every image, found s0_0.png of shape \(4, 6, 5\) and 5 more"),
    ],
)
def test_what_cannot_be_is_refused(changes, match):
    with pytest.raises(DataError, match=match):
        references(**changes)


def test_images_of_strangers_are_refused():
    with pytest.raises(DataError, match=r"Expected every subject with images \(image\) in the table .*'s0'"):
        Cohort("c", pd.DataFrame(index=pd.Index(["s1", "s2"], dtype="str")), Schema([]), images={"image": references()})
