"""The neighbour index: whom it finds, from whom it learned, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from graphssl.data import Cohort, Column, Schema
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError
from graphssl.graphs import FeatureGroup, NeighborIndex

DEMOGRAPHICS = FeatureGroup("demographics", ["age", "sex", "apoe4"], "agreement", tolerance={"age": 2})
COGNITION = FeatureGroup("cognition", ["mmse", "adas"], "euclidean", scaling="none", length=116)
IMAGING = FeatureGroup("imaging", ["hippocampus", "fdg"], "sigmoid", scaling="range")
TADPOLE = [DEMOGRAPHICS, COGNITION, IMAGING]
BLOOD = FeatureGroup("blood", ["mmse", "adas", "hippocampus", "fdg"], "sigmoid")


def patients(n, *, seed=0, prefix="p", missing=0.0):
    rng = np.random.default_rng(seed)
    numbers = {
        "age": rng.integers(55, 90, n).astype(float),
        "apoe4": rng.integers(0, 3, n).astype(float),
        "mmse": rng.integers(0, 19, n).astype(float),
        "adas": rng.integers(0, 107, n).astype(float),
        "hippocampus": rng.normal(7000, 900, n),
        "fdg": rng.normal(1.2, 0.2, n),
    }
    table = pd.DataFrame(numbers, index=[f"{prefix}{i}" for i in range(n)])
    table = table.mask(rng.random(table.shape) < missing)
    return table.assign(sex=rng.choice(["female", "male"], n))


def reference_similarity(train, u, v):
    """The three similarities of the reference for two patients without missing values, written as a loop."""
    demographic = ((abs(u["age"] - v["age"]) <= 2) + (u["sex"] == v["sex"]) + (u["apoe4"] == v["apoe4"])) / 3
    cognitive = 1 - np.sqrt((u["mmse"] - v["mmse"]) ** 2 + (u["adas"] - v["adas"]) ** 2) / 116
    span = {name: train[name].max() - train[name].min() for name in ("hippocampus", "fdg")}
    distance = np.sqrt(sum(((u[name] - v[name]) / span[name]) ** 2 for name in span))
    return demographic, cognitive, 1 - 1 / (1 + np.exp(-distance))


def test_neighbours_are_those_of_the_reference():
    train, new = patients(40), patients(4, seed=1, prefix="n")
    found = NeighborIndex(TADPOLE).fit(train).query(new)
    assert found.groups == ("demographics", "cognition", "imaging")
    for row, (_, u) in enumerate(new.iterrows()):
        by_group = np.array([reference_similarity(train, u, v) for _, v in train.iterrows()])
        nearest = np.argsort(-by_group.mean(axis=1), kind="stable")[:5]
        assert_array_equal(found.indices[row], nearest)
        assert_allclose(found.by_group[row], by_group[nearest], atol=1e-12)
        assert_allclose(found.similarity[row], by_group.mean(axis=1)[nearest], atol=1e-12)
        assert found.neighbor_ids[row].tolist() == [f"p{i}" for i in nearest]


def test_weights_of_groups():
    train = patients(30)
    heavy = FeatureGroup("demographics", ["age", "sex", "apoe4"], "agreement", weight=3, tolerance={"age": 2})
    found = NeighborIndex([heavy, COGNITION]).fit(train).query()
    assert_allclose(found.similarity, found.by_group @ [0.75, 0.25])


def test_training_patients_are_not_their_own_neighbours():
    train = patients(30)
    index = NeighborIndex(TADPOLE).fit(train)
    assert not (index.query().indices == np.arange(30)[:, None]).any()
    assert_array_equal(index.query(train).indices[:, 0], np.arange(30))
    assert repr(index.query()) == "Neighbors(30 patients × 5 neighbours; groups demographics, cognition, imaging)"


@pytest.mark.parametrize("search", ["exact", "approximate"])
def test_an_answer_does_not_depend_on_other_patients(search):
    if search == "approximate":
        pytest.importorskip("faiss", reason="the extra 'knn' is not installed")
    train, new = patients(300), patients(30, seed=1, prefix="n")
    index = NeighborIndex([BLOOD], search=search).fit(train)
    together = index.query(new)
    for row in (0, 17, 29):
        alone = index.query(new.iloc[[row]])
        for name in ("indices", "similarity", "by_group", "unlikeness"):
            assert_array_equal(getattr(alone, name)[0], getattr(together, name)[row])


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), missing=st.sampled_from([0.0, 0.3]))
def test_the_order_of_the_training_table_does_not_matter(seed, missing):
    train, new = patients(60, seed=seed, missing=missing), patients(5, seed=seed + 1, prefix="n", missing=missing)
    shuffled = train.sample(frac=1, random_state=seed)
    found, again = (NeighborIndex(TADPOLE).fit(table).query(new) for table in (train, shuffled))
    assert_allclose(found.similarity, again.similarity, rtol=1e-12)
    assert_allclose(found.unlikeness, again.unlikeness)


def test_any_number_of_neighbours():
    index = NeighborIndex(TADPOLE, n_neighbors=2).fit(patients(20))
    few, many = index.query(k=1), index.query(k=19)
    assert many.indices.shape == (20, 19)
    assert_array_equal(many.indices[:, :1], few.indices)
    assert_array_equal(many.unlikeness, few.unlikeness)
    assert NeighborIndex(TADPOLE, n_neighbors=1).fit(patients(2)).query().indices.tolist() == [[1], [0]]


def test_unlikeness_is_even_for_those_alike_and_high_for_others():
    train, alike = patients(300), patients(200, seed=1, prefix="n")
    index = NeighborIndex([BLOOD]).fit(train)
    assert abs(index.query(alike).unlikeness.mean() - 0.5) < 0.1
    assert index.query(alike.assign(fdg=9.0)).unlikeness.min() == 1.0
    training = index.query().unlikeness
    assert sorted(training.tolist()) == pytest.approx(np.arange(300) / 300)


def test_nothing_is_learned_from_those_asked_about():
    train = patients(50)
    index = NeighborIndex(TADPOLE).fit(train)
    record, arrays = index.state()
    index.query(patients(20, seed=1).assign(age=200.0))
    after, arrays_after = index.state()
    assert after == record
    assert all((arrays[name] == arrays_after[name])[~np.isnan(arrays[name])].all() for name in arrays)


def test_joined_keeps_the_units_of_the_training_patients():
    train, new = patients(30), patients(6, seed=1, prefix="n").assign(fdg=5.0)
    index = NeighborIndex(TADPOLE).fit(train)
    joined = index.joined(new)
    assert joined.ids_ == (*train.index, *new.index)
    assert joined.similarities_[2].unit_.tolist() == index.similarities_[2].unit_.tolist()
    assert (joined.query().indices[30:] >= 30).any()
    with pytest.raises(SchemaError, match="p3"):
        index.joined(patients(4))


def test_missing_values_and_a_group_that_a_patient_lacks():
    index = NeighborIndex(TADPOLE).fit(patients(40, missing=0.2))
    lacking = patients(3, seed=2, prefix="n").assign(hippocampus=np.nan, fdg=np.nan)
    found = index.query(lacking)
    assert (found.by_group[:, :, 2] == 0).all()
    assert np.isfinite(found.similarity).all()


# Approximate search


def test_approximate_neighbours_are_found_as_often_as_asked():
    pytest.importorskip("faiss", reason="the extra 'knn' is not installed")
    train = patients(600)
    exact = NeighborIndex([BLOOD]).fit(train)
    approximate = NeighborIndex([BLOOD], threshold=500).fit(train)
    assert (exact.search_, exact.recall_, approximate.search_) == ("exact", 1.0, "approximate")
    assert 0.95 <= approximate.recall_ <= 1.0
    found, expected = approximate.query(), exact.query()
    recall = (found.indices[:, :, None] == expected.indices[:, None]).any(axis=2).mean()
    assert recall >= 0.9
    same = found.indices == expected.indices
    assert_array_equal(found.similarity[same], expected.similarity[same])


def test_several_products_are_one_product():
    pytest.importorskip("faiss", reason="the extra 'knn' is not installed")
    groups = [FeatureGroup("sex", ["sex"], "agreement", weight=2), FeatureGroup("blood", ["mmse", "adas", "fdg"], "cosine")]
    train = patients(300)
    approximate = NeighborIndex(groups, search="approximate", min_recall=1.0).fit(train)
    assert approximate.recall_ == 1.0
    assert_array_equal(approximate.query().similarity[:20], NeighborIndex(groups).fit(train).query().similarity[:20])


def test_who_lacks_a_value_is_searched_for_exactly():
    pytest.importorskip("faiss", reason="the extra 'knn' is not installed")
    train, new = patients(300), patients(8, seed=1, prefix="n", missing=0.3)
    found = NeighborIndex([BLOOD], search="approximate", min_recall=1.0).fit(train).query(new)
    assert_array_equal(found.indices, NeighborIndex([BLOOD]).fit(train).query(new).indices)


def test_similarities_that_are_no_distance():
    train = patients(60)
    for groups, table in ((TADPOLE, train), ([BLOOD, COGNITION], train), ([BLOOD], patients(60, missing=0.2))):
        with pytest.raises(ConfigError, match=r"ranks as a distance of vectors for an approximate search .* Use search='exact'"):
            NeighborIndex(groups, search="approximate").fit(table)
        assert NeighborIndex(groups, threshold=10).fit(table).search_ == "exact"


# On disk and back


@pytest.mark.parametrize("search", ["exact", "approximate"])
def test_state_and_back(search):
    if search == "approximate":
        pytest.importorskip("faiss", reason="the extra 'knn' is not installed")
    train, new = patients(120), patients(9, seed=1, prefix="n")
    index = NeighborIndex([BLOOD] if search == "approximate" else TADPOLE, search=search).fit(cohort(train))
    record, arrays = index.state()
    again = NeighborIndex.from_state(json.loads(json.dumps(record)), arrays)
    for name in ("indices", "similarity", "by_group", "unlikeness", "neighbor_ids"):
        assert_array_equal(getattr(again.query(new), name), getattr(index.query(new), name))
    assert again.recall_ == index.recall_


def test_damaged_states():
    record, arrays = NeighborIndex(TADPOLE).fit(patients(20)).state()
    with pytest.raises(CheckpointError, match="Expected the fitted state of a NeighborIndex, found none of 'imaging'"):
        NeighborIndex.from_state(record, {name: values for name, values in arrays.items() if name != "imaging"})
    with pytest.raises(CheckpointError, match=r"Expected 20 patients × 2 columns of the group 'imaging', found \(19, 2\)"):
        NeighborIndex.from_state(record, {**arrays, "imaging": arrays["imaging"][1:]})
    with pytest.raises(CheckpointError, match="found none of 'ids'"):
        NeighborIndex.from_state({key: value for key, value in record.items() if key != "ids"}, arrays)


# What is refused


def cohort(table, **changes):
    columns = {name: Column(name, "continuous", unit={"age": "years"}.get(name)) for name in table.columns} | {"sex": Column("sex", "categorical")}
    return Cohort("c", table, Schema([changes.get(name, column) for name, column in columns.items()]))


def test_arguments_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"at least one group of features, each with a name of its own; found \[\]"):
        NeighborIndex([]).fit(patients(9))
    with pytest.raises(ConfigError, match=r"a name of its own; found \['imaging', 'imaging'\]"):
        NeighborIndex([IMAGING, IMAGING]).fit(patients(9))
    with pytest.raises(ConfigError, match="Expected search to be one of 'auto', 'exact', 'approximate'; found 'fast'"):
        NeighborIndex(TADPOLE, search="fast").fit(patients(9))


@pytest.mark.parametrize("k", [0, -1])
def test_zero_neighbours(k):
    with pytest.raises(ConfigError, match=f"at least one neighbour of a patient, found {k}"):
        NeighborIndex(TADPOLE, n_neighbors=k).fit(patients(9))
    with pytest.raises(ConfigError, match=f"at least one neighbour of a patient, found {k}"):
        NeighborIndex(TADPOLE).fit(patients(9)).query(k=k)


def test_more_neighbours_than_patients():
    with pytest.raises(DataError, match="more training patients than neighbours, found 5 patients and 5 neighbours"):
        NeighborIndex(TADPOLE).fit(patients(5))
    with pytest.raises(DataError, match="found 1 patients and 1 neighbours"):
        NeighborIndex(TADPOLE, n_neighbors=1).fit(patients(1))
    with pytest.raises(DataError, match="found 9 patients and 9 neighbours"):
        NeighborIndex(TADPOLE).fit(patients(9)).query(patients(2, seed=1), k=9)


def test_tables_that_do_not_fit():
    index = NeighborIndex(TADPOLE).fit(cohort(patients(9)))
    with pytest.raises(SchemaError, match=r"Expected the columns \['fdg'\] of the training patients, found .*Add them"):
        index.query(patients(2).drop(columns="fdg"))
    months = cohort(patients(2), age=Column("age", "continuous", unit="months"))
    with pytest.raises(SchemaError, match=r"column 'age' as the training patients have it \(continuous, unit years\), found continuous, unit months"):
        index.query(months)
    with pytest.raises(SchemaError, match=r"column 'mmse' .*found ordinal"):
        index.query(cohort(patients(2), mmse=Column("mmse", "ordinal")))
    with pytest.raises(SchemaError, match="p0"):
        index.query(pd.concat([patients(1), patients(1)]))
    with pytest.raises(DataError, match="values of the group 'imaging'"):
        NeighborIndex(TADPOLE).fit(patients(9).assign(hippocampus=np.nan, fdg=np.nan))


def test_the_estimator_contract():
    index = NeighborIndex(TADPOLE, n_neighbors=3)
    assert clone(index).get_params()["n_neighbors"] == 3
    for call in (index.query, index.state, lambda: index.joined(patients(2))):
        with pytest.raises(NotFittedError, match="This NeighborIndex instance is not fitted yet"):
            call()
