"""A live PostgreSQL server: the same cohort as from files, and errors that never show a password."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pandas as pd
import pytest

from graphssl.datasets import load_omop, load_records
from graphssl.datasets.postgres import has_password, open_postgres
from graphssl.errors import DataError, MissingExtraError, SchemaError

dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi", reason="the extra 'postgres' is not installed")

SECRET = "s3cret-word"
TABLES = {
    "person": (
        "person_id bigint, gender_concept_id integer, year_of_birth integer, race_concept_id integer, ethnicity_concept_id integer",
        ["1, 8507, 1998, 8527, 38003564", "3589912774911670296, 8532, 1950, 8527, 0", "7, 8532, 1970, NULL, NULL"],
    ),
    "visit_occurrence": (
        "person_id bigint, visit_concept_id integer, visit_start_date date, visit_start_datetime timestamp",
        ["1, 9201, '2013-05-16', '2013-05-16 07:30:00'"],
    ),
    "measurement": (
        "person_id bigint, measurement_concept_id integer, measurement_date date, measurement_datetime timestamp, value_as_number numeric, "
        "unit_source_value varchar(50)",
        [
            "1, 3025315, '2013-05-17', '2013-05-17 08:00:00', 48.1, 'kg'",
            "3589912774911670296, 3025315, '2013-05-17', NULL, 50, 'kg'",
            "99, 3025315, '2013-05-17', NULL, 50, NULL",
        ],
    ),
    "observation": (
        "person_id bigint, observation_concept_id integer, observation_date date, observation_datetime timestamp, value_as_number numeric, "
        "unit_source_value varchar(50)",
        [],
    ),
    "death": ("person_id bigint, death_date date, death_datetime timestamp", ["1, '2019-05-28', NULL"]),
}


@pytest.fixture(scope="module")
def server():
    """Address of a server that listens on a socket of its own, with the role `reader` and its password."""
    found = importlib.util.find_spec("pgserver")
    if found is None:
        pytest.skip("pgserver is not installed")
    programs = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: that of a socket has at most 107 bytes
    root = os.geteuid() == 0  # PostgreSQL refuses to run as root
    (folder / "password").write_text(SECRET)
    for path in (folder, folder / "password"):
        if root:
            shutil.chown(path, "nobody")
    options = {"capture_output": True, "text": True, "cwd": "/", "user": "nobody" if root else None, "timeout": 60}
    control = [programs / "pg_ctl", "-D", folder / "data", "-w"]
    made = [
        [
            programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "--auth=scram-sha-256",
            "--encoding=utf8",
            "--no-sync",
            f"--pwfile={folder / 'password'}",
        ],
        [*control, "-l", folder / "log", "-o", f'-h "" -k {folder} -F', "start"],
    ]
    try:
        for words in made:
            done = subprocess.run(words, **options)
            if done.returncode:
                pytest.skip(f"no PostgreSQL server starts here: {done.stderr[-300:]}")
        yield f"postgresql://postgres:{SECRET}@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **options)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def omop(server):
    """The server with a small OMOP database in the schema `cdm`."""
    with dbapi.connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA cdm")
        for name, (columns, rows) in TABLES.items():
            cursor.execute(f"CREATE TABLE cdm.{name} ({columns})")
            for row in rows:
                cursor.execute(f"INSERT INTO cdm.{name} VALUES ({row})")
        connection.commit()
    return server


def as_files(folder):
    folder.mkdir()
    for name, (columns, rows) in TABLES.items():
        names = [column.split()[0] for column in columns.split(", ")]
        lines = [",".join(names), *(row.replace("'", "").replace("NULL", "").replace(", ", ",") for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_same_cohort_as_from_files(omop, tmp_path):
    live, filed = load_omop(omop, schema="cdm"), load_omop(as_files(tmp_path / "omop"))
    assert live.ids == ["1", "3589912774911670296", "7"]
    assert live.hash == filed.hash
    assert live.events.hash == filed.events.hash
    assert live.schema == filed.schema
    pd.testing.assert_frame_equal(live.subjects, filed.subjects)
    pd.testing.assert_frame_equal(live.excluded, filed.excluded)
    assert live.events.table["time"].max() == pd.Timestamp("2019-05-28 23:59:59")


def test_batches_are_put_together(server, tmp_path):
    """A table larger than one record batch of the driver."""
    n = 400_000
    with dbapi.connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA large")
        cursor.execute('CREATE TABLE large."People" ("Nr" integer, sex text)')
        cursor.execute("INSERT INTO large.\"People\" VALUES (1, 'f'), (2, 'm')")
        cursor.execute(
            "CREATE TABLE large.vitals AS SELECT 1 + i % 2 AS nr, timestamp '2130-01-01' + i * interval '1 minute' AS at, 'HR' AS what, "
            f"60 + i % 40 AS x, repeat('long', 20) AS note FROM generate_series(0, {n - 1}) AS i"
        )
        connection.commit()
        cursor.execute("SELECT * FROM large.vitals")
        assert sum(1 for _ in cursor.fetch_record_batch()) > 1
    mapping = tmp_path / "own.yaml"
    mapping.write_text(
        "name: own\ntable: people\nid: nr\ncolumns: {sex: {kind: binary}}\n"
        "events:\n- {table: vitals, id: nr, code: [what, note], time: at, value: x}\n"
    )
    cohort = load_records(server, mapping=mapping, schema="large")
    assert len(cohort.events) == n
    assert cohort.events.table["numeric_value"].sum() == sum(60 + i % 40 for i in range(n))
    assert cohort.events.table["code"].cat.categories.tolist() == ["HR//" + "long" * 20]


def test_nothing_can_be_written(omop):
    with open_postgres(omop, "cdm") as tables, tables.connection.cursor() as cursor, pytest.raises(dbapi.Error, match="read-only transaction"):
        cursor.execute("DELETE FROM cdm.person")


def test_absent_tables_and_columns(omop, tmp_path):
    mapping = tmp_path / "own.yaml"
    text = (
        "name: own\ntable: person\nid: person_id\ncolumns: {year_of_birth: {kind: continuous}}\n"
        "events:\n- {table: death, id: person_id, prefix: D, date: death_date}\n"
    )
    for change, error, message in [
        (("table: person", "table: people"), DataError, "Expected the table 'people' of own in the schema 'cdm' of postgresql://postgres@/"),
        (("table: death", "table: deaths"), DataError, r"Expected a table of events of own in the schema 'cdm' .*found none of \['deaths'\]"),
        (
            ("date: death_date", "date: died_on"),
            SchemaError,
            r"Expected the columns \['died_on'\] in 'death' of the schema 'cdm'.*Correct the mapping",
        ),
    ]:
        mapping.write_text(text.replace(*change))
        with pytest.raises(error, match=message) as caught:
            load_records(omop, mapping=mapping, schema="cdm")
        assert SECRET not in str(caught.value)
    with pytest.raises(DataError, match="Expected tables in the schema 'cmd' of .*found none that may be read. Name another with schema="):
        load_omop(omop, schema="cmd")


def test_a_table_that_may_not_be_read(omop):
    with dbapi.connect(omop) as connection, connection.cursor() as cursor:
        for words in (
            f"CREATE ROLE reader LOGIN PASSWORD '{SECRET}'",
            "GRANT USAGE ON SCHEMA cdm TO reader",
            "GRANT SELECT (person_id) ON cdm.person TO reader",
            "GRANT INSERT ON cdm.death TO reader",
        ):
            cursor.execute(words)
        connection.commit()
    with open_postgres(omop.replace("//postgres:", "//reader:"), "cdm") as tables:
        assert tables.read("person", ["person_id"])["person_id"].tolist() == [1, 3589912774911670296, 7]
        assert tables.read("measurement", ["person_id"]) is None, "what one may not read is not there"
        with pytest.raises(DataError, match="Expected to read the table 'death' of the schema 'cdm' .*permission denied.*Check the connection"):
            tables.read("death", ["person_id"])


@pytest.mark.parametrize(
    "change",
    [
        lambda uri: uri.replace(SECRET, SECRET + "-wrong"),
        lambda uri: uri.replace("/postgres?", "/nope?"),
        lambda uri: uri.split("?")[0] + "?host=/nowhere",
        lambda uri: f"postgresql://postgres:{SECRET}@localhost:1/x",
        lambda uri: f"postgresql://postgres:{SECRET}@[bad/x",
        lambda uri: f"postgresql://postgres@localhost:1/x?password={SECRET}",
        lambda uri: f"postgresql://postgres:{SECRET}@localhost:1/x?strange=1",
    ],
    ids=["password", "database", "socket", "port", "host", "parameter", "strange"],
)
def test_no_connection_and_no_password_shown(server, change):
    with pytest.raises(DataError, match="Expected a PostgreSQL database at postgresql://postgres@.*found none that answers") as caught:
        load_omop(change(server))
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown


def test_an_address_that_cannot_be_taken_apart(server):
    for odd in (f"postgresql://postgres:{SECRET}@x@localhost/x", f"postgresql://postgres:{SECRET}/@localhost/x"):
        with pytest.raises(DataError, match="Expected the address of a database .*percent-encoded, such as %40 for @") as caught:
            load_omop(odd)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert has_password(server)
    assert has_password("postgresql:///x?user=a&password=b")
    assert not has_password("postgresql://reader@host/x")
    assert not has_password("postgresql:///x")


def test_without_the_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(MissingExtraError, match=r"is needed to read from PostgreSQL .*pip install 'graphssl\[postgres\]'"):
        load_omop("postgresql://reader@localhost/x")
