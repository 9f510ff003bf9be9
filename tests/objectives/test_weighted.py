"""Sums of objectives: the numbers add up, and everything that is told to the sum reaches its parts."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.objectives import BYOL, AbstractObjective, Loss, MaskedRegions, NTXent, WeightedSum
from graphssl.views import TimeWindow


class Noting(AbstractObjective):
    """An objective of value one that notes what it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def for_cohort(self, cohort):
        self.told.append(cohort)
        return self

    def forward(self, encoder, batch, generator):
        return Loss(torch.tensor(1.0), {"draw": torch.rand((), generator=generator)})

    def after_step(self, encoder, progress):
        self.told.append((encoder, progress))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_totals_add_up_and_parts_are_noted_under_their_names(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(5, 8)
    parts = {"regions": MaskedRegions(rank=4), "views": NTXent(width=6)}
    whole = WeightedSum(parts, {"views": 0.25}).prepare(encoder)
    loss = whole(encoder, batch, generator())
    source = generator()
    regions, views = (parts[name](encoder, batch, source) for name in ("regions", "views"))
    assert loss.total.item() == pytest.approx(regions.total.item() + 0.25 * views.total.item(), rel=1e-6)
    assert {"regions_loss", "regions_zero_error", "views_loss", "views_accuracy", "views_pooled_spread"} <= set(loss.parts)
    assert loss.parts["views_loss"].item() == pytest.approx(views.total.item())
    assert not any(part.requires_grad for part in loss.parts.values())


def test_gradients_are_those_of_the_parts_times_their_weights(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(5, 8)
    parts = {"regions": MaskedRegions(rank=4), "views": NTXent(width=6)}
    whole = WeightedSum(parts, {"regions": 2.0, "views": 0.25}).prepare(encoder)
    watched = encoder.pool.project.weight
    found = torch.autograd.grad(whole(encoder, batch, generator()).total, watched)[0]
    source = generator()
    apart = [torch.autograd.grad(parts[name](encoder, batch, source).total, watched)[0] for name in ("regions", "views")]
    torch.testing.assert_close(found, 2.0 * apart[0] + 0.25 * apart[1])


def test_what_the_sum_is_told_reaches_its_parts(make_encoder):
    noting, encoder = Noting(), make_encoder()
    whole = WeightedSum({"noting": noting}).for_cohort("a cohort")
    whole.after_step(encoder, 0.5)
    assert noting.told == ["a cohort", (encoder, 0.5)]


def test_one_is_drawn_for_a_step_and_all_are_watched(make_encoder):
    encoder = make_encoder()
    whole = WeightedSum({"values": Noting(), "patients": Noting()}, {"values": 3.0, "patients": 1.0}, each_step="one")
    steps = [whole(encoder, None, generator(seed)) for seed in range(400)]
    often = [step for step in steps if "values_loss" in step.parts]
    assert all(len(step.parts) == 2 and step.total == 4.0 for step in steps), "one of them, in units of the sum"
    assert 0.68 < len(often) / len(steps) < 0.82
    assert steps[7].parts == whole(encoder, None, generator(7)).parts
    watched = whole.eval()(encoder, None, generator())
    assert watched.total == 4.0
    assert {"values_loss", "patients_loss"} <= set(watched.parts)
    assert repr(whole.fresh()) == repr(whole.for_cohort("a cohort")) == repr(whole)


def test_series_are_needed_if_one_of_them_needs_them():
    assert WeightedSum({"a": MaskedRegions(), "b": NTXent(TimeWindow())}).needs_series
    assert not WeightedSum({"a": MaskedRegions(), "b": NTXent()}).needs_series


def test_a_fresh_sum_shares_nothing_with_the_one_that_was_given(make_encoder):
    given = WeightedSum({"inner": WeightedSum({"views": NTXent(TimeWindow(0.4))}), "regions": MaskedRegions()}, {"regions": 0.5})
    made = given.fresh()
    assert repr(made) == repr(given)
    made.prepare(make_encoder())
    assert list(made.parameters())
    assert not list(given.parameters())
    assert repr(made) == repr(given), "what was made for an encoder is no argument"


def test_the_arguments_are_readable_all_the_way_down():
    assert repr(WeightedSum({"views": NTXent(TimeWindow(0.4))})) == (
        "WeightedSum(objectives={'views': NTXent(view=TimeWindow(share=0.4), temperature=0.2, width=64, hidden=128)}, "
        "weights={'views': 1.0}, each_step='all')"
    )


def test_impossible_sums_are_refused():
    with pytest.raises(ConfigError, match="at least one objective to sum, found none"):
        WeightedSum({})
    with pytest.raises(ConfigError, match="weights of the objectives views; found one of 'regions'"):
        WeightedSum({"views": NTXent()}, {"regions": 1.0})
    with pytest.raises(ConfigError, match=r"weights above 0, found \{'views': 0.0\}. Leave an objective out"):
        WeightedSum({"views": NTXent()}, {"views": 0.0})
    with pytest.raises(ConfigError, match="each_step 'all' or 'one', found 'two'"):
        WeightedSum({"views": NTXent()}, each_step="two")


def test_it_reads_feature_maps_if_one_of_them_does():
    assert not WeightedSum({"views": NTXent()}).reads_maps
    assert WeightedSum({"views": NTXent(), "regions": MaskedRegions()}).reads_maps


def test_its_slow_copy_is_that_of_the_first_that_keeps_one(make_encoder):
    encoder = make_encoder()
    whole = WeightedSum({"regions": MaskedRegions(), "byol": BYOL(width=6)})
    assert whole.target_encoder is None
    assert whole.prepare(encoder).target_encoder is whole.parts["byol"].teacher.encoder
    assert WeightedSum({"regions": MaskedRegions()}).prepare(encoder).target_encoder is None
