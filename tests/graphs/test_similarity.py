"""Similarities, against loops over pairs written down from their definitions, and the bound that finds neighbours against the similarity."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from graphssl.data import Cohort, Column, Schema
from graphssl.errors import CheckpointError, DataError, SchemaError
from graphssl.graphs import FeatureGroup
from graphssl.graphs.similarity import group_similarity

NAMES = [f"c{i}" for i in range(6)]
GROUPS = {
    "agreement": FeatureGroup("g", NAMES, "agreement", tolerance={"c0": 0.5, "c1": 0.0}),
    "euclidean": FeatureGroup("g", NAMES, "euclidean", scaling="none", length=116),
    "learned length": FeatureGroup("g", NAMES, "euclidean"),
    "sigmoid": FeatureGroup("g", NAMES, "sigmoid", scaling="range"),
    "statistics": FeatureGroup("g", [("c0", "c1"), ("c2", "c3"), ("c4", "c5")], "statistics"),
    "cosine": FeatureGroup("g", NAMES, "cosine"),
    "rbf": FeatureGroup("g", NAMES, "rbf", length=2.0),
}


def table(n, *, missing=0.0, seed=0, prefix="p", offset=0.0):
    rng = np.random.default_rng(seed)
    values = np.round(offset + rng.standard_normal((n, len(NAMES))), 1)
    values[rng.random(values.shape) < missing] = np.nan
    return pd.DataFrame(values, columns=NAMES, index=[f"{prefix}{i}" for i in range(n)])


def slow(name, train, x, y):
    """One pair, value by value."""
    group = GROUPS[name]
    present = [(c, x[c], y[c]) for c in NAMES if not (math.isnan(x[c]) or math.isnan(y[c]))]
    if not present:
        return 0.0
    if group.similarity == "agreement":
        return sum(abs(a - b) <= group.tolerance.get(c, 0.0) for c, a, b in present) / len(present)
    unit = {
        c: 1.0 if group.scaling == "none" else train[c].std(ddof=0) if group.scaling == "standard" else train[c].max() - train[c].min() for c in NAMES
    }
    if group.similarity == "cosine":
        centred = [((a - train[c].mean()) / unit[c], (b - train[c].mean()) / unit[c]) for c, a, b in present]
        lengths = math.sqrt(sum(a * a for a, _ in centred) * sum(b * b for _, b in centred))
        return sum(a * b for a, b in centred) / lengths if lengths else 0.0
    squares = {c: ((a - b) / unit[c]) ** 2 for c, a, b in present}
    if group.similarity == "statistics":
        features = [[squares[c] for c in feature if c in squares] for feature in group.columns]
        distances = [math.sqrt(sum(feature)) for feature in features if feature]
        return 1 - 1 / (1 + math.exp(-sum(distances) / len(distances)))
    distance = math.sqrt(sum(squares.values()))
    if group.similarity == "sigmoid":
        return 1 - 1 / (1 + math.exp(-distance))
    if group.similarity == "rbf":
        return math.exp(-(distance**2) / (2 * group.length**2))
    length = group.length or math.sqrt(sum(((train[c].max() - train[c].min()) / unit[c]) ** 2 for c in NAMES))
    return 1 - distance / length


def fitted(name, train):
    similarity = group_similarity(GROUPS[name])
    similarity.fit(train)
    return similarity


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("name", GROUPS)
def test_pairs_are_those_of_the_loop(name, missing):
    train, new = table(12, missing=missing), table(5, missing=missing, seed=1, prefix="n")
    similarity = fitted(name, train)
    found = similarity.exact(similarity.encode(new)[:, None], similarity.encode(train)[None])
    expected = [[slow(name, train, x, y) for _, y in train.iterrows()] for _, x in new.iterrows()]
    assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("name", GROUPS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), offset=st.sampled_from([0.0, 1e4]))
def test_the_bound_is_never_below_and_close(name, missing, seed, offset):
    train, new = table(20, missing=missing, seed=seed, offset=offset), table(7, missing=missing, seed=seed + 1, prefix="n", offset=offset)
    similarity = fitted(name, train)
    x, y = similarity.encode(new), similarity.encode(train)
    left, right = similarity.operands(x, y)
    bound, exact = similarity.upper(left, right).numpy(), similarity.exact(x[:, None], y[None])
    assert (bound >= exact - 1e-6).all()
    if missing == 0.0 and name != "agreement":  # which jumps where a difference is the tolerance but for rounding
        assert_allclose(bound, exact, atol=2e-2)
    part = similarity.upper(left.rows(slice(2, 5)), right.rows(slice(3, 9))).numpy()
    assert_allclose(part, bound[2:5, 3:9], atol=1e-6)


@pytest.mark.parametrize("name", GROUPS)
def test_pairs_do_not_depend_on_others_and_are_symmetric(name):
    train = table(12, missing=0.2)
    similarity = fitted(name, train)
    x = similarity.encode(train)
    together = similarity.exact(x[:, None], x[None])
    alone = np.array([[similarity.exact(a[None, None], b[None, None])[0, 0] for b in x] for a in x])
    assert_array_equal(together, alone)
    assert_array_equal(together, together.T)


@pytest.mark.parametrize("name", ["cosine", "sigmoid", "rbf", "learned length"])
def test_vectors_rank_as_the_similarity(name):
    train = table(12)
    similarity = fitted(name, train)
    x = similarity.encode(train)
    metric, vectors = similarity.vectors(x)
    ranked = vectors @ vectors.T if metric == "product" else -((vectors[:, None] - vectors[None]) ** 2).sum(axis=-1)
    exact = similarity.exact(x[:, None], x[None])
    assert_array_equal(np.argsort(ranked[0].round(9), kind="stable"), np.argsort(exact[0].round(12), kind="stable"))


def test_one_hot_vectors_give_the_share_of_agreement():
    words = pd.DataFrame({"sex": ["f", "m", "f"], "ward": ["a", "b", "c"]}, index=["1", "2", "3"])
    similarity = group_similarity(FeatureGroup("g", ["sex", "ward"], "agreement"))
    similarity.fit(words)
    _, vectors = similarity.vectors(similarity.encode(words))
    assert_allclose(vectors @ vectors.T, [[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]])
    assert fitted("agreement", table(3)).vectors(np.zeros((1, 6))) is None
    assert fitted("statistics", table(3)).vectors(np.zeros((1, 6))) is None


def test_words_agree_and_unknown_ones_with_nobody():
    words = pd.DataFrame({"ward": ["surgery", "medicine", None], "code": [1, 2, 2]}, index=["1", "2", "3"])
    similarity = group_similarity(FeatureGroup("g", ["ward", "code"], "agreement"))
    similarity.fit(words)
    new = pd.DataFrame({"ward": ["surgery", "new", "new"], "code": [2.0, np.nan, 9.0]}, index=["a", "b", "c"])
    found = similarity.exact(similarity.encode(new)[:, None], similarity.encode(words)[None])
    assert_allclose(found, [[0.5, 0.5, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_a_constant_column_and_one_without_values_take_no_part():
    train = table(8).assign(c0=3.7, c1=np.nan)
    reduced = FeatureGroup("g", NAMES[2:], "sigmoid")
    expected = group_similarity(reduced)
    expected.fit(train)
    similarity = group_similarity(FeatureGroup("g", NAMES, "sigmoid"))
    similarity.fit(train)
    x, y = similarity.encode(train), expected.encode(train)
    assert_allclose(similarity.exact(x[:1], x), expected.exact(y[:1], y))


@pytest.mark.parametrize("similarity", ["euclidean", "rbf"])
def test_equal_training_patients_leave_a_length(similarity):
    train = pd.DataFrame({"age": [50.0, 50.0]}, index=["a", "b"])
    made = group_similarity(FeatureGroup("g", ["age"], similarity))
    made.fit(train)
    assert made.length_ == 1.0
    assert made.exact(made.encode(train)[:1], made.encode(train)[1:]).tolist() == [1.0]


def test_the_length_of_rbf_is_the_root_mean_squared_distance():
    train = table(9)
    made = group_similarity(FeatureGroup("g", NAMES, "rbf"))
    made.fit(train)
    x = made.encode(train)
    assert made.length_**2 == pytest.approx(((x[:, None] - x[None]) ** 2).sum(axis=-1).mean())


@pytest.mark.parametrize("name", GROUPS)
def test_state_and_back(name):
    train = table(9, missing=0.2)
    similarity = fitted(name, train)
    again = group_similarity(GROUPS[name])
    again.restore(similarity.state())
    assert_array_equal(again.encode(train), similarity.encode(train))
    x = again.encode(train)
    assert_array_equal(again.exact(x[:1], x), similarity.exact(x[:1], x))


def test_what_is_refused():
    for name in GROUPS:
        with pytest.raises(DataError, match=r"training patients with values of the group 'g' \(c0, .*\), found none\. Leave it out"):
            fitted(name, table(3, missing=1.0))
        with pytest.raises(SchemaError, match="Expected the column 'c5' of the training subjects, found"):
            fitted(name, table(3).drop(columns="c5"))
    with pytest.raises(SchemaError, match="Expected finite numbers in column 'c2', found 'high' for 'p0'"):
        fitted("sigmoid", table(3).assign(c2="high"))
    state = fitted("sigmoid", table(3)).state()
    with pytest.raises(CheckpointError, match=r"units of the 6 columns of the group 'g', found shape \(5,\)"):
        group_similarity(GROUPS["sigmoid"]).restore({**state, "unit": state["unit"][:5]})


def test_columns_that_a_cohort_says_do_not_fit():
    data = pd.DataFrame({"dead": [0, 1], "ward": ["a", "b"], "when": pd.to_datetime(["2020-01-01", "2020-01-02"])}, index=["1", "2"])
    schema = Schema([Column("dead", "binary", "target"), Column("ward", "categorical"), Column("when", "timestamp")])
    cohort = Cohort("c", data, schema)
    for columns, similarity, match in (
        (["dead"], "agreement", "known of a new patient, found the target 'dead'"),
        (["ward"], "cosine", r"columns of numbers in the group 'g', found ward \(categorical\)"),
        (["when"], "agreement", r"columns of numbers or categories in the group 'g', found when \(timestamp\)"),
        (["age"], "agreement", "Expected one of the columns .*, found 'age'"),
    ):
        with pytest.raises(SchemaError, match=match):
            group_similarity(FeatureGroup("g", columns, similarity)).fit(cohort)
