"""What every objective keeps to: it never holds the encoder, and its arguments make it again."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.objectives import (
    BYOL,
    DINO,
    AbstractObjective,
    AtlasAlignment,
    BarlowTwins,
    MaskedConnections,
    MaskedRegions,
    NTXent,
    SiteAdversary,
    Supervised,
    SwAV,
    WeightedSum,
)
from graphssl.views import TimeWindow

OBJECTIVES = [
    MaskedRegions(0.2, 8, 0.5),
    MaskedConnections(0.4, 6, 0.0),
    Supervised({"sub-000": 0, "sub-001": 1, "sub-002": 1}, 2),
    NTXent(TimeWindow(0.4), 0.3, 6, 7),
    BarlowTwins(TimeWindow(0.4), 0.3, 6, 7),
    BYOL(TimeWindow(0.4), 0.9, 6, 7),
    DINO(TimeWindow(0.4), 5, width=6, hidden=7),
    SwAV(TimeWindow(0.4), 5, width=6, hidden=7),
    AtlasAlignment(TimeWindow(0.4), 0.3, 6, 7),
    SiteAdversary({"sub-000": "a", "sub-001": "b"}, 0.5, 7),
]


@pytest.fixture
def encoder(make_encoder):
    return make_encoder()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_the_arguments_make_the_same_objective_again(objective):
    again = objective.fresh()
    assert again is not objective
    assert again.arguments() == objective.arguments()
    assert repr(again) == repr(objective)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_an_objective_does_not_hold_the_encoder(objective, encoder):
    prepared = objective.fresh().prepare(encoder)
    mine = {id(value) for value in (*prepared.parameters(), *prepared.buffers())}
    assert mine
    assert not mine & {id(parameter) for parameter in encoder.parameters()}
    assert not any(module is encoder for module in prepared.modules())
    prepared.after_step(encoder, 0.5)
    assert not mine & {id(parameter) for parameter in encoder.parameters()}
    assert not any(module is encoder for module in prepared.modules())


def test_targets_that_move_do_not_compare_epochs():
    assert {type(each).__name__ for each in OBJECTIVES if not each.selects_epoch} == {"BYOL", "DINO", "SwAV"}
    assert WeightedSum({"regions": MaskedRegions(), "sites": SiteAdversary()}).selects_epoch
    assert not WeightedSum({"regions": MaskedRegions(), "teacher": BYOL()}).selects_epoch


def test_most_objectives_need_no_cohort_and_no_series(make_cohort):
    objective = MaskedRegions()
    assert objective.for_cohort(make_cohort()) is objective
    assert not objective.needs_series


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_an_objective_that_was_not_prepared_says_so(objective, encoder, make_batch):
    plain = objective.fresh()
    with pytest.raises(ConfigError, match=rf"Expected a {type(objective).__name__} prepared for an encoder.*Call prepare\(encoder\) first"):
        plain(encoder, make_batch(3), torch.Generator())


def test_an_objective_without_forward_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        AbstractObjective()
