"""What both builders promise: fitted on training subjects, saved as plain values and tensors, described in words."""

import json

import pytest
from sklearn.base import clone

from graphssl.data import ColumnTokenizer
from graphssl.data.builder import AbstractBuilder
from graphssl.graphs import ConnectomeBuilder


@pytest.mark.parametrize("builder", [ConnectomeBuilder(), ColumnTokenizer(columns=["age", "sex"])])
def test_a_builder_survives_json_and_tensors(builder, make_cohort):
    cohort = make_cohort(n_subjects=12)
    fitted = clone(builder).fit(cohort)
    assert isinstance(fitted, AbstractBuilder)
    record, tensors = fitted.state()
    again = type(builder).from_state(json.loads(json.dumps(record)), tensors)
    assert again.transform(cohort).signature() == fitted.transform(cohort).signature()
    assert again.describe() == fitted.describe()
    assert all(isinstance(value, str) for value in fitted.describe().values())
