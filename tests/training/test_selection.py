"""Choosing of a pool what is nearest to a target: beside loops over numpy, under every rule, with everything that must not be chosen."""

import numpy as np
import pandas as pd
import pytest
import torch

import graphssl
from graphssl.data import Cohort, Column, Schema
from graphssl.data.pooled import pooled
from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet, TableMLP
from graphssl.errors import ConfigError, DataError, LeakageError, SchemaError
from graphssl.training import Pool, PoolSelection, SelectionSettings, TrainingSettings, pretrain, select_nearest, untrained

COLUMNS = [f"x{k}" for k in range(6)]


def cohort_of(n, name, centre=0.0, seed=0, **columns):
    """Patients of six numbers around a centre."""
    values = np.random.default_rng(seed).normal(size=(n, 6)) + centre
    table = pd.DataFrame(values, index=[f"{name}-{k:03d}" for k in range(n)], columns=COLUMNS)
    table.index = table.index.astype("str")
    cohort = Cohort(name, table, Schema([Column(column, "continuous") for column in COLUMNS]))
    for role, entries in columns.items():
        kind = Column(role, "categorical", role if role in ("site", "group", "target") else "covariate")
        cohort = cohort.with_column(kind, pd.Series(entries, index=table.index, dtype="str"))
    return cohort


@pytest.fixture(scope="module")
def pool():
    return cohort_of(80, "pool", seed=1, site=["a"] * 60 + ["b"] * 20)


@pytest.fixture(scope="module")
def target():
    return cohort_of(7, "target", seed=2)


@pytest.fixture(scope="module")
def model(pool):
    return untrained(pool, encoder=TableMLP(width=16), seed=3)


def unit_vectors(model, pool, cohort):
    """The definition: in units of the pool, of length one."""
    mine, all_of_pool = model.embed(cohort).to_numpy(np.float64), model.embed(pool).to_numpy(np.float64)
    spread = all_of_pool.std(axis=0)
    scaled = (mine - all_of_pool.mean(axis=0)) / np.where(spread > 1e-9, spread, 1)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


def by_loops(model, pool, target, budget, k):
    """First neighbours of all, then second ones, each round by similarity."""
    vectors, queries = unit_vectors(model, pool, pool), unit_vectors(model, pool, target)
    nearest = [sorted(range(len(pool)), key=lambda j, q=q: -float(vectors[j] @ q))[:k] for q in queries]
    best = {j: max(float(vectors[j] @ q) for q in queries) for j in range(len(pool))}
    chosen = []
    for rank in range(k):
        chosen += sorted({row[rank] for row in nearest} - set(chosen), key=lambda j: -best[j])
    return [pool.ids[j] for j in chosen[:budget]], best


def test_the_index_finds_what_loops_find(pool, target, model):
    selection = select_nearest(pool, target, model, budget=20, k=6, near_duplicate=None)
    expected, best = by_loops(model, pool, target, 20, 6)
    assert list(selection.ids) == expected
    np.testing.assert_allclose(selection.table["similarity"], [best[j] for j in range(len(pool))], atol=1e-12)
    assert selection.similarity.index.tolist() == list(selection.ids)
    assert selection.ranks.is_monotonic_increasing
    assert selection.cohort.ids == list(selection.ids)


@pytest.mark.parametrize("rule", ["rounds", "similarity", "votes", "diversity", "random"])
@pytest.mark.parametrize("budget", [1, 9, 50, 80])
def test_the_budget_is_met_exactly(pool, target, model, rule, budget):
    selection = select_nearest(pool, target, model, budget=budget, k=2, rule=rule, near_duplicate=None)
    assert len(set(selection.ids)) == len(selection) == budget


def test_a_share_is_one_of_the_pool_and_all_is_all(pool, target, model):
    assert len(select_nearest(pool, target, model, budget=0.25)) == 20
    assert len(select_nearest(pool, target, model, budget=1, rule="all")) == 80
    assert len(select_nearest(pool, target, model, budget=500, near_duplicate=None)) == 80
    assert len(select_nearest(pool[:1], target, model, budget=5)) == 1
    assert len(select_nearest(pool[:2], target[:1], model, budget=2, near_duplicate=None)) == 2


def test_every_subject_of_the_target_is_served(pool, target, model):
    """By rounds, its own nearest is chosen as soon as there is room for the nearest of all; by similarity some go without."""
    similarity = unit_vectors(model, pool, target) @ unit_vectors(model, pool, pool).T
    nearest = [pool.ids[j] for j in similarity.argmax(axis=1)]
    selection = select_nearest(pool, target, model, budget=len(set(nearest)), near_duplicate=None)
    assert set(selection.ids) == set(nearest)
    greedy = select_nearest(pool, target, model, budget=len(set(nearest)), rule="similarity", k=10, near_duplicate=None)
    assert similarity.max(axis=0)[[pool.ids.index(i) for i in greedy.ids]].min() >= np.sort(similarity.max(axis=0))[-len(greedy)] - 1e-12


def test_of_two_domains_that_of_the_target_is_chosen(model):
    mixed = pooled([cohort_of(60, "near", 2.0, seed=4), cohort_of(60, "far", -2.0, seed=5)])
    target = cohort_of(10, "target", 2.0, seed=6)
    selection = select_nearest(mixed, target, model, budget=40)
    counts = selection.counts("source")
    assert counts.loc["near", "chosen"] >= 0.95 * 40
    assert counts["pool"].tolist() == [60, 60]
    report = selection.report()
    assert report.loc["chosen", ["frechet", "mmd"]].lt(report.loc["random", ["frechet", "mmd"]]).all()
    assert report.loc["chosen", "similarity"] > report.loc["pool", "similarity"]
    assert report["n"].tolist() == [40, 40, 120]


def test_votes_are_counted(pool, target, model):
    selection = select_nearest(pool, target, model, budget=10, k=10, rule="votes", near_duplicate=None)
    similarity = unit_vectors(model, pool, target) @ unit_vectors(model, pool, pool).T
    votes = np.bincount(np.argsort(-similarity, axis=1)[:, :10].ravel(), minlength=80)
    assert selection.table.loc[[*selection.ids], "votes"].tolist() == np.sort(votes)[::-1][:10].tolist()


def test_diversity_spreads_more_than_similarity(pool, target, model):
    vectors = unit_vectors(model, pool, pool)

    def closest(rule):
        chosen = select_nearest(pool, target, model, budget=8, k=20, rule=rule, near_duplicate=None).ids
        mine = vectors[[pool.ids.index(i) for i in chosen]]
        return (mine @ mine.T - 2 * np.eye(8)).max()

    assert closest("diversity") < closest("similarity")


def test_class_means_read_labels_and_nothing_else_does(pool, target, model):
    labelled = cohort_of(7, "target", seed=2, target=["x", "y", "x", "y", "x", "y", "x"])
    by_mean = select_nearest(pool, labelled, model, budget=2, rule="class_means", near_duplicate=None)
    queries = unit_vectors(model, pool, target)
    means = np.stack([queries[::2].mean(axis=0), queries[1::2].mean(axis=0)])
    nearest = (means / np.linalg.norm(means, axis=1, keepdims=True) @ unit_vectors(model, pool, pool).T).argmax(axis=1)
    assert set(by_mean.ids) == {pool.ids[j] for j in nearest}
    assert select_nearest(pool, labelled, model, budget=9).ids == select_nearest(pool, target, model, budget=9).ids
    told = Pool(pool, model, near_duplicate=None).select(
        target, SelectionSettings(2, rule="class_means"), dict(zip(target.ids, "xyxyxyx", strict=True))
    )
    assert told.ids == by_mean.ids
    with pytest.raises(SchemaError, match="role 'target'"):
        select_nearest(pool, target, model, budget=2, rule="class_means")


def test_values_of_a_column_take_turns(pool, target, model):
    selection = select_nearest(pool, target, model, budget=20, k=80, balance="site", near_duplicate=None)
    assert selection.counts("site")["chosen"].to_dict() == {"a": 10, "b": 10}
    assert selection.counted_columns() == ["site"]
    with pytest.raises(SchemaError, match="'place'"):
        select_nearest(pool, target, model, budget=20, balance="place")


def test_near_duplicates_are_chosen_once(pool, target, model):
    again = pool.subjects[COLUMNS].iloc[:30] + 1e-5
    twins = Cohort("twins", again.set_axis([f"twin-{k}" for k in range(30)]), Schema([Column(column, "continuous") for column in COLUMNS]))
    both = pooled([pool, twins])
    vectors = unit_vectors(model, both, both)
    strict = select_nearest(both, target, model, budget=60, k=20)
    chosen = vectors[[both.ids.index(i) for i in strict.ids]]
    assert (chosen @ chosen.T - 2 * np.eye(len(chosen))).max() < 0.99
    loose = select_nearest(both, target, model, budget=60, k=20, near_duplicate=None)
    chosen = vectors[[both.ids.index(i) for i in loose.ids]]
    assert (chosen @ chosen.T - 2 * np.eye(len(chosen))).max() > 0.999


def test_identical_data_are_chosen_once_and_not_beside_the_target(pool, target, model):
    renamed = {f"copy-{k}": pool.ids[k] for k in range(5)} | {"own-0": None}
    rows = [pool.subjects[COLUMNS].loc[name] if name else target.subjects[COLUMNS].iloc[0] for name in renamed.values()]
    copies = Cohort("copies", pd.DataFrame(np.stack(rows), index=[*renamed], columns=COLUMNS), Schema([Column(c, "continuous") for c in COLUMNS]))
    both = Cohort("both", pd.concat([pool.subjects[COLUMNS], copies.subjects]), copies.schema)
    selection = select_nearest(both, target, model, budget=86, near_duplicate=None)
    assert not set(selection.ids) & set(renamed)
    reasons = selection.excluded.set_index("id")["reason"]
    assert reasons["copy-3"] == "identical data as pool-003"
    assert reasons["own-0"] == "in the target: identical data as target-000"


@pytest.mark.parametrize("disguise", ["id", "copy", "family"])
def test_a_pool_with_a_test_subject_is_refused_or_cleaned(target, model, disguise):
    """Under its own name, as identical data under another, or by a sibling."""
    test = cohort_of(4, "test", seed=9, group=["f0", "f1", "f2", "f3"])
    pool = cohort_of(20, "pool", seed=8, group=[f"g{k // 2}" for k in range(20)])
    rows = pool.subjects.copy()
    if disguise == "id":
        rows = rows.rename({"pool-004": "test-002"})
    elif disguise == "copy":
        rows.loc["pool-004", COLUMNS] = test.subjects.loc["test-002", COLUMNS].to_numpy()
    else:
        rows.loc["pool-004", "group"] = "f2"
    rows.index = rows.index.astype("str")
    dirty = Cohort("pool", rows, Schema([Column(c.name, c.kind, c.role) for c in pool.schema]))
    found = rows.index[4]
    with pytest.raises(LeakageError, match=f"1 in 'pool'.*{found}" if disguise == "family" else f"2 in 'pool'.*{found}"):
        select_nearest(dirty, target, model, budget=5, protected=test)
    selection = select_nearest(dirty, target, model, budget=20, protected=test, leaks="exclude", near_duplicate=None)
    gone = {found} if disguise == "family" else {found, "pool-005"}  # the sibling in the pool goes with it
    assert set(selection.ids) == set(rows.index) - gone
    assert set(selection.excluded["id"]) == gone


def test_an_identical_image_is_known_in_another_file(tmp_path):
    first = simulate_images(12, size=16, seed=0, folder=tmp_path / "a")
    again = pooled({"again": simulate_images(14, size=16, seed=0, folder=tmp_path / "b")})
    images = untrained(first, encoder=ResNet(width=4, blocks=(1,), stem="small"), seed=0)
    with pytest.raises(LeakageError, match="12 in 'again' \\(12 with identical data\\).*again/patient-0000"):
        select_nearest(again, first[:4], images, budget=2, protected=first)
    selection = select_nearest(again, first[:4], images, budget=9, protected=first, leaks="exclude", near_duplicate=None)
    assert set(selection.ids) == {"again/patient-0012", "again/patient-0013"}
    trained = pretrain(
        selection.with_target(),
        encoder=ResNet(width=4, blocks=(1,), stem="small"),
        objective=graphssl.objectives.NTXent(graphssl.views.Flip(), width=8, hidden=8),
        settings=TrainingSettings(max_epochs=1, accelerator="cpu"),
        validation_fraction=0.2,
    )
    assert "4 subjects" in trained.card["pre-trained on"]


def test_who_is_nearly_a_protected_subject_is_left_out(pool, target, model):
    test = cohort_of(80, "test", seed=1)
    near = Cohort("near", test.subjects[:3] + 1e-5, test.schema)
    kept = Pool(pool, model, protected=near)
    assert set(kept.excluded["id"]) >= {"pool-000", "pool-001", "pool-002"}
    assert kept.excluded["reason"].str.contains("nearly identical").all()
    assert len(kept.vectors) == len(kept.eligible) == 80 - len(kept.excluded)


def test_faiss_finds_what_the_exact_search_finds(model):
    pytest.importorskip("faiss")
    pool, target = cohort_of(600, "pool", seed=11), cohort_of(12, "target", seed=12)
    exact, lists = (select_nearest(pool, target, model, budget=60, k=10, search=search) for search in ("exact", "approximate"))
    assert len(set(exact.ids) & set(lists.ids)) >= 0.95 * 60
    assert select_nearest(pool[:50], target, model, budget=20, search="approximate").ids == select_nearest(pool[:50], target, model, budget=20).ids


def test_random_is_the_control_and_a_function_of_the_seed(pool, target, model):
    selection = select_nearest(pool, target, model, budget=12)
    control = selection.random(5)
    assert control.ids == selection.random(5).ids != selection.random(6).ids
    assert len(control) == 12
    assert control.settings.rule == "random"
    assert set(control.ids) <= set(pool.ids)
    assert "12 of 80 subjects by rounds" in repr(selection)
    assert "80 of 80" in repr(Pool(pool, model))


def test_a_pool_is_chosen_from_for_every_split(pool, target, model):
    """What estimators do: the training subjects join, without labels."""
    labelled = cohort_of(7, "target", seed=2, target=list("xyxyxyx"))
    of_pool = PoolSelection(Pool(pool, model, protected=labelled), SelectionSettings(6))
    joined = of_pool.cohort_for(labelled[:4])
    assert len(joined) == 10
    assert set(labelled.ids[:4]) < set(joined.ids)
    assert not joined.schema.named("target")
    assert joined.groups.nunique() == 10
    alone = PoolSelection(of_pool.pool, SelectionSettings(6), with_target=False)
    assert set(alone.cohort_for(labelled[:4]).ids) == set(joined.ids) - set(labelled.ids)
    from sklearn.base import clone

    assert clone(of_pool) is of_pool


def test_nobody_to_choose_is_an_error(pool, target, model):
    with pytest.raises(DataError, match="found only those of the target"):
        select_nearest(target, target, model, budget=2)
    with pytest.raises(DataError, match="none that is not protected"):
        select_nearest(target, pool, model, budget=2, protected=target, leaks="exclude")
    close = Cohort("close", target.subjects + 1e-6, target.schema)
    with pytest.raises(DataError, match="nearly identical"):
        select_nearest(
            close.select(close.ids),
            pool,
            model,
            budget=2,
            protected=Cohort("t", target.subjects.set_axis([f"t{k}" for k in range(7)]), target.schema),
        )


@pytest.mark.parametrize(("wrong", "message"), [({"budget": 0}, "budget"), ({"budget": 2.5}, "whole subjects"), ({"k": 0}, "k of at least 1")])
def test_impossible_numbers_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SelectionSettings(**{"budget": 5, **wrong})


def test_unknown_words_are_refused(pool, target, model):
    with pytest.raises(ConfigError, match="rule among rounds.*'nearest'"):
        SelectionSettings(5, rule="nearest")
    with pytest.raises(ConfigError, match="'refuse' or 'exclude', found 'ignore'"):
        select_nearest(pool, target, model, budget=5, leaks="ignore")


def test_the_caller_keeps_its_random_numbers(pool, target, model):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    select_nearest(pool, target, model, budget=5, rule="random")
    assert torch.rand(1) == expected
