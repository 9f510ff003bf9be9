"""What builders promise: fitted on training subjects, saved as plain values and tensors, described in words."""

import json

import pytest
from sklearn.base import clone

from graphssl.data import ColumnTokenizer, TimelineTokenizer
from graphssl.data.builder import AbstractBuilder, AbstractTokenizer
from graphssl.graphs import ConnectomeBuilder


@pytest.mark.parametrize(
    "builder", [ConnectomeBuilder(), ColumnTokenizer(columns=["age", "sex"]), TimelineTokenizer(treatments=("ventil*",), min_subjects=3)]
)
def test_a_builder_survives_json_and_tensors(builder, make_cohort, ward):
    cohort = ward() if isinstance(builder, TimelineTokenizer) else make_cohort(n_subjects=12)
    fitted = clone(builder).fit(cohort)
    assert isinstance(fitted, AbstractBuilder)
    record, tensors = fitted.state()
    again = type(builder).from_state(json.loads(json.dumps(record)), tensors)
    assert again.transform(cohort).signature() == fitted.transform(cohort).signature()
    assert again.describe() == fitted.describe()
    assert all(isinstance(value, str) for value in fitted.describe().values())


def test_a_tokenizer_says_what_encoders_must_know(ward):
    columns, timeline = ColumnTokenizer(n_pieces=4).fit(ward()), TimelineTokenizer(min_subjects=3, n_pieces=4).fit(ward())
    assert isinstance(columns, AbstractTokenizer)
    assert columns.layout() == {"numbers": ("age",), "categories": {"sex": ("f", "m")}, "n_pieces": 4}
    assert set(timeline.layout()) == {*columns.layout(), "codes", "treatments", "n_bins"}
