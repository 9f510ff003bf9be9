"""Images of several kinds: rows of one kind are a batch of images, subjects may have several, nothing is mixed."""

import pytest
import torch

from graphssl.data import ImageBuilder, MixedImageBuilder, MixedImages
from graphssl.datasets.simulate_modalities import simulate_modalities
from graphssl.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(scope="module")
def cohort():
    return simulate_modalities(10, size=8, complete=0.4)


@pytest.fixture
def make_builder():
    return lambda **changes: MixedImageBuilder({"radiographs": ImageBuilder(size=8), "volumes": ImageBuilder(size=(4, 8, 8))}, **changes)


def test_every_kind_is_made_by_its_builder_of_its_own_training_subjects(cohort, make_builder):
    builder = make_builder().fit(cohort)
    batch = builder.transform(cohort)
    assert len(batch) == 14  # four patients have both
    assert batch.kinds == ("radiographs",) * 7 + ("volumes",) * 7
    assert len(set(batch.subject_ids)) == 10
    assert batch.parts["volumes"].shape == (7, 1, 4, 8, 8)
    alone = ImageBuilder("volumes", size=(4, 8, 8))
    there = cohort.select([subject for subject in cohort.ids if subject in cohort.images["volumes"].values])
    assert torch.equal(batch.parts["volumes"].images, alone.fit(there).transform(there).images)
    assert set(builder.describe()) == {"radiographs", "volumes"}
    assert "10" not in repr(batch)
    assert "MixedImages(radiographs: ImageBatch(7 images" in repr(batch)


def test_rows_of_one_kind_are_images_and_others_stay_in_order(cohort, make_builder):
    batch = make_builder(in_turn=True).fit(cohort).transform(cohort)
    images = batch[[5, 2]]
    assert images.rank == 2
    assert images.subject_ids == (batch.subject_ids[5], batch.subject_ids[2])
    volumes = batch[torch.tensor([8, 7])]
    assert torch.equal(volumes.images, batch.parts["volumes"].images[[1, 0]])
    both = batch[torch.arange(14) % 2 == 0]
    assert isinstance(both, MixedImages)
    assert both.in_turn
    assert both.subject_ids == batch.subject_ids[::2]
    assert both.to("cpu").device == torch.device("cpu")
    with pytest.raises(DataError, match="Expected rows of one kind of images after those of another, found them mixed"):
        batch[[8, 2]]


def test_a_signature_tells_rows_and_order_of_kinds(cohort, make_builder):
    batches = [make_builder(in_turn=in_turn).fit(cohort).transform(cohort) for in_turn in (False, True)]
    assert batches[0].signature() == make_builder().fit(cohort).transform(cohort).signature()
    assert len({batches[0].signature(), batches[1].signature(), batches[0][[0, 1, 9]].signature()}) == 3


def test_a_cohort_of_one_kind_has_one_part(cohort, make_builder):
    builder = make_builder().fit(cohort)
    there = [subject for subject in cohort.ids if subject not in cohort.images["volumes"].values]
    batch = builder.transform(cohort.select(there))
    assert list(batch.parts) == ["radiographs"]
    assert batch[[0, 1]].rank == 2


def test_the_state_makes_the_same_batches(cohort, make_builder):
    builder = make_builder(in_turn=True).fit(cohort)
    record, tensors = builder.state()
    again = MixedImageBuilder.from_state(record, tensors)
    assert again.in_turn
    assert again.transform(cohort).signature() == builder.transform(cohort).signature()
    assert torch.equal(again.transform(cohort)[[0, 3]].images, builder.transform(cohort)[[0, 3]].images)
    with pytest.raises(CheckpointError, match="Expected the fitted state of a MixedImageBuilder, found none of 'in_turn'"):
        MixedImageBuilder.from_state({"kinds": {}}, {})


def test_kinds_that_are_not_there_are_refused(cohort, make_builder):
    with pytest.raises(ConfigError, match=r"Expected kinds of images of 'modalities' \(radiographs, volumes\), found ultrasound in builders"):
        MixedImageBuilder({"ultrasound": ImageBuilder()}).fit(cohort)
    with pytest.raises(ConfigError, match="found none in builders"):
        MixedImageBuilder({}).fit(cohort)
    only = cohort.select([subject for subject in cohort.ids if subject not in cohort.images["volumes"].values])
    with pytest.raises(DataError, match="Expected training subjects of 'modalities' with images of volumes, found none among 3"):
        make_builder().fit(only)
    with pytest.raises(DataError, match="Expected a fitted builder, found one without training subjects"):
        make_builder().transform(cohort)


def test_a_subject_without_images_is_refused(cohort, make_builder):
    builder = MixedImageBuilder({"radiographs": ImageBuilder(size=8)}).fit(cohort)
    with pytest.raises(DataError, match="Expected an image of radiographs of every subject of 'modalities', found none of 3"):
        builder.transform(cohort)
