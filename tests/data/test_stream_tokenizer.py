"""How tokenizers of event streams are saved."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from graphssl.data import EventTokenizer, StreamedCohort, TimelineTokenizer, write_shards
from graphssl.errors import CheckpointError

KINDS = [TimelineTokenizer(treatments=("ventil*",), min_subjects=3), EventTokenizer(min_subjects=3)]


@pytest.mark.parametrize("tokenizer", KINDS, ids=lambda kind: type(kind).__name__)
def test_what_was_fitted_comes_back_and_damage_is_noticed(tokenizer, ward):
    record, tensors = tokenizer.fit(ward()).state()
    again = type(tokenizer).from_state(json.loads(json.dumps(record)), tensors)
    assert again.get_params() == {name: list(v) if isinstance(v, tuple) else v for name, v in tokenizer.get_params().items()}
    assert np.array_equal(again.scores_.quantiles_, tokenizer.scores_.quantiles_)
    assert again.layout() == tokenizer.layout()
    assert again.static_names() == "age, height, sex, smokes, ward"
    name = type(tokenizer).__name__
    for key in ("codes_", "scored", "static"):
        with pytest.raises(CheckpointError, match=f"fitted state of a {name}, found a problem with '{key}'"):
            type(tokenizer).from_state({k: v for k, v in record.items() if k != key}, tensors)
    with pytest.raises(CheckpointError, match="found a problem with 'quantiles'"):
        type(tokenizer).from_state(record, {})


def test_what_was_not_fitted_has_no_state():
    with pytest.raises(NotFittedError):
        EventTokenizer().state()


@pytest.mark.parametrize("tokenizer", KINDS, ids=lambda kind: type(kind).__name__)
def test_of_shards_it_learns_from_patients_drawn_of_all_of_them(tokenizer, ward, tmp_path):
    cohort = ward(n=40)
    streamed = StreamedCohort(write_shards(cohort, tmp_path / "shards", size=8), 3)
    chosen = streamed.sample().ids
    assert len(chosen) == 24
    assert {cohort.ids.index(patient) // 8 for patient in chosen} == {0, 1, 2, 3, 4}
    assert streamed.sample().ids == chosen
    assert streamed.sample(seed=1).ids != chosen
    assert streamed.select(cohort.ids[:20]).sample().ids == cohort.ids[:20]
    found, expected = clone(tokenizer).fit_streamed(streamed), clone(tokenizer).fit(cohort.select(chosen))
    assert found.transform(cohort).signature() == expected.transform(cohort).signature()
    assert found.state()[0] == expected.state()[0]
