"""Concepts in common as targets: against loops, without pairs, and with what it learns."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.data import Cohort, Schema
from graphssl.errors import ConfigError, LeakageError, SchemaError
from graphssl.objectives.cross_modal_concepts import ConceptContrast, concept_shares, concept_vectors


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(cohort, encoder, **arguments):
    torch.manual_seed(1)
    given = {"concepts": ["ward"], "width": 8, "hidden": 16, "corruption": 0.0, **arguments}
    return ConceptContrast(**given).for_cohort(cohort).fresh().prepare(encoder)


def test_concepts_are_one_minus_one_and_zero():
    frame = pd.DataFrame(
        {
            "sepsis": ["yes", "no", None, "yes", "no"],
            "organ": ["lung", "liver", "lung", None, "heart"],
            "lactate": [1.0, 1.1, 0.9, 9.0, np.nan],
        },
        index=list("abcde"),
    )
    found = concept_vectors(Cohort("c", frame, Schema.infer(frame)), ["sepsis", "organ", "lactate"])
    assert found[:, 0].tolist() == [0, 0, 0, 1, 0], "far above the usual is a concept"
    assert found[:, 1].tolist() == [1, -1, 0, 1, -1]
    assert found[:, 2:].tolist() == [[-1, -1, 1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0], [1, -1, -1]]


def test_shares_are_those_of_a_loop_and_patients_without_concepts_share_alike():
    first, second = torch.tensor([[1.0, -1.0], [0.0, 0.0]]), torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, 0.0]])
    forth, back = concept_shares(first, second, temperature=0.5)
    weights = [math.exp(sum(u * v for u, v in zip(first[0].tolist(), other.tolist(), strict=True)) / 0.5) for other in second]
    assert forth[0].tolist() == pytest.approx([weight / sum(weights) for weight in weights])
    assert forth[1].tolist() == pytest.approx([1 / 3] * 3)
    assert back.shape == (3, 2)
    assert back[2].tolist() == pytest.approx([1 / (1 + math.exp(2.0)), 1 / (1 + math.exp(-2.0))])


def test_concepts_that_nobody_shares_make_it_the_hard_contrast():
    own = 200.0 * torch.eye(4)
    forth, back = concept_shares(own, torch.eye(4))
    torch.testing.assert_close(forth, torch.eye(4))
    torch.testing.assert_close(back, torch.eye(4))


def test_images_of_some_patients_are_compared_with_tables_of_others(two_modalities, make_multimodal):
    cohort, patients = two_modalities(8, no_image=range(4), no_table=range(4, 8))
    encoder = make_multimodal()
    objective = make(cohort, encoder)
    loss = objective(encoder, patients, seeded())
    separate = encoder.separate(patients)
    image_head, table_head = objective.projectors
    images = torch.nn.functional.normalize(image_head(separate["image"].pooled[4:]), dim=1)
    tables = torch.nn.functional.normalize(table_head(separate["table"].pooled[:4]), dim=1)
    ward = [1.0 if word == "icu" else -1.0 for word in cohort.subjects["ward"]]
    expected = 0.0
    for anchors, others, mine, theirs in ((images, tables, ward[4:], ward[:4]), (tables, images, ward[:4], ward[4:])):
        for anchor, concept in zip(anchors, mine, strict=True):
            shares = torch.tensor([math.exp(concept * other) for other in theirs])
            logits = torch.stack([anchor @ other for other in others]) / 0.07
            expected = expected - (shares / shares.sum() * (logits - logits.exp().sum().log())).sum() / 8
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-4)
    weight = encoder.encoders["image"].conv1.weight
    torch.testing.assert_close(torch.autograd.grad(loss.total, weight)[0], torch.autograd.grad(expected, weight)[0], rtol=1e-3, atol=1e-5)


def test_the_scale_is_learned_and_stays_between_one_and_a_hundred(two_modalities, make_multimodal):
    cohort, patients = two_modalities(8)
    encoder = make_multimodal()
    objective = make(cohort, encoder, temperature=0.07)
    assert objective.scale().item() == pytest.approx(1 / 0.07)
    objective(encoder, patients, seeded()).total.backward()
    assert objective.log_scale.grad.abs() > 0
    for start, kept in ((9.0, math.log(100)), (-3.0, 0.0)):
        objective.log_scale.data.fill_(start)
        objective.after_step(encoder, 0.5)
        assert objective.log_scale.item() == pytest.approx(kept)


def test_training_without_one_pair_tells_the_ward_from_the_image(two_modalities, make_multimodal, train):
    cohort, patients = two_modalities(80, no_image=range(0, 60, 2), no_table=range(1, 60, 2))
    encoder = make_multimodal()
    objective = make(cohort, encoder)
    train(objective, encoder, patients[list(range(60))], n_steps=40, rate=0.01)
    unseen = patients[list(range(60, 80))]
    with torch.no_grad():
        separate = encoder.eval().separate(unseen)
        image, table = (head.eval()(separate[name].pooled) for name, head in zip(objective.names, objective.projectors, strict=True))
    nearest = torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(table, dim=1).T
    ward = (cohort.subjects["ward"] == "icu").to_numpy()[60:]
    assert np.mean(ward[nearest.argmax(dim=1).numpy()] == ward) > 0.75


def test_what_makes_no_sense_is_refused(two_modalities, make_multimodal):
    cohort, _ = two_modalities(6)
    with pytest.raises(ConfigError, match="Expected columns that hold concepts, found none named"):
        ConceptContrast([])
    with pytest.raises(ConfigError, match="Expected a temperature in \\[0.01, 1\\], found 2"):
        ConceptContrast(["ward"], temperature=2)
    with pytest.raises(ConfigError, match="concept_temperature above 0"):
        ConceptContrast(["ward"], concept_temperature=0)
    with pytest.raises(ConfigError, match="Expected a ConceptContrast that knows concepts"):
        ConceptContrast(["ward"]).prepare(make_multimodal())
    with pytest.raises(LeakageError, match="ill"):
        ConceptContrast(["ill"]).for_cohort(cohort)
    with pytest.raises(SchemaError, match="icd"):
        ConceptContrast(["icd"]).for_cohort(cohort)
