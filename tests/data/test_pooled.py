"""Cohorts put together to be pre-trained on: ids, families and images of all kinds of data."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort, Column, Schema, pooled
from graphssl.data.pooled import alike, together
from graphssl.datasets import simulate_images
from graphssl.datasets.simulate_stays import simulate_stays
from graphssl.errors import DataError, SchemaError


def table(name, ids, **columns):
    kinds = [Column("age", "continuous", unit="years"), *(Column(role, "categorical", role) for role in columns)]
    rows = pd.DataFrame({"age": np.arange(len(ids), dtype=float), **columns}, index=pd.Index(ids, dtype="str"))
    return Cohort(name, rows, Schema(kinds))


def test_ids_sites_and_groups_are_those_of_their_cohort():
    first = table("one", ["a", "b"], site=["s", "t"], group=["f", "f"])
    second = table("two", ["a", "c"], site=["s", "s"], group=["f", None])
    both = pooled([first, second])
    assert both.ids == ["one/a", "one/b", "two/a", "two/c"]
    assert both.sites.tolist() == ["one/s", "one/t", "two/s", "two/s"]
    assert both.groups.nunique() == 3
    assert both.subjects["source"].tolist() == ["one", "one", "two", "two"]
    assert both.schema["source"].role == "identifier"
    renamed = pooled({"x": first, "y": first})
    assert renamed.ids == ["x/a", "x/b", "y/a", "y/b"]


def test_what_one_lacks_is_left_out():
    first, second = table("one", ["a"], site=["s"]), table("two", ["b"])
    assert [column.name for column in pooled([first, second]).schema] == ["age", "source"]
    months = Cohort("three", second.subjects, Schema([Column("age", "continuous", unit="months")]))
    assert [cohort.subjects.shape[1] for cohort in alike([first, months])] == [0, 0]


def test_images_keep_their_files_and_lose_their_masks(tmp_path):
    first, second = (simulate_images(4, size=16, images_per_subject=2, seed=seed, folder=tmp_path / str(seed), name="x") for seed in (0, 1))
    both = pooled({"one": first, "two": second})
    data = both.images["x"]
    assert len(data) == 16
    assert not data.has_masks
    assert data.values == dict.fromkeys(both.ids, 2)
    assert all(data.place(path).is_file() for path in data.table["path"])
    assert data.table["subject_id"].iloc[8] == "two/patient-0000"


def test_events_and_connectomes_come_along(make_cohort):
    stays = simulate_stays(6, seed=0)
    both = pooled({"one": stays, "two": stays})
    assert len(both.events) == 2 * len(stays.events)
    assert both.events.ids == sorted(both.ids)
    brains = make_cohort()
    twice = pooled({"one": brains, "two": brains})
    name = next(iter(brains.regions))
    assert len(twice.regions[name]) == 2 * len(brains.regions[name])
    assert np.array_equal(twice.regions[name].values[f"two/{brains.ids[0]}"], brains.regions[name].values[brains.ids[0]])


def test_a_pool_joins_a_target_without_labels_and_with_families():
    chosen = table("pool", ["p", "q"], group=["f", "f"])
    target = table("target", ["a", "b"], target=["x", "y"])
    joined = together(chosen, target)
    assert joined.ids == ["p", "q", "a", "b"]
    assert not joined.schema.named("target")
    assert joined.groups.tolist() == ["p", "p", "a", "b"]
    with pytest.raises(SchemaError, match="1 in both"):
        together(chosen, chosen.select(["p"]))


def test_cohorts_of_a_pool_have_names_of_their_own():
    with pytest.raises(DataError, match="each with a name of its own"):
        pooled([table("one", ["a"]), table("one", ["b"])])
    with pytest.raises(DataError, match="one or more cohorts"):
        pooled([])
