"""Typed columns: kinds are guessed sensibly, checked strictly, and travel whole."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import Column, Schema
from graphssl.data.schema import typed
from graphssl.errors import SchemaError

kinds = st.sampled_from(["continuous", "ordinal", "categorical", "binary", "timestamp", "text"])
roles = st.sampled_from(["feature", "target", "group", "covariate", "identifier", "split"])
columns = st.builds(
    Column,
    st.text(min_size=1, max_size=5),
    kinds,
    roles,
    st.one_of(st.none(), st.text(max_size=4)),
    st.one_of(st.none(), st.tuples(st.floats(-10, 0), st.floats(0, 10))),
    st.one_of(st.none(), st.lists(st.text(max_size=3), max_size=3).map(tuple)),
)


@settings(max_examples=50, deadline=None)
@given(schema=st.lists(columns, max_size=5, unique_by=lambda column: column.name).map(Schema))
def test_round_trip_through_json(schema):
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_columns_by_name_and_role():
    schema = Schema([Column("dx", "binary", "target"), Column("age", "continuous", "covariate"), Column("iq", "continuous")])
    assert len(schema) == 3
    assert "age" in schema
    assert "site" not in schema
    assert schema["age"].kind == "continuous"
    assert schema.named("target") == ["dx"]
    assert schema.named("site") == []
    assert [column.name for column in schema] == ["dx", "age", "iq"]
    assert repr(schema) == "Schema(dx: binary target, age: continuous covariate, iq: continuous feature)"
    assert schema != Schema([])
    assert schema != "schema"


TABLE = pd.DataFrame(
    {
        "dx": ["ill", "well", None, "ill"],
        "site": ["A", "B", "A", "B"],
        "family": [1, 1, 2, 3],
        "age": [20.5, 31.0, 31.0, np.nan],
        "two_ages": [20.5, 31.0, np.nan, 20.5],
        "code": [1, 2, 1, 2],
        "coded_missing": [1.0, 2.0, np.nan, 1.0],
        "smoker": [True, False, True, True],
        "grade": ["low", "high", "middle", "low"],
        "when": pd.to_datetime(["2020-01-01"] * 4),
        "record": ["x1", "x2", "x3", "x4"],
        "nothing": [np.nan] * 4,
    },
    index=list("abcd"),
)


def test_kinds_are_guessed():
    schema = Schema.infer(TABLE, {"dx": "target", "site": "site", "family": "group", "record": "identifier"})
    assert {column.name: (column.kind, column.role, column.categories) for column in schema} == {
        "dx": ("binary", "target", ("ill", "well")),
        "site": ("categorical", "site", ("A", "B")),
        "family": ("categorical", "group", ("1", "2", "3")),
        "age": ("continuous", "feature", None),
        "two_ages": ("continuous", "feature", None),
        "code": ("binary", "feature", ("1", "2")),
        "coded_missing": ("binary", "feature", ("1.0", "2.0")),
        "smoker": ("binary", "feature", ("False", "True")),
        "grade": ("categorical", "feature", ("high", "low", "middle")),
        "when": ("timestamp", "feature", None),
        "record": ("text", "identifier", None),
        "nothing": ("continuous", "feature", None),
    }
    schema.check(TABLE)


def test_many_words_are_text_except_where_the_role_says_what_they_are():
    table = pd.DataFrame({"word": [f"w{k}" for k in range(21)]})
    assert Schema.infer(table)["word"].kind == "text"
    assert Schema.infer(table.head(20))["word"].kind == "categorical"
    assert Schema.infer(table, {"word": "site"})["word"].kind == "categorical"


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.integers(0, 3), st.booleans(), st.text(max_size=2)), min_size=1, max_size=30), role=roles)
def test_what_is_inferred_holds_for_its_own_table(values, role):
    table = pd.DataFrame({"x": pd.Series(values, dtype="object")})
    schema = Schema.infer(table, {"x": role})
    schema.check(table)
    assert [(column.name, column.role) for column in schema] == [("x", role)]
    assert set(schema["x"].categories or ()) <= {str(value) for value in table["x"].dropna()}


def test_a_role_for_a_column_that_is_absent():
    with pytest.raises(SchemaError, match=r"Expected the columns \['centre'\] in the table, found \['dx'"):
        Schema.infer(TABLE, {"centre": "site"})


def test_unknown_kind_and_role():
    with pytest.raises(SchemaError, match="Expected kind of column 'x' to be one of continuous, .*; found 'float'"):
        Column("x", "float")
    with pytest.raises(SchemaError, match="Expected role of column 'x' to be one of feature, .*; found 'label'"):
        Column("x", "binary", "label")


def test_names_and_sites_are_unique():
    with pytest.raises(SchemaError, match=r"Expected unique column names, found repeated \['x'\]"):
        Schema([Column("x", "text"), Column("x", "binary"), Column("y", "text")])
    with pytest.raises(SchemaError, match=r"Expected at most one site column, found \['scanner', 'centre'\]\. Give the others the role 'covariate'"):
        Schema([Column("scanner", "categorical", "site"), Column("centre", "categorical", "site")])


def test_a_column_that_is_not_there():
    with pytest.raises(SchemaError, match=r"Expected one of the columns \['x'\], found 'y'"):
        Schema([Column("x", "text")])["y"]
    with pytest.raises(SchemaError, match=r"Expected the columns \['x'\] in the table, found \['z'\]"):
        Schema([Column("x", "text")]).check(pd.DataFrame({"z": [1]}))


def test_numbers_are_checked():
    schema = Schema([Column("age", "continuous", unit="years", valid_range=(0.0, 120.0))])
    schema.check(pd.DataFrame({"age": [0, 120, None]}))
    schema.check(pd.DataFrame({"age": []}))
    with pytest.raises(SchemaError, match=r"Expected numbers in column 'age', found \['old'\]"):
        schema.check(pd.DataFrame({"age": ["20", "old"]}))
    with pytest.raises(SchemaError, match="Expected numbers in column 'age', found numbers stored as text"):
        schema.check(pd.DataFrame({"age": ["20", "30"]}))
    with pytest.raises(
        SchemaError,
        match="Expected 'age' within 0.0 to 120.0 years, found -9999.0 for 'b' and 1 more. Missing values belong in the table as empty cells",
    ):
        schema.check(pd.DataFrame({"age": [20.0, -9999.0, 130.0]}, index=list("abc")))


def test_categories_are_checked():
    schema = Schema([Column("grade", "ordinal", categories=("low", "middle", "high"))])
    schema.check(pd.DataFrame({"grade": ["high", None, "low"]}))
    with pytest.raises(SchemaError, match=r"Expected 'grade' to be one of \['low', 'middle', 'high'\], found \['HIGH'\]"):
        schema.check(pd.DataFrame({"grade": ["HIGH", "low"]}))
    Schema([Column("grade", "categorical")]).check(pd.DataFrame({"grade": ["anything"]}))


def test_prediction_times_are_one_timestamp():
    times = [Column(name, "timestamp", "prediction_time") for name in ("a", "b")]
    assert Schema(times[:1]).named("prediction_time") == ["a"]
    for columns in (times, [Column("a", "text", "prediction_time")]):
        with pytest.raises(SchemaError, match="Expected at most one column of prediction times, a timestamp; found .*Leave the others out"):
            Schema(columns)


YAML = """age:
  kind: continuous
  role: covariate
  unit: yrs
  range: [0, 120]
smoker:
  kind: binary
  categories: ['no', 'yes', 3]
"""


def test_a_person_corrects_what_was_written(tmp_path):
    schema = Schema(
        [
            Column("Größe", "continuous", unit="cm", valid_range=(30.0, 250.0)),
            Column("sex", "binary", "covariate", categories=("f", "no")),
            Column("seen", "timestamp", "prediction_time"),
        ]
    )
    schema.save(tmp_path / "schema.yaml")
    assert Schema.load(tmp_path / "schema.yaml") == schema
    (tmp_path / "schema.yaml").write_text(YAML, encoding="utf-8")
    corrected = Schema.load(tmp_path / "schema.yaml")
    assert corrected["age"] == Column("age", "continuous", "covariate", "years", (0.0, 120.0))
    assert corrected["smoker"].categories == ("no", "yes", "3")
    assert str(corrected).splitlines() == ["age     continuous  covariate  years  0 to 120", "smoker  binary      feature           no, yes, 3"]
    assert str(Schema([Column("x", "categorical", categories=tuple("abcdefgh"))])).endswith("a, b, c, d, e, f … (8)")
    assert str(Schema([])) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YAML.replace("yrs", "yeers"), "Expected a unit such as mg/dL, mmHg or years, found 'yeers'; perhaps years"),
        (YAML.replace("range:", "rang:"), "found 'rang'; perhaps range"),
        (YAML.replace("[0, 120]", "[0]"), r"Expected the range of column 'age' as \[smallest, largest\], found \[0\]"),
        (YAML.replace("'no'", "no"), "Words such as yes and no need quotation marks"),
        (YAML.replace("kind: binary", "role: feature"), "Expected the kind of column 'smoker', found none. Add kind"),
        (YAML.replace("binary", "boolean"), "found 'boolean'"),
        ("- age", "Expected columns by name, each with its kind; found something else"),
        ("a: [", "found a file that cannot be read"),
    ],
)
def test_mistakes_in_a_corrected_schema_are_named(tmp_path, text, message):
    (tmp_path / "schema.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=message):
        Schema.load(tmp_path / "schema.yaml")


def test_a_description_is_for_people(tmp_path):
    schema = Schema([Column("K last", "continuous", unit="mmol/L", description="Potassium, last")])
    assert "Potassium, last" in str(schema)
    schema.save(tmp_path / "schema.yaml")
    assert Schema.load(tmp_path / "schema.yaml")["K last"].description == "Potassium, last"
    assert Schema.from_dict(schema.to_dict())["K last"].description == "Potassium, last"
    assert schema == Schema([Column("K last", "continuous", unit="mmol/L")])


@pytest.mark.parametrize("odd", [np.inf, -np.inf, 1e300])
def test_numbers_that_no_network_holds_are_refused(odd):
    table = pd.DataFrame({"ratio": [0.5, odd, None, odd]})
    with pytest.raises(SchemaError, match=r"Expected finite numbers in column 'ratio', found infinite ones, .* in 2 of 4 rows\. .*missing=\['inf'"):
        Schema([Column("ratio", "continuous")]).check(table)
    Schema([Column("ratio", "continuous")]).check(table.replace(odd, 3e38).astype("Float64"))


def test_objects_that_are_numbers():
    """Databases give numbers as objects; as words nobody would read them."""
    made = {"a": [1.5, 2], "b": [1, 2], "c": [Decimal("1.25"), None], "d": [2**60, None], "e": ["1", 2], "f": [True, None]}
    table = pd.DataFrame(made, dtype=object)
    found = typed(table)
    assert [str(dtype) for dtype in found.dtypes] == ["float64", "int64", "float64", "object", "object", "object"]
    assert found["c"].tolist()[0] == 1.25
    assert table["a"].dtype == object, "the caller's table is left as it was"
    with pytest.raises(SchemaError, match="Expected one value in each cell, found list in column 'x'. Leave it out"):
        typed(pd.DataFrame({"x": [[1, 2], [3]]}))
    assert typed(pd.DataFrame([[1, 2]], columns=["x", "x"], dtype=object)).shape == (1, 2)
