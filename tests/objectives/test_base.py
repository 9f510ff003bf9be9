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
    MaskedSlices,
    NTXent,
    PredictLabel,
    Restoration,
    Segmentation,
    SiteAdversary,
    Supervised,
    SwAV,
    WeightedSum,
)
from graphssl.views import AbstractView, TimeWindow

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


class Counting(AbstractView):
    """A view that learns how many subjects there are, and reads time series."""

    needs_series = True

    def __init__(self, n=0):
        self.n = n

    def __eq__(self, other):
        return isinstance(other, Counting) and self.n == other.n

    __hash__ = None

    def for_cohort(self, cohort):
        return Counting(len(cohort))

    def draw(self, batch, generator):
        return None

    def apply(self, batch, draw):
        return batch


@pytest.mark.parametrize(
    "objective",
    [
        NTXent(Counting()),
        AtlasAlignment(Counting()),
        Restoration(corruption=Counting()),
        MaskedSlices(view=Counting()),
        Segmentation(2, view=Counting()),
        PredictLabel(view=Counting()),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_every_view_learns_of_the_subjects_and_says_whether_it_needs_series(objective, make_cohort):
    seen = objective.for_cohort(make_cohort(n_subjects=6))
    views = [value for value in seen.arguments().values() if isinstance(value, Counting)]
    assert [view.n for view in views] == [6]
    assert objective.needs_series
    assert seen is not objective
    assert seen.for_cohort(make_cohort(n_subjects=6)) is seen or seen.knows


def test_a_changed_objective_keeps_what_it_knows_unless_that_is_changed():
    told = PredictLabel(smoothing=0.2).with_labels({"s0": "b", "s1": "a"})
    other = told.but(smoothing=0.0)
    assert (other.smoothing, other.class_of, told.smoothing) == (0.0, {"s0": 1, "s1": 0}, 0.2)
    assert told.but(class_of=None).class_of is None
    with pytest.raises(TypeError, match="colour"):
        told.but(colour=1)


def test_an_objective_without_forward_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        AbstractObjective()
