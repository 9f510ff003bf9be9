"""Views one after another, and that a view is its arguments."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.views import AbstractView, Compose, HideConnections, HideRegions, TimeWindow, WeightNoise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_composed_views_are_applied_in_their_order(make_batch):
    batch, views = make_batch(3, 8), (WeightNoise(0.5), HideRegions(0.3))
    both = Compose(views)
    draws = both.draw(batch, generator())
    assert [draw.dtype for draw in draws] == [torch.float32, torch.bool]
    expected = views[1].apply(views[0].apply(batch, draws[0]), draws[1])
    found = both.apply(batch, draws)
    assert torch.equal(found.weights, expected.weights)
    assert torch.equal(found.visible, expected.visible)
    assert torch.equal(both(batch, generator()).weights, found.weights)


def test_draws_do_not_depend_on_what_was_applied_before(make_batch):
    batch = make_batch(3, 8)
    source = generator()
    apart = HideRegions(0.3).draw(batch, source), HideConnections(0.3).draw(batch, source)
    together = Compose([HideRegions(0.3), HideConnections(0.3)]).draw(batch, generator())
    assert all(torch.equal(one, other) for one, other in zip(apart, together, strict=True))


def test_a_view_is_its_arguments():
    view = Compose([TimeWindow(0.4), HideRegions(0.2)])
    assert view == Compose((TimeWindow(0.4), HideRegions(0.2)))
    assert view != Compose((TimeWindow(0.4), HideRegions(0.3)))
    assert repr(view) == "Compose(views=(TimeWindow(share=0.4), HideRegions(ratio=0.2)))"


def test_series_are_needed_if_one_of_them_needs_them():
    assert Compose([HideRegions(), TimeWindow()]).needs_series
    assert not Compose([HideRegions(), WeightNoise()]).needs_series


def test_nothing_to_compose():
    with pytest.raises(ConfigError, match="Expected at least one view to compose, found none"):
        Compose([])


def test_composed_views_learn_what_they_must(make_cohort):
    class Learning(AbstractView):
        learned = None

        def draw(self, batch, generator):
            return None

        def apply(self, batch, draw):
            return batch

        def for_cohort(self, cohort):
            view = Learning()
            view.learned = cohort.name
            return view

    cohort = make_cohort(4)
    found = Compose([HideRegions(), Learning()]).for_cohort(cohort)
    assert found.views[0] == HideRegions()
    assert found.views[1].learned == cohort.name
