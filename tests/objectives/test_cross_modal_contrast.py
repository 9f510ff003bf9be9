"""The contrast of image and table: who takes part, and what is learned."""

import pytest
import torch
from torch.nn import functional as F

from graphssl.data import MultimodalBatch
from graphssl.encoders import MultimodalEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.cross_modal_contrast import CrossModalContrast
from graphssl.views import PartViews


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(encoder, **arguments):
    torch.manual_seed(1)
    return CrossModalContrast(**{"width": 8, "hidden": 16, "corruption": 0.0, **arguments}).prepare(encoder)


def test_the_loss_is_that_of_clip_over_those_who_have_both(two_modalities, make_multimodal):
    patients, encoder = two_modalities(10, no_image=[2, 7], no_table=[4])[1], make_multimodal()
    objective = make(encoder, temperature=0.2)
    loss = objective(encoder, patients, seeded())
    both = [0, 1, 3, 5, 6, 8, 9]
    separate = encoder.separate(patients)
    image_head, table_head = objective.projectors
    has_image, has_table = [k for k in range(10) if k not in (2, 7)], [k for k in range(10) if k != 4]
    images = F.normalize(image_head(separate["image"].pooled[has_image])[[has_image.index(k) for k in both]], dim=1)
    tables = F.normalize(table_head(separate["table"].pooled[has_table])[[has_table.index(k) for k in both]], dim=1)
    expected = 0.0
    for anchors, others in ((images, tables), (tables, images)):
        for k, anchor in enumerate(anchors):
            scaled = torch.stack([anchor @ other for other in others]) / 0.2
            expected = expected - (scaled[k] - scaled.exp().sum().log()) / (2 * len(both))
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    weights = [encoder.encoders["image"].conv1.weight, encoder.encoders["table"].patient]
    for mine, theirs in zip(torch.autograd.grad(loss.total, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_who_lacks_or_hides_a_modality_changes_nothing(two_modalities, make_multimodal):
    """Batch normalisation would hear of those who take part with one modality, so it is in its mode of evaluation."""
    patients, encoder = two_modalities(8)[1], make_multimodal().eval()
    objective = make(encoder).eval()
    hidden = torch.zeros(8, 2, dtype=torch.bool)
    hidden[3, 0] = hidden[6, 1] = True
    left = objective(encoder, patients[[0, 1, 2, 4, 5, 7]], seeded()).total
    assert objective(encoder, patients.hide(hidden), seeded()).total.item() == pytest.approx(left.item(), rel=1e-5)
    changed = patients.parts["image"].images.clone()
    changed[3] += 5.0
    other = patients.with_parts(image=type(patients.parts["image"])(patients.subject_ids, changed))
    assert objective(encoder, other.hide(hidden), seeded()).total.item() == pytest.approx(left.item(), rel=1e-5)


@pytest.mark.parametrize("lacking", [range(7), range(8)], ids=["one pair", "no image at all"])
def test_without_pairs_the_loss_is_zero_and_can_be_differentiated(lacking, two_modalities, make_multimodal):
    patients, encoder = two_modalities(8, no_image=lacking)[1], make_multimodal()
    loss = make(encoder)(encoder, patients, seeded()).total
    loss.backward()
    assert loss.item() == 0.0


def test_tables_are_corrupted_by_those_of_others_and_images_are_not(two_modalities, make_multimodal):
    patients, encoder = two_modalities(30)[1], make_multimodal()
    seen = make(encoder, corruption=0.4).look(patients, seeded())
    assert seen.parts["image"] is patients.parts["image"]
    before, after = patients.parts["table"], seen.parts["table"]
    moved = torch.cat([before.numbers != after.numbers, before.codes != after.codes], dim=1).float().mean()
    assert 0.2 < float(moved) <= 0.4
    assert set(after.numbers.flatten().tolist()) <= set(before.numbers.flatten().tolist())


def test_images_are_seen_through_the_view(two_modalities, make_multimodal, noise):
    patients, encoder = two_modalities(6)[1], make_multimodal()
    seen = make(encoder, view=PartViews({"image": noise()}), corruption=0.4).look(patients, seeded())
    assert not torch.equal(seen.parts["table"].numbers, patients.parts["table"].numbers)
    assert not torch.equal(seen.parts["image"].images, patients.parts["image"].images)


def test_training_brings_image_and_table_of_unseen_patients_together(two_modalities, make_multimodal, train):
    patients, encoder = two_modalities(80)[1], make_multimodal()
    objective = make(encoder, corruption=0.2)
    train(objective, encoder, patients[list(range(60))], n_steps=60, rate=0.01)
    unseen = patients[list(range(60, 80))]
    loss = objective.eval()(encoder.eval(), unseen, seeded())
    assert loss.parts["image_to_table_accuracy"] > 4 / 20
    assert loss.parts["table_to_image_accuracy"] > 4 / 20


def test_three_modalities_are_compared_two_by_two(two_modalities, make_multimodal):
    patients, encoder = two_modalities(8)[1], make_multimodal()
    parts = {**patients.parts, "second": patients.parts["image"]}
    three = MultimodalEncoder({**encoder.encoders, "second": encoder.encoders["image"]}, dropout_modality=0.0)
    loss = make(three)(three, MultimodalBatch.of(parts), seeded())
    assert sum(name.endswith("accuracy") for name in loss.parts) == 6
    loss = make(three, modalities=["second", "table"])(three, MultimodalBatch.of(parts), seeded())
    assert {name for name in loss.parts if name.endswith("accuracy")} == {"second_to_table_accuracy", "table_to_second_accuracy"}


def test_labels_are_a_feature_of_tables_where_they_are_known(two_modalities, make_multimodal):
    cohort, patients = two_modalities(8)
    encoder = make_multimodal()
    assert not CrossModalContrast().reads_labels
    told = CrossModalContrast(label="ill", width=8, hidden=16, corruption=0.0).with_labels({"p0": "no", "p1": "yes", "p5": "no"})
    objective = told.for_cohort(cohort).fresh().prepare(encoder)
    assert objective.reads_labels
    assert objective.class_of == {"p0": 0, "p1": 1, "p5": 0}, "those that were given, not those of the cohort"
    seen = objective.described("table", torch.zeros(8, 3), patients)[:, 3:]
    assert seen.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [1, 0], [0, 0], [0, 0]]
    assert objective.described("image", seen, patients) is seen
    objective(encoder, patients, seeded()).total.backward()
    assert objective.projectors[1][0].weight.grad[:, -2:].abs().sum() > 0
    everybody = CrossModalContrast(label="ill").for_cohort(cohort)
    assert everybody.class_of == {subject: int(label == "yes") for subject, label in cohort.subjects["ill"].items()}
    assert CrossModalContrast().with_labels({"p0": "no"}).class_of is None


def test_what_makes_no_sense_is_refused(make_multimodal, make_resnet):
    with pytest.raises(ConfigError, match="Expected a CrossModalContrast that knows labels, found one without"):
        CrossModalContrast(label="ill").prepare(make_multimodal())
    with pytest.raises(DataError, match="two classes or more as a feature, found \\['no'\\]"):
        CrossModalContrast(label="ill").with_labels({"p0": "no"})
    told = CrossModalContrast(label="ill").with_labels({"p0": "no", "p1": "yes"})
    with pytest.raises(ConfigError, match="Expected an encoder of tables where labels are a feature, found none"):
        told.prepare(MultimodalEncoder({"a": make_resnet(), "b": make_resnet()}))
    with pytest.raises(ConfigError, match="temperature, width, hidden above 0"):
        CrossModalContrast(temperature=0.0)
