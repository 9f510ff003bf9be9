"""Records of streams: static columns are part of them, under names of their own."""

import pytest

from graphssl.data import EventTokenizer, TimelineTokenizer

KINDS = {
    "timeline": (TimelineTokenizer(n_bins=6, bin_hours=4.0, min_subjects=3, n_pieces=3), ("values", "measured", "given", "present", "hidden")),
    "events": (EventTokenizer(min_subjects=3, n_pieces=3), ("codes", "values", "has_value", "hours", "present", "hidden")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_static_columns_go_along(ward, kind):
    tokenizer, own = KINDS[kind]
    records = tokenizer.fit(ward()).transform(ward())
    static = ("numbers", "pieces", "codes", "measured", "hidden")
    assert set(records.tensors()) == {*own, *(f"static.{name}" for name in static)}
    part = records[[3, 1]]
    assert part.static.subject_ids == part.subject_ids == ("p3", "p1")
    assert part.static.numbers.equal(records.static.numbers[[3, 1]])
