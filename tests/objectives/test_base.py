"""What every objective keeps to: it never holds the encoder, and its arguments make it again."""

import pytest
import torch

from graphssl.encoders import GraphTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import AbstractObjective, MaskedConnections, MaskedRegions, Supervised

OBJECTIVES = [MaskedRegions(0.2, 8, 0.5), MaskedConnections(0.4, 6, 0.0), Supervised({"sub-000": 0, "sub-001": 1, "sub-002": 1}, 2)]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return GraphTransformer(width=8, depth=1, heads=2, spacing_mm=40.0)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_the_arguments_make_the_same_objective_again(objective):
    again = type(objective)(**objective.arguments())
    assert again.arguments() == objective.arguments()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_an_objective_does_not_hold_the_encoder(objective, encoder):
    prepared = type(objective)(**objective.arguments()).prepare(encoder)
    mine = {id(parameter) for parameter in prepared.parameters()}
    assert mine
    assert not mine & {id(parameter) for parameter in encoder.parameters()}
    assert not any(isinstance(module, GraphTransformer) for module in prepared.modules())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_an_objective_that_was_not_prepared_says_so(objective, encoder, make_batch):
    plain = type(objective)(**objective.arguments())
    with pytest.raises(ConfigError, match=rf"Expected a {type(objective).__name__} prepared for an encoder.*Call prepare\(encoder\) first"):
        plain(encoder, make_batch(3), torch.Generator())


def test_an_objective_without_forward_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        AbstractObjective()
