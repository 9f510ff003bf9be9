"""Shards: what is written comes back, bit for bit; what was cut, changed or does not fit together is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort, Column, Schema, StreamedCohort, write_shards
from graphssl.data.shards import INDEX, ShardFolder, _digest
from graphssl.datasets import simulate_images, simulate_stays
from graphssl.errors import AtlasError, ConfigError, DataError, RunFolderError, SchemaError
from graphssl.seal import file_hash


@pytest.fixture(scope="module")
def two_atlases(make_cohort):
    """Twenty-four subjects of whom sixteen have a second atlas, one a region without signal, and two columns missing values."""
    cohort = make_cohort(n_timepoints=30)
    rng = np.random.default_rng(0)
    series = rng.standard_normal((16, 20, 10))
    series[3, :, 4] = 0.0
    other = Cohort.from_arrays(series, simulated_atlas(10), ids=cohort.ids[8:])
    table = cohort.subjects.assign(age=cohort.subjects["age"].where(cohort.subjects["age"] > 20))
    excluded = pd.DataFrame({"what": ["subject"], "id": ["sub-999"], "reason": ["no scan"]})
    return Cohort("both", table, cohort.schema, {**cohort.regions, **other.regions}, excluded)


@pytest.fixture
def folder(two_atlases, tmp_path):
    return write_shards(two_atlases, tmp_path / "shards", size=7)


def test_what_is_written_comes_back(two_atlases, folder):
    found = StreamedCohort(folder)
    assert [shard.n_subjects for shard in found.folder.shards] == [7, 7, 7, 3]
    whole = found.whole()
    assert whole.hash == two_atlases.hash
    assert whole.ids == two_atlases.ids
    pd.testing.assert_frame_equal(whole.excluded, two_atlases.excluded)
    for name, data in two_atlases.regions.items():
        assert whole.regions[name].provenance == data.provenance
        assert all(np.array_equal(whole.regions[name].observed[subject], seen) for subject, seen in data.observed.items())


def test_files_are_parquet_and_arrays_that_others_read(two_atlases, folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    regions = {f"regions/toy/{k:05d}.{ending}" for k in range(4) for ending in ("npy", "parquet")}
    assert files >= {INDEX, *(f"subjects/{k:05d}.parquet" for k in range(4)), *regions}
    assert "regions/simulated10/00000.npy" not in files  # the first seven have nothing in it
    table = pd.concat([pd.read_parquet(folder / "subjects" / f"{k:05d}.parquet") for k in range(4)])
    pd.testing.assert_frame_equal(table, two_atlases.subjects)
    stack = np.load(folder / "regions" / "toy" / "00001.npy", allow_pickle=False)
    np.testing.assert_array_equal(stack[:30], two_atlases.regions["toy"].values["sub-007"])


def test_parts_are_held_one_at_a_time_and_make_the_same_cohort(two_atlases, tmp_path):
    made = []

    def parts():
        for start in range(0, 24, 8):
            made.append(start)
            yield two_atlases.select(two_atlases.ids[start : start + 8])

    folder = write_shards(parts(), tmp_path / "parts", size=5)
    found = StreamedCohort(folder)
    assert [shard.n_subjects for shard in found.folder.shards] == [5, 3] * 3
    assert found.whole().hash == two_atlases.hash
    assert len(found.excluded) == 1


def test_events_are_shards_of_meds(tmp_path):
    stays = simulate_stays(n_patients=10)
    codes = pd.DataFrame({"description": ["beats a minute"], "parent_codes": [["LOINC/8867-4"]]}, index=[stays.events.table["code"].iloc[0]])
    quiet = stays.ids[-1]  # of whom there is no event, so that the last shard has none
    cohort = replace(stays, events=replace(stays.events.select(stays.ids[:-1]), n_reordered=3, codes=codes))
    folder = write_shards(cohort, tmp_path / "stays", size=3)
    found = StreamedCohort(folder, 1)
    assert repr(found).endswith(", events)")
    assert len(found.part(3).events) == 0
    assert found.part(3).ids == [quiet]
    assert found.select(cohort.ids[4:6]).part(1).events.ids == cohort.ids[4:6]
    whole = found.whole()
    assert whole.hash == cohort.hash
    assert (whole.events.n_reordered, whole.events.describe(codes.index[0])) == (3, "beats a minute")
    shard, expected = pd.read_parquet(folder / "data" / "00001.parquet"), cohort.events.select(cohort.ids[3:6]).table
    assert list(shard) == ["subject_id", "time", "code", "numeric_value", "text_value"]
    pd.testing.assert_frame_equal(shard.iloc[:, :4].astype(str), expected.iloc[:, :4].astype(str))


def test_writing_again_replaces_and_other_files_are_left(two_atlases, folder, tmp_path):
    write_shards(two_atlases, folder, size=24)
    assert len(ShardFolder(folder).shards) == 1
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="a cohort in shards; found other files"):
        write_shards(two_atlases, tmp_path / "own")


def with_column(cohort):
    return cohort.with_column(Column("height", "continuous"), pd.Series(1.5, index=cohort.subjects.index))


def as_matrices(cohort):
    arrays = [np.full((12, 12), 0.5) for _ in cohort.ids]
    return Cohort("m", cohort.subjects, cohort.schema, Cohort.from_arrays(arrays, cohort.atlas("toy"), kind="correlation", ids=cohort.ids).regions)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda part: part.select(["sub-000"]), SchemaError, r"each subject in one part, found 1 in several: \['sub-000'\]"),
        (with_column, SchemaError, "columns of the first part in every part, found .*height"),
        (as_matrices, DataError, "Expected the same kind in both cohorts for atlas 'toy', found timeseries and correlation"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(make_cohort, tmp_path, change, error, message):
    cohort = make_cohort(n_subjects=8)
    first, second = cohort.select(cohort.ids[:4]), cohort.select(cohort.ids[4:])
    changed = change(first if error is SchemaError and "several" in message else second)
    with pytest.raises(error, match=message):
        write_shards([first, changed], tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []


def test_an_atlas_of_the_same_name_with_other_labels_is_refused(make_cohort, tmp_path):
    cohort, other = make_cohort(n_subjects=4), make_cohort(n_subjects=8, n_regions=10)
    with pytest.raises(AtlasError, match="the same name stands for other labels"):
        write_shards([cohort, other.select(other.ids[4:])], tmp_path / "shards")


def test_what_shards_do_not_hold_is_refused(make_cohort, tmp_path):
    stays = simulate_stays(n_patients=8)
    with pytest.raises(DataError, match="events in all parts or in none, found none in a later one"):
        write_shards([stays.select(stays.ids[:4]), replace(stays.select(stays.ids[4:]), events=None)], tmp_path / "shards")
    with pytest.raises(DataError, match="found images in"):
        write_shards(simulate_images(n_subjects=8, size=8), tmp_path / "shards")
    with pytest.raises(DataError, match="at least one part of a cohort to write, found none"):
        write_shards([], tmp_path / "shards")
    with pytest.raises(ConfigError, match="shards of one subject or more, found size=0"):
        write_shards(make_cohort(n_subjects=8), tmp_path / "shards", size=0)


def flipped(place):
    return lambda content: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


ARRAY, TABLE = "regions/toy/00002.npy", "subjects/00001.parquet"


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (ARRAY, None, rf"Expected \d+ bytes in {ARRAY} .*found no such file\. Copy it again"),
        (ARRAY, lambda content: content[:-4], rf"Expected \d+ bytes in {ARRAY} .*found \d+ bytes"),
        (ARRAY, flipped(400), f"Expected {ARRAY} .* as it was written, found a changed file"),
        (TABLE, flipped(40), f"Expected {TABLE} .* as it was written, found a changed file"),
        (ARRAY, lambda content: content.replace(b"(210, 12)", b"(105, 24)"), r"Expected shard 00002 of .*found an array of shape \(105, 24\)"),
        (ARRAY, lambda content: b"\x80\x04" + content[2:], "Expected shard 00002 of .* as it was written, found .*pickle"),
        (INDEX, lambda content: content.replace(b'"both"', b'"bath"'), "as it was written, of format 1, found a changed one"),
        (INDEX, lambda content: content[:200], "Expected an index of shards in .*found a damaged file"),
        (INDEX, lambda content: content.replace(b'"format": 1', b'"format": 9'), "found format 9, of another version"),
        (INDEX, None, "Expected a cohort in shards at .*found none. Make one with `graphssl build --shards`"),
    ],
)
def test_damaged_shards_are_refused(folder, place, change, message):
    content = (folder / place).read_bytes()
    if change is None:
        (folder / place).unlink()
    else:
        assert change(content) != content
        (folder / place).write_bytes(change(content))
    with pytest.raises(DataError, match=message):
        StreamedCohort(folder, 2).whole()


def test_exchanged_shards_are_refused(folder):
    (folder / ARRAY).write_bytes((folder / "regions/toy/00001.npy").read_bytes())
    with pytest.raises(DataError, match=f"Expected {ARRAY} .*found a changed file"):
        StreamedCohort(folder, 2).whole()


def sealed_anew(folder, change):
    """Change the index and seal it, as someone does who wants to be believed."""
    record = {key: value for key, value in json.loads((folder / INDEX).read_text()).items() if key != "hash"}
    change(record)
    (folder / INDEX).write_text(json.dumps({"hash": _digest(record), **record}))


def test_ids_of_two_shards_in_one_table_are_refused(folder):
    (folder / TABLE).write_bytes((folder / "subjects/00000.parquet").read_bytes())
    sealed_anew(folder, lambda record: record["shards"][1][2].update({TABLE: [(folder / TABLE).stat().st_size, file_hash(folder / TABLE)]}))
    with pytest.raises(SchemaError, match="each subject id once, found 7 repeated"):
        StreamedCohort(folder)


def test_an_index_that_lacks_something_is_refused(folder):
    sealed_anew(folder, lambda record: record["shards"][1][2].pop(TABLE))
    with pytest.raises(DataError, match=rf"Expected {TABLE} among the files of .*shards\.json, found none"):
        StreamedCohort(folder)
    sealed_anew(folder, lambda record: record.pop("schema"))
    with pytest.raises(DataError, match=r"found one without 'schema'\. Write the shards again"):
        StreamedCohort(folder)


def test_a_schema_survives(tmp_path):
    table = pd.DataFrame({"age": [1.5, 2.5, np.nan], "ward": ["a", None, "b"], "n": [1, 2, 3]}, index=["a", "b", "c"])
    schema = Schema([Column("age", "continuous", unit="a"), Column("ward", "categorical", "site"), Column("n", "ordinal")])
    folder = write_shards(Cohort("t", table, schema), tmp_path / "t", size=2)
    found = StreamedCohort(folder)
    assert found.schema.to_dict() == schema.to_dict()
    pd.testing.assert_frame_equal(found.whole().subjects, table, check_dtype=False)
