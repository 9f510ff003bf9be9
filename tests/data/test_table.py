"""Batches of patients, and the tokenizer against arithmetic by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from graphssl.data import Cohort, Column, ColumnTokenizer, Schema, StreamedCohort, TableBatch, write_shards
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError


def table():
    ages = [20.5, 30.5, None, 50.5, 60.5]
    sexes = ["female", "male", "female", None, "male"]
    return pd.DataFrame({"age": ages, "sex": sexes}, index=["a", "b", "c", "d", "e"])


def test_numbers_and_codes_by_hand():
    batch = ColumnTokenizer(n_pieces=2).fit_transform(table())
    ages = np.array([20.5, 30.5, 50.5, 60.5])
    standard = (ages - ages.mean()) / ages.std()
    assert_allclose(batch.numbers[:, 0], [standard[0], standard[1], 0.0, standard[2], standard[3]], atol=1e-6)
    assert batch.codes[:, 0].tolist() == [0, 1, 0, 0, 1]
    assert batch.measured.tolist() == [[True, True], [True, True], [False, True], [True, False], [True, True]]
    assert batch.subject_ids == ("a", "b", "c", "d", "e")
    # Two pieces meet at the median, 40.5.
    assert_allclose(batch.pieces[:, 0], [[0, 0], [0.5, 0], [0, 0], [1, 0.5], [1, 1]], atol=1e-6)


def test_outside_of_the_training_range_the_outer_pieces_go_on():
    tokenizer = ColumnTokenizer(n_pieces=2).fit(table())
    batch = tokenizer.transform(pd.DataFrame({"age": [0.5, 100.5], "sex": ["male", "other"]}, index=["x", "y"]))
    assert_allclose(batch.pieces[:, 0], [[-1.0, 0.0], [1.0, 3.0]], atol=1e-6)
    assert batch.codes[:, 0].tolist() == [1, 2], "a category that training patients had not has a number of its own"


def test_who_has_a_category_that_training_patients_had_not():
    tokenizer = ColumnTokenizer(n_pieces=2).fit(table())
    new = pd.DataFrame({"age": [20.5, 30.5, 1.5], "sex": ["male", "other", None]}, index=["x", "y", "z"])
    assert tokenizer.unknown(new).to_dict("list") == {"sex": [False, True, False]}


def test_another_unit_is_refused():
    def told(unit):
        return Cohort("ward", table(), Schema([Column("age", "continuous", unit=unit), Column("sex", "binary")]))

    tokenizer = ColumnTokenizer().fit(told("years"))
    with pytest.raises(SchemaError, match=r"have it \(continuous in years\), found continuous in months in 'ward'"):
        tokenizer.transform(told("months"))


def test_a_column_without_any_spread_or_value_says_nothing():
    train = pd.DataFrame({"same": [1.5, 1.5, 1.5], "never": [np.nan] * 3, "age": [1.5, 2.5, 4.5]}, index=["a", "b", "c"])
    batch = ColumnTokenizer(columns=["same", "never", "age"], n_pieces=4).fit_transform(train.astype(float))
    assert_array_equal(batch.pieces[:, :2], 0.0)
    assert batch.measured.tolist() == [[True, False, True]] * 3


# No whole numbers: few of them are categories.
@given(st.lists(st.integers(-(10**6), 10**6).map(lambda n: n / 1000 + 0.0005), min_size=2, max_size=30, unique=True), st.integers(1, 8))
def test_pieces_add_up_to_the_place_between_quantiles(values, n_pieces):
    """A larger number is never less far through any piece, and training numbers lie between 0 and the number of pieces."""
    ids = [f"p{k}" for k in range(len(values))]
    batch = ColumnTokenizer(columns=["v"], n_pieces=n_pieces).fit_transform(pd.DataFrame({"v": sorted(values)}, index=ids))
    pieces = batch.pieces[:, 0]
    assert bool((pieces.diff(dim=0) >= -1e-6).all())
    assert float(pieces.min()) >= -1e-6
    assert float(pieces.max()) <= 1 + 1e-5
    assert float(pieces[-1].sum()) > float(pieces[0].sum())


def test_what_is_learned_survives_saving():
    tokenizer = ColumnTokenizer(n_pieces=3).fit(table())
    record, tensors = tokenizer.state()
    again = ColumnTokenizer.from_state(json.loads(json.dumps(record)), tensors)
    first, second = tokenizer.transform(table()), again.transform(table())
    for name in ("numbers", "pieces", "codes", "measured"):
        assert_array_equal(getattr(first, name), getattr(second, name))
    assert again.get_params()["n_pieces"] == 3
    with pytest.raises(CheckpointError, match="fitted state of a ColumnTokenizer, found a problem with 'edges'"):
        ColumnTokenizer.from_state(record, {})


def test_a_patient_does_not_depend_on_the_others_in_the_call():
    tokenizer = ColumnTokenizer().fit(table())
    together, alone = tokenizer.transform(table()), tokenizer.transform(table().loc[["d"]])
    assert_array_equal(together.pieces[3], alone.pieces[0])
    assert_array_equal(together.codes[3], alone.codes[0])


def test_hiding_touches_measured_values_only():
    batch = ColumnTokenizer(n_pieces=2).fit_transform(table())
    everything = batch.hide(torch.ones_like(batch.measured))
    assert_array_equal(everything.hidden, batch.measured)
    assert not everything.visible.any()
    assert batch.visible.equal(batch.measured), "the batch itself is left as it was"


def test_rows_by_number_and_by_mask():
    batch = ColumnTokenizer(n_pieces=2).fit_transform(table()).hide(torch.tensor([[True, False]] * 5))
    few = batch[[4, 0]]
    assert few.subject_ids == ("e", "a")
    assert_array_equal(few.hidden, batch.hidden[[4, 0]])
    assert batch[torch.tensor([False, True, False, False, False])].subject_ids == ("b",)
    assert repr(few) == "TableBatch(2 patients × 1 numbers and 1 categories, 100% measured)"
    assert few.signature() != batch[[0, 4]].signature()
    assert few.to("cpu").signature() == few.signature()


def test_what_does_not_fit_is_refused():
    batch = ColumnTokenizer(n_pieces=2).fit_transform(table())
    with pytest.raises(DataError, match="shapes .* for a batch of 4 patients"):
        TableBatch(batch.subject_ids[:4], batch.numbers, batch.pieces, batch.codes, batch.measured)
    with pytest.raises(ConfigError, match="at least one piece"):
        ColumnTokenizer(n_pieces=0).fit(table())
    with pytest.raises(SchemaError, match="column 'age' of the training subjects"):
        ColumnTokenizer().fit(table()).transform(table()[["sex"]])


def test_batches_below_one_another(with_covariates, make_batch):
    whole = with_covariates(make_batch(5)).covariates
    again = TableBatch.cat([whole[[0, 1]], whole[[2]], whole[[3, 4]]])
    assert again.signature() == whole.signature()
    assert torch.equal(again.hidden, whole.hidden)
    assert torch.equal(again.pieces, whole.pieces)


def test_nothing_or_other_columns_below_one_another(with_covariates, make_batch):
    with pytest.raises(DataError, match="Expected at least one batch of patients, found none"):
        TableBatch.cat([])
    whole = with_covariates(make_batch(2)).covariates
    other = TableBatch(whole.subject_ids, whole.numbers[:, :1], whole.pieces[:, :1], whole.codes, whole.measured[:, 1:])
    with pytest.raises(DataError, match=r"Expected batches of the same columns, found .*Use one tokenizer"):
        TableBatch.cat([whole, other])


def test_pieces_of_many_patients_are_made_in_parts(monkeypatch):
    tokenizer = ColumnTokenizer(n_pieces=4).fit(table())
    whole = tokenizer.transform(table()).pieces
    monkeypatch.setattr("graphssl.data.table._CHUNK", 2)
    assert torch.equal(tokenizer.transform(table()).pieces, whole)


def test_shards_teach_exactly_what_the_table_teaches(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.standard_normal(50), "constant": 2.5, "empty": np.nan, "ward": rng.choice(["x", "y", None], 50)})
    table.index = [f"p{k}" for k in range(50)]
    table.loc["p3":"p15", "a"] = np.nan
    schema = Schema([*(Column(name, "continuous") for name in ("a", "constant", "empty")), Column("ward", "categorical")])
    cohort = Cohort("t", table, schema)
    streamed = StreamedCohort(write_shards(cohort, tmp_path / "t", size=9), 1)
    chosen = cohort.ids[40:] + cohort.ids[:25]
    found, expected = ColumnTokenizer(n_pieces=5).fit_streamed(streamed.select(chosen)), ColumnTokenizer(n_pieces=5).fit(cohort.select(chosen))
    assert found.state()[0] == expected.state()[0]
    assert np.array_equal(found.edges_, expected.edges_)
