"""Relational records: one mapping makes a cohort of any tables, and what cannot be an event is counted."""

import numpy as np
import pandas as pd
import pytest

from graphssl.datasets import load_omop, load_records, recognise
from graphssl.datasets.records import RecordMapping
from graphssl.errors import ConfigError, DataError, SchemaError

EICU = {
    "patient.csv": (
        "patientunitstayid,uniquepid,hospitaldischargestatus,hospitalid,age,gender,ethnicity,admissionheight,admissionweight,unittype,unitdischargeoffset\n"
        "11,002-1,Alive,59,> 89,Female,Caucasian,157.5,,MICU,3000\n"
        "12,002-1,Expired,59,71,Female,Caucasian,,80,MICU,600\n"
        "13,003-1,Alive,60,40,Male,,180,90.5,SICU,9000\n"
    ),
    "lab.csv": (
        "labid,patientunitstayid,labresultoffset,labname,labresult,labmeasurenamesystem\n"
        "1,11,-60,BUN,31.0,mg/dL\n2,11,1439,BUN,40,mg/dL\n3,11,1440,BUN,99,mg/dL\n4,13,5,pH,7.4,\n5,99,5,pH,7.1,\n6,13,,pH,7.2,\n7,13,6,,7.3,\n"
    ),
    "physicalExam.csv": "patientunitstayid,physicalexamoffset,physicalexampath,physicalexamvalue\n13,30,GCS,scored\n",
}
MIMIC = {
    "ADMISSIONS.csv": (
        "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,INSURANCE,ETHNICITY,HOSPITAL_EXPIRE_FLAG\n"
        "1,10006,142345,2164-10-23 21:09:00,2164-11-01 17:15:00,EMERGENCY,ER,Medicare,WHITE,0\n"
        "2,10006,142346,2165-10-23 21:00:00,2165-10-24 20:00:00,ELECTIVE,CLINIC,Medicare,WHITE,1\n"
    ),
    "PRESCRIPTIONS.csv": "SUBJECT_ID,HADM_ID,STARTDATE,DRUG\n10006,142345,2164-10-24 00:00:00,Aspirin\n10006,142345,2164-10-23 00:00:00,Heparin\n",
    "OUTPUTEVENTS.csv": "HADM_ID,CHARTTIME,ITEMID,VALUE,VALUEUOM\n142345,2164-10-23 22:00:00,40055,39,ml\n",
}
OMOP = {
    "PERSON.csv": (
        "person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id\n1,8507,1998,8527,38003564\n3589912774911670296,8532,1950,8527,0\n"
    ),
    "MEASUREMENT.csv": (
        "person_id,measurement_concept_id,measurement_date,measurement_datetime,value_as_number,unit_source_value\n"
        "1,3025315,2013-05-17,2013-05-17 08:00:00,48.1,kg\n3589912774911670296,3025315,2013-05-17,,50,kg\n"
    ),
    "OBSERVATION.csv": (
        "person_id,observation_concept_id,observation_date,observation_datetime,value_as_number,unit_source_value\n1,40770471,2022-07-08,,,\n"
    ),
    "DEATH.csv": "person_id,death_date,death_datetime\n1,2019-05-28,\n",
}


def write(folder, tables):
    folder.mkdir()
    for name, text in tables.items():
        (folder / name).write_text(text)
    return folder


def test_offsets_in_minutes(tmp_path):
    folder = write(tmp_path / "eicu", EICU)
    cohort = load_records(folder, mapping="eicu", hours=24)
    assert cohort.ids == ["11", "13"]
    np.testing.assert_array_equal(cohort.subjects["age"], [90, 40])
    assert cohort.sites.tolist() == ["59", "60"]
    table = cohort.events.table
    assert table["code"].tolist() == ["LAB//BUN//mg/dL", "LAB//BUN//mg/dL", "LAB//pH", "EXAM//GCS"]
    assert table["numeric_value"].tolist()[:2] == [31, 40], "not the one at hour 24"
    assert table["text_value"].tolist()[3] == "scored"
    reasons = cohort.excluded.set_index("reason")["id"].groupby(level=0).agg(list)
    assert reasons["left before hour 24"] == ["12"]
    assert reasons["no time"] == ["1 of lab"]
    assert reasons["no code"] == ["1 of lab"]
    assert reasons["no such subject in patient"] == ["1 of lab"]
    assert reasons["not there"] == ["medication", "treatment", "diagnosis", "admissiondx"]
    whole = load_records(folder, mapping="eicu")
    assert whole.groups.tolist() == ["11", "11", "13"], "stays of one patient"
    assert whole.prediction_times is None
    assert recognise(folder).name == "eicu"


def test_times_and_dates(tmp_path):
    folder = write(tmp_path / "mimic", MIMIC)
    cohort = load_records(folder, mapping="mimic3", hours=12)
    assert cohort.ids == ["142345", "142346"]
    assert cohort.target().tolist() == ["0", "1"]
    assert cohort.events.table["code"].tolist() == ["OUTPUT//40055//ml", "DRUG//Heparin"], "a date counts from the end of the day"
    assert load_records(folder, mapping="mimic3", hours=24).ids == ["142345"]
    assert recognise(folder).name == "mimic3"


def test_omop(tmp_path):
    folder = write(tmp_path / "omop", OMOP)
    cohort = load_omop(folder)
    assert cohort.ids == ["1", "3589912774911670296"], "no digit of a long id is lost"
    assert cohort.events.table["code"].tolist() == ["MEASUREMENT//3025315//kg", "DEATH", "OBSERVATION//40770471", "MEASUREMENT//3025315//kg"]
    assert cohort.events.table["time"].tolist()[3] == pd.Timestamp("2013-05-17 23:59:59")
    assert recognise(folder).name == "omop"
    for name in OMOP:
        pd.read_csv(folder / name).to_parquet(folder / name.lower().replace("csv", "parquet"), index=False)
        (folder / name).unlink()
    packed = load_omop(folder)
    assert packed.events.hash == cohort.events.hash
    assert packed.subjects.equals(cohort.subjects)


def test_a_mapping_of_ones_own(tmp_path):
    folder = write(tmp_path / "own", {"people.csv": "nr,sex\n007,f\n008,m\n", "vitals.csv": "nr,at,what,x\n007,2130-01-01 10:00,HR,80\n"})
    mapping = tmp_path / "own.yaml"
    text = "name: own\ntable: people\nid: nr\ncolumns: {sex: {kind: binary}}\nevents:\n- {table: vitals, id: nr, code: [what], time: at, value: x}\n"
    mapping.write_text(text)
    cohort = load_records(folder, mapping=mapping)
    assert cohort.ids == ["007", "008"]
    assert cohort.events.ids == ["007"]
    for change, error, message in [
        (("time: at", "tine: at"), ConfigError, "found 'tine'; perhaps time"),
        (("id: nr\ncolumns", "ids: nr\ncolumns"), ConfigError, "Expected the entries name, table, id, columns, events in the mapping"),
        (("value: x", "value: y"), SchemaError, r"Expected the columns \['y'\] in .*vitals\.csv"),
        (("table: people", "table: patients"), DataError, "Expected the table 'patients' of own in"),
        (("table: vitals", "table: labs"), DataError, r"Expected a table of events of own in .*found none of \['labs'\]"),
    ]:
        mapping.write_text(text.replace(*change))
        with pytest.raises(error, match=message):
            load_records(folder, mapping=mapping)
    with pytest.raises(ConfigError, match="Expected a mapping: eicu, mimic3, omop, or a file in YAML; found 'mimic5'"):
        RecordMapping.load("mimic5")


def test_mixed_zones_and_repeated_ids(tmp_path):
    mixed = MIMIC | {
        "OUTPUTEVENTS.csv": "HADM_ID,CHARTTIME,ITEMID,VALUE,VALUEUOM\n142345,2164-10-23 22:00:00+01:00,1,2,ml\n142345,2164-10-23 22:00:00,1,2,ml\n"
    }
    with pytest.raises(DataError, match="Expected times of one zone, found 2"):
        load_records(write(tmp_path / "mixed", mixed), mapping="mimic3")
    twice = MIMIC | {"ADMISSIONS.csv": MIMIC["ADMISSIONS.csv"].replace("142346", "142345")}
    with pytest.raises(SchemaError, match=r"Expected each subject id once, found 1 repeated: \['142345'\]"):
        load_records(write(tmp_path / "twice", twice), mapping="mimic3")


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("place", "mapping", "hours"), [("mimic3_demo", "mimic3", 24), ("eicu_demo_subset", "eicu", 24), ("omop/synthea27nj", "omop", None)]
)
def test_the_real_demos(shared_data, place, mapping, hours):
    cohort = load_records(shared_data / "ehr/standards" / place, mapping=mapping, hours=hours)
    assert len(cohort) > 20
    assert len(cohort.events) > 1000
    assert cohort.prediction_times is None or hours == 24
