"""What is asked or told of several objectives is asked or told of each."""

import torch

from graphssl.objectives import BYOL, Hybrid, Loss, MaskedRegions, NTXent, PredictLabel, Restoration, WeightedSum
from graphssl.objectives.several import noted
from graphssl.views import Flip, TimeWindow


def test_losses_and_parts_are_noted_under_names():
    losses = {"a": Loss(torch.tensor(1.0, requires_grad=True), {"x": torch.tensor(2.0)}), "b": Loss(torch.tensor(3.0), {})}
    parts = noted(losses)
    assert {name: value.item() for name, value in parts.items()} == {"a_loss": 1.0, "a_x": 2.0, "b_loss": 3.0}
    assert not parts["a_loss"].requires_grad


def test_one_that_asks_for_something_is_enough():
    assert WeightedSum({"a": NTXent(), "b": NTXent(TimeWindow())}).needs_series
    assert Hybrid(PredictLabel(), Restoration()).reads_maps
    assert not Hybrid(PredictLabel(), NTXent(Flip())).reads_maps
    assert not WeightedSum({"a": MaskedRegions(), "b": BYOL()}).selects_epoch
    assert WeightedSum({"a": Hybrid(PredictLabel(), NTXent())}).reads_labels


def test_labels_reach_whoever_reads_them_all_the_way_down(make_encoder):
    whole = WeightedSum({"inner": Hybrid(PredictLabel(), NTXent(width=4)), "views": NTXent(width=4)}, {"inner": 2.0})
    told = whole.with_labels({"s0": "a", "s1": "b"})
    assert told.fresh().parts["inner"].supervised.class_of == {"s0": 0, "s1": 1}
    assert whole.parts["inner"].supervised.class_of is None
    assert told.weights == {"inner": 2.0, "views": 1.0}
    assert told.prepare(make_encoder()).parts["inner"].supervised.head.out_features == 2
