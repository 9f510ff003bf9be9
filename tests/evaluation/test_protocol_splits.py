"""Splits of a protocol: of columns, of time, and of no unknown name."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Column
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation import evaluate, make_baseline
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.task import make_task


def test_published_splits_are_columns_of_the_table(make_cohort):
    cohort = make_cohort(n_subjects=12)
    parts = pd.Series(["train", "train", "val", "test"] * 3, index=cohort.ids)
    for name, values in (("first", parts), ("second", parts[::-1].set_axis(cohort.ids))):
        cohort = cohort.with_column(Column(name, "categorical", "split", categories=("test", "train", "val")), values)
    task = make_task(cohort, None, None, "published")
    splits = make_splits(cohort, task, "published")
    assert [split.name for split in splits] == ["first", "second"]
    assert splits[0].test == tuple(parts.index[parts == "test"])
    assert set(splits[0].train) == set(parts.index[parts != "test"])
    with pytest.raises(DataError, match="column with the role 'split', found none"):
        make_splits(make_cohort(n_subjects=12), task, "published")


def test_a_method_trained_on_the_past_sees_nothing_that_came_later(make_cohort):
    cohort = make_cohort(n_subjects=40)
    times = pd.Series(pd.date_range("2020-01-01", periods=len(cohort), freq="D"), index=cohort.ids)
    dated = cohort.with_column(Column("seen", "timestamp", "prediction_time"), times)
    target = dated.schema.named("target")[0]
    labels = dated.target(None).where(np.arange(len(dated)) % 5 > 0)  # some without a label
    dated = dated.with_column(dated.schema[target], labels)
    task = make_task(dated, None, None, "time_ordered")
    splits = make_splits(dated, task, "time_ordered", 3)
    assert [split.name for split in splits] == ["period-1", "period-2", "period-3"]
    for split in splits:
        assert times[list(split.train)].max() < times[list(split.test)].min()
        assert set(split.train) - set(task.labels)  # who has no label trains, where it was seen before
    found = evaluate(dated, {"ridge": make_baseline("ridge_correlation")}, protocol="time_ordered", n_splits=3)
    assert {result.split for result in found.results} == {"period-1", "period-2", "period-3"}
    with pytest.raises(DataError, match="role 'prediction_time', found none"):
        make_splits(cohort, make_task(cohort, None, None, "time_ordered"), "time_ordered")


def test_unknown_protocol(cohort):
    with pytest.raises(ConfigError, match="Expected the protocol to be one of 'leave_one_site_out', .*; found 'leave_one_out'"):
        make_splits(cohort, make_task(cohort, None, None, "leave_one_out"), "leave_one_out")
