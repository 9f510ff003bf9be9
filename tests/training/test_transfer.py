"""From one cohort to another with other columns: what was learned of shared ones is kept, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from graphssl.data import Cohort, ColumnTokenizer, Schema
from graphssl.datasets import simulate_table
from graphssl.encoders import TableMLP, TableTransformer
from graphssl.errors import DataError, SchemaError
from graphssl.training import Model, TrainingSettings, finetune, pretrain, transfer, untrained

ENCODERS = {"mlp": TableMLP(width=16, depth=1, column_width=4), "transformer": TableTransformer(width=8, depth=1, heads=2)}
SHARED, NEW, LEFT_OUT = [2, 3, 4, 5, 9], [11, 14], [0, 1, 6, 7, 8]


def cohort(numbers, seed, n=60):
    return simulate_table(n_subjects=n, columns=numbers, seed=seed, name=f"hospital {seed}").cohort


@pytest.fixture(scope="module", params=ENCODERS)
def pretrained(request):
    first = cohort([*LEFT_OUT, *SHARED], seed=0)
    settings = TrainingSettings(max_epochs=2, batch_size=16)
    return pretrain(first, encoder=ENCODERS[request.param], builder=ColumnTokenizer(n_pieces=4), settings=settings)


def test_shared_columns_keep_their_weights_and_new_ones_are_new(pretrained):
    second = cohort([*NEW, *reversed(SHARED)], seed=1)
    moved, columns = transfer(pretrained, second)
    assert columns["state"].value_counts().to_dict() == {"shared": 7, "new": 2, "left out": 5}  # age and sex are shared too
    old, new = pretrained.encoder, moved.encoder
    before, after = old.state_dict(), new.state_dict()
    for name, weight in after.items():
        short = name.removeprefix("columns.")
        if short in ("column", "missing", "masked", "into"):
            labels = (old.column_names, new.column_names)
        elif short == "pieces":
            labels = (old.numbers, new.numbers)
        elif short == "category.weight":
            labels = tuple([(column, word) for column, known in each.categories.items() for word in (*known, None)] for each in (old, new))
        else:
            assert_array_equal(weight, before[name])
            continue
        for k, label in enumerate(labels[1]):
            column = label[0] if isinstance(label, tuple) else label
            if columns.loc[column, "state"] == "shared":
                assert_array_equal(weight[k], before[name][labels[0].index(label)])
            else:
                assert label not in labels[0]
                assert weight[k].any()


def test_a_patient_looks_as_before_where_the_columns_are_the_same(pretrained):
    """Columns in another order and another unit, and other patients around."""
    first = cohort([*LEFT_OUT, *SHARED], seed=0)
    table = first.subjects[list(reversed(first.subjects.columns))].copy()
    unit = first.schema["lab00"].unit
    assert unit == "mg/dL"
    table["lab00"] /= 1000
    schema = Schema([replace(first.schema[name], unit="g/dL") if name == "lab00" else first.schema[name] for name in table])
    again = Cohort("again", table, schema, {})
    moved = transfer(pretrained, again).model
    assert_allclose(moved.embed(again).to_numpy(), pretrained.embed(first).to_numpy(), atol=2e-4)


def test_it_is_fine_tuned_saved_and_predicts(pretrained, tmp_path):
    train, test = cohort([*NEW, *SHARED], seed=1).split(0.3, seed=0)
    found = transfer(pretrained, train, columns=["lab02", "lab04", "lab11", "sex"])
    assert found.model.encoder.column_names == ("lab02", "lab11", "lab04", "sex")
    tuned = finetune(found.model, train, target="died", settings=TrainingSettings(max_epochs=1))
    tuned.save_pretrained(tmp_path / "model")
    again = Model.from_pretrained(tmp_path / "model")
    assert_array_equal(again.predict_proba(test), tuned.predict_proba(test))
    assert np.isfinite(tuned.predict_proba(test)).all()
    assert tuned.card["transferred to"] == "hospital 1, columns: 3 shared, 1 new, 9 left out"
    text = str(found)
    assert text.splitlines()[0] == "columns: 3 shared, 1 new, 9 left out"
    assert "  shared    lab02: continuous; U/L" in text
    assert "  new       lab11: continuous; 10^9/L" in text


def test_the_given_model_and_the_seed_decide(pretrained):
    second = cohort([*NEW, *SHARED], seed=1)
    before = {name: weight.clone() for name, weight in pretrained.encoder.state_dict().items()}
    first, again, other = (transfer(pretrained, second, seed=seed).model.encoder.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["columns.column"], other["columns.column"])
    assert all(torch.equal(before[name], weight) for name, weight in pretrained.encoder.state_dict().items())


def test_what_does_not_fit_is_refused(pretrained, make_cohort):
    second = cohort([*NEW, *SHARED], seed=1)
    kilograms = Schema([replace(column, unit="kg") if column.name == "lab02" else column for column in second.schema])
    with pytest.raises(SchemaError, match="Expected column 'lab02' in U/L as in the model, or in what can be converted; found kg"):
        transfer(pretrained, Cohort("wrong", second.subjects, kilograms, {}))
    with pytest.raises(SchemaError, match="at least one column of the model"):
        transfer(pretrained, second, columns=["lab11"])
    with pytest.raises(DataError, match="Expected a model of tables, made by a ColumnTokenizer, to transfer; found one made by a ConnectomeBuilder"):
        transfer(untrained(make_cohort()), second)
