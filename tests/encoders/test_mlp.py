"""The encoder without a graph: every token alone."""

import json

import torch

from graphssl.data import ConnectomeBatch
from graphssl.encoders import MLP


def make_encoder(**changes):
    torch.manual_seed(0)
    return MLP(**{"width": 12, "depth": 2, "spacing_mm": 40.0, **changes}).eval()


def test_tokens_are_embedded_one_at_a_time(make_batch):
    encoder, batch = make_encoder(), make_batch(2, 6, missing={0: [1]}, padding=1)
    with torch.no_grad():
        tokens, found = encoder.tokens(batch), encoder(batch)
        for row in range(2):
            for region in batch.mask[row].nonzero().flatten().tolist():
                token = tokens[row, region]
                for block in encoder.blocks:
                    token = token + block(token)
                torch.testing.assert_close(found.tokens[row, region], encoder.norm(token), rtol=1e-4, atol=1e-5)


def test_each_connectome_alone_equals_its_row_in_a_batch_of_several_atlases(make_batch):
    encoder = make_encoder()
    batch = ConnectomeBatch.cat([make_batch(2, 9, missing={1: [8]}), make_batch(2, 4, seed=1), make_batch(1, 1, seed=2)])
    with torch.no_grad():
        together = encoder(batch)
        for row in range(len(batch)):
            torch.testing.assert_close(encoder(batch[[row]]).pooled[0], together.pooled[row], rtol=1e-4, atol=1e-5)


def test_a_connection_changes_only_the_tokens_at_its_ends(make_batch):
    encoder, batch = make_encoder(), make_batch(1, 7)
    hidden = torch.zeros_like(batch.visible)
    hidden[0, 2, 4] = hidden[0, 4, 2] = True
    with torch.no_grad():
        changed = (encoder(batch).tokens != encoder(batch.hide(hidden)).tokens).any(dim=-1)
    assert changed[0].nonzero().flatten().tolist() == [2, 4]


def test_gradients_reach_every_parameter(make_batch):
    encoder, batch = make_encoder(), make_batch(3, 8)
    hidden = torch.zeros_like(batch.visible)
    hidden[:, 2], hidden[:, :, 2] = True, True
    embedding = encoder(batch.hide(hidden))
    (embedding.tokens.square().mean() + embedding.pooled.square().mean()).backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_arguments_make_the_same_encoder_again(make_batch):
    encoder = make_encoder(readout="mean", dropout=0.2)
    again = MLP(**json.loads(json.dumps(encoder.arguments()))).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(make_batch()).pooled, encoder(make_batch()).pooled)
    assert encoder.pooled_width == encoder.token_width == 12
