"""ABIDE's table: ids keep their zeros, codes become words, and what is not known is missing."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Atlas, Provenance, RegionData
from graphssl.datasets.abide_table import COLUMNS, abide_cohort, read_table, typed_columns
from graphssl.errors import DataError, SchemaError

IDS = ["0050102", "0050103", "0051456"]
TEXT = pd.DataFrame(
    {
        "diagnosis": ["2", "1", "1"],
        "site": ["OLIN", "OLIN", "NYU"],
        "age": ["14", "15.5", "-9999"],
        "sex": ["1", "2", "1"],
        "fiq": ["103", "", "107.5"],
        "eye_status": ["0", "1", "2"],
        "mean_fd": ["0.16", "0.2", "0.05"],
    },
    index=IDS,
    dtype="str",
).replace("", np.nan)


def regions_of(subjects):
    atlas = Atlas("toy", np.arange(1, 4), ("a", "b", "c"), np.zeros((3, 3)), ("",) * 3)
    rng = np.random.default_rng(0)
    return {"toy": RegionData(atlas, {subject: rng.normal(size=(12, 3)).astype(np.float32) for subject in subjects}, Provenance("timeseries"))}


def test_ids_have_seven_digits(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('SUB_ID,note,DX_GROUP\n50102,"cuts, badly",1\n 51456 ,,2\n')
    table = read_table(path, ["DX_GROUP"])
    assert table.index.tolist() == ["0050102", "0051456"]
    assert table["DX_GROUP"].tolist() == ["1", "2"]


def test_tables_that_cannot_be_read(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(DataError, match=r"Expected the table of subjects at .*table\.csv, found no such file"):
        read_table(path, [])
    path.write_text("")
    with pytest.raises(DataError, match="Expected the table of subjects in .*, found a file that cannot be read"):
        read_table(path, [])
    path.write_text("SUB_ID,AGE\n1,2\n")
    with pytest.raises(SchemaError, match=r"Expected the columns \['SEX', 'FIQ'\] in .*, found \['SUB_ID', 'AGE'\]. Give the project's own table"):
        read_table(path, ["SEX", "AGE", "FIQ"])


def test_codes_become_words_and_what_is_not_known_is_missing():
    table = typed_columns(TEXT)
    assert table["diagnosis"].tolist() == ["control", "autism", "autism"]
    assert table["sex"].tolist() == ["male", "female", "male"]
    assert table["eye_status"].isna().tolist() == [True, False, False]
    np.testing.assert_array_equal(table["age"], [14, 15.5, np.nan])
    np.testing.assert_array_equal(table["fiq"], [103, np.nan, 107.5])


def test_unknown_codes_and_text_among_numbers():
    with pytest.raises(SchemaError, match=r"Expected the codes .* for diagnosis, found \[3\.0\]"):
        typed_columns(TEXT.assign(diagnosis="3"))
    with pytest.raises(SchemaError, match="Expected numbers for age, found text"):
        typed_columns(TEXT.assign(age="adult"))


def test_a_cohort_of_those_who_have_data():
    excluded = [("subject", "0000001", "for another reason")]
    cohort = abide_cohort("mine", typed_columns(TEXT), regions_of(IDS[:2]), excluded, "diagnosis")
    assert (cohort.name, cohort.ids) == ("mine", IDS[:2])
    assert cohort.schema["site"].categories == ("OLIN",)
    assert cohort.excluded.to_numpy().tolist() == [[*excluded[0]], ["subject", IDS[2], "no file, or no region with a signal"]]


def test_another_target_takes_the_place_of_the_diagnosis():
    schema = abide_cohort("mine", typed_columns(TEXT), regions_of(IDS), [], "age").schema
    assert (schema.named("target"), schema["diagnosis"].role) == (["age"], "feature")
    with pytest.raises(SchemaError, match=f"Expected the target to be one of {', '.join(COLUMNS)}; found 'handedness'"):
        abide_cohort("mine", typed_columns(TEXT), regions_of(IDS), [], "handedness")


def test_values_out_of_range():
    with pytest.raises(SchemaError, match="Expected 'age' within 0.0 to 120.0 years, found 400"):
        abide_cohort("mine", typed_columns(TEXT.assign(age="400")), regions_of(IDS), [], "diagnosis")
