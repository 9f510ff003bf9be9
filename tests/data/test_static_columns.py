"""Columns of the table and events without a time, side by side."""

import json

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Column
from graphssl.data.static_columns import StaticColumns
from graphssl.errors import CheckpointError, SchemaError

ROLES = ("covariate", "feature")


def test_events_without_a_time_become_columns(ward):
    cohort = ward(planted=(("p1", None, "height", 999.0, None), ("p2", None, "rare", 1.0, None)))
    static = StaticColumns(None, ROLES, 4, 3).fit(cohort)
    layout = static.layout()
    assert layout == {"numbers": ("age", "height"), "categories": {"sex": ("f", "m"), "smokes": ("yes",), "ward": ("a", "b")}, "n_pieces": 4}
    batch = static.transform(cohort)
    names = [*layout["numbers"], *layout["categories"]]
    seen = pd.DataFrame(batch.measured.numpy(), index=cohort.ids, columns=names)
    assert not seen.loc["nobody", ["height", "smokes", "ward"]].any()
    assert seen["smokes"].tolist() == [k % 2 == 0 and k < 12 for k in range(13)]
    heights = batch.numbers[:, 1].numpy()
    assert heights[1] == heights[:12].max(), "of several the last one counts"
    assert batch.codes[:, names.index("ward") - 2].tolist()[:2] == [1, 0]


def test_another_cohort_changes_nothing_that_was_learned(ward):
    static = StaticColumns(["age"], ROLES, 4, 3).fit(ward())
    other = ward(planted=(("p0", None, "new", 1.0, None),))
    alone = static.transform(other.select(["p3"]))
    assert alone.numbers.equal(static.transform(other).numbers[[3]])
    assert alone.codes.shape[1] == 2, "sex was not named"


def test_no_columns_are_a_state_too(ward):
    static = StaticColumns((), ROLES, 4, 100).fit(ward())
    batch = static.transform(ward())
    assert (len(batch), batch.measured.shape[1]) == (13, 0)
    again = StaticColumns((), ROLES, 4, 100).restore(*static.state())
    assert again.transform(ward()).signature() == batch.signature()


def test_what_training_subjects_had_not(ward):
    static = StaticColumns(["age", "sex"], ROLES, 4, 3).fit(ward())
    sexes = pd.Series(["x", *ward().subjects["sex"][1:]], index=ward().ids)
    found = static.unknown(ward().with_column(Column("sex", "categorical"), sexes))
    assert found["sex"].tolist() == [True] + [False] * 12
    assert found.columns.tolist()[0] == "sex"
    assert StaticColumns((), ROLES, 4, 100).fit(ward()).unknown(ward()).shape == (13, 0)
    as_words = Column("age", "categorical")
    with pytest.raises(SchemaError, match=r"Expected the column 'age' as the training subjects have it \(continuous.*found categorical"):
        static.transform(ward().with_column(as_words, ward().subjects["age"].astype("str")))


def test_it_survives_json(ward):
    static = StaticColumns(None, ROLES, 4, 3).fit(ward())
    record, tensors = static.state()
    again = StaticColumns(None, ROLES, 4, 3).restore(json.loads(json.dumps(record)), tensors)
    assert again.transform(ward()).signature() == static.transform(ward()).signature()
    with pytest.raises(CheckpointError, match="fitted state of static columns, found a problem with 'codes'"):
        StaticColumns(None, ROLES, 4, 3).restore({}, {})


def test_a_code_called_as_a_column_is_refused(ward):
    cohort = ward().with_column(Column("height", "continuous"), pd.Series(np.full(13, 1.5), index=ward().ids))
    with pytest.raises(SchemaError, match="Expected no column called 'height'"):
        StaticColumns(None, ROLES, 4, 3).fit(cohort)
