"""Masked events against a loop, and trained on records with a structure to find."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import Cohort, Events, EventTokenizer, Schema
from graphssl.encoders import EventTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import MaskedEvents
from graphssl.training.fit import TrainingSettings, fit


def make(cohort, ratio=0.4, columns=None):
    tokenizer = EventTokenizer(min_subjects=3, n_pieces=4, columns=columns).fit(cohort)
    torch.manual_seed(0)
    encoder = EventTransformer(width=16, depth=1, heads=2, dropout=0.0).for_builder(tokenizer)
    return tokenizer.transform(cohort), encoder, MaskedEvents(ratio).prepare(encoder)


def test_the_loss_is_what_a_loop_makes_of_it(ward):
    batch, encoder, objective = make(ward())
    found = objective(encoder, batch, torch.Generator().manual_seed(1))
    hidden = objective.draw(batch, torch.Generator().manual_seed(1))
    embedding = encoder(batch.hide(hidden))
    token, pooled = objective.from_tokens, objective.from_pooled
    errors, pooled_errors = [], []
    for row, place in hidden.nonzero().tolist():
        assert batch.has_value[row, place]
        code, value = batch.codes[row, place], batch.values[row, place]
        errors.append((embedding.tokens[row, place] @ token.weight[code] + token.bias[code] - value) ** 2)
        asked = pooled.patient(embedding.pooled[row]) + pooled.code.weight[code] + pooled.time(torch.log1p(batch.hours[row, place]))
        pooled_errors.append((F.gelu(asked) @ pooled.out.weight[code] + pooled.out.bias[code] - value) ** 2)
    assert_close(found.total, torch.stack(errors).mean() + torch.stack(pooled_errors).mean())
    assert_close(found.parts["pooled_error"], torch.stack(pooled_errors).mean().detach())
    assert_close(found.parts["zero_error"], batch.values[hidden].square().mean())


def test_a_share_of_each_patients_numbers_is_hidden_and_never_an_event_without_one(ward):
    batch, _, objective = make(ward(n=60), ratio=0.3)
    hidden = objective.draw(batch, torch.Generator().manual_seed(0))
    assert not (hidden & ~batch.has_value).any()
    n = batch.has_value.sum(dim=1)
    assert hidden.sum(dim=1).equal((0.3 * n.double()).round().long())
    assert hidden.equal(objective.draw(batch, torch.Generator().manual_seed(0)))


def test_what_is_not_there_moves_nothing_and_nobody_is_a_step(ward):
    batch, encoder, objective = make(ward())
    other = replace(batch, values=torch.where(batch.has_value, batch.values, 9.0), hours=torch.where(batch.present, batch.hours, 9.0))
    losses = [objective(encoder, part, torch.Generator().manual_seed(3)).total for part in (batch, other)]
    assert_close(losses[0], losses[1])
    nobody = objective(encoder, batch[[12]], torch.Generator())
    assert nobody.total == 0
    nobody.total.backward()


def test_training_finds_the_structure(tmp_path):
    """Values of a patient are of one level: a hidden one can be told from the others, and a killed run ends the same."""
    rng = np.random.default_rng(0)
    n = 160
    level = rng.standard_normal(n)
    rows = [
        (f"p{k}", pd.Timestamp("2020-01-01") + pd.Timedelta(hours=float(hour)), code, sign * level[k] + 0.1 * rng.standard_normal())
        for k in range(n)
        for code, sign in (("pulse", 1.0), ("pressure", -1.0))
        for hour in rng.uniform(0, 24, 3)
    ]
    table = pd.DataFrame({"age": 50.5 + np.arange(n)}, index=[f"p{k}" for k in range(n)])
    events = Events.of(pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"]))
    cohort = Cohort("stays", table, Schema.infer(table), events=events)
    settings = TrainingSettings(max_epochs=12, batch_size=32, learning_rate=0.01)

    def trained():
        batch, encoder, objective = make(cohort, ratio=0.3, columns=())
        return fit(encoder, objective, batch[list(range(128))], batch[list(range(128, 160))], settings, folder=tmp_path).history.iloc[-1]

    history = trained()
    assert history["validation_values_error"] < 0.3 * history["validation_zero_error"]
    assert history["validation_pooled_error"] < 0.5 * history["validation_zero_error"]
    assert trained()["validation_loss"] == history["validation_loss"]


def test_what_makes_no_sense_is_refused(make_encoder, ward):
    with pytest.raises(ConfigError, match="Expected 0 < ratio < 1 and pooled_weight ≥ 0; found 0.0 and 1.0"):
        MaskedEvents(0.0)
    with pytest.raises(ConfigError, match="Expected an encoder of events for MaskedEvents, found GraphTransformer"):
        MaskedEvents().prepare(make_encoder())
    batch, encoder, _ = make(ward())
    with pytest.raises(ConfigError, match="prepared for an encoder"):
        MaskedEvents()(encoder, batch, torch.Generator())
