"""Masked timelines against loops, and trained on records with a structure to find."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from graphssl.data import Cohort, Events, Schema, TimelineTokenizer
from graphssl.encoders import PopulationTransformer, TimelineTransformer
from graphssl.errors import ConfigError
from graphssl.graphs import FeatureGroup, PopulationBuilder
from graphssl.objectives import MaskedBlocks, MaskedFeatures, MaskedPatients, WeightedSum
from graphssl.objectives.masked_timeline import given_error
from graphssl.training.fit import TrainingSettings, fit

KINDS = [MaskedFeatures(0.4), MaskedBlocks(2), MaskedPatients(0.3)]


def make(cohort, objective, n_bins=6, bin_hours=4.0):
    tokenizer = TimelineTokenizer(n_bins=n_bins, bin_hours=bin_hours, treatments=["ventilator"], min_subjects=3, n_pieces=4).fit(cohort)
    torch.manual_seed(0)
    encoder = TimelineTransformer(width=16, depth=1, heads=2, dropout=0.0).for_builder(tokenizer)
    return tokenizer.transform(cohort), encoder, objective.fresh().prepare(encoder)


@pytest.mark.parametrize("objective", KINDS, ids=lambda objective: type(objective).__name__)
def test_the_loss_is_what_a_loop_makes_of_it(ward, objective):
    batch, encoder, objective = make(ward(), objective)
    found = objective(encoder, batch, torch.Generator().manual_seed(1))
    hidden = objective.draw(batch, torch.Generator().manual_seed(1))
    embedding = encoder(batch.hide(hidden))
    totals = []
    for predicted in (objective.from_tokens(embedding.tokens[:, :6]), objective.from_pooled(embedding.pooled)):
        squared, entropy, weights = [], [], []
        for row, time, column in hidden.nonzero().tolist():
            guess = predicted[row, time, column]
            if column < 2:
                assert batch.measured[row, time, column]
                squared.append((guess - batch.values[row, time, column]) ** 2)
            else:
                assert batch.present[row, time]
                was_given = bool(batch.given[row, time, 0])
                weights.append(1.0 if was_given else 0.25)
                entropy.append(-weights[-1] * torch.log(torch.sigmoid(guess if was_given else -guess)))
        totals.append(sum(squared) / max(1, len(squared)) + (sum(entropy) / sum(weights) / math.log(2) if weights else 0.0))
    assert_close(found.total, totals[0] + totals[1])
    assert_close(found.parts["pooled_error"], totals[1].detach())
    assert_close(found.parts["values_error"] + found.parts["treatments_error"], totals[0].detach())


def test_whole_variables_go_and_treatments_whether_given_or_not(ward):
    batch, _, objective = make(ward(n=200), MaskedFeatures(0.3))
    hidden = objective.draw(batch, torch.Generator().manual_seed(0))
    gone = hidden.any(dim=1)
    assert hidden.equal(gone.unsqueeze(1) & batch.known)
    n_measured, n_gone = batch.measured.any(dim=1).sum(dim=1), gone[:, :2].sum(dim=1)
    assert (n_gone[n_measured > 0] == 1).all()
    assert n_gone[n_measured == 0].sum() == 0
    treated = batch.given.any(dim=1)[:, 0]
    there = batch.present.any(dim=1)
    for group in (treated, there & ~treated):
        assert abs(gone[group, 2].float().mean() - 0.3) < 0.12


def test_every_variable_loses_one_block_at_any_place_of_the_stay(ward):
    batch, _, objective = make(ward(n=300), MaskedBlocks(2))
    late = replace(batch, present=batch.present & (torch.arange(6) >= 1), measured=batch.measured & (torch.arange(6) >= 1).unsqueeze(-1))
    everything = replace(late, measured=late.present.unsqueeze(-1).expand_as(batch.measured))
    hidden = objective.draw(everything, torch.Generator().manual_seed(0))
    there = late.present[:, 1]
    assert (hidden[there].sum(dim=1) == 2).all(), "blocks of two bins where the patient has five"
    starts = hidden[there].int().argmax(dim=1)
    assert hidden[there].gather(1, (starts + 1).unsqueeze(1)).all(), "the two are side by side"
    share = torch.stack([(starts == place).float().mean() for place in range(6)])
    assert_close(share, torch.tensor([0.0, 0.25, 0.25, 0.25, 0.25, 0.0]), atol=0.05, rtol=0.0)
    assert (starts[:, 0] != starts[:, 1]).any()
    assert hidden.any(dim=1)[there, 2].all()
    short = replace(everything, present=torch.arange(6).expand(len(batch), 6) >= 3, measured=batch.measured & False)
    assert (MaskedBlocks(4).draw(short, torch.Generator().manual_seed(0))[..., 2].sum(dim=1) == 1).all(), "at most half of three bins"


def test_some_patients_lose_everything(ward):
    batch, _, objective = make(ward(n=39), MaskedPatients(0.3))
    hidden = objective.draw(batch, torch.Generator().manual_seed(0))
    lost = hidden.flatten(1).any(dim=1)
    assert lost.sum() == 12
    assert hidden.equal(batch.known & lost.view(-1, 1, 1))
    assert not lost[39], "who has nothing loses nothing"
    one = MaskedPatients(0.1).draw(batch[[0, 1]], torch.Generator().manual_seed(0))
    assert one.flatten(1).any(dim=1).sum() == 1


@pytest.mark.parametrize("objective", KINDS, ids=lambda objective: type(objective).__name__)
def test_what_was_not_measured_moves_nothing_and_seeds_decide(ward, objective):
    batch, encoder, objective = make(ward(), objective)
    other = replace(batch, values=torch.where(batch.measured, batch.values, 9.0), given=batch.given | ~batch.present.unsqueeze(-1))
    losses = [objective(encoder, part, torch.Generator().manual_seed(3)).total for part in (batch, other)]
    assert_close(losses[0], losses[1])
    assert objective.draw(batch, torch.Generator().manual_seed(3)).equal(objective.draw(batch, torch.Generator().manual_seed(3)))
    nobody = objective(encoder, batch[[12]], torch.Generator())
    assert nobody.total == 0
    nobody.total.backward()  # a batch without anything to hide is a step, too


def test_nothing_is_told_by_treatments_that_do_not_count():
    logits = torch.tensor([[3.0, -2.0]])
    given = torch.tensor([[True, False]])
    assert given_error(logits, given, torch.zeros(1, 2, dtype=torch.bool), 0.25) == 0
    assert_close(given_error(torch.zeros(1, 2), given, torch.ones(1, 2, dtype=torch.bool), 0.25), torch.tensor(1.0))


def test_training_finds_the_structure(tmp_path):
    """A hidden pulse can be told from the pressure of the same hour: the error falls well below that of the mean, and a killed run ends the same."""
    rng = np.random.default_rng(0)
    n, hours = 160, 6
    severity = rng.standard_normal((n, 1)) + np.cumsum(0.5 * rng.standard_normal((n, hours)), axis=1)
    rows = []
    for code, sign in (("pulse", 1.0), ("pressure", -1.0)):
        values = sign * severity + 0.1 * rng.standard_normal((n, hours))
        kept = rng.random((n, hours)) < 0.8
        rows += [(f"p{i}", pd.Timestamp("2020-01-01") + pd.Timedelta(hours=h), code, values[i, h]) for i, h in zip(*np.nonzero(kept), strict=True)]
    table = pd.DataFrame({"age": 50.5 + np.arange(n)}, index=[f"p{i}" for i in range(n)])
    cohort = Cohort(
        "stays", table, Schema.infer(table), events=Events.of(pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"]))
    )
    settings = TrainingSettings(max_epochs=12, batch_size=32, learning_rate=0.01)
    tokenizer = TimelineTokenizer(n_bins=hours, columns=()).fit(cohort)
    batch = tokenizer.transform(cohort)

    def trained():
        torch.manual_seed(0)
        encoder = TimelineTransformer(width=16, depth=1, heads=2, dropout=0.0).for_builder(tokenizer)
        objective = WeightedSum({"features": MaskedFeatures(0.3), "blocks": MaskedBlocks(2)}).prepare(encoder)
        return fit(encoder, objective, batch[list(range(128))], batch[list(range(128, 160))], settings, folder=tmp_path).history.iloc[-1]

    history = trained()
    for name in ("features", "blocks"):
        assert history[f"validation_{name}_values_error"] < 0.5 * history[f"validation_{name}_zero_error"]
    assert trained()["validation_loss"] == history["validation_loss"]


@pytest.mark.parametrize("whole_limit", [0, 1000])
def test_neighbours_tell_what_a_patient_was_who_lost_everything(whole_limit):
    """Each of six kinds of patients has a pulse of its own. Who is of which kind makes the graph, and is read by no encoder."""
    rng = np.random.default_rng(0)
    kind = np.arange(96) % 6
    rows = [
        (f"p{i}", pd.Timestamp("2020-01-01") + pd.Timedelta(hours=h), "pulse", 60.0 + 10 * k + rng.standard_normal())
        for i, k in enumerate(kind)
        for h in range(4)
    ]
    table = pd.DataFrame({"kind": [f"kind {k}" for k in kind]}, index=[f"p{i}" for i in range(96)])
    events = Events.of(pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"]))
    cohort = Cohort("stays", table, Schema.infer(table), events=events)
    group = FeatureGroup("kind", ["kind"], "agreement")
    builder = PopulationBuilder(TimelineTokenizer(n_bins=4, columns=()), [group], n_neighbors=4).fit(cohort.select(cohort.ids[:72]))
    patient = TimelineTransformer(width=16, depth=1, heads=2, dropout=0.0)
    batches = [builder.transform(part) for part in (cohort.select(cohort.ids[:72]), cohort.select(cohort.ids[72:]))]
    found = {}
    for edges in (True, False):
        torch.manual_seed(0)
        encoder = PopulationTransformer(16, 1, 2, patient, dropout=0.0, edges=edges, whole_limit=whole_limit, fan_outs=(4,)).for_builder(builder)
        objective = MaskedPatients(0.2).prepare(encoder)
        history = fit(encoder, objective, *batches, TrainingSettings(max_epochs=40, batch_size=36, learning_rate=0.01, patience=40)).history
        found[edges] = history["validation_values_error"].iloc[-10:].mean() / history["validation_zero_error"].iloc[-1]
    assert found[True] < 0.3
    assert found[True] < 0.5 * found[False], "without edges there is nothing to tell it from"


def test_what_makes_no_sense_is_refused(make_encoder, ward):
    for kind in (MaskedFeatures, MaskedPatients):
        with pytest.raises(ConfigError, match="0 < ratio < 1, found 1.0"):
            kind(ratio=1.0)
    with pytest.raises(ConfigError, match="a block of at least one bin, found 0"):
        MaskedBlocks(0)
    with pytest.raises(ConfigError, match="0 < absent_weight ≤ 1; found 1.0 and 0"):
        MaskedBlocks(absent_weight=0)
    with pytest.raises(ConfigError, match="Expected an encoder of timelines for MaskedFeatures"):
        MaskedFeatures().prepare(make_encoder())
    batch, encoder, _ = make(ward(), MaskedBlocks())
    with pytest.raises(ConfigError, match="prepared for an encoder"):
        MaskedBlocks()(encoder, batch, torch.Generator())
