"""From one cohort to another with other columns: what was learned of shared ones is kept, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from graphssl.data import Cohort, ColumnTokenizer, Events, EventTokenizer, Schema, TimelineTokenizer
from graphssl.datasets import simulate_stays, simulate_table
from graphssl.encoders import EventTransformer, PopulationTransformer, TableMLP, TableTransformer, TimelineTransformer
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.graphs import PopulationBuilder
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
    with pytest.raises(DataError, match="Expected a model of tables, timelines or events to transfer, found one made by a ConnectomeBuilder"):
        transfer(untrained(make_cohort()), second)


# Timelines and events

STREAMS = {
    "timeline": (TimelineTransformer(8, 1, 2), TimelineTokenizer(n_bins=12, treatments=["ventilation", "vasopressor"], n_pieces=4, min_subjects=3)),
    "events": (EventTransformer(8, 1, 2), EventTokenizer(max_events=64, n_pieces=4, min_subjects=3)),
}
# In the second hospital pressure is in other units, lactate has another name and nobody gives vasopressors; age is not told.
CALLED = {"blood pressure": "blood pressure//kPa", "lactate": "lactic acid"}


def stays(seed, second=False):
    cohort = simulate_stays(60, n_hours=12, seed=seed, name=f"hospital {seed}")
    table = cohort.events.table
    code = table["code"].astype("str")
    if not second:
        return replace(cohort, events=Events.of(table.assign(code=code.replace({"blood pressure": "blood pressure//mmHg"}))))
    values = table["numeric_value"].where(code != "blood pressure", table["numeric_value"] * 0.133322387415).astype("float32")
    table = table.assign(code=code.replace(CALLED), numeric_value=values)[code != "vasopressor"]
    schema = Schema([column for column in cohort.schema if column.name != "age"])
    return Cohort(cohort.name, cohort.subjects.drop(columns="age"), schema, events=Events.of(table))


@pytest.fixture(scope="module", params=STREAMS)
def pretrained_stream(request):
    encoder, builder = STREAMS[request.param]
    return pretrain(stays(0), encoder=encoder, builder=builder, settings=TrainingSettings(max_epochs=2, batch_size=16))


def test_shared_codes_keep_their_weights_and_new_ones_are_new(pretrained_stream):
    moved, columns = transfer(pretrained_stream, stays(1, second=True))
    old, new = pretrained_stream.encoder, moved.encoder
    shared = columns[columns["state"] == "shared"]["learned_name"].to_dict()
    assert shared["blood pressure//kPa"] == "blood pressure//mmHg"
    assert set(columns.index[columns["state"] == "new"]) == {"lactic acid"}
    assert set(columns.index[columns["state"] == "left out"]) == {"lactate", "vasopressor", "age"}
    rows, before, after = (old.rows_of(), new.rows_of()), old.state_dict(), new.state_dict()
    n_kept = 0
    kinds = {"bins": "bin", "code.weight": "code", "static.pieces": "number", "static.category.weight": "category"}
    kinds |= {f"static.{name}": "column" for name in ("column", "missing", "masked")}
    for name, weight in after.items():
        if name not in kinds:
            assert_array_equal(weight, before[name])
            continue
        for k, (label, *rest) in enumerate(rows[1][kinds[name]]):
            there = (shared.get(label), *rest)
            if there in rows[0][kinds[name]]:
                assert_array_equal(weight[k], before[name][rows[0][kinds[name]].index(there)])
                n_kept += 1
            else:
                assert label == "lactic acid"
                assert weight[k].any()
    assert n_kept > 10


def test_a_stay_looks_as_before_where_codes_are_the_same(pretrained_stream):
    """Another unit, other stays around, and other codes beside, which are not read here."""
    again = stays(0, second=True)
    again = replace(again, subjects=again.subjects.assign(age=stays(0).subjects["age"]), schema=stays(0).schema)
    code = again.events.table["code"].astype("str")
    again = replace(again, events=Events.of(again.events.table.assign(code=code.replace({"lactic acid": "lactate"}))))
    first = stays(0)
    first = replace(first, events=Events.of(first.events.table[first.events.table["code"] != "vasopressor"]))
    moved = transfer(pretrained_stream, again.select(again.ids[10:])).model
    assert_allclose(moved.embed(again).to_numpy(), pretrained_stream.embed(first).to_numpy(), atol=2e-3)


def test_a_model_of_streams_is_fine_tuned_saved_and_predicts(pretrained_stream, tmp_path):
    train, test = stays(1, second=True).split(0.3, seed=0)
    found = transfer(pretrained_stream, train)
    tuned = finetune(found.model, train, target="died", settings=TrainingSettings(max_epochs=1))
    tuned.save_pretrained(tmp_path / "model")
    again = Model.from_pretrained(tmp_path / "model")
    assert_array_equal(again.predict_proba(test), tuned.predict_proba(test))
    text = str(found)
    assert "columns: 2 shared, 0 new, 1 left out" in text.splitlines()[0]
    assert "  shared    blood pressure//kPa: numbers; kPa, learned in mmHg: times 7.50062, plus 0; called blood pressure//mmHg in the model" in text
    assert "  new       lactic acid: numbers" in text
    assert tuned.card["transferred to"].startswith("hospital 1, codes: ")


def test_what_does_not_fit_a_model_of_streams_is_refused(pretrained_stream):
    second = stays(1, second=True)
    table = second.events.table
    grams = table.assign(code=table["code"].astype("str").replace({"blood pressure//kPa": "blood pressure//g"}))
    with pytest.raises(SchemaError, match="Expected the code 'blood pressure' in mmHg as in the model, or in what can be converted; found g"):
        transfer(pretrained_stream, replace(second, events=Events.of(grams)))
    if isinstance(pretrained_stream.builder, EventTokenizer):
        with pytest.raises(ConfigError, match="Expected treatments for a model that reads them, found one made by a EventTokenizer"):
            transfer(pretrained_stream, second, treatments=["ventilation"])


def test_codes_of_a_table_and_populations_are_refused(pretrained):
    second = cohort([*NEW, *SHARED], seed=1)
    with pytest.raises(ConfigError, match="Expected codes for a model that reads them, found one made by a ColumnTokenizer"):
        transfer(pretrained, second, codes=["lab*"])
    population = untrained(second, encoder=PopulationTransformer(8, 1, 2), builder=PopulationBuilder())
    with pytest.raises(DataError, match="found one made by a PopulationBuilder"):
        transfer(population, second)
