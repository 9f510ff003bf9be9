"""What every encoder keeps: its arguments, so that it can be made again from disk."""

import json

import pytest
import torch

from graphssl.encoders import AbstractEncoder, Embedding, GraphTransformer


def test_the_arguments_make_the_same_encoder_again(make_batch):
    encoder = GraphTransformer(width=12, depth=1, heads=3, dropout=0.2, spacing_mm=40.0, readout="mean", learn_bias=True, edges=True)
    again = GraphTransformer(**json.loads(json.dumps(encoder.arguments())))
    assert again.arguments() == encoder.arguments()
    again.load_state_dict(encoder.state_dict())
    batch = make_batch()
    assert torch.equal(encoder.eval()(batch).pooled, again.eval()(batch).pooled)


def test_arguments_name_every_parameter_of_the_constructor():
    assert GraphTransformer().arguments() == {
        "width": 64,
        "depth": 2,
        "heads": 4,
        "dropout": 0.1,
        "spacing_mm": 20.0,
        "readout": "anchors",
        "learn_bias": False,
        "edges": True,
    }


def test_an_encoder_without_forward_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        AbstractEncoder()


@pytest.mark.parametrize("readout", ["mean", "anchors"])
def test_widths_are_those_of_the_embedding(make_batch, readout):
    encoder = GraphTransformer(width=8, depth=1, heads=2, spacing_mm=40.0, readout=readout)
    found = encoder(make_batch(3, 7, padding=2))
    assert isinstance(found, Embedding)
    assert found.tokens.shape == (3, 9, encoder.token_width)
    assert found.mask.shape == (3, 9)
    assert found.pooled.shape == (3, encoder.pooled_width)
