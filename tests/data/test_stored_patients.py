"""Patients of several modalities written down and read back, their images by reference."""

import json
import shutil

import pytest
import torch

from graphssl.atlases import load_atlas
from graphssl.data import ColumnTokenizer, EmbeddedBatch, EventTokenizer, ImageBuilder, MultimodalBatch, MultimodalBuilder, TimelineTokenizer
from graphssl.data.stored_patients import images_at, restored_patients, stored_patients
from graphssl.datasets import simulate_multimodal
from graphssl.errors import ConfigError, DataError
from graphssl.graphs import ConnectomeBuilder


def decoded(batch):
    return sum(batch.parts[name].references.source._images.n_stored for name in ("image", "volume") if name in batch.parts)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    shares = {"connectome": 0.6, "table": 1.0, "events": 0.6, "image": 0.5, "volume": 0.5}
    return simulate_multimodal([load_atlas("simulated24")], n_subjects=12, size=8, shares=shares, folder=tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def builder(cohort):
    modalities = {
        "connectome": ConnectomeBuilder(covariates=["age"]),
        "table": ColumnTokenizer(n_pieces=4),
        "events": EventTokenizer(min_subjects=2),
        "timeline": TimelineTokenizer(min_subjects=2),
        "image": ImageBuilder("image"),
        "volume": ImageBuilder("volume"),
    }
    return MultimodalBuilder(modalities).fit(cohort)


@pytest.fixture(scope="module")
def batch(builder, cohort):
    return builder.transform(cohort)


def again(batch, builder):
    record, tensors = stored_patients(batch)
    return restored_patients(batch.subject_ids, json.loads(json.dumps(record)), tensors, builder)


def test_all_is_as_it_was_and_nothing_is_decoded(batch, builder):
    found = again(batch, builder)
    assert decoded(batch) == decoded(found) == 0
    assert found.signature() == batch.signature()
    assert found.modalities == batch.modalities
    assert bool(found.same_rows(batch).all())
    assert torch.equal(found.parts["connectome"].covariates.numbers, batch.parts["connectome"].covariates.numbers)
    assert torch.equal(found.parts["connectome"].centroids, batch.parts["connectome"].centroids)
    assert found.parts["volume"].groups == batch.parts["volume"].groups
    everybody = torch.arange(len(batch))
    assert torch.equal(found[everybody].parts["image"].images, batch[everybody].parts["image"].images)
    assert torch.equal(found[everybody].parts["volume"].masks, batch[everybody].parts["volume"].masks)


def test_what_was_decoded_is_referred_to_all_the_same(builder, cohort):
    batch = builder.transform(cohort)
    assert batch.parts["image"].images.shape[1:] == (1, 8, 8)
    assert batch.parts["image"].pending is None
    assert again(batch, builder).signature() == builder.transform(cohort).signature()


def test_some_patients_keep_their_own_images(batch, builder):
    having = batch.presence[:, batch.modalities.index("image")].nonzero().flatten()
    some = batch[having[[2, 0]]]
    found = again(some, builder)
    assert torch.equal(found.parts["image"].images, some.parts["image"].images)
    assert found.parts["image"].subject_ids == some.parts["image"].subject_ids


def test_files_that_were_moved_are_found_where_they_are_said_to_be(batch, builder, tmp_path):
    found = again(batch, builder)
    root = found.parts["image"].references.source.data.root
    shutil.copytree(root, tmp_path / "moved")
    moved = images_at(found, "image", tmp_path / "moved")
    assert moved.parts["image"].references.source.data.root == tmp_path / "moved"
    assert torch.equal(moved.parts["image"].images, found.parts["image"].images)
    with pytest.raises(DataError, match=r"found nothing. Where files were moved, say where: .* model.builder.images_at"):
        _ = images_at(found, "image", tmp_path / "nowhere").parts["image"].images
    with pytest.raises(ConfigError, match="Expected a modality of images among image, volume, found 'table'"):
        images_at(found, "table", tmp_path)


def test_what_cannot_be_referred_to_is_refused(batch):
    pixels = batch.with_parts(image=batch.parts["image"].changed(images=torch.zeros(batch.parts["image"].shape)))
    with pytest.raises(DataError, match="Expected the images of image by reference, found pixels. Make the patients with the builder"):
        stored_patients(pixels)
    made = EmbeddedBatch(("a",), torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 2))
    with pytest.raises(DataError, match="columns, bins, events, connectomes or images to keep of image, found a EmbeddedBatch"):
        stored_patients(MultimodalBatch.of({"image": made}))
