"""The site adversary: sign and scale of the reversed gradient, and where sites come from."""

import math

import pytest
import torch
from torch.nn import functional as F

from graphssl.data import Cohort, Schema
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import MaskedRegions, SiteAdversary, WeightedSum
from graphssl.objectives.adversarial import ganin_ramp, reverse_gradient

SITES = {f"sub-{k:03d}": "one" if k % 2 else "other" for k in range(8)}


def generator():
    return torch.Generator().manual_seed(0)


def prepared(encoder, **options):
    torch.manual_seed(1)
    return SiteAdversary(**{"sites": SITES, "warm_up": False, **options}).prepare(encoder)


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_values_pass_and_the_gradient_is_reversed_and_scaled(factor):
    values, weights = torch.randn(2, 3, 4, generator=generator()).unbind()
    values.requires_grad_()
    passed = reverse_gradient(values, factor)
    assert torch.equal(passed, values)
    (passed * weights).sum().backward()
    torch.testing.assert_close(values.grad, -factor * weights)


def test_the_head_learns_the_site_and_the_encoder_to_hide_it(make_encoder, make_batch):
    """Against the plain cross-entropy: the head's gradient is the same, the encoder's is reversed and scaled."""
    encoder, batch = make_encoder(dropout=0.0), make_batch(8, 8)
    objective = prepared(encoder, strength=0.7)
    target = torch.tensor([0 if SITES[subject] == "one" else 1 for subject in batch.subject_ids])
    plain = F.cross_entropy(objective.head(encoder(batch).pooled), target)
    watched = [encoder.pool.project.weight, *objective.head.parameters()]
    expected = torch.autograd.grad(plain, watched)
    loss = objective(encoder, batch, generator())
    found = torch.autograd.grad(loss.total, watched)
    torch.testing.assert_close(found[0], -0.7 * expected[0])
    torch.testing.assert_close(found[1:], expected[1:])
    assert loss.total.item() == 0
    assert loss.parts["site_error"].item() == pytest.approx(plain.item())
    assert 0 <= loss.parts["site_accuracy"].item() <= 1


def test_beside_another_objective_only_gradients_change(make_encoder, make_batch):
    encoder, batch = make_encoder(dropout=0.0), make_batch(8, 8)
    torch.manual_seed(1)
    both = WeightedSum({"regions": MaskedRegions(rank=4), "sites": SiteAdversary(SITES, warm_up=False)}, {"sites": 0.5}).prepare(encoder)
    loss = both(encoder, batch, generator())
    assert loss.total.item() == pytest.approx(loss.parts["regions_loss"].item())
    watched = encoder.pool.project.weight
    found = torch.autograd.grad(loss.total, watched)[0]
    apart = [torch.autograd.grad(both.parts[name](encoder, batch, generator()).total, watched)[0] for name in ("regions", "sites")]
    torch.testing.assert_close(found, apart[0] + 0.5 * apart[1])
    assert apart[1].abs().max() > 0


def test_the_factor_rises_with_the_training(make_encoder):
    encoder = make_encoder()
    objective = prepared(encoder, strength=2.0, warm_up=True)
    assert objective.factor == 0
    for progress in (0.25, 1.0):
        objective.after_step(encoder, progress)
        assert objective.factor == pytest.approx(2.0 * math.tanh(5 * progress))
    assert objective.state_dict()["progress"] == 1, "a resumed run goes on from where it was"
    assert ganin_ramp(0.0) == 0
    assert prepared(encoder, strength=2.0).factor == 2.0


def test_sites_are_those_of_the_cohort_unless_given(make_cohort):
    cohort = make_cohort(n_subjects=6, n_sites=3)
    objective = SiteAdversary(strength=0.5, hidden=9)
    told = objective.for_cohort(cohort)
    assert objective.sites is None
    assert told.sites == dict(zip(cohort.ids, ["site-0", "site-1", "site-2"] * 2, strict=True))
    assert (told.strength, told.hidden, told.site_names) == (0.5, 9, ["site-0", "site-1", "site-2"])
    given = SiteAdversary(SITES)
    assert given.for_cohort(cohort) is given
    assert WeightedSum({"sites": objective}).for_cohort(cohort).parts["sites"].sites == told.sites


def test_what_cannot_be_told_apart_is_refused(make_cohort, make_encoder, make_batch):
    with pytest.raises(DataError, match=r"at least two sites to tell apart, found \['a'\]. Leave the objective out"):
        SiteAdversary({"sub-000": "a", "sub-001": "a"})
    cohort = make_cohort(n_subjects=4)
    without = Schema([cohort.schema[name] for name in ("diagnosis", "age", "sex")])
    plain = Cohort(cohort.name, cohort.subjects.drop(columns="site"), without, cohort.regions, cohort.excluded)
    with pytest.raises(DataError, match="'toy' to have a column with the role 'site', found none"):
        SiteAdversary().for_cohort(plain)
    encoder = make_encoder()
    with pytest.raises(ConfigError, match=r"SiteAdversary that knows the sites, found one without. Give sites, or call for_cohort"):
        SiteAdversary().prepare(encoder)
    with pytest.raises(DataError, match=r"a site for every subject of the batch, found none for \['sub-008'\]"):
        prepared(encoder)(encoder, make_batch(9), generator())
    with pytest.raises(ConfigError, match=r"above 0, found \{'strength': 0\}"):
        SiteAdversary(strength=0)
