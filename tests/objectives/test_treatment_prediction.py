"""Treatment prediction against a loop, and trained where the treatment can be told."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from graphssl.data import TimelineTokenizer
from graphssl.encoders import TimelineTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import TreatmentPrediction
from graphssl.training.fit import TrainingSettings, fit


def make(cohort, treatments=("ventilator",)):
    tokenizer = TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=treatments, min_subjects=3, n_pieces=4).fit(cohort)
    torch.manual_seed(0)
    encoder = TimelineTransformer(width=16, depth=1, heads=2, dropout=0.0).for_builder(tokenizer)
    return tokenizer.transform(cohort), encoder


def test_the_loss_is_what_a_loop_makes_of_it(ward):
    batch, encoder = make(ward())
    objective = TreatmentPrediction(0.5).prepare(encoder)
    found = objective(encoder, batch, torch.Generator())
    blind = encoder(
        replace(batch, given=torch.zeros_like(batch.given), hidden=torch.cat([batch.measured & False, batch.present.unsqueeze(-1)], dim=2))
    )
    error, weights, found_right, spared_right = 0.0, 0.0, [], []
    for row in range(12):  # the last patient has no bins
        logit = objective.head(blind.pooled[row])[0]
        was_given = bool(batch.given[row].any())
        weight = 1.0 if was_given else 0.5
        error = error - weight * torch.log(torch.sigmoid(logit if was_given else -logit))
        weights += weight
        (found_right if was_given else spared_right).append(bool(logit > 0) == was_given)
    assert_close(found.total, error / weights / math.log(2))
    assert_close(float(found.parts["found_share"]), float(np.mean(found_right)))
    assert_close(float(found.parts["spared_share"]), float(np.mean(spared_right)))


def test_treatments_cannot_be_read(ward):
    batch, encoder = make(ward())
    objective = TreatmentPrediction().prepare(encoder)
    objective.head.weight.data.zero_()
    objective.head.bias.data.zero_()
    logits = []
    encoder.register_forward_hook(lambda module, inputs, output: logits.append(output.pooled))
    for given in (batch.given, ~batch.given):
        objective(encoder, replace(batch, given=given), torch.Generator())
    assert logits[0].equal(logits[1])


def test_training_finds_who_was_treated(ward):
    fevers = tuple((f"p{k}", 15.0 + hour, "temp", 40.0, None) for k in range(0, 120, 3) for hour in range(6))
    batch, encoder = make(ward(n=120, planted=fevers))
    fitted = fit(encoder, TreatmentPrediction().prepare(encoder), batch, None, TrainingSettings(max_epochs=15, batch_size=32, learning_rate=0.01))
    last = fitted.history.iloc[-1]
    assert last["train_loss"] < 0.2
    assert min(last["train_found_share"], last["train_spared_share"]) > 0.95


def test_what_makes_no_sense_is_refused(ward, make_encoder):
    with pytest.raises(ConfigError, match="0 < absent_weight ≤ 1, found 2"):
        TreatmentPrediction(2)
    with pytest.raises(ConfigError, match="Expected an encoder of timelines for TreatmentPrediction"):
        TreatmentPrediction().prepare(make_encoder())
    batch, encoder = make(ward(), treatments=())
    with pytest.raises(ConfigError, match="Expected treatments to predict, found none"):
        TreatmentPrediction().prepare(encoder)
    with pytest.raises(ConfigError, match="prepared for an encoder"):
        TreatmentPrediction()(encoder, batch, torch.Generator())
