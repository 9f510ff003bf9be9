"""Clinical tables become cohorts: guesses are printed and corrected, and what does not fit is named."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort, Schema
from graphssl.datasets import load_source, load_tables, read_participants, recognise
from graphssl.errors import ConfigError, DataError, SchemaError

CSV = """visit_id;patient_nbr;hospital;age;chol (mg/dl);empty;sex;readmitted
v1;1;A;63,5;0;;m;<30
v2;1;B;41;233;n/a;f;NO
v3;2;A;?;-9999;;f;>30
v4;3;B;70;250;;m;<30
"""


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_a_text_file(csv):
    cohort = load_tables(csv, target="readmitted", positive=["<30"], missing=("?", -9999))
    assert cohort.name == "visits"
    assert cohort.ids == ["v1", "v2", "v3", "v4"]
    np.testing.assert_array_equal(cohort.subjects["age"], [63.5, 41, np.nan, 70])
    np.testing.assert_array_equal(cohort.subjects["chol (mg/dl)"], [0, 233, np.nan, 250])
    assert cohort.schema["chol (mg/dl)"].unit == "mg/dL"
    assert cohort.target().tolist() == ["yes", "no", "no", "yes"]
    assert cohort.schema["readmitted"].categories == ("no", "yes")
    assert cohort.sites.tolist() == ["A", "B", "A", "B"]
    assert cohort.groups.tolist() == ["v1", "v1", "v3", "v4"], "visits of one person stay together"
    assert cohort.excluded.values.tolist() == [["column", "empty", "no subject has a value"]]
    assert not cohort.regions


def test_missing_by_column(csv):
    cohort = load_tables(csv, missing={"chol (mg/dl)": [-9999], "age": ["?", 41]})
    np.testing.assert_array_equal(cohort.subjects["chol (mg/dl)"], [0, 233, np.nan, 250])
    np.testing.assert_array_equal(cohort.subjects["age"].astype("float"), [63.5, np.nan, np.nan, 70])
    with pytest.raises(SchemaError, match=r"Expected the columns \['chol'\] in the table, found .*"):
        load_tables(csv, missing={"chol": [0]})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("odd", [99.9, 9999999, 9999999.0, "99.9", -9999])
def test_what_stands_for_nothing_is_found_in_every_type(tmp_path, ending, odd):
    """Single precision holds another 99.9, and seven digits are no power of ten."""
    table = pd.DataFrame({"id": list("abcd"), "x": [36.6, float(odd), 37.5, float(odd)], "y": ["?", f"{float(odd):.1f}", "2.5", "00"]})
    getattr(table, f"to_{ending}")(tmp_path / f"t.{ending}", index=False)
    cohort = load_tables(tmp_path / f"t.{ending}", missing=["?", odd])
    assert cohort.subjects["x"].isna().tolist() == [False, True, False, True]
    assert cohort.subjects["y"].isna().tolist() == [True, True, False, False]


def test_numbers_that_are_objects_in_memory():
    table = pd.DataFrame({"id": list("abc"), "x": [0.5, None, 2.5]}, dtype=object)
    assert load_tables(table).schema["x"].kind == "continuous"
    assert read_participants(table, id_column="id")["x"].dtype == "float64"


def test_codes_keep_their_zeros_beside_what_stands_for_nothing():
    table = pd.DataFrame({"id": list("abc"), "ward": ["01", "?", "00"]})
    assert load_tables(table, missing=["?", 0]).subjects["ward"].dropna().tolist() == ["01", "00"]


def test_a_schema_is_corrected_and_used(csv, tmp_path):
    load_tables(csv).schema.save(tmp_path / "schema.yaml")
    assert load_tables(csv, schema=tmp_path / "schema.yaml").schema == load_tables(csv).schema
    entry = (
        "patient_nbr: {kind: ordinal, role: covariate}\n"
        "readmitted: {kind: categorical, role: target}\n"
        "age: {kind: continuous, unit: y, range: [0, 120]}\n"
    )
    (tmp_path / "schema.yaml").write_text(entry, encoding="utf-8")
    cohort = load_tables(csv, schema=tmp_path / "schema.yaml")
    assert [(c.name, c.kind, c.role) for c in cohort.schema] == [
        ("patient_nbr", "ordinal", "covariate"),
        ("readmitted", "categorical", "target"),
        ("age", "continuous", "feature"),
    ]
    assert cohort.schema["age"].unit == "years"
    assert cohort.schema["patient_nbr"].categories == ("1", "2", "3")
    assert set(cohort.excluded["reason"]) == {"not in the schema"}
    assert load_tables(csv, schema=Schema.load(tmp_path / "schema.yaml")).hash == cohort.hash
    with pytest.raises(ConfigError, match=r"Expected roles in the schema or as arguments, found both \(readmitted\)"):
        load_tables(csv, schema=tmp_path / "schema.yaml", target="readmitted")
    (tmp_path / "schema.yaml").write_text(entry.replace("[0, 120]", "[0, 65]"), encoding="utf-8")
    with pytest.raises(SchemaError, match="Expected 'age' within 0.0 to 65.0 years, found 70"):
        load_tables(csv, schema=tmp_path / "schema.yaml")
    (tmp_path / "schema.yaml").write_text(entry.replace("unit: y,", "unit: parsec,"), encoding="utf-8")
    with pytest.raises(SchemaError, match="Expected a unit such as .*found 'parsec'"):
        load_tables(csv, schema=tmp_path / "schema.yaml")
    (tmp_path / "schema.yaml").write_text(entry + "bmi: {kind: continuous}\n", encoding="utf-8")
    with pytest.raises(SchemaError, match=r"Expected the columns \['bmi'\] in the table"):
        load_tables(csv, schema=tmp_path / "schema.yaml")


def test_columns_without_a_value_are_left_out_of_a_given_schema_too(csv, tmp_path):
    (tmp_path / "schema.yaml").write_text("age: {kind: continuous}\nempty: {kind: continuous}\n", encoding="utf-8")
    cohort = load_tables(csv, schema=tmp_path / "schema.yaml", id_column="visit_id")
    assert [column.name for column in cohort.schema] == ["age"]
    assert ["column", "empty", "no subject has a value"] in cohort.excluded.values.tolist()


def test_an_id_twice_is_no_feature():
    visits = pd.DataFrame({"id": ["a", "b", "a"], "age": [60.5, 70.5, 61.5]})
    with pytest.raises(
        SchemaError, match=r"Expected another id in every row of column 'id', found 1 repeated: \['a'\]. .*\(group='id'\); else remove"
    ):
        load_tables(visits)
    cohort = load_tables(visits, group="id")
    assert cohort.groups.nunique() == 2
    assert load_tables(visits, drop=["id"]).schema.named("feature") == ["age"]
    numbered = load_tables(visits.assign(visit_id=[1, 2, 3]))
    assert numbered.ids == ["1", "2", "3"]
    assert numbered.schema.named("group") == ["id"]


def test_what_does_not_fit_is_named(csv):
    with pytest.raises(SchemaError, match=r"Expected the columns \['readmited'\] in the table, .*; perhaps 'readmitted' is meant"):
        load_tables(csv, target="readmited")
    with pytest.raises(SchemaError, match=r"Expected each subject id once, found 1 repeated: \['1'\]"):
        load_tables(csv, id_column="patient_nbr")
    with pytest.raises(ConfigError, match=r"Expected one target beside the positive values \['<30'\], found none"):
        load_tables(csv, positive=["<30"])
    with pytest.raises(SchemaError, match=r"Expected the positive values among those of 'readmitted', found \['yes'\] in no row"):
        load_tables(csv, target="readmitted", positive=["yes"])
    with pytest.raises(SchemaError, match="Expected the columns to leave out in the table, found none called"):
        load_tables(csv, drop=["length"])
    with pytest.raises(DataError, match="Expected at least one subject"):
        load_tables(pd.DataFrame({"id": [], "x": []}))


def test_a_table_in_memory_parquet_and_text_agree(tmp_path):
    table = pd.DataFrame({"age": [63.5, 41.0, np.nan], "sex": ["m", "f", "f"], "n": [1, 2, 30]}, index=pd.Index(["a", "b", "c"], name="patient_id"))
    table.to_csv(tmp_path / "t.csv")
    table.reset_index().to_parquet(tmp_path / "t.parquet")
    (tmp_path / "shards").mkdir()
    table.reset_index().iloc[:1].to_parquet(tmp_path / "shards" / "0.parquet")
    table.reset_index().iloc[1:].to_parquet(tmp_path / "shards" / "1.parquet")
    table.to_parquet(tmp_path / "index.parquet")
    table.rename_axis(None).to_parquet(tmp_path / "unnamed.parquet")
    files = ("t.csv", "t.parquet", "shards", "index.parquet", "unnamed.parquet")
    cohorts = [load_tables(source, name="t") for source in (table, table.rename_axis(None), *(tmp_path / name for name in files))]
    for cohort in cohorts:
        assert cohort.ids == ["a", "b", "c"]
        assert cohort.schema == cohorts[0].schema
        pd.testing.assert_frame_equal(cohort.subjects, cohorts[0].subjects, check_dtype=False)
    again = Cohort.load(cohorts[3].save(tmp_path / "cohort"))
    assert again.hash == cohorts[3].hash


def test_numbers_of_rows_that_parquet_keeps_are_no_ids(tmp_path):
    pd.DataFrame({"x": [0.5, 1.5, 2.5]}).iloc[[0, 2]].to_parquet(tmp_path / "t.parquet")
    cohort = load_tables(tmp_path / "t.parquet")
    assert (cohort.ids, list(cohort.subjects.columns)) == (["row-0000000", "row-0000001"], ["x"])


def test_an_index_without_a_name_in_text(tmp_path):
    people = pd.DataFrame({"x": [0.5, 1.5, 2.5], "site": [1.0, 2.0, None]}, index=["sub-1", "sub-2", "sub-3"])
    people.to_csv(tmp_path / "a.csv")
    cohort = load_tables(tmp_path / "a.csv", group="site")
    assert cohort.ids == ["sub-1", "sub-2", "sub-3"]
    assert cohort.subjects["site"].dropna().tolist() == ["1", "2"]
    people.reset_index(names="patient").iloc[[0, 2]].to_csv(tmp_path / "b.csv")
    cohort = load_tables(tmp_path / "b.csv")
    assert (cohort.ids, list(cohort.subjects.columns)) == (["sub-1", "sub-3"], ["x", "site"])


def test_rows_without_ids_are_numbered_and_columns_dropped():
    cohort = load_tables(pd.DataFrame({"x": [0.5, 1.5], "died": [0, 1], "days": [3, 4]}), target="died", drop=["days"])
    assert cohort.ids == ["row-0000000", "row-0000001"]
    assert cohort.target().tolist() == ["0", "1"]
    assert cohort.excluded.values.tolist() == [["column", "days", "left out as asked"]]


def test_recognised(csv, tmp_path):
    assert recognise(csv).name == "table"
    assert load_source(csv, target="readmitted").ids == ["v1", "v2", "v3", "v4"]
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("age,bmi\n1,2.5\n2,3.5\n")
    assert recognise(numbers).name == "table"
    series = tmp_path / "series.csv"
    series.write_text("V1,V2\n1,2.5\n2,3.5\n4,5\n")
    assert recognise(series).name == "timeseries", "numbers under names of regions are no table of people"
    pd.DataFrame({"x": [1.0]}).to_parquet(tmp_path / "x.parquet")
    assert recognise(tmp_path / "x.parquet").name == "table"
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("patient_id,age\n1,2,3\n")
    assert recognise(damaged).name == "table", "so that what is said is said of a table"


def test_an_atlas_or_an_option_of_scans_does_not_apply(csv, make_cohort):
    with pytest.raises(ConfigError, match="Expected no atlas for a table with one row a subject, found toy. Leave it out"):
        load_source(csv, atlases=[make_cohort(n_subjects=2).atlas("toy")])
    with pytest.raises(ConfigError, match="Expected options that apply to a table with one row a subject, found fisher_z"):
        load_source(csv, fisher_z=True)


@pytest.mark.shared_data
def test_heart_disease_of_four_hospitals(shared_data):
    cohort = load_tables(
        shared_data / "ehr/multi_site/heart_disease/heart_all_sites.csv",
        target="num",
        positive=["1", "2", "3", "4"],
        missing={"chol": [0], "trestbps": [0]},
    )
    assert len(cohort) == 920
    assert (cohort.target() == "yes").sum() == 509
    assert cohort.sites.value_counts().to_dict() == {"cleveland": 303, "hungarian": 294, "va": 200, "switzerland": 123}
    kinds = {column.name: column.kind for column in cohort.schema}
    assert kinds | {"cp": "ordinal", "thal": "ordinal", "age": "continuous", "sex": "binary", "chol": "continuous"} == kinds
    assert cohort.subjects["chol"].min() > 0


@pytest.mark.shared_data
def test_diabetes_by_patient(shared_data):
    cohort = load_tables(
        shared_data / "ehr/multi_site/diabetes130/diabetic_data.csv.gz", target="readmitted", positive=["<30"], drop=["examide", "citoglipton"]
    )
    assert len(cohort) == 101766
    assert (cohort.target() == "yes").sum() == 11357
    assert cohort.schema.named("group") == ["patient_nbr"]
    assert cohort.schema["admission_type_id"].kind == "categorical"
    assert cohort.subjects["patient_nbr"].nunique() == 71518
