"""From a cohort to a batch of images: what is learned, on whom, and what is refused."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.data import Cohort, Column, ImageBuilder, ImageData, Schema
from graphssl.data.image_files import content_hash
from graphssl.errors import CheckpointError, ConfigError, DataError

COLUMNS = ["subject_id", "path", "part", "hash", "channels", "shape", "spacing", "mask_path", "mask_part", "mask_hash"]


def array_cohort(tmp_path, values, name="a", **changes):
    """A cohort of the entries of an array, subjects `a0`, `a1`, …"""
    path = tmp_path / f"{name}.npz"
    np.savez(path, images=values)
    shape = values.shape[1:3] if changes.get("rank", 2) == 2 and not changes.get("clip") else values.shape[1:4]
    channels = values.shape[len(shape) + 1] if values.ndim > len(shape) + 1 else 1
    digest = content_hash(path)
    rows = [(f"{name}{k}", path.name, f"images[{k}]", digest, channels, shape, (), "", "", "") for k in range(len(values))]
    data = ImageData(pd.DataFrame(rows, columns=COLUMNS), **{"rank": 2, "root": tmp_path, **changes})
    return cohort_of(data)


def volume_cohort(tmp_path, shapes, spacings):
    rows = []
    for k, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True)):
        path = tmp_path / f"v{k}.nii"
        nibabel.save(nibabel.Nifti1Image(np.full(shape[::-1], k + 1, np.int16), np.diag([*(spacing or (1, 1, 1))[::-1], 1.0])), path)
        rows.append((f"v{k}", path.name, "", content_hash(path), 1, shape, spacing, "", "", ""))
    return cohort_of(ImageData(pd.DataFrame(rows, columns=COLUMNS), 3, root=tmp_path))


def cohort_of(data):
    ids = list(dict.fromkeys(data.table["subject_id"]))
    families = pd.Series([subject[0] for subject in ids], index=ids)
    cohort = Cohort("pictures", pd.DataFrame(index=pd.Index(ids, dtype="str")), Schema([]), images={"image": data})
    return cohort.with_column(Column("family", "text", "group"), families)


def test_intensities_are_learned_from_training_subjects_only(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (12, 6, 5, 3), dtype=np.uint8)
    cohort = array_cohort(tmp_path, values)
    train = cohort.select(cohort.ids[:8])
    builder = ImageBuilder().fit(train)
    pixels = values[:8].reshape(-1, 3) / 1.0
    assert np.allclose(builder.preparation_.mean, pixels.mean(axis=0))
    assert np.allclose(builder.preparation_.std, pixels.std(axis=0))
    batch = builder.transform(cohort)
    assert batch.pending is not None
    assert batch.shape == (12, 3, 6, 5)
    expected = (values[11].transpose(2, 0, 1) - pixels.mean(axis=0)[:, None, None]) / pixels.std(axis=0)[:, None, None]
    assert np.allclose(batch[[11]].images[0], expected, atol=1e-5)
    assert batch.groups == {"group": ("a0",) * 12}  # one family, called by its first member


def test_a_unit_is_the_range_of_eight_bits_or_of_the_training_images(tmp_path):
    values = np.linspace(10, 200, 4 * 9).reshape(4, 3, 3)
    eight = ImageBuilder(scale="unit").fit(array_cohort(tmp_path, values.astype(np.uint8), "a"))
    assert eight.preparation_.window == (0.0, 255.0)
    cohort = array_cohort(tmp_path, values, "b")
    wide = ImageBuilder(scale="unit").fit(cohort)
    assert wide.preparation_.window == (10.0, 200.0)
    images = wide.transform(cohort).images
    assert (images.min(), images.max()) == (0.0, 1.0)
    given = ImageBuilder(scale="unit", window=(50, 60), size=2).fit(cohort)
    assert given.preparation_.window == (50.0, 60.0)
    assert given.transform(cohort).shape == (4, 1, 2, 2)


def test_volumes_of_several_spacings_come_to_the_median_of_the_training_ones(tmp_path):
    shapes, spacings = [(4, 10, 10), (8, 10, 12), (4, 20, 20)], [(2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.0, 0.5, 0.5)]
    cohort = volume_cohort(tmp_path, shapes, spacings)
    builder = ImageBuilder(scale="none").fit(cohort)
    assert builder.preparation_.spacing == (2.0, 1.0, 1.0)
    assert builder.preparation_.size == (4, 10, 10)
    assert builder.preparation_.framing == "crop"
    batch = builder.transform(cohort)
    assert batch.rank == 3
    assert [images.unique().tolist() for images in batch.images] == [[1.0], [2.0], [3.0]]


def test_clips_take_their_frames(tmp_path):
    values = np.arange(10, dtype=np.uint8)[None, :, None, None] + np.zeros((3, 1, 6, 6), np.uint8)
    cohort = array_cohort(tmp_path, values, clip=True)
    batch = ImageBuilder(size=(4, 3, 3), scale="none").fit(cohort).transform(cohort)
    assert batch.clip
    assert batch.images[2, 0, :, 1, 1].tolist() == [0.0, 3.0, 6.0, 9.0]


def test_state_comes_back_from_json(tmp_path):
    cohort = volume_cohort(tmp_path, [(4, 5, 6)] * 3, [(2.0, 1.0, 1.0)] * 3)
    builder = ImageBuilder(size=(3, 4, 5), spacing=(2.0, 1.5, 1.0), window=(0, 2)).fit(cohort)
    record, tensors = builder.state()
    again = ImageBuilder.from_state(json.loads(json.dumps(record)), tensors)
    assert again.preparation_ == builder.preparation_
    assert torch.equal(again.transform(cohort).images, builder.transform(cohort).images)
    assert again.describe() == {"volumes": "image, 1 × 3 × 4 × 5, voxels of 2 × 1.5 × 1 mm, crop, intensities by training"}
    with pytest.raises(CheckpointError, match="none of 'preparation'"):
        ImageBuilder.from_state({key: value for key, value in record.items() if key != "preparation"}, {})


def test_spacing_that_is_known_of_some_is_refused_unless_it_is_not_used(tmp_path):
    cohort = volume_cohort(tmp_path, [(4, 5, 6)] * 3, [(2.0, 1.0, 1.0), (), ()])
    with pytest.raises(DataError, match=r"the spacing of every volume, found none of 2 of 3, such as v1\.nii"):
        ImageBuilder().fit(cohort)
    assert ImageBuilder(spacing=None).fit(cohort).preparation_.spacing is None


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"images": "ct"}, r"images called 'ct' .* found \['image'\]"),
        ({"size": (2, 3)}, r"a size along 3 axes, found \(2, 3\)"),
        ({"spacing": (1.0, 1.0)}, r"a spacing along 3 axes of space, found \(1.0, 1.0\)"),
        ({"spacing": "mean"}, "a spacing in mm, 'median' or None, found 'mean'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, arguments, match):
    with pytest.raises(ConfigError, match=match):
        ImageBuilder(**arguments).fit(volume_cohort(tmp_path, [(4, 5, 6)] * 2, [(2.0, 1.0, 1.0)] * 2))


def test_cohorts_that_do_not_fit_are_refused(tmp_path):
    cohort = array_cohort(tmp_path, np.zeros((3, 4, 4), np.uint8))
    bare = Cohort("bare", cohort.subjects, cohort.schema)
    empty = Cohort("empty", cohort.subjects, cohort.schema, images={"image": cohort.images["image"].select([])})
    two = Cohort("two", cohort.subjects, cohort.schema, images={"image": cohort.images["image"], "mr": cohort.images["image"]})
    with pytest.raises(DataError, match="to have images, found none"):
        ImageBuilder().fit(bare)
    with pytest.raises(DataError, match="with images, found none among 3"):
        ImageBuilder().fit(empty)
    with pytest.raises(ConfigError, match=r"one kind of images .* found \['image', 'mr'\]. Name one"):
        ImageBuilder().fit(two)
    builder = ImageBuilder().fit(cohort)
    with pytest.raises(DataError, match="found none without|a fitted builder, found one without"):
        ImageBuilder().transform(cohort)
    with pytest.raises(DataError, match="images called 'image' in 'bare', found none"):
        builder.transform(bare)
    part = Cohort("part", cohort.subjects, cohort.schema, images={"image": cohort.images["image"].select(["a1"])})
    with pytest.raises(DataError, match=r"an image of every subject .* none of 2: \['a0', 'a2'\]"):
        builder.transform(part)
    with pytest.raises(DataError, match="images of rank 2, as in training, found volumes"):
        builder.transform(volume_cohort(tmp_path, [(4, 5, 6)], [()]))
    table = cohort.images["image"].table.assign(mask_path="mask.png", mask_hash="0")
    masked = Cohort("masked", cohort.subjects, cohort.schema, images={"image": ImageData(table, 2, classes=("nothing", "cyst"))})
    with pytest.raises(DataError, match=r"masks of the classes \[\], as in training, found \['nothing', 'cyst'\]"):
        builder.transform(masked)
