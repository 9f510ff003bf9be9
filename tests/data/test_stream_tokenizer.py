"""How tokenizers of event streams are saved."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from graphssl.data import EventTokenizer, TimelineTokenizer
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
