"""What every encoder keeps: its arguments, so that it can be made again from disk."""

import json

import pytest
import torch

from graphssl.encoders import GAT, GCN, GIN, MLP, AbstractEncoder, BrainNetworkTransformer, Embedding, GraphTransformer
from graphssl.encoders.base import check_heads, check_parts, joined, made_of, subclasses, written
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder
from graphssl.objectives import MaskedRegions


def test_the_arguments_make_the_same_encoder_again(make_batch):
    encoder = GraphTransformer(
        width=12, depth=1, heads=3, dropout=0.2, spacing_mm=40.0, readout="mean", biases=("network",), encodings=("spectral",), learn_bias=True
    )
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
        "biases": ("weight", "distance"),
        "encodings": (),
        "learn_bias": False,
        "edges": True,
        "covariates": None,
    }


def test_an_encoder_without_forward_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        AbstractEncoder()


@pytest.mark.parametrize("readout", ["mean", "anchors", "attention", "clusters"])
def test_widths_are_those_of_the_embedding(make_batch, readout):
    encoder = GraphTransformer(width=8, depth=1, heads=2, spacing_mm=40.0, readout=readout)
    found = encoder(make_batch(3, 7, padding=2))
    assert isinstance(found, Embedding)
    assert found.tokens.shape == (3, 9, encoder.token_width)
    assert found.mask.shape == (3, 9)
    assert found.pooled.shape == (3, encoder.pooled_width)


@pytest.mark.parametrize("kind", [GraphTransformer, GCN, GAT, GIN, MLP, BrainNetworkTransformer])
def test_every_encoder_learns_from_masked_regions_of_a_simulated_cohort(simulated, kind):
    torch.manual_seed(0)
    place = {"atlas": simulated.atlas[0], "n_regions": simulated.mask.shape[1]} if kind is BrainNetworkTransformer else {}
    encoder = kind(**place, width=16, depth=1, dropout=0.0)
    objective = MaskedRegions(rank=8).prepare(encoder)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=3e-3)
    losses = []
    for _ in range(4):
        loss = objective(encoder, simulated, torch.Generator().manual_seed(0)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (4, 8), (8, 0)])
def test_heads_share_the_width_evenly(width, heads):
    with pytest.raises(ConfigError, match=f"multiple of the {heads} heads, found {width}"):
        check_heads(width, heads)


@pytest.mark.parametrize("chosen", [("weigth",), ("weight", "weight")])
def test_parts_are_known_and_named_once(chosen):
    with pytest.raises(ConfigError, match=r"Expected biases among weight, distance, each at most once; found \['weig"):
        check_parts("biases", chosen, ("weight", "distance"))
    check_parts("biases", ("distance", "weight"), ("weight", "distance"))
    check_parts("biases", (), ("weight", "distance"))


@pytest.mark.parametrize("encoder", [GCN(), GAT(), GIN(), MLP()], ids=lambda encoder: type(encoder).__name__)
def test_an_encoder_that_reads_no_covariates_refuses_a_builder_that_gives_them(make_cohort, encoder):
    with pytest.raises(ConfigError, match=f"such as GraphTransformer; found {type(encoder).__name__}. Use that one, or leave covariates out"):
        encoder.for_builder(ConnectomeBuilder(covariates=["age"]).fit(make_cohort()))
    assert encoder.for_builder(ConnectomeBuilder().fit(make_cohort())) is encoder


def test_one_is_made_of_another_or_of_what_was_written():
    encoder = GraphTransformer(width=8, depth=1, heads=2, spacing_mm=40.0)
    for given in (encoder, written(encoder), json.loads(json.dumps(written(encoder)))):
        made = made_of(AbstractEncoder, given, "an encoder of patients")
        assert type(made) is GraphTransformer
        assert made is not encoder
        assert made.arguments() == encoder.arguments()
    for wrong in ({"class": "Compose", "arguments": {}}, {"class": "GraphTransformer", "arguments": {"depths": 1}}, {}):
        with pytest.raises(ConfigError, match="Expected an encoder of patients with its arguments, found"):
            made_of(AbstractEncoder, wrong, "an encoder of patients")


def test_subclasses_are_found_however_far():
    assert {GraphTransformer, GCN, GAT, GIN} <= set(subclasses(AbstractEncoder))
    assert GraphTransformer not in subclasses(GraphTransformer)


def test_parts_are_joined_in_order_and_fewer_tokens_are_not_real_behind():
    first, second = (
        Embedding(
            torch.full((n, n_tokens, 4), value), torch.ones(n, n_tokens, dtype=torch.bool), torch.full((n, 4), value), (torch.full((n, 2), value),)
        )
        for n, n_tokens, value in ((2, 1, 1.0), (1, 3, 2.0))
    )
    found = joined([first, second])
    assert found.mask.tolist() == [[True, False, False], [True, False, False], [True, True, True]]
    assert found.tokens[:, 0, 0].tolist() == found.pooled[:, 0].tolist() == found.maps[0][:, 0].tolist() == [1.0, 1.0, 2.0]
    assert not found.tokens[:2, 1:].any()
