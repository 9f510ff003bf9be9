"""A hidden modality told from the others: what is hidden, what is sought, and that nothing leaks."""

import math

import pytest
import torch
from torch.nn import functional as F

from graphssl.data import ImageBatch, Population, PopulationBatch
from graphssl.encoders import GraphTransformer, PopulationTransformer
from graphssl.errors import ConfigError
from graphssl.graphs import PopulationBuilder
from graphssl.objectives.masked_modality import MaskedModality, standardised, told_apart


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(encoder, **arguments):
    torch.manual_seed(1)
    return MaskedModality(**{"hidden": 16, **arguments}).prepare(encoder)


def test_one_modality_of_those_who_have_two_is_hidden(two_modalities, make_multimodal):
    patients, objective = two_modalities(40, no_image=[3], no_table=[5])[1], make(make_multimodal())
    hidden = objective.draw(patients, seeded())
    assert hidden.sum(dim=1).tolist() == [0 if k in (3, 5) else 1 for k in range(40)]
    assert 10 < int(hidden[:, 0].sum()) < 30
    lost = MaskedModality(patients=0.1).draw(patients, seeded())
    everything = (lost == patients.presence).all(dim=1)
    assert int(everything.sum()) == 4
    assert not (lost & ~patients.presence).any()


@pytest.mark.parametrize("visible_weight", [0.0, 0.5])
def test_the_loss_is_that_of_a_loop_over_modalities(visible_weight, two_modalities, make_multimodal):
    patients, encoder = two_modalities(12, no_image=[3], no_table=[5])[1], make_multimodal()
    objective = make(encoder, temperature=0.2, visible_weight=visible_weight).eval()
    encoder.eval()
    loss = objective(encoder, patients, seeded())
    hidden = objective.draw(patients, seeded())
    told, sought = encoder(patients.hide(hidden)).pooled, encoder.separate(patients)
    losses, weights = [], []
    for m, (name, predictor) in enumerate(zip(objective.names, objective.predictors, strict=True)):
        known = [k for k in range(12) if patients.presence[k, m]]
        targets = sought[name].pooled[known].detach()
        targets = (targets - targets.mean(dim=0)) / (targets.var(dim=0, correction=0) + 1e-5).sqrt()
        for k in range(12):
            if hidden[k, m] or (visible_weight and k in known):
                guess = predictor(told[[k]])[0]
                scores = torch.stack([F.cosine_similarity(guess, target, dim=0) / 0.2 for target in targets])
                losses.append((scores.exp().sum().log() - scores[known.index(k)]) / math.log(len(known)))
                weights.append(1.0 if hidden[k, m] else visible_weight)
    expected = (torch.stack(losses) * torch.tensor(weights)).sum() / sum(weights)
    assert ("visible_image_error" in loss.parts) == (visible_weight > 0)
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-4)
    weight = encoder.encoders["table"].patient
    torch.testing.assert_close(torch.autograd.grad(loss.total, weight)[0], torch.autograd.grad(expected, weight)[0], rtol=1e-3, atol=1e-6)


def test_what_is_hidden_of_everybody_gets_no_gradient(two_modalities, make_multimodal, monkeypatch):
    """Neither as something to read nor as what is sought."""
    patients, encoder = two_modalities(8)[1], make_multimodal()
    objective = make(encoder)
    monkeypatch.setattr(objective, "draw", lambda *_: torch.tensor([[True, False]] * 8))
    objective(encoder, patients, seeded()).total.backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in encoder.encoders["image"].parameters())
    assert encoder.encoders["table"].patient.grad.abs().sum() > 0


def test_a_hidden_modality_does_not_reach_the_prediction(two_modalities, make_multimodal, monkeypatch):
    patients, encoder = two_modalities(8)[1], make_multimodal().eval()
    objective = make(encoder).eval()
    hidden = objective.draw(patients, seeded())
    row = int(hidden[:, 0].nonzero()[0])
    images = patients.parts["image"].images.clone()
    images[row] = 100.0
    other = patients.with_parts(image=type(patients.parts["image"])(patients.subject_ids, images))
    before, after = (encoder(each.hide(hidden)).pooled for each in (patients, other))
    torch.testing.assert_close(before, after)
    assert not torch.equal(encoder(other).pooled[row], encoder(patients).pooled[row])


def test_guessing_costs_one_and_giving_everybody_the_same_gains_nothing():
    same = torch.ones(5, 3)
    losses, _ = told_apart(torch.randn(5, 3), standardised(same), torch.arange(5), 0.1)
    assert losses.tolist() == pytest.approx([1.0] * 5)
    targets = standardised(torch.randn(6, 4, generator=seeded()))
    losses, found = told_apart(targets[[2, 4]], targets, torch.tensor([2, 4]), 0.05)
    assert found.all()
    assert losses.max() < 0.1


@pytest.mark.parametrize("lacking", [range(8), range(7)], ids=["nobody has two", "one has"])
def test_without_several_modalities_the_loss_is_zero_and_can_be_differentiated(lacking, two_modalities, make_multimodal):
    patients, encoder = two_modalities(8, no_image=lacking)[1], make_multimodal()
    loss = make(encoder)(encoder, patients, seeded()).total
    loss.backward()
    assert loss.item() == 0.0


def test_training_finds_what_is_hidden_of_unseen_patients(two_modalities, make_multimodal, train):
    patients, encoder = two_modalities(130)[1], make_multimodal()
    objective = make(encoder)
    train(objective, encoder, patients[list(range(100))], n_steps=50, rate=0.003)
    loss = objective.eval()(encoder.eval(), patients[list(range(100, 130))], seeded())
    assert loss.total < 0.8
    assert loss.parts["image_accuracy"] + loss.parts["table_accuracy"] > 10 / 30


def test_in_a_population_neighbours_tell_and_do_not_read_what_is_hidden(two_modalities, make_multimodal):
    """Patients who lose all are told from neighbours alone; with everything about a patient changed, nothing that is told of it changes."""
    cohort, patients = two_modalities(24)
    builder = PopulationBuilder(n_neighbors=4).fit(cohort)
    batch = PopulationBatch(patients, *_nodes(builder.transform(cohort)), Population(patients, builder.population_.graph))
    torch.manual_seed(0)
    encoder = PopulationTransformer(width=16, depth=1, heads=2, dropout=0.0, patient=make_multimodal(), groups=batch.population.graph.groups).eval()
    objective = make(encoder, patients=0.25).eval()
    hidden = objective.draw(patients, seeded())
    lost = hidden.all(dim=1).nonzero().flatten()
    assert len(lost) == 6
    images = patients.parts["image"].images.clone()
    images[lost] = 50.0
    other = patients.with_parts(image=ImageBatch(patients.subject_ids, images))
    changed = PopulationBatch(other, batch.nodes, batch.neighbors, batch.similarity, Population(other, batch.population.graph))
    torch.testing.assert_close(encoder(batch.hide(hidden)).pooled, encoder(changed.hide(hidden)).pooled)
    assert not torch.allclose(encoder(batch).pooled, encoder(changed).pooled)
    loss = objective(encoder, batch, seeded())
    loss.total.backward()
    assert encoder.patient.encoders["image"].conv1.weight.grad.abs().sum() > 0
    assert (encoder(batch.hide(hidden)).pooled[lost].std(dim=0) > 0).any(), "neighbours tell them apart"


def _nodes(batch):
    return batch.nodes, batch.neighbors, batch.similarity


def test_what_makes_no_sense_is_refused(make_multimodal):
    with pytest.raises(ConfigError, match="share of patients in \\[0, 1\\) and visible_weight ≥ 0, found 1 and 0"):
        MaskedModality(patients=1)
    with pytest.raises(ConfigError, match="temperature, hidden above 0"):
        MaskedModality(temperature=0)
    with pytest.raises(ConfigError, match="Expected an encoder of several modalities for MaskedModality, found GraphTransformer"):
        MaskedModality().prepare(GraphTransformer())
    with pytest.raises(ConfigError, match="Call prepare"):
        MaskedModality()(make_multimodal(), None, seeded())
