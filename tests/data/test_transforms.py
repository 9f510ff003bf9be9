"""Columns as numbers: held to scikit-learn's transformers, and to what must not be learned from test subjects."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from graphssl.data import Cohort, Column, Schema
from graphssl.data.transforms import ColumnEncoder
from graphssl.errors import CheckpointError, LeakageError, SchemaError

TABLE = pd.DataFrame(
    {
        "age": [20.0, 30.5, np.nan, 50.0],
        "sex": ["female", "male", "male", None],
        "scanner": ["01", "02", "03", "01"],
        "dx": ["ill", "well", "ill", "well"],
    },
    index=pd.Index(list("abcd"), dtype="str"),
)
SCHEMA = Schema(
    [
        Column("dx", "binary", "target"),
        Column("age", "continuous", "covariate", "years"),
        Column("sex", "binary", "covariate", categories=("female", "male", "other")),
        Column("scanner", "categorical", "feature"),
    ]
)
COHORT = Cohort("toy", TABLE, SCHEMA)


def test_numbers_and_categories_as_scikit_learn_encodes_them():
    encoder = ColumnEncoder()
    encoded = encoder.fit_transform(COHORT)
    assert encoded.dtype == np.float32
    assert encoder.get_feature_names_out().tolist() == [
        "age", "age_missing", "sex_female", "sex_male", "sex_unknown", "sex_missing",
        "scanner_01", "scanner_02", "scanner_03", "scanner_unknown", "scanner_missing",
    ]  # fmt: skip
    scaled = StandardScaler().fit_transform(TABLE[["age"]]).ravel()
    np.testing.assert_allclose(encoded[:, 0], np.nan_to_num(scaled), rtol=1e-6)
    np.testing.assert_allclose(encoder.mean_, [100.5 / 3])
    np.testing.assert_allclose(encoder.scale_, [np.std([20, 30.5, 50])])
    np.testing.assert_array_equal(encoded[:, 1], [0, 0, 1, 0])
    np.testing.assert_array_equal(encoded[:, 6:9], OneHotEncoder(sparse_output=False).fit_transform(TABLE[["scanner"]]))
    np.testing.assert_array_equal(encoded[:, 2:6], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def test_the_target_is_not_among_the_columns():
    encoder = ColumnEncoder().fit(COHORT)
    assert [column.name for column in encoder.columns_] == ["age", "sex", "scanner"]
    assert not any("dx" in name for name in encoder.get_feature_names_out())


def test_columns_may_be_named_or_chosen_by_role():
    assert ColumnEncoder(["scanner", "age"]).fit(COHORT).transform(COHORT).shape == (4, 7)
    assert [column.name for column in ColumnEncoder(roles=["covariate"]).fit(COHORT).columns_] == ["age", "sex"]


def test_nothing_is_learned_from_test_subjects():
    encoder = ColumnEncoder().fit(COHORT.select(["a", "b"]))
    assert encoder.mean_.tolist() == [25.25]
    assert encoder.categories_ == {"sex": ("female", "male"), "scanner": ("01", "02")}, "a category of the schema is learned where it occurs"
    first = encoder.transform(COHORT)
    assert first.shape == (4, len(encoder.get_feature_names_out()))
    np.testing.assert_array_equal(encoder.transform(COHORT.select(["c"])), first[2:3])


def test_unknown_categories_are_counted():
    encoder = ColumnEncoder().fit(COHORT.select(["a", "b"]))
    encoded = pd.DataFrame(encoder.transform(COHORT), columns=encoder.get_feature_names_out(), index=COHORT.ids)
    assert encoded["scanner_unknown"].tolist() == [0, 0, 1, 0]
    assert encoder.count_unknown(COHORT) == {"sex": 0, "scanner": 1}
    assert encoder.unknown(COHORT)["scanner"].tolist() == [False, False, True, False]


def test_a_table_without_a_schema():
    encoder = ColumnEncoder(["age", "scanner"]).fit(TABLE)
    np.testing.assert_array_equal(encoder.transform(TABLE), ColumnEncoder(["age", "scanner"]).fit_transform(COHORT))


def test_codes_are_the_same_with_and_without_missing_ones():
    encoder = ColumnEncoder().fit(pd.DataFrame({"code": [1, 2, 1]}))
    assert encoder.categories_ == {"code": ("1", "2")}
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"code": [2.0, np.nan]})), [[0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"code": ["2", None]})), [[0, 1, 0, 0], [0, 0, 0, 1]])


def test_constant_and_empty_columns():
    table = pd.DataFrame({"age": [3e5 + 0.1] * 7, "iq": [np.nan] * 7})
    encoder = ColumnEncoder(["age", "iq"])
    schema = Schema([Column("age", "continuous"), Column("iq", "continuous")])
    cohort = Cohort("flat", table.set_axis([f"s{k}" for k in range(7)]), schema)
    np.testing.assert_allclose(encoder.fit_transform(cohort)[:, [0, 2]], 0, atol=1e-9)
    assert encoder.scale_.tolist() == [1, 1]


@pytest.mark.parametrize("n", [1, 5])
def test_sizes(n):
    table = pd.DataFrame({"age": np.arange(n) + 0.5, "sex": ["f"] * n})
    assert ColumnEncoder().fit(table).transform(table).shape == (n, 5)
    assert ColumnEncoder().fit(table).transform(table.head(0)).shape == (0, 5)


def test_the_estimator_contract():
    encoder = ColumnEncoder(["age"], roles=("covariate",))
    assert encoder.get_params() == {"columns": ["age"], "roles": ("covariate",)}
    assert clone(encoder).columns == ["age"]
    model = make_pipeline(ColumnEncoder(), LogisticRegression()).fit(COHORT, [0, 1, 0, 1])
    assert model.predict_proba(COHORT).shape == (4, 2)
    assert list(ColumnEncoder().set_output(transform="pandas").fit_transform(TABLE).columns[:2]) == ["age", "age_missing"]


@settings(max_examples=40, deadline=None)
@given(
    ages=st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=2, max_size=12),
    sexes=st.lists(st.sampled_from(["f", "m", "x", None]), min_size=12, max_size=12),
    cut=st.integers(1, 11),
)
def test_each_category_column_has_one_state_and_no_number_is_missing(ages, sexes, cut):
    table = pd.DataFrame({"age": pd.Series(ages, dtype="float64"), "sex": pd.Series(sexes[: len(ages)], dtype="str")})
    schema = Schema([Column("age", "continuous"), Column("sex", "categorical")])
    cohort = Cohort("any", table.set_axis([f"s{k}" for k in range(len(ages))]), schema)
    encoder = ColumnEncoder().fit(cohort.select(cohort.ids[:cut]))
    encoded = encoder.transform(cohort)
    assert np.isfinite(encoded).all()
    np.testing.assert_array_equal(encoded[:, 2:].sum(axis=1), 1)
    assert encoded[:, -2].sum() == encoder.count_unknown(cohort)["sex"]
    assert encoded[:cut, -2].sum() == 0


@pytest.mark.parametrize("columns", [None, ["scanner", "age"]])
def test_state_round_trip_through_json(columns):
    encoder = ColumnEncoder(columns).fit(COHORT.select(["a", "b"]))
    again = ColumnEncoder.from_state(json.loads(json.dumps(encoder.state())))
    np.testing.assert_array_equal(again.transform(COHORT), encoder.transform(COHORT))
    assert again.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
    assert again.count_unknown(COHORT) == encoder.count_unknown(COHORT)


# What is refused


def test_damaged_state():
    record = ColumnEncoder().fit(COHORT).state()
    with pytest.raises(CheckpointError, match="fitted state of a ColumnEncoder, found none of 'mean'"):
        ColumnEncoder.from_state({name: value for name, value in record.items() if name != "mean"})


@pytest.mark.parametrize("call", ["transform", "count_unknown", "get_feature_names_out", "state"])
def test_not_fitted(call):
    arguments = () if call in ("get_feature_names_out", "state") else (COHORT,)
    with pytest.raises(NotFittedError, match="This ColumnEncoder instance is not fitted yet"):
        getattr(ColumnEncoder(), call)(*arguments)


def test_no_column_to_take():
    bare = Cohort("bare", TABLE[["dx"]], Schema([Column("dx", "binary", "target")]))
    with pytest.raises(SchemaError, match=r"one of the roles covariate, feature, found none in Schema\(dx: binary target\)"):
        ColumnEncoder().fit(bare)
    with pytest.raises(SchemaError, match="Expected columns of numbers or categories, found none"):
        ColumnEncoder([]).fit(COHORT)


def test_text_columns_are_refused():
    cohort = Cohort("notes", TABLE.assign(notes="free text"), Schema([*SCHEMA, Column("notes", "text")]))
    assert "notes" not in [column.name for column in ColumnEncoder().fit(cohort).columns_]
    with pytest.raises(SchemaError, match=r"Expected columns of numbers or categories, found notes \(text\)"):
        ColumnEncoder(["age", "notes"]).fit(cohort)


def test_columns_that_are_absent():
    with pytest.raises(SchemaError, match=r"Expected one of the columns .*, found 'iq'"):
        ColumnEncoder(["iq"]).fit(COHORT)
    encoder = ColumnEncoder().fit(COHORT)
    for call in (encoder.transform, encoder.count_unknown):
        with pytest.raises(SchemaError, match=r"Expected the column 'sex' of the training subjects, found \['age', 'scanner', 'dx'\]"):
            call(TABLE.drop(columns="sex"))


def test_values_that_are_no_numbers():
    encoder = ColumnEncoder(["age"]).fit(COHORT)
    with pytest.raises(SchemaError, match="Expected finite numbers in column 'age', found 'old' for 'b'"):
        encoder.transform(pd.DataFrame({"age": ["20", "old", None]}, index=list("abc")))
    with pytest.raises(SchemaError, match="Expected finite numbers in column 'age', found 'inf' for 'a'"):
        encoder.transform(pd.DataFrame({"age": [np.inf]}, index=["a"]))


def told(kind="continuous", unit=None):
    """The cohort whose schema says of the age what is given."""
    column = Column("age", kind, "covariate", unit)
    return COHORT.with_column(column, COHORT.subjects["age"] if kind == "continuous" else COHORT.subjects["age"].astype("str"))


def test_another_kind_or_unit_is_refused():
    encoder = ColumnEncoder(["age"]).fit(told(unit="years"))
    expected = encoder.transform(told(unit="years"))
    np.testing.assert_array_equal(encoder.transform(told()), expected, "no unit is taken to be the same one")
    np.testing.assert_array_equal(encoder.transform(COHORT.subjects), expected)
    with pytest.raises(SchemaError, match=r"Expected the column 'age' as .* have it \(continuous in years\), found continuous in months in '\w+'"):
        encoder.transform(told(unit="months"))
    with pytest.raises(SchemaError, match=r"\(continuous in years\), found categorical in .*Convert the values, or correct the schema"):
        encoder.transform(told("categorical"))
    again = ColumnEncoder.from_state(json.loads(json.dumps(encoder.state())))
    with pytest.raises(SchemaError, match="found continuous in months"):
        again.transform(told(unit="months"))


@pytest.mark.parametrize("role", ["target", "split", "identifier"])
def test_what_a_new_subject_has_not_is_refused(role):
    with pytest.raises(LeakageError, match=f"Expected columns that are known of a new subject, found the {role} 'outcome'"):
        ColumnEncoder(["age", "outcome"]).fit(
            COHORT.with_column(Column("outcome", "binary", role), pd.Series(["a", "b", "a", "b"], index=COHORT.subjects.index))
        )
