"""What columns hold: guesses from names and values, and values as declared."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Column, Schema
from graphssl.datasets.columns import as_declared, find_ids, guess_schema, is_called_id, with_categories
from graphssl.errors import SchemaError


def clinic(n=80):
    rows = np.arange(n)
    return pd.DataFrame(
        {
            "patient_nbr": 100 + rows // 2,
            "visit_id": 1000 + rows,
            "hospital": np.where(rows % 3, "A", "B"),
            "age": 20.0 + rows,
            "glucose (mg/dL)": 80.5 + rows,
            "FiO2 (%)": 21 + rows / 2,
            "ward_type": rows % 9,
            "vessels": rows % 4,
            "admitted": [f"2130-01-{1 + row % 28:02} 10:00" for row in rows],
            "sex": np.where(rows % 2, "f", "m"),
            "outcome": rows % 3,
        }
    )


def test_guesses():
    schema = guess_schema(clinic(), {"outcome": "target"})
    assert {c.name: (c.kind, c.role) for c in schema} == {
        "patient_nbr": ("categorical", "group"),
        "visit_id": ("text", "identifier"),
        "hospital": ("categorical", "site"),
        "age": ("continuous", "feature"),
        "glucose (mg/dL)": ("continuous", "feature"),
        "FiO2 (%)": ("continuous", "feature"),
        "ward_type": ("categorical", "feature"),
        "vessels": ("ordinal", "feature"),
        "admitted": ("timestamp", "feature"),
        "sex": ("binary", "feature"),
        "outcome": ("categorical", "target"),
    }
    assert schema["age"] == Column("age", "continuous", unit="years", valid_range=(0.0, 120.0))
    assert schema["glucose (mg/dL)"].unit == "mg/dL"
    assert schema["FiO2 (%)"].valid_range == (0.0, 100.0)
    assert schema["vessels"].categories == ("0", "1", "2", "3")


def test_a_guess_never_refuses_the_values_it_was_made_of():
    odd = clinic().assign(age=np.arange(80.0) - 1, **{"FiO2 (%)": 150.0, "visit_id": 1.5})
    schema = guess_schema(odd, {})
    assert schema["age"].valid_range is None
    assert schema["visit_id"].role == "feature"
    with_categories(schema, as_declared(odd, schema)).check(as_declared(odd, schema))
    months = guess_schema(pd.DataFrame({"age": np.arange(0.5, 40)}), {})
    assert months["age"].unit is None, "it may be months"


def test_values_as_declared():
    table = pd.DataFrame({"code": [1.0, 2.0, np.nan], "n": ["1", "2.5", None], "when": ["2130-01-01", None, "2130-01-02"], "more": [1, 2, 3]})
    schema = Schema([Column("when", "timestamp"), Column("n", "continuous"), Column("code", "categorical")])
    found = as_declared(table, schema)
    assert found.columns.tolist() == ["when", "n", "code"]
    assert found["code"].tolist()[:2] == ["1", "2"]
    np.testing.assert_array_equal(found["n"], [1, 2.5, np.nan])
    assert with_categories(schema, found)["code"].categories == ("1", "2")
    words = as_declared(table.assign(n=["1", "many", None]), schema)
    with pytest.raises(SchemaError, match=r"Expected numbers in column 'n', found \['many'\]"):
        with_categories(schema, words).check(words)
    tens = pd.DataFrame({"s": ["10", "9", "2"]})
    assert with_categories(Schema([Column("s", "ordinal")]), tens)["s"].categories == ("2", "9", "10")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"x": [1, 2], "RecordID": [5, 6]}, "RecordID"),
        ({"x": [1, 2], "id": [5, 5]}, None),
        ({"code": [0.5, 1.5]}, None),
        ({"fluid": [1, 2]}, None),
        ({"patient_age": [34, 45], "patient_weight": [70, 80]}, None),
        ({"postal code": [10115, 80331], "no of children": [0, 2]}, None),
        ({"Patienten_ID": [5, 6]}, "Patienten_ID"),
        ({"patientunitstayid": [5, 6]}, "patientunitstayid"),
        ({"Pat.-Nr": [5, 6], "mrn": [7, 8]}, "mrn"),
        ({"patient": ["a", "b"]}, "patient"),
        ({"Subject No.": [1, 2]}, "Subject No."),
    ],
)
def test_find_ids(columns, found):
    assert find_ids(pd.DataFrame(columns)) == found


def test_a_row_without_an_id():
    table = pd.DataFrame({"patient_id": ["a", "b", None, "c"], "x": 0.5})
    with pytest.raises(SchemaError, match=r"Expected an id in every row of column 'patient_id', found none in 1 of 4, the first being row 3\."):
        find_ids(table)
    assert find_ids(table.assign(visit_id=[1, 2, 3, 4])) == "visit_id"
    assert find_ids(table.assign(patient_id=["a", "a", None, "b"])) is None, "ids of people, whose rows repeat"


def test_an_age_of_patients_is_a_feature_and_a_number_of_theirs_is_none():
    schema = guess_schema(pd.DataFrame({"patient_age": [34, 45, 56], "lab nr": [1, 5, 7], "stays": [1, 2, 3]}), {})
    assert [schema[name].role for name in ("patient_age", "lab nr", "stays")] == ["feature", "identifier", "feature"]


def test_what_is_called_as_ids_are():
    assert is_called_id("patient_id")
    assert not is_called_id("patient_age")
