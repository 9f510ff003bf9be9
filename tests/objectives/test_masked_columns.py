"""Masked columns against loops, and trained on a table with a structure to find."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.testing import assert_close

from graphssl.data import ColumnTokenizer
from graphssl.encoders import TableMLP, TableTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import MaskedColumns
from graphssl.training.fit import TrainingSettings, fit


def make_table(n=12, seed=0, missing=0.2):
    """A hidden severity drives two numbers and a category."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(n)
    columns = {
        "lactate": severity + 0.1 * rng.standard_normal(n),
        "pulse": -severity + 0.1 * rng.standard_normal(n),
        "ward": np.where(severity > 0, "icu", "floor"),
        "sex": rng.choice(["f", "m"], n),
    }
    frame = pd.DataFrame(columns, index=[f"p{k}" for k in range(n)])
    return frame.mask(rng.random(frame.shape) < missing)


def make(table, ratio=0.4, pooled_weight=1.0):
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    torch.manual_seed(0)
    encoder = TableTransformer(width=16, depth=1, heads=2, dropout=0.0).for_builder(tokenizer)
    return tokenizer.transform(table), encoder, MaskedColumns(ratio, pooled_weight).prepare(encoder)


def test_the_loss_is_what_a_loop_makes_of_it():
    batch, encoder, objective = make(make_table())
    found = objective(encoder, batch, torch.Generator().manual_seed(1))
    hidden = objective.draw(batch, torch.Generator().manual_seed(1))
    embedding = encoder(batch.hide(hidden))
    totals = []
    for decoder, vector in ((objective.from_tokens, lambda r, c: embedding.tokens[r, c]), (objective.from_pooled, lambda r, c: embedding.pooled[r])):
        errors = []
        for row, column in hidden.nonzero().tolist():
            if column < 2:
                errors.append((vector(row, column) @ decoder.number[column] + decoder.number_bias[column] - batch.numbers[row, column]) ** 2)
            else:
                rows = slice(3 * (column - 2), 3 * (column - 1))  # two words and the unknown one
                logits = decoder.category[rows] @ vector(row, column) + decoder.category_bias[rows]
                errors.append(-torch.log_softmax(logits, 0)[batch.codes[row, column - 2]] / math.log(3))
        totals.append(torch.stack(errors).mean())
    assert_close(found.total, totals[0] + totals[1])
    assert_close(found.parts["pooled_error"], totals[1].detach())


def test_what_is_not_hidden_is_predicted_too_where_it_has_a_weight():
    batch, encoder, objective = make(make_table())
    torch.manual_seed(0)
    both = MaskedColumns(0.4, visible_weight=0.5).prepare(encoder)
    both.load_state_dict(objective.state_dict())
    found, alone = (each(encoder, batch, torch.Generator().manual_seed(1)) for each in (both, objective))
    hidden = objective.draw(batch, torch.Generator().manual_seed(1))
    pooled = encoder(batch.hide(hidden)).pooled
    visible = batch.measured & ~hidden
    expected, _ = objective.from_pooled.error(pooled, batch, visible)
    assert_close(found.total, alone.total + 0.5 * expected)
    assert_close(found.parts["visible_error"], expected.detach())
    unseen = replace(batch, numbers=batch.numbers + 9.0 * ~visible[:, :2], codes=torch.where(visible[:, 2:], batch.codes, 0))
    assert_close(objective.from_pooled.error(pooled, unseen, visible)[0], expected)


def test_a_vector_that_has_to_keep_what_is_visible_keeps_a_column_that_stands_alone():
    """No other column tells the sex: masking alone need not keep it in the pooled vector, a denoising autoencoder must."""
    table = make_table(n=240, missing=0.0)
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    batch, kept = tokenizer.transform(table), {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        encoder = TableMLP(width=8, depth=1, dropout=0.0).for_builder(tokenizer)
        objective = MaskedColumns(0.4, visible_weight=weight).prepare(encoder)
        fit(encoder, objective, batch[list(range(200))], None, TrainingSettings(max_epochs=15, batch_size=32, learning_rate=0.01))
        with torch.no_grad():
            pooled = encoder.eval()(batch).pooled.numpy()
        sex = (table["sex"] == "f").to_numpy()
        kept[weight] = LogisticRegression(C=1e-2).fit(pooled[:200], sex[:200]).score(pooled[200:], sex[200:])
    assert kept[1.0] > max(0.9, kept[0.0])


def test_only_measured_values_are_hidden_and_one_is_left():
    batch, _, objective = make(make_table(n=200, missing=0.5), ratio=0.9)
    hidden = objective.draw(batch, torch.Generator().manual_seed(0))
    count, chosen = batch.measured.sum(dim=1), hidden.sum(dim=1)
    assert not (hidden & ~batch.measured).any()
    assert (chosen[count >= 2] < count[count >= 2]).all()
    assert (chosen[count >= 1] >= 1).all()
    assert (chosen[count == 0] == 0).all()


def test_every_measured_column_is_hidden_alike():
    batch, _, objective = make(make_table(n=4000, missing=0.0), ratio=0.5)
    share = objective.draw(batch, torch.Generator().manual_seed(0)).float().mean(dim=0)
    assert_close(share, torch.full((4,), 0.5), atol=0.03, rtol=0.0)


def test_what_was_not_measured_moves_nothing():
    table = make_table()
    batch, encoder, objective = make(table)
    other = type(batch)(
        batch.subject_ids,
        torch.where(batch.measured[:, :2], batch.numbers, 9.0),
        torch.where(batch.measured[:, :2, None], batch.pieces, 9.0),
        torch.where(batch.measured[:, 2:], batch.codes, 1),
        batch.measured,
    )
    first, second = (objective(encoder, part, torch.Generator().manual_seed(3)).total for part in (batch, other))
    assert_close(first, second)


def test_training_finds_the_structure(tmp_path):
    """A hidden lactate can be told from the pulse: the error falls well below that of the mean, and a killed run ends the same."""
    table = make_table(n=240, missing=0.1)
    batch, encoder, objective = make(table)
    settings = TrainingSettings(max_epochs=12, batch_size=32, learning_rate=0.01)
    train, held = batch[list(range(200))], batch[list(range(200, 240))]
    history = fit(encoder, objective, train, held, settings, folder=tmp_path).history.iloc[-1]
    assert history["validation_numbers_error"] < 0.5 * history["validation_zero_error"]
    again = fit(*make(table)[1:], train, held, settings, folder=tmp_path).history.iloc[-1]
    assert again["validation_loss"] == history["validation_loss"]


def test_what_makes_no_sense_is_refused(make_encoder):
    with pytest.raises(ConfigError, match="0 ≤ ratio < 1"):
        MaskedColumns(ratio=1.0)
    with pytest.raises(ConfigError, match="Expected an encoder of tables for MaskedColumns"):
        MaskedColumns().prepare(make_encoder())
    batch, encoder, _ = make(make_table())
    with pytest.raises(ConfigError, match="prepared for an encoder"):
        MaskedColumns()(encoder, batch, torch.Generator())


def test_a_share_of_the_patients_loses_everything_that_may_be_hidden():
    table = make_table(n=40, missing=0.3)
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    batch, encoder = tokenizer.transform(table), TableMLP(width=8, depth=1).for_builder(tokenizer)
    objective = MaskedColumns(ratio=0.0, patients=0.2, never_hidden=["sex"]).prepare(encoder)
    hidden = objective.draw(batch, torch.Generator().manual_seed(0))
    may_go = batch.measured & torch.tensor([name != "sex" for name in encoder.column_names])
    lost = hidden.any(dim=1)
    assert lost.sum() == 8
    assert hidden[lost].equal(may_go[lost])
    both = MaskedColumns(ratio=0.5, patients=0.2, never_hidden=["sex"]).prepare(encoder).draw(batch, torch.Generator().manual_seed(0))
    alone = MaskedColumns(ratio=0.5, never_hidden=["sex"]).prepare(encoder).draw(batch, torch.Generator().manual_seed(0))
    assert not both[:, encoder.column_names.index("sex")].any()
    whole = (both != alone).any(dim=1)
    assert 0 < whole.sum() <= 8
    assert both[whole].equal(may_go[whole])
    assert objective.draw(batch[[0, 1]], torch.Generator()).any(dim=1).sum() == 1, "one at least"


def test_the_tokens_of_a_network_over_all_columns_predict_too():
    table = make_table(n=240, missing=0.1)
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table)
    torch.manual_seed(0)
    encoder = TableMLP(width=32, depth=1, dropout=0.0).for_builder(tokenizer)
    batch, objective = tokenizer.transform(table), MaskedColumns(0.4).prepare(encoder)
    settings = TrainingSettings(max_epochs=15, batch_size=32, learning_rate=0.01)
    history = fit(encoder, objective, batch[list(range(200))], batch[list(range(200, 240))], settings).history.iloc[-1]
    assert history["validation_numbers_error"] < 0.5 * history["validation_zero_error"]


def test_shares_and_columns_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="0 ≤ patients < 1"):
        MaskedColumns(patients=1.0)
    with pytest.raises(ConfigError, match="visible_weight ≥ 0"):
        MaskedColumns(visible_weight=-1.0)
    with pytest.raises(ConfigError, match="ratio and patients both 0"):
        MaskedColumns(ratio=0.0)
    encoder = TableMLP().for_builder(ColumnTokenizer(n_pieces=4).fit(make_table()))
    with pytest.raises(ConfigError, match="never_hidden among the columns lactate, pulse, ward, sex; found 'age'"):
        MaskedColumns(never_hidden=["age"]).prepare(encoder)
