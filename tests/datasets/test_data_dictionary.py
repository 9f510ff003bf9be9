"""The JSON file beside a table: units reach the schema, and codes become words where these are short."""

import json

import pandas as pd
import pytest

from graphssl.data import Column, Schema
from graphssl.datasets import load_timeseries, read_participants
from graphssl.datasets.data_dictionary import ColumnNote, read_data_dictionary, with_units
from graphssl.errors import DataError

TABLE = "participant_id\tage\tsex\tgroup\tscanner\nsub-01\t31.5\t1\t0\t1\nsub-02\tn/a\t2\t1\t7\nsub-03\t40.5\tn/a\t0\t1\n"
RECORD = {
    "age": {"Description": "at the scan", "Units": "years"},
    "sex": {"Levels": {"1": "male", "2": {"Description": "female", "TermURL": "https://example.org"}}},
    "group": {"LongName": "Group", "Levels": {"0": "healthy volunteers without any diagnosis", "1": "patients of the outpatient clinic"}},
    "scanner": {"Levels": {"1": "Trio"}},
    "MeasurementToolMetadata": "words",
}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text(TABLE)
    (tmp_path / "participants.json").write_text(json.dumps(RECORD))
    return path


def test_notes_of_columns(table):
    notes = read_data_dictionary(table)
    assert notes["age"] == ColumnNote("years")
    assert notes["sex"].levels == {"1": "male", "2": "female"}
    assert notes["group"].levels == {"0": "0", "1": "1"}, "too long to be called by"
    assert "MeasurementToolMetadata" not in notes


def test_nothing_is_said_of_other_tables(table, tmp_path):
    assert read_data_dictionary(None) == {}
    assert read_data_dictionary(pd.DataFrame()) == {}
    (tmp_path / "participants.json").unlink()
    assert read_data_dictionary(table) == {}


@pytest.mark.parametrize("levels", [["M", "F"], {"M": "x", "F": "x"}, {"M": "", "F": "female"}, {"M": 1, "F": 2}, {}, None])
def test_levels_that_cannot_stand_for_codes(tmp_path, levels):
    (tmp_path / "a.json").write_text(json.dumps({"sex": {"Levels": levels, "Units": 3}}))
    expected = {code: code for code in levels} if isinstance(levels, dict) else {}
    assert read_data_dictionary(tmp_path / "a.tsv")["sex"] == ColumnNote(None, expected)


@pytest.mark.parametrize("text", ["{", "\x00"])
def test_a_file_that_is_no_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"Expected JSON in .*a\.json, found a file that cannot be read .*Mend or remove it"):
        read_data_dictionary(tmp_path / "a.tsv")


def test_json_that_is_no_dictionary(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    assert read_data_dictionary(tmp_path / "a.tsv") == {}


def test_codes_become_words(table):
    found = read_participants(table, roles={"group": "target"})
    assert found["sex"].tolist()[:2] == ["male", "female"]
    assert found["sex"].isna().tolist() == [False, False, True]
    assert found["group"].tolist() == ["0", "1", "0"]
    assert found["scanner"].tolist() == ["Trio", "7", "Trio"], "a code without a level stays"


def test_units_belong_to_continuous_columns():
    schema = Schema([Column("age", "continuous", "covariate"), Column("sex", "binary")])
    found = with_units(schema, {"age": ColumnNote("years"), "sex": ColumnNote("codes"), "other": ColumnNote("mm")})
    assert (found["age"].unit, found["age"].role, found["sex"].unit) == ("years", "covariate", None)


def test_a_cohort_knows_units_and_kinds(table, atlas, write_layout):
    folder, _ = write_layout("plain_series")
    (folder / "participants.json").write_text(json.dumps({"diagnosis": {"Levels": {"a": "control", "b": "patient"}}, "iq": {"Units": "points"}}))
    lines = (folder / "participants.tsv").read_text().splitlines()
    (folder / "participants.tsv").write_text("\n".join([f"{lines[0]}\tiq", *(f"{line}\t{90.5 + k}" for k, line in enumerate(lines[1:]))]))
    cohort = load_timeseries(folder, atlas=atlas, target="diagnosis")
    assert cohort.schema["diagnosis"].categories == ("control", "patient")
    assert cohort.schema["iq"].unit == "points"
