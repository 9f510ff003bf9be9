"""SCARF against loops, and trained on a table with a structure to find."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import RidgeCV

from graphssl.data import ColumnTokenizer
from graphssl.encoders import TableMLP
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import Scarf
from graphssl.training.fit import TrainingSettings, fit
from graphssl.training.model import embed_rows


def make_table(n=12, seed=0):
    """A hidden severity drives six numbers and a category; four numbers are noise."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(n)
    columns = {f"lab{k}": (1 - 2 * (k % 2)) * severity + 0.7 * rng.standard_normal(n) for k in range(6)}
    columns |= {f"noise{k}": rng.standard_normal(n) for k in range(4)}
    frame = pd.DataFrame({**columns, "ward": np.where(severity > 0, "icu", "floor")}, index=[f"p{k}" for k in range(n)])
    return frame.mask(rng.random(frame.shape) < 0.1), severity


def make(table, **arguments):
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    torch.manual_seed(0)
    encoder = TableMLP(width=16, depth=1, column_width=4, dropout=0.0).for_builder(tokenizer)
    return tokenizer.transform(table), encoder, Scarf(**{"width": 8, "hidden": 16, **arguments}).prepare(encoder)


def test_the_loss_is_what_a_loop_makes_of_it():
    batch, encoder, objective = make(make_table()[0], ratio=0.4, temperature=0.5)
    with torch.no_grad():
        found = objective(encoder, batch, torch.Generator().manual_seed(1))
        rows = objective.view.draw(batch, torch.Generator().manual_seed(1))
        pair = [objective.projector(encoder(each).pooled) for each in (batch, objective.view.apply(batch, rows))]
    vectors = torch.nn.functional.normalize(torch.cat(pair), dim=1)
    cosines, n, total = (vectors @ vectors.T / 0.5).tolist(), len(batch), 0.0
    for i in range(2 * n):
        total += math.log(sum(math.exp(cosines[i][k]) for k in range(2 * n) if k != i)) - cosines[i][(i + n) % (2 * n)]
    assert float(found.total) == pytest.approx(total / (2 * n), rel=1e-4)


def test_training_finds_patients_again_and_what_columns_share():
    table, severity = make_table(n=240)
    batch, encoder, objective = make(table)
    train, held = list(range(200)), list(range(200, 240))
    history = fit(encoder, objective, batch[train], batch[held], TrainingSettings(max_epochs=15, learning_rate=0.01)).history
    assert history["validation_accuracy"].iloc[-1] > 2 * history["validation_accuracy"].iloc[0]
    starts = (embed_rows(make(table)[1], batch), embed_rows(encoder, batch))
    readings = [RidgeCV(np.logspace(-2, 3, 8)).fit(x[train], severity[train]).score(x[held], severity[held]) for x in starts]
    assert readings[1] > readings[0] + 0.05, "the severity is read better than from random weights"
    assert history["validation_pooled_spread"].iloc[-1] > 0.3


def test_what_makes_no_sense_is_refused(make_encoder):
    with pytest.raises(ConfigError, match="Expected an encoder of tables for Scarf, found GraphTransformer"):
        Scarf().prepare(make_encoder())
    with pytest.raises(ConfigError, match="temperature above 0"):
        Scarf(temperature=0.0)
    batch, encoder, objective = make(make_table()[0])
    with pytest.raises(DataError, match="at least two subjects in a minibatch"):
        objective(encoder, batch[[0]], torch.Generator())
