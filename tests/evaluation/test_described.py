"""What decides numbers, as plain values: names and arguments, never addresses."""

from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation import Tuned
from graphssl.evaluation.described import described
from graphssl.objectives import MaskedRegions


def test_objectives_are_told_apart_by_their_arguments():
    grids = [{"objective": [MaskedRegions(ratio=ratio)]} for ratio in (0.2, 0.2, 0.4)]
    same, again, other = (repr(described(Tuned(ConnectomeClassifier(), grid))) for grid in grids)
    assert same == again != other
    assert "0x" not in same, "an address would make every run another one"


def test_mappings_are_in_order_and_classes_are_names():
    assert described({"b": (1, MaskedRegions), "a": None}) == [("a", None), ("b", [1, "MaskedRegions"])]
    assert described(MaskedRegions(ratio=0.2))[0] == "MaskedRegions"
