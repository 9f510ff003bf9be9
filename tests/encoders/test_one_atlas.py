"""Rows of connectomes are those of one atlas, or a part of them."""

from dataclasses import replace

import pytest

from graphssl.encoders.one_atlas import check_one_atlas
from graphssl.errors import AtlasError


def test_regions_may_be_fewer_where_no_row_has_the_last_ones(make_batch):
    check_one_atlas(make_batch(4, 10), "toy", 10, "A")
    check_one_atlas(make_batch(4, 8), "toy", 10, "A")


def test_another_atlas_and_more_regions_are_refused(make_batch):
    batch = make_batch(2, 10)
    with pytest.raises(AtlasError, match="atlas 'toy' with 8 regions, which A knows by their rows; found 'toy' with 10"):
        check_one_atlas(batch, "toy", 8, "A")
    with pytest.raises(AtlasError, match="found 'fine', 'other' with 10. Make one for that atlas, or take an encoder that reads places"):
        check_one_atlas(replace(batch, atlas=("other", "fine")), "toy", 10, "A")
