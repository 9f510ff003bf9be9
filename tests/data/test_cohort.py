"""The cohort: it checks itself, comes back from disk as it was, and gives new cohorts instead of changing."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from graphssl.data import Atlas, Cohort, Column, Events, Provenance, RegionData, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS, check_ids
from graphssl.errors import AtlasError, DataError, LeakageError, RunFolderError, SchemaError

ATLAS = Atlas("toy", np.array([2, 5, 9]), ("a", "b", "c"), np.arange(9.0).reshape(3, 3), ("Visual", "", "Default"))
SCHEMA = Schema(
    [
        Column("dx", "binary", "target", categories=("control", "patient")),
        Column("site", "categorical", "site", categories=("A", "B")),
        Column("family", "categorical", "group"),
        Column("age", "continuous", "covariate", "years", (0.0, 120.0)),
    ]
)


def make(n=4, prefix="s", name="toy", schema=SCHEMA, with_regions=True, **columns):
    ids = [f"{prefix}{k}" for k in range(n)]
    table = pd.DataFrame(
        {
            "dx": [["control", "patient"][k % 2] for k in range(n)],
            "site": [["A", "B"][k // 2 % 2] for k in range(n)],
            "family": [f"f{k}" for k in range(n)],
            "age": np.arange(20.0, 20.0 + n),
        },
        index=pd.Index(ids, dtype="str"),
    ).assign(**columns)
    values = {subject: np.random.default_rng(k).normal(size=(10 + k, 3)) for k, subject in enumerate(ids)}
    regions = {"toy": RegionData(ATLAS, values, Provenance("timeseries", pipeline="cpac"))} if with_regions else {}
    return Cohort(name, table, schema, regions)


def excluded(*rows):
    return pd.DataFrame(list(rows), columns=list(EXCLUDED_COLUMNS), dtype="str")


# Checks when made


def test_print():
    cohort = make(4, dx=["control", "patient", None, "patient"])
    cohort = Cohort(cohort.name, cohort.subjects, cohort.schema, cohort.regions, excluded(("subject", "x", "no file"), ("region", "s1", "flat")))
    assert repr(cohort).splitlines() == [
        "Cohort 'toy': 4 subjects",
        "  sites     2 (A 2, B 2)",
        "  target    dx: patient 2, control 1, nan 1",
        "  toy       RegionData(4 subjects × 3 regions of toy, timeseries, 0 regions without signal)",
        "  left out  1 subject entries, 1 region entries; see .excluded",
    ]
    many = make(16, schema=Schema([Column("site", "categorical", "site")]), site=[f"site{k // 2}" for k in range(16)])
    assert repr(many).splitlines()[1].endswith("site5 2 …)")


def test_what_it_knows():
    cohort = make()
    assert len(cohort) == 4
    assert cohort.ids == ["s0", "s1", "s2", "s3"]
    assert cohort.atlas("toy") is ATLAS
    assert cohort.target().tolist() == cohort.target("dx").tolist() == ["control", "patient"] * 2
    assert cohort.sites is not None
    assert cohort.sites.tolist() == ["A", "A", "B", "B"]
    assert Cohort("bare", cohort.subjects, Schema([])).sites is None


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([], DataError, "Expected at least one subject, found an empty cohort"),
        ([50102, 50103], SchemaError, "Expected subject ids as strings, found int 50102: numbers lose their leading zeros"),
        (["a", 1.0], SchemaError, "found float 1.0"),
        (["a", " "], SchemaError, "Expected an id for every subject, found an empty one"),
        (["a", "b", "a"], SchemaError, r"Expected each subject id once, found 1 repeated: \['a'\]\. Give repeated scans ids of their own"),
    ],
)
def test_ids(ids, error, message):
    with pytest.raises(error, match=message):
        check_ids(ids)
    with pytest.raises(error, match=message):
        Cohort("toy", pd.DataFrame({"x": range(len(ids))}, index=pd.Index(ids, dtype="object")), Schema([]))
    check_ids(["0050102", "a b"])


def test_columns_are_checked():
    with pytest.raises(SchemaError, match="Expected 'age' within 0.0 to 120.0 years, found -9999.0 for 's1'"):
        make(age=[20.0, -9999.0, 20.0, 20.0])


def test_region_data_of_strangers():
    cohort = make()
    with pytest.raises(DataError, match=r"Expected every subject with toy data in the table of 'toy', found 2 that are not: \['s2', 's3'\]"):
        Cohort("toy", cohort.subjects.head(2), SCHEMA, cohort.regions)


def test_atlas_that_is_not_there():
    with pytest.raises(DataError, match=r"Expected 'toy' to have data in atlas 'cc200', found \['toy'\]"):
        make().atlas("cc200")
    with pytest.raises(DataError, match="found no region data"):
        make(with_regions=False).atlas("cc200")


# Target, sites and groups


def test_targets():
    cohort = make()
    with pytest.raises(SchemaError, match="Expected one of the columns .*, found 'iq'"):
        cohort.target("iq")
    with pytest.raises(SchemaError, match=r"Expected one column with the role 'target' in 'toy', found \[\]\. Name the one to predict"):
        Cohort("toy", cohort.subjects, Schema([Column("dx", "binary")])).target()
    with pytest.raises(DataError, match=r"Expected at least two classes in 'dx' of 'toy', found \['patient'\]"):
        make(dx=["patient", None, "patient", "patient"]).target()
    with pytest.raises(DataError, match="Expected at least two classes in 'dx' of 'toy', found no labels"):
        make(dx=[None] * 4).target()


def test_a_subject_without_a_site():
    with pytest.raises(DataError, match=r"Expected a site for every subject, found none for \['s2'\]"):
        make(site=["A", "A", None, "B"]).sites  # noqa: B018


def test_groups_join_whatever_is_linked():
    schema = Schema([Column("family", "categorical", "group"), Column("subject", "categorical", "group")])
    cohort = make(5, schema=schema, family=["f1", "f1", None, "f2", "f3"], subject=["p0", "p1", "p1", "s0", None])
    # s0 and s1 are of one family, s1 and s2 of one person; the person called "s0" is not the subject s0.
    assert cohort.groups.tolist() == ["s0", "s0", "s0", "s3", "s4"]
    assert make(3).groups.tolist() == ["s0", "s1", "s2"]
    assert Cohort("bare", cohort.subjects, Schema([])).groups.tolist() == cohort.ids


@settings(max_examples=40, deadline=None)
@given(
    a=st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=8, max_size=8),
    b=st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=8, max_size=8),
)
def test_groups_are_the_connected_parts(a, b):
    schema = Schema([Column("a", "categorical", "group"), Column("b", "categorical", "group")])
    cohort = make(8, schema=schema, a=pd.Series(a, dtype="Int64").to_numpy(), b=pd.Series(b, dtype="Int64").to_numpy())
    linked = np.eye(8, dtype=bool)
    for column in (a, b):
        linked |= np.array([[x is not None and x == y for y in column] for x in column])
    reachable = np.linalg.matrix_power(linked.astype(int), 8) > 0
    groups = cohort.groups.to_numpy()
    np.testing.assert_array_equal(groups[:, None] == groups[None, :], reachable)


# New cohorts


def test_select_by_id_and_by_mask():
    cohort = make()
    assert cohort.select(["s3", "s0"]).ids == ["s3", "s0"]
    assert list(cohort.select(["s3", "s0"]).regions["toy"].values) == ["s3", "s0"]
    for mask in ([True, False, False, True], np.array([True, False, False, True]), cohort.subjects["age"].isin([20, 23])):
        assert cohort.select(mask).ids == ["s0", "s3"]
    by_age = cohort.subjects.sort_values("age", ascending=False)["age"] > 21
    assert cohort.select(by_age).ids == ["s2", "s3"], "a mask of a sorted table is read by id"
    assert cohort.select(cohort.subjects.index[:2]).ids == ["s0", "s1"]
    assert cohort.ids == ["s0", "s1", "s2", "s3"]


def test_select_what_is_not_there():
    cohort = make()
    with pytest.raises(DataError, match=r"Expected subjects of 'toy', found 2 that are not: \['x', 'y'\]"):
        cohort.select(["s0", "x", "y"])
    with pytest.raises(DataError, match="Expected a mask of 4 entries, found 2"):
        cohort.select([True, False])
    with pytest.raises(DataError, match="Expected at least one subject"):
        cohort.select([])
    with pytest.raises(SchemaError, match=r"found 1 repeated: \['s0'\]"):
        cohort.select(["s0", "s0"])


def test_with_column():
    cohort = make()
    added = cohort.with_column(Column("iq", "continuous"), pd.Series({"s3": 90.0, "s0": 110.0}))
    np.testing.assert_array_equal(added.subjects["iq"], [110, np.nan, np.nan, 90])
    replaced = added.with_column(Column("iq", "categorical", "feature"), pd.Series("high", index=cohort.ids))
    assert replaced.schema["iq"].kind == "categorical"
    assert len(replaced.schema) == 5
    assert "iq" not in cohort.subjects


def test_split_keeps_families_together_and_classes_apart():
    cohort = make(40, family=[f"f{k // 4}" for k in range(40)])
    train, test = cohort.split(0.2, seed=1)
    assert sorted(train.ids + test.ids) == sorted(cohort.ids)
    assert not set(train.groups) & set(test.groups)
    assert test.target().value_counts().to_dict() == {"control": 4, "patient": 4}
    again = cohort.split(0.2, seed=1)
    assert again[0].ids == train.ids
    bare = Cohort("bare", cohort.subjects, Schema([]))
    assert len(bare.split(0.25)[1]) == 10


def test_split_is_stratified_by_site_where_sites_are_large_enough():
    _, test = make(40).split(0.2)
    assert test.sites is not None
    assert pd.crosstab(test.target(), test.sites).to_numpy().tolist() == [[2, 2], [2, 2]]
    _, test = make(12).split(0.5)
    assert len(test) == 6


def test_union():
    both = make(2) | make(2, prefix="t", name="more")
    assert both.name == "toy+more"
    assert both.ids == ["s0", "s1", "t0", "t1"]
    assert list(both.regions["toy"].values) == both.ids
    assert both.schema == SCHEMA
    assert len((make(2) | make(2, prefix="t", with_regions=False)).regions["toy"]) == 2
    assert len((make(2, with_regions=False) | make(2, prefix="t")).regions["toy"]) == 2


def test_union_keeps_the_order_of_categories():
    other = Schema([Column("dx", "binary", "target", categories=("unsure", "control")), *list(SCHEMA)[1:]])
    both = make(2) | make(2, prefix="t", schema=other, dx=["unsure", "control"])
    assert both.schema["dx"].categories == ("control", "patient", "unsure")


def test_union_of_what_does_not_fit():
    mine = make(2)
    with pytest.raises(SchemaError, match=r"Expected different subjects in 'toy' and 'more', found 1 in both: \['s1'\]"):
        mine.select(["s1"]) | make(2, name="more")
    without = Cohort("more", make(2, prefix="t").subjects, Schema(list(SCHEMA)[:3]))
    with pytest.raises(SchemaError, match=r"Expected the same columns in 'toy' and 'more', found only in one: \['age'\]"):
        mine | without
    months = Schema([*list(SCHEMA)[:3], Column("age", "continuous", "covariate", "months")])
    with pytest.raises(SchemaError, match="Expected the same unit of column 'age' in both cohorts, found 'years' and 'months'"):
        mine | make(2, prefix="t", schema=months)
    with pytest.raises(SchemaError, match="Expected the same role of column 'age' in both cohorts, found 'covariate' and 'feature'"):
        mine | make(2, prefix="t", schema=Schema([*list(SCHEMA)[:3], Column("age", "continuous", "feature", "years")]))
    theirs = make(2, prefix="t")
    atlas = Atlas("toy", np.array([2, 5, 8]), ("a", "b", "c"), np.zeros((3, 3)), ("",) * 3)
    other = Cohort("more", theirs.subjects, SCHEMA, {"toy": RegionData(atlas, theirs.regions["toy"].values, Provenance("timeseries"))})
    with pytest.raises(AtlasError, match="the same name stands for other labels"):
        mine | other


# The hash and the disk


def test_the_hash_changes_with_what_it_covers():
    cohort = make()
    assert cohort.hash == make().hash
    assert len(cohort.hash) == 12
    assert make(age=[20.0, 21.0, 22.0, 24.0]).hash != cohort.hash
    assert make(with_regions=False).hash != cohort.hash
    assert cohort.select(["s1", "s0", "s2", "s3"]).hash != cohort.hash
    values = {**cohort.regions["toy"].values, "s0": cohort.regions["toy"].values["s0"] + 1}
    assert Cohort("toy", cohort.subjects, SCHEMA, {"toy": RegionData(ATLAS, values, Provenance("timeseries", pipeline="cpac"))}).hash != cohort.hash
    assert Cohort("toy", cohort.subjects.rename_axis("participant_id"), SCHEMA, cohort.regions).hash == cohort.hash


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None)
@given(
    ids=st.lists(words.filter(str.strip), min_size=1, max_size=5, unique=True),
    name=words,
    index_name=st.one_of(st.none(), words),
    left_out=st.lists(st.tuples(words, st.sampled_from(["NA", "", "None", "0050102"]), words), max_size=3),
    data=st.data(),
)
def test_round_trip_through_a_folder(tmp_path_factory, ids, name, index_name, left_out, data):
    column = {
        "subject_id": st.one_of(st.none(), words),
        "age": st.one_of(st.none(), st.floats(0, 120)),
        "count": st.integers(-5, 5),
        "smoker": st.booleans(),
    }
    table = pd.DataFrame(
        {key: pd.Series(data.draw(st.lists(values, min_size=len(ids), max_size=len(ids)))) for key, values in column.items()},
    ).set_axis(pd.Index(ids, dtype="str", name=index_name))
    table["age"] = table["age"].astype("float64")
    table["subject_id"] = table["subject_id"].astype("str")
    with_data = data.draw(st.sets(st.sampled_from(ids)))
    values = {subject: np.random.default_rng(k).normal(size=(10 + k, 3)) for k, subject in enumerate(ids) if subject in with_data}
    regions = {"toy": RegionData(ATLAS, values, Provenance("timeseries", pipeline=name))}
    cohort = Cohort(name, table, Schema.infer(table, {"subject_id": "group"}), regions, excluded(*left_out))
    again = Cohort.load(cohort.save(tmp_path_factory.mktemp("cohort") / "saved"))
    assert (again.name, again.ids, again.schema, again.hash) == (cohort.name, cohort.ids, cohort.schema, cohort.hash)
    pd.testing.assert_frame_equal(again.subjects, cohort.subjects, check_names=False)
    pd.testing.assert_frame_equal(again.excluded, cohort.excluded, check_index_type=False)
    assert again.regions["toy"].provenance == cohort.regions["toy"].provenance
    assert again.atlas("toy").to_dict() == ATLAS.to_dict()
    for subject in with_data:
        np.testing.assert_array_equal(again.regions["toy"].values[subject], cohort.regions["toy"].values[subject])
        np.testing.assert_array_equal(again.regions["toy"].observed[subject], cohort.regions["toy"].observed[subject])


def test_a_cohort_without_columns(tmp_path):
    bare = Cohort("bare", pd.DataFrame(index=pd.Index(["a", "b"], dtype="str")), Schema([]))
    assert Cohort.load(bare.save(tmp_path / "bare")).ids == ["a", "b"]


def test_saving_again_replaces_an_earlier_cohort_and_nothing_else(tmp_path):
    make(4).save(tmp_path / "c")
    make(2).save(tmp_path / "c")
    assert len(Cohort.load(tmp_path / "c")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    (tmp_path / "thesis").mkdir()
    make(2).save(tmp_path / "thesis")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(RunFolderError, match="Expected .*other to be absent, empty or a saved cohort; found other files"):
        make(2).save(tmp_path / "other")


def test_no_pickle_is_written(tmp_path):
    folder = make().save(tmp_path / "c")
    assert sorted(path.name for path in folder.iterdir()) == ["cohort.json", "excluded.csv", "subjects.parquet", "toy.npz"]
    np.load(folder / "toy.npz", allow_pickle=False).close()


def test_no_cohort_there(tmp_path):
    with pytest.raises(DataError, match=r"Expected a saved cohort at .* \(with cohort\.json\), found none\. Make one with `graphssl build`"):
        Cohort.load(tmp_path)


@pytest.mark.parametrize("name", ["cohort.json", "subjects.parquet", "excluded.csv", "toy.npz"])
@pytest.mark.parametrize("damage", ["absent", "empty", "half", "garbage"])
def test_damaged_files(tmp_path, name, damage):
    path = make().save(tmp_path / "c") / name
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "garbage": b"\x00garbage\xff" * 9}.get(damage, b""))
    if damage == "absent":
        path.unlink()
    if name == "excluded.csv" and damage == "half":
        return  # a shorter list is a list
    with pytest.raises(DataError, match="Expected (a whole saved cohort|region data|a saved cohort) (at|in) "):
        Cohort.load(tmp_path / "c")


def test_a_file_that_was_changed(tmp_path):
    cohort = make()
    folder = cohort.save(tmp_path / "c")
    cohort.subjects.assign(age=30.0).to_parquet(folder / "subjects.parquet")
    with pytest.raises(DataError, match="to have hash .*, found .*: a file was changed. Build it again"):
        Cohort.load(folder)
    cohort.save(folder)
    record = json.loads((folder / "cohort.json").read_text())
    (folder / "cohort.json").write_text(json.dumps({**record, "format": 1}))
    with pytest.raises(DataError, match=r"Expected a cohort of format 2 at .*, found format 1, of another version. Build it again"):
        Cohort.load(folder)
    record["regions"]["toy"]["atlas"]["labels"] = [2, 5, 10]
    (folder / "cohort.json").write_text(json.dumps(record))
    with pytest.raises(AtlasError, match="its labels or names were changed"):
        Cohort.load(folder)


# As scikit-learn sees it


def test_places_choose_subjects_as_in_an_array(make_cohort):
    cohort = make_cohort()
    ids = np.asarray(cohort.ids)
    mask = np.arange(24) % 3 == 0
    for rows in (np.asarray([5, 0, 7]), [2, 1], mask, slice(3, 9), slice(None, None, -1)):
        assert cohort[rows].ids == ids[rows].tolist()
        assert cohort[rows, ...].ids == ids[rows].tolist()
    assert cohort[-1].ids == [cohort.ids[-1]]
    assert cohort.shape == (24,)
    assert [one.ids[0] for one in cohort] == cohort.ids


def test_scikit_learn_indexes_a_cohort(make_cohort):
    cohort = make_cohort()
    for rows in (np.asarray([3, 1]), [3, 1], np.arange(24) < 5):
        assert _safe_indexing(cohort, rows).ids == np.asarray(cohort.ids)[rows].tolist()
    assert _num_samples(cohort) == 24


def test_no_subject_at_a_place(make_cohort):
    with pytest.raises(IndexError, match="24 is out of bounds"):
        make_cohort()[[24]]
    with pytest.raises(SchemaError, match="each subject id once"):
        make_cohort()[[1, 1]]


@pytest.mark.parametrize("kind", ["timeseries", "correlation"])
def test_a_cohort_of_arrays(make_cohort, kind):
    data = make_cohort().regions["toy"]
    series = np.stack(list(data.values.values()))
    values = series if kind == "timeseries" else np.stack([np.corrcoef(array.T) for array in series])
    cohort = Cohort.from_arrays(values, data.atlas, kind=kind)
    assert cohort.ids[:2] == ["sub-0000", "sub-0001"]
    assert cohort.regions["toy"].provenance.kind == kind
    np.testing.assert_array_equal(cohort.regions["toy"].values["sub-0003"], values[3].astype(np.float32))
    named = cohort.with_column(Column("site", "categorical", "site"), pd.Series("here", index=cohort.subjects.index, dtype="str"))
    assert named.sites.unique().tolist() == ["here"]


def test_arrays_of_several_lengths_with_ids(make_cohort):
    data = make_cohort(n_subjects=4).regions["toy"]
    values = [array[: 20 + k] for k, array in enumerate(data.values.values())]
    cohort = Cohort.from_arrays(values, data.atlas, ids=["a", "b", "c", "d"])
    assert [len(cohort.regions["toy"].values[s]) for s in "abcd"] == [20, 21, 22, 23]


def test_arrays_that_are_no_cohort(make_cohort):
    data = make_cohort(n_subjects=4).regions["toy"]
    values = list(data.values.values())
    with pytest.raises(DataError, match="an id for each of 4 arrays, found 3"):
        Cohort.from_arrays(values, data.atlas, ids=["a", "b", "c"])
    with pytest.raises(DataError, match="at least one subject"):
        Cohort.from_arrays([], data.atlas)
    with pytest.raises(DataError, match=r"Expected numbers for subject 'sub-0000', found something else .*Give an array of numbers"):
        Cohort.from_arrays([[["high"]]], data.atlas)
    with pytest.raises(DataError, match=r"Expected a signal in some region of some subject, found none in 4 arrays\. A connection takes two regions"):
        Cohort.from_arrays(np.ones((4, 1, 1)), data.atlas.select(data.atlas.labels[:1]), kind="covariance")
    with pytest.raises(DataError, match="a square matrix"):
        Cohort.from_arrays(values, data.atlas, kind="correlation")


# Events


def with_events(**columns):
    """Heart rates of two subjects at 08:00, 09:00 and 10:00, and a static event."""
    rows = [(subject, f"2130-01-01 {hour:02}:00", "HR", 60.0 + hour) for subject in ("s0", "s2") for hour in (8, 9, 10)]
    events = Events.of(pd.DataFrame([*rows, ("s0", None, "SEX//F", np.nan)], columns=["subject_id", "time", "code", "numeric_value"]))
    return replace(make(**columns), events=events)


def at(hour, cohort):
    return pd.Series(pd.Timestamp(f"2130-01-01 {hour:02}:00"), index=cohort.ids)


def test_a_planted_future_value_cannot_enter():
    cohort = with_events()
    plain = cohort.predict_at(at(10, cohort))
    assert set(plain.events.table["numeric_value"].dropna()) == {68.0, 69.0}, "what is at the time is not before it"
    assert plain.events.table["code"].tolist().count("SEX//F") == 1, "what holds at all times stays"
    future = pd.DataFrame([("s1", "2130-01-01 10:00", "DIED", 1.0)], columns=["subject_id", "time", "code", "numeric_value"])
    planted = replace(cohort, events=cohort.events.union(Events.of(future)))
    assert planted.predict_at(at(10, cohort)).events.hash == plain.events.hash
    assert planted.predict_at(at(10, cohort)).excluded.values.tolist() == [["event", "3 of 3 subjects", "at the prediction time or after it"]]
    with pytest.raises(LeakageError, match="found 1 of 1 subjects at it or after it. Leave them out with cohort.predict_at"):
        replace(plain, events=Events.of(future))
    with pytest.raises(LeakageError, match="found 2 of 2 subjects"):
        plain.with_column(plain.schema["prediction_time"], at(9, cohort))


def test_window_before_the_prediction_time():
    cohort = with_events()
    narrow = cohort.predict_at(at(10, cohort), timedelta(hours=1))
    assert set(narrow.events.table["numeric_value"].dropna()) == {69.0}
    assert narrow.excluded["id"].tolist() == ["2 of 2 subjects", "2"]
    assert narrow.excluded["reason"].tolist()[1] == "more than 1:00:00 before the prediction time"
    assert narrow.prediction_times.tolist() == at(10, cohort).tolist()
    assert cohort.prediction_times is None
    assert make().predict_at(at(10, cohort)).events is None
    with pytest.raises(DataError, match=r"Expected a prediction time for every subject, found none for \['s3'\]"):
        cohort.predict_at(at(10, cohort).drop("s3"))


def test_events_walk_with_their_subjects(tmp_path):
    cohort = with_events()
    cohort = cohort.predict_at(at(10, cohort))
    assert "  events    Events(5 of 2 subjects, 2 codes)" in repr(cohort).splitlines()
    parts = cohort.select(["s0", "s1"]), cohort.select(["s2", "s3"])
    assert [part.events.ids for part in parts] == [["s0"], ["s2"]]
    assert (parts[0] | parts[1]).events.hash == cohort.events.hash
    bare = replace(parts[1], events=None)
    assert (parts[0] | bare).events.ids == (bare | parts[0]).events.ids == ["s0"]
    assert len({cohort.hash, replace(cohort, events=None).hash, parts[0].hash}) == 3
    again = Cohort.load(cohort.save(tmp_path / "cohort"))
    assert again.hash == cohort.hash
    assert again.prediction_times.tolist() == cohort.prediction_times.tolist()
    assert again.events.n_reordered == cohort.events.n_reordered
    with pytest.raises(DataError, match=r"Expected every subject with events in the table of 'toy', found 1 that are not: \['s2'\]"):
        replace(parts[0], events=cohort.events)
