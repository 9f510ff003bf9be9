"""Looks at patients of several modalities: something is always left, and each modality has its own look."""

import pytest
import torch

from graphssl.data import ColumnTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.errors import ConfigError, DataError
from graphssl.views import Flip, HideModalities, HideRegions, PartViews, TimeWindow


@pytest.fixture(scope="module")
def batch(patients):
    builder = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")})
    return builder.fit(patients.select(builder.readable(patients))).transform(patients.select(builder.readable(patients)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_modality_is_always_left(batch):
    for p in (0.0, 0.5, 1.0):
        seen = HideModalities(p)(batch, generator())
        assert bool(seen.presence.any(dim=1).all())
        assert bool((seen.presence <= batch.presence).all())
    assert torch.equal(HideModalities(0.0)(batch, generator()).presence, batch.presence)
    assert HideModalities(1.0)(batch, generator()).presence.sum(dim=1).eq(1).all()


def test_a_draw_replays(batch):
    view = HideModalities(0.5)
    draw = view.draw(batch, generator(1))
    assert torch.equal(draw, view.draw(batch, generator(1)))
    assert not torch.equal(draw, view.draw(batch, generator(2)))
    assert torch.equal(view.apply(batch, draw).hidden, draw)
    assert not bool(batch.hidden.any())


def test_every_modality_has_its_own_look(batch):
    seen = PartViews({"image": Flip()})(batch, generator())
    assert torch.equal(seen.parts["image"].images, Flip()(batch.parts["image"], generator()).images)
    assert not torch.equal(seen.parts["image"].images, batch.parts["image"].images)
    assert seen.parts["table"] is batch.parts["table"]
    assert torch.equal(seen.presence, batch.presence)
    bare = batch.without("image")
    assert set(PartViews({"image": Flip()})(bare, generator()).parts) == {"table"}


def test_what_looks_need_is_passed_on(patients):
    assert PartViews({"connectome": TimeWindow()}).needs_series
    assert not PartViews({"connectome": HideRegions()}).needs_series
    assert PartViews({"image": Flip()}).for_cohort(patients) == PartViews({"image": Flip()})


def test_impossible_looks_are_refused(batch):
    with pytest.raises(ConfigError, match=r"Expected a probability in \[0, 1\], found 1.5"):
        HideModalities(1.5)
    with pytest.raises(ConfigError, match="Expected a look at one modality at least, found none"):
        PartViews({})
    with pytest.raises(DataError, match="Expected patients by modality, found a TableBatch"):
        HideModalities().draw(batch.parts["table"], generator())
    with pytest.raises(DataError, match="Expected looks at modalities among table, image, found one at 'text'"):
        PartViews({"text": Flip()}).draw(batch, generator())
