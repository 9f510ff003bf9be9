"""Patients with several kinds of data: rows find their patients, what is missing stays missing, and nobody's data stand for another's."""

import pytest
import torch

from graphssl.data import ColumnTokenizer, ImageBuilder, MixedImageBuilder, MultimodalBatch, MultimodalBuilder
from graphssl.data.image_batch import ImageBatch
from graphssl.datasets import simulate_images
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.graphs import ConnectomeBuilder


@pytest.fixture(scope="module")
def builder(patients):
    modalities = {"connectome": ConnectomeBuilder(), "table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")}
    return MultimodalBuilder(modalities).fit(patients)


@pytest.fixture(scope="module")
def batch(builder, patients):
    return builder.transform(patients)


def images_of(*subjects):
    return ImageBatch(tuple(subjects), torch.arange(4.0 * len(subjects)).view(-1, 1, 2, 2))


def test_a_row_is_a_patient_with_what_there_is(batch, patients):
    assert batch.subject_ids == tuple(patients.ids)
    assert batch.modalities == ("connectome", "table", "image")
    assert batch.presence.sum(dim=0).tolist() == [32, 36, 24]
    assert bool(batch.presence.any(dim=1).all())
    assert repr(batch) == "MultimodalBatch(40 patients; connectome of 32, table of 36, image of 24; cpu)"
    for number, name in enumerate(batch.modalities):
        owners = {batch.parts[name].subject_ids[row] for row in batch.rows[name][:, 0].tolist() if row >= 0}
        assert owners == {subject for subject, there in zip(patients.ids, batch.presence[:, number].tolist(), strict=True) if there}


def test_rows_are_taken_with_what_is_theirs_and_images_stay_references(batch):
    some = batch[[7, 3, 7]]
    assert some.subject_ids == tuple(batch.subject_ids[k] for k in (7, 3, 7))
    assert torch.equal(some.presence, batch.presence[[7, 3, 7]])
    assert max(len(part) for part in some.parts.values()) <= 2
    assert all(some.parts["image"].pending is not None for _ in [0] if "image" in some.parts)
    one = batch[batch.presence.sum(dim=1) == 3]
    row = int(one.rows["table"][1, 0])
    full = int(batch.rows["table"][batch.subject_ids.index(one.subject_ids[1]), 0])
    assert torch.equal(one.parts["table"].numbers[row], batch.parts["table"].numbers[full])


def test_nobody_with_a_modality_leaves_it_among_the_names(batch):
    without_image = (~batch.presence[:, 2]).nonzero().flatten()
    some = batch[without_image]
    assert "image" not in some.parts
    assert some.modalities == batch.modalities
    assert some.rows["image"].shape == (len(without_image), 0)
    alone = batch.without("table", "connectome")
    assert set(alone.parts) == {"image"}
    assert torch.equal(alone.presence[:, 2], batch.presence[:, 2])
    with pytest.raises(DataError, match="Expected modalities among connectome, table, image, found 'text'"):
        batch.without("text")


def test_hidden_and_not_there_are_two_states(batch):
    everything = torch.ones(len(batch), 3, dtype=torch.bool)
    hidden = batch.hide(everything)
    assert not bool(hidden.presence.any())
    assert torch.equal(hidden.hidden, batch.there)
    assert torch.equal(hidden.there, batch.there)
    some = batch.hide_in(torch.tensor([4]), torch.tensor([[True, False, False]]))
    assert some.hidden.sum() == 1
    assert not bool(batch.hidden.any())
    assert len({batch.signature(), some.signature(), batch[[0, 1]].signature()}) == 3


def test_batches_are_joined_compared_and_moved(batch):
    joined = MultimodalBatch.cat([batch[list(range(9))], batch.without("image")[[9]], batch[list(range(10, 40))]])
    lost = joined.presence != batch.presence
    assert lost.nonzero().tolist() == ([[9, 2]] if bool(batch.presence[9, 2]) else [])
    same = joined.same_rows(batch)
    assert same.tolist() == [not bool(lost[k].any()) for k in range(40)]
    swapped = batch.with_parts(table=batch.parts["table"].hide(torch.ones_like(batch.parts["table"].measured)))
    assert torch.equal(swapped.same_rows(batch), ~batch.presence[:, 1])
    moved = batch[[0, 1, 2]].to("cpu")
    assert bool(moved.same_rows(batch[[0, 1, 2]]).all())
    assert moved.device == torch.device("cpu")
    with pytest.raises(DataError, match="Expected at least one batch of patients, found none"):
        MultimodalBatch.cat([])
    with pytest.raises(DataError, match="Expected batches of the same modalities, found"):
        MultimodalBatch.cat([batch, MultimodalBatch.of({"image": batch.parts["image"]})])


def test_images_of_another_size_are_not_the_same():
    small, large = (MultimodalBatch.of({"image": ImageBatch(("a",), torch.zeros(1, 1, n, n))}) for n in (2, 4))
    assert small.same_rows(large).tolist() == [False]
    assert small.same_rows(small).tolist() == [True]


def test_a_patient_may_have_several_rows():
    both = MultimodalBatch.of({"image": images_of("a", "b", "a", "c"), "other": images_of("c", "a")})
    assert both.subject_ids == ("a", "b", "c")
    assert both.rows["image"].tolist() == [[0, 2], [1, -1], [3, -1]]
    assert both.rows["other"].tolist() == [[1], [-1], [0]]
    some = both[[1, 2]]
    assert some.rows["image"].tolist() == [[0], [1]]
    assert torch.equal(some.parts["image"].images, both.parts["image"].images[[1, 3]])
    back = both[[2, 0]]
    assert back.parts["image"].images[back.rows["image"][1]].flatten().tolist() == [*range(4), *range(8, 12)]


def test_sources_of_different_patients_are_told_by_their_ids():
    with pytest.raises(DataError, match=r"Expected modalities of the same patients, found none of those with image \(\['a', 'b'\]\)"):
        MultimodalBatch.of({"image": images_of("a", "b"), "other": images_of("x", "y")})
    with pytest.raises(DataError, match=r"Expected image of the 1 patients that are given, found 1 rows of others: \['b'\]"):
        MultimodalBatch.of({"image": images_of("a", "b")}, ["a"])
    with pytest.raises(DataError, match="Expected every row of image to be of its patient, found 1 that are not.*b in the row of a"):
        MultimodalBatch(("a",), {"image": images_of("a", "b")}, {"image": torch.tensor([[1]])})
    with pytest.raises(DataError, match="Expected rows among the 2 of image, found others"):
        MultimodalBatch(("a",), {"image": images_of("a", "b")}, {"image": torch.tensor([[2]])})
    with pytest.raises(DataError, match=r"Expected rows \[1, K\] of each of 1 modalities"):
        MultimodalBatch(("a",), {"image": images_of("a")}, {"image": torch.tensor([0])})
    with pytest.raises(DataError, match="no rows of"):
        MultimodalBatch(("a",), {"image": images_of("a")}, {"table": torch.tensor([[-1]])})
    with pytest.raises(DataError, match="Expected at least one modality, found none"):
        MultimodalBatch.of({})


def test_every_builder_is_fitted_on_those_who_have_its_data(builder, patients):
    there = patients.select([subject for subject in patients.ids if subject in patients.images["image"].values])
    alone = ImageBuilder("image").fit(there)
    assert builder.builders_["image"].preparation_ == alone.preparation_
    assert builder.counts_ == {"": 40, "connectome": 32, "table": 36, "image": 24}
    assert builder.describe()["image"].startswith("of 24 of 40 training subjects; images: image, 1 × 8 × 8")
    assert set(builder.layout()["modalities"]) == {"table"}
    assert builder.readable(patients) == patients.ids


def test_a_builder_comes_back_from_its_state(builder, batch, patients):
    record, tensors = builder.state()
    again = MultimodalBuilder.from_state(record, tensors)
    assert bool(again.transform(patients).same_rows(batch).all())
    assert again.describe() == builder.describe()
    for damaged in ({**record, "modalities": {"image": {"class": "Nothing"}}}, {"modalities": record["modalities"]}):
        with pytest.raises(CheckpointError, match="Expected the fitted state of a MultimodalBuilder, found none of"):
            MultimodalBuilder.from_state(damaged, tensors)


def test_a_modality_that_nobody_of_a_new_cohort_has_is_said(builder, patients):
    without = [subject for subject in patients.ids if subject not in patients.images["image"].values]
    batch = builder.transform(patients.select(without))
    assert batch.presence[:, 2].sum() == 0
    assert builder.absent(patients.select(without)) == ["image"]
    assert builder.absent(patients) == []


def test_a_modality_that_no_training_subject_has_is_refused(patients):
    images = simulate_images(4, size=8, name="image")
    with pytest.raises(DataError, match="Expected training subjects of 'image' with connectome, found none among 4"):
        MultimodalBuilder({"image": ImageBuilder(), "connectome": ConnectomeBuilder()}).fit(images)


def test_a_subject_without_anything_or_without_what_is_required_is_named(builder, patients):
    bare = next(s for s in patients.ids if s not in patients.images["image"].values)
    with pytest.raises(DataError, match=rf"Expected image of every subject of 'multimodal', found nothing of 16: \['{bare}'"):
        MultimodalBuilder({"image": ImageBuilder("image")}).fit(patients)
    required = MultimodalBuilder({"image": ImageBuilder("image"), "table": ColumnTokenizer(), "connectome": ConnectomeBuilder()}, ("image",))
    with pytest.raises(DataError, match="Expected image of every subject of 'multimodal', as it is required, found none of 16"):
        required.fit(patients)


def test_a_builder_of_nothing_or_of_several_kinds_is_refused(patients):
    with pytest.raises(ConfigError, match="Expected modalities by name and those required among them, found none"):
        MultimodalBuilder({}).fit(patients)
    with pytest.raises(ConfigError, match="found table and .'image'."):
        MultimodalBuilder({"table": ColumnTokenizer()}, ("image",)).fit(patients)
    with pytest.raises(ConfigError, match="Expected names of modalities of letters, digits and underscores.*'my image'"):
        MultimodalBuilder({"my image": ImageBuilder()}).fit(patients)
    with pytest.raises(ConfigError, match="Expected a builder of one kind of rows for both, found a MixedImageBuilder"):
        MultimodalBuilder({"both": MixedImageBuilder({"image": ImageBuilder()})}).fit(patients)
    with pytest.raises(DataError, match="Expected a fitted builder"):
        MultimodalBuilder({"table": ColumnTokenizer()}).transform(patients)


def test_series_and_unknown_categories_pass_through(builder, patients):
    assert builder.transform(patients, series=True).parts["connectome"].scans is not None
    assert builder.unknown(patients).columns.tolist() == ["sex"]
