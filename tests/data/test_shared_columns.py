"""Columns found again in another cohort: what is kept, in which unit, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from graphssl.data import Cohort, Column, ColumnTokenizer, Schema
from graphssl.data.shared_columns import carry_over
from graphssl.errors import SchemaError


def cohort(name, columns, values):
    index = pd.Index([f"{name}-{k}" for k in range(len(next(iter(values.values()))))], dtype="str")
    return Cohort(name, pd.DataFrame(values, index=index), Schema(columns), {})


def first():
    columns = [Column("creatinine", "continuous", unit="mg/dL"), Column("temperature", "continuous", unit="degC"), Column("ward", "categorical")]
    columns += [Column("empty", "continuous"), Column("age", "continuous", "covariate")]
    values = {"creatinine": [0.5, 1.5, 2.5, 4.5], "temperature": [36.0, 37.0, 39.0, np.nan], "ward": ["icu", "floor", "icu", "floor"]}
    return cohort("first", columns, {**values, "empty": [np.nan] * 4, "age": [20.5, 30.5, 60.5, 70.5]})


def second(**changes):
    columns = {
        "ward": Column("ward", "binary"),
        "creatinine": Column("creatinine", "continuous", unit="g/L"),
        "temperature": Column("temperature", "continuous", unit="degF"),
        "empty": Column("empty", "continuous"),
        "lactate": Column("lactate", "continuous", unit="mmol/L"),
        **changes,
    }
    values = {"ward": ["ed", "icu", "ed"], "creatinine": [0.015, 0.045, 0.005], "temperature": [98.6, 102.2, 96.8], "empty": [1.5, 2.5, 9.5]}
    values |= {"lactate": [1.5, 2.5, 3.5], "died": ["no", "yes", "no"]}
    return cohort("second", [*columns.values(), Column("died", "binary", "target")], values)


def test_the_same_value_is_the_same_number_whatever_its_unit():
    tokenizer = ColumnTokenizer(n_pieces=3).fit(first())
    made, found = carry_over(tokenizer, second())
    old, new = tokenizer.transform(first()), made.transform(second())
    for name, rows in (("creatinine", {0: 1, 1: 3, 2: 0}), ("temperature", {0: 1, 1: 2, 2: 0})):
        here, there = made.numbers.index(name), tokenizer.numbers.index(name)
        for row, of in rows.items():
            assert_allclose(new.numbers[row, here], old.numbers[of, there], rtol=1e-5, atol=1e-6)
            assert_allclose(new.pieces[row, here], old.pieces[of, there], rtol=1e-4, atol=1e-5)
    assert made.categories["ward"] == ("floor", "icu", "ed"), "those that were learned keep their numbers"
    assert new.codes[:, 0].tolist() == [2, 1, 2]
    assert found.loc["creatinine", ["state", "unit", "learned_unit", "added"]].tolist() == ["shared", "g/L", "mg/dL", ""]
    assert found.loc["creatinine", "factor"] == pytest.approx(100)
    assert found.loc["temperature", "offset"] == pytest.approx(-32 / 1.8)
    assert found.loc["ward", ["state", "added"]].tolist() == ["shared", "ed"]


def test_the_rest_is_learned_here_or_left_out():
    tokenizer = ColumnTokenizer(n_pieces=3).fit(first())
    made, found = carry_over(tokenizer, second())
    assert found["state"].to_dict() == {
        "ward": "shared",
        "creatinine": "shared",
        "temperature": "shared",
        "empty": "new",  # it had no value to learn from
        "lactate": "new",
        "age": "left out",
    }
    alone = ColumnTokenizer(n_pieces=3).fit(second())
    for name in ("empty", "lactate"):
        assert_allclose(made.edges_[made.numbers.index(name)], alone.edges_[alone.numbers.index(name)])
        assert_allclose(made.encoder_.mean_[made.numbers.index(name)], alone.encoder_.mean_[alone.numbers.index(name)])
    assert tokenizer.categories["ward"] == ("floor", "icu"), "the given one is left as it is"
    assert tokenizer.encoder_.mean_[0] == pytest.approx(2.25)


def test_named_columns_only():
    _, found = carry_over(ColumnTokenizer(n_pieces=3).fit(first()), second(), columns=["creatinine", "lactate"])
    assert found["state"].to_dict() == {
        "creatinine": "shared",
        "lactate": "new",
        "temperature": "left out",
        "ward": "left out",
        "empty": "left out",
        "age": "left out",
    }


def test_a_unit_that_is_not_stated_is_taken_to_be_the_same():
    made, found = carry_over(ColumnTokenizer(n_pieces=3).fit(first()), second(creatinine=Column("creatinine", "continuous")))
    assert found.loc["creatinine", ["state", "factor", "offset"]].tolist() == ["shared", 1.0, 0.0]
    assert made.encoder_.mean_[made.numbers.index("creatinine")] == pytest.approx(2.25)


def test_what_does_not_fit_is_refused():
    tokenizer = ColumnTokenizer(n_pieces=3).fit(first())
    with pytest.raises(SchemaError, match="Expected column 'creatinine' in mg/dL as in the model, or in what can be converted; found umol/L"):
        carry_over(tokenizer, second(creatinine=Column("creatinine", "continuous", unit="umol/L")))
    with pytest.raises(SchemaError, match="Expected column 'temperature' to be continuous as in the model, found it categorical"):
        carry_over(tokenizer, second(temperature=Column("temperature", "categorical")))
    with pytest.raises(SchemaError, match=r"at least one column of the model \(creatinine, .*\) in 'second', found lactate"):
        carry_over(tokenizer, second(), columns=["lactate"])
