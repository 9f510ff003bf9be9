"""Sources of the same subjects are put side by side by id; contradictions and other subjects are told by their ids."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort, Column, ColumnTokenizer, ImageBuilder, MultimodalBuilder, Schema, side_by_side
from graphssl.datasets import simulate_images
from graphssl.errors import DataError, SchemaError


@pytest.fixture(scope="module")
def images():
    return simulate_images(8, size=8)


@pytest.fixture
def make_table(images):
    def make(ids=None, **columns):
        known = [*images.ids[2:], "patient-new"] if ids is None else ids
        values = {"age": np.arange(len(known), dtype=float), **columns}
        kinds = {"age": Column("age", "continuous", "covariate", unit="years"), "site": Column("site", "categorical", "site")}
        return Cohort("table", pd.DataFrame(values, index=pd.Index(known, dtype="str")), Schema([kinds[name] for name in values]))

    return make


def test_everybody_of_either_source_is_there(images, make_table):
    both = side_by_side(images, make_table())
    assert both.ids == [*images.ids, "patient-new"]
    assert both.subjects["age"].isna().tolist() == [True, True, *[False] * 7]
    assert both.subjects["age"].iloc[2:].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert both.subjects["diagnosis"].isna().tolist() == [*[False] * 8, True]
    assert list(both.images) == ["images"]
    assert both.schema["age"].unit == "years"
    builder = MultimodalBuilder({"image": ImageBuilder(), "table": ColumnTokenizer()})
    assert builder.fit(both).transform(both).presence.sum(dim=0).tolist() == [8, 7]
    other = side_by_side(make_table(), images)
    assert other.ids == [*images.ids[2:], "patient-new", *images.ids[:2]]


def test_a_column_of_both_says_one_thing(images, make_table):
    same = make_table(site=[*images.subjects["site"].iloc[2:], "site-9"])
    both = side_by_side(images, same)
    assert both.subjects["site"].tolist() == [*images.subjects["site"], "site-9"]
    moved = make_table(site=["site-9"] * 7)
    with pytest.raises(DataError, match=r"Expected 'site' to be the same in both sources, found other values of 6 subjects: \['patient-0002'"):
        side_by_side(images, moved)


def test_other_subjects_kinds_and_names_are_refused(images, make_table):
    with pytest.raises(DataError, match=r"Expected the same subjects in 'images' and 'table', found none in both: .*patient-0000.* and \['x', 'y'\]"):
        side_by_side(images, make_table(["x", "y"]))
    with pytest.raises(DataError, match="Expected images 'images' in 'images' or 'images', found it in both"):
        side_by_side(images, images)
    numbers = Cohort("table", pd.DataFrame({"site": [1.0] * 8}, index=images.subjects.index), Schema([Column("site", "continuous")]))
    with pytest.raises(SchemaError, match="Expected the same kind of column 'site' in both sources, found 'categorical' and 'continuous'"):
        side_by_side(images, numbers)


def test_events_of_one_source_are_kept(ward):
    cohort = ward(n=6)
    plain = Cohort(
        "plain", pd.DataFrame({"height": np.arange(float(len(cohort)))}, index=cohort.subjects.index), Schema([Column("height", "continuous")])
    )
    assert side_by_side(plain, cohort).events is cohort.events
    with pytest.raises(DataError, match="Expected events in .* found some in both"):
        side_by_side(cohort, cohort)
