"""What encoders of timelines share."""

from dataclasses import replace

import pytest

from graphssl.data import TimelineTokenizer
from graphssl.encoders import GraphTransformer, TimelineTransformer
from graphssl.encoders.timeline_encoder import of_timelines
from graphssl.errors import ConfigError

SETTINGS = {"n_bins": 6, "bin_hours": 2.5, "treatments": ["vent*"], "min_subjects": 3, "n_pieces": 4}


def test_bins_codes_and_columns_come_from_a_fitted_tokenizer(ward):
    encoder = TimelineTransformer(width=8, heads=2).for_builder(TimelineTokenizer(**SETTINGS).fit(ward()))
    assert (encoder.codes, encoder.treatments, encoder.n_bins, encoder.width) == (("pulse", "temp"), ("ventilator",), 6, 8)
    assert (encoder.numbers, list(encoder.categories), encoder.n_pieces) == (("age", "height"), ["sex", "smokes", "ward"], 4)
    assert isinstance(encoder.default_builder(), TimelineTokenizer)


def test_other_bins_codes_and_columns_are_refused(ward):
    tokenizer = TimelineTokenizer(**SETTINGS).fit(ward())
    encoder, batch = TimelineTransformer(width=8, heads=2).for_builder(tokenizer), tokenizer.transform(ward())
    others = TimelineTokenizer(**{**SETTINGS, "n_bins": 5, "treatments": ()}).fit(ward()).transform(ward())
    with pytest.raises(ConfigError, match="Expected 6 bins of 2 numbers and 1 treatments, found 5 of 2 and 0"):
        encoder(others)
    fewer = TimelineTokenizer(**SETTINGS, columns=["age"]).fit(ward()).transform(ward())
    with pytest.raises(ConfigError, match="Expected 2 numbers of 4 pieces and 3 categories, found 2 of 4 and 2"):
        encoder(replace(batch, static=fewer.static))


def test_objectives_of_timelines_refuse_other_encoders():
    with pytest.raises(ConfigError, match="Expected an encoder of timelines for MaskedBlocks, found GraphTransformer"):
        of_timelines(GraphTransformer(), "MaskedBlocks")
