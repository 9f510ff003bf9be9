"""TIP: its three losses against loops, who takes part in which, and what is learned."""

import pytest
import torch
from torch.nn import functional as F

from graphssl.encoders import Embedding
from graphssl.encoders.fusion import Concatenation
from graphssl.encoders.token_fusion import CrossAttention
from graphssl.errors import ConfigError
from graphssl.objectives.choose import choose_share
from graphssl.objectives.cross_modal_contrast import CrossModalContrast
from graphssl.objectives.cross_modal_matching import TIP, wrong_partners


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def encoder(make_multimodal):
    return make_multimodal(CrossAttention(16, asks="table", depth=1, heads=2, dropout=0.0))


def make(encoder, **arguments):
    torch.manual_seed(1)
    return TIP(**{"width": 8, "hidden": 16, **arguments}).prepare(encoder)


def test_wrong_partners_are_never_the_right_ones_and_mostly_the_most_alike():
    logits = torch.tensor([[9.0, 5.0, 0.0, 0.0], [0.0, 9.0, 5.0, 0.0], [0.0, 0.0, 9.0, 5.0], [5.0, 0.0, 0.0, 9.0]])
    drawn = torch.stack([wrong_partners(logits, seeded(k)) for k in range(200)])
    assert not (drawn == torch.arange(4)).any()
    assert (drawn == torch.tensor([1, 2, 3, 0])).float().mean() > 0.9
    sure = torch.stack([wrong_partners(1e4 * torch.eye(3), seeded(k)) for k in range(20)])
    assert len(sure[:, 0].unique()) == 2, "one is drawn where the contrast is sure"


def test_the_contrast_is_that_of_tables_as_they_are(two_modalities, encoder):
    patients, objective = two_modalities(9, no_image=[2], no_table=[5])[1], make(encoder)
    hard = CrossModalContrast(corruption=0.0, width=8, hidden=16).prepare(encoder)
    hard.projectors.load_state_dict(objective.projectors.state_dict())
    loss = objective(encoder, patients, seeded())
    assert loss.parts["contrast_loss"].item() == pytest.approx(hard(encoder, patients, seeded()).total.item(), rel=1e-5)
    three = sum(loss.parts[f"{name}_loss"].item() for name in ("contrast", "matching", "columns")) / 3
    assert loss.total.item() == pytest.approx(three, rel=1e-5)


def test_matching_is_that_of_pairs_one_by_one(two_modalities, encoder, monkeypatch):
    patients, objective = two_modalities(7, no_image=[1], no_table=[6])[1], make(encoder)
    monkeypatch.setattr("graphssl.objectives.cross_modal_matching.wrong_partners", lambda logits, _: (torch.arange(len(logits)) + 2) % len(logits))
    loss = objective(encoder, patients, seeded())
    separate, both, both_there = encoder.separate(patients), [0, 2, 3, 4, 5], torch.ones(1, 2, dtype=torch.bool)

    def score(image, table):
        parts = {name: Embedding(*(value[[row]] for value in separate[name][:3])) for name, row in (("image", image), ("table", table))}
        return objective.matches(encoder.fusion.fuse(parts, both_there).pooled)[0, 0]

    losses = []
    for k, patient in enumerate(both):
        other = both[(k + 2) % 5]
        losses += [F.softplus(-score(patient, patient)), F.softplus(score(patient, other)), F.softplus(score(other, patient))]
    assert loss.parts["matching_loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_hidden_values_are_told_from_the_other_columns_and_the_image(two_modalities, encoder):
    patients, objective = two_modalities(8, no_image=[3], no_table=[5])[1], make(encoder.eval())
    present = {"image": patients.presence[:, 0], "table": patients.presence[:, 1]}
    separate = encoder.separate(patients)
    error, _ = objective.filled_in(encoder, patients, separate, present, seeded())
    having = [0, 1, 2, 3, 4, 6, 7]
    table = patients.parts["table"]
    chosen = choose_share(table.visible, 0.3, seeded())
    total, count = 0.0, 0
    for row, patient in enumerate(having):
        alone = patients[[patient]].with_parts(table=table[[row]].hide(chosen[[row]]))
        tokens = encoder(alone).tokens[0, -5:]  # the columns come last
        for k in range(4):
            if chosen[row, k]:
                told = tokens[k] @ objective.columns.number[k] + objective.columns.number_bias[k]
                total, count = total + (told - table.numbers[row, k]) ** 2, count + 1
        if chosen[row, 4]:
            logits = objective.columns.category @ tokens[4] + objective.columns.category_bias
            total, count = total + F.cross_entropy(logits, table.codes[row, 0]) / torch.tensor(3.0).log(), count + 1
    assert error.item() == pytest.approx((total / count).item(), rel=1e-4)


def test_a_hidden_value_does_not_reach_its_prediction_and_the_image_does(two_modalities, encoder):
    patients, objective = two_modalities(6)[1], make(encoder.eval())
    heard = []
    objective.columns.error = lambda tokens, table, chosen: (heard.append((tokens, chosen)), (tokens.sum(), {}))[1]
    present = {"image": patients.presence[:, 0], "table": patients.presence[:, 1]}
    for change in (0.0, 100.0):
        for what in ("table", "image"):
            table, image = patients.parts["table"], patients.parts["image"]
            if what == "table":
                chosen = heard[0][1] if heard else torch.zeros_like(table.measured)
                numbers = table.numbers + change * chosen[:, :4]
                pieces = table.pieces + change * chosen[:, :4, None]
                table = type(table)(table.subject_ids, numbers, pieces, table.codes, table.measured)
            else:
                image = type(image)(image.subject_ids, image.images + change * torch.linspace(0, 1, 6))
            seen = patients.with_parts(table=table, image=image)
            objective.filled_in(encoder, seen, encoder.separate(seen), present, seeded())
    plain, _, moved_table, moved_image = (tokens for tokens, _ in heard)
    torch.testing.assert_close(plain, moved_table)
    assert (plain - moved_image).abs().max() > 1e-4


def test_patients_with_a_table_alone_take_part_in_the_third_task(two_modalities, encoder):
    patients, objective = two_modalities(6, no_image=range(6))[1], make(encoder)
    loss = objective(encoder, patients, seeded())
    assert loss.parts["contrast_loss"] == loss.parts["matching_loss"] == 0
    assert loss.parts["columns_loss"] > 0
    nobody = objective(encoder, patients.without("table"), seeded()).total
    nobody.backward()
    assert nobody.item() == 0.0


def test_training_finds_pairs_and_fills_in_for_unseen_patients(two_modalities, encoder, train):
    patients, objective = two_modalities(100)[1], make(encoder)
    unseen = patients[list(range(80, 100))]
    before = objective.eval()(encoder.eval(), unseen, seeded()).parts
    train(objective.train(), encoder.train(), patients[list(range(80))], n_steps=40, rate=0.005)
    after = objective.eval()(encoder.eval(), unseen, seeded()).parts
    assert after["image_to_table_accuracy"] > 3 / 20
    assert after["columns_loss"] < 0.8 * before["columns_loss"]


def test_what_makes_no_sense_is_refused(make_multimodal, encoder):
    with pytest.raises(ConfigError, match="share of hidden values in \\(0, 1\\), found 0"):
        TIP(ratio=0)
    with pytest.raises(ConfigError, match="Expected two modalities or more to compare"):
        TIP(image="table")
    with pytest.raises(ConfigError, match="Expected a fusion in which tokens of 'table' attend to the others for TIP, found Concatenation"):
        TIP().prepare(make_multimodal(Concatenation(16)))
    with pytest.raises(ConfigError, match="found CrossAttention. Use CrossAttention\\(asks='table'\\)"):
        TIP().prepare(make_multimodal(CrossAttention(16, depth=1, heads=2)))
    with pytest.raises(ConfigError, match="Expected an encoder of tables for TIP, found ResNet"):
        TIP(image="table", table="image").prepare(make_multimodal(CrossAttention(16, asks="image", heads=2)))
    with pytest.raises(ConfigError, match="Call prepare"):
        TIP()(encoder, None, seeded())
