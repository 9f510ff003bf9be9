"""Strategies: what each adapts and with which steps."""

import pytest
import torch

from graphssl.errors import ConfigError, DataError
from graphssl.training.meta import AdaptiveStep, GradientStep, Source, sources_by_site
from graphssl.training.meta.reweighting import EqualWeights
from graphssl.training.meta.strategies import STRATEGIES, MetaLearning, SingleSource

PARAMETERS = {"encoder.weight": torch.ones(2, 2), "head.weight": torch.ones(1, 2), "head.bias": torch.ones(1)}


def test_five_strategies_are_compared():
    assert list(STRATEGIES) == ["direct", "single_source", "joint", "meta", "meta_reweighted"]


def test_a_single_source_is_the_largest_unless_it_is_named(make_cohort):
    cohort = make_cohort(n_subjects=23)
    sources = sources_by_site(cohort)
    assert SingleSource().choose(sources).name == "site-0"
    assert SingleSource("site-1").choose(sources).name == "site-1"
    with pytest.raises(DataError, match="a source among site-0, site-1; found 'site-7'"):
        SingleSource("site-7").choose(sources)
    assert isinstance(SingleSource().choose(sources), Source)


def test_anil_adapts_the_head_alone():
    assert MetaLearning("anil").adapted(PARAMETERS) == ["head.weight", "head.bias"]
    assert MetaLearning("maml").adapted(PARAMETERS) is None
    with pytest.raises(ConfigError, match="a head to adapt by 'anil', found an objective without labels"):
        MetaLearning("anil").adapted({"encoder.weight": torch.ones(1)})


def test_the_step_is_that_of_the_algorithm():
    plain = MetaLearning("maml", learning_rate=0.5, weight_decay=0.1).update(PARAMETERS)
    assert plain == GradientStep(0.5, 0.1)
    adaptive = MetaLearning("anil", adaptive=True).update(PARAMETERS)
    assert isinstance(adaptive, AdaptiveStep)
    assert adaptive.names == ("head.weight", "head.bias")
    learned = MetaLearning("meta_sgd", learning_rate=0.5).update(PARAMETERS)
    moved = learned(PARAMETERS, PARAMETERS)
    torch.testing.assert_close(moved["head.bias"], torch.tensor([0.5]))
    assert sum(rate.numel() for rate in learned.parameters()) == 7


@pytest.mark.parametrize(
    ("algorithm", "first_order"), [("maml", False), ("anil", False), ("meta_sgd", False), ("first_order", True), ("reptile", True)]
)
def test_the_order_is_that_of_the_algorithm(algorithm, first_order):
    strategy = MetaLearning(algorithm, n_steps=3)
    inner = strategy.inner(strategy.update(PARAMETERS), PARAMETERS)
    assert (inner.first_order, inner.n_steps) == (first_order, 3)


def test_impossible_strategies_are_refused():
    with pytest.raises(ConfigError, match="algorithm to be one of maml, first_order, anil, reptile, meta_sgd; found 'adam'"):
        MetaLearning("adam")
    with pytest.raises(ConfigError, match="whose queries train the generator of rates, found 'reptile'"):
        MetaLearning("reptile", adaptive=True)
    with pytest.raises(ConfigError, match="a query to weigh, found 'reptile'"):
        MetaLearning("reptile", weighting=EqualWeights())
