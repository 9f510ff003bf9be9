"""Patches and slices as nodes of a graph inside an image: edges against loops, messages that go no further than edges, patients of patches."""

import itertools
import json

import numpy as np
import pytest
import torch

from graphssl.data import ImageBatch, ImageBuilder, MultimodalBuilder
from graphssl.encoders import GatedSum, MultimodalEncoder, PopulationGNN, ResNet, SliceTransformer, TokenGraph, VisionTransformer
from graphssl.encoders.images.token_graph import grid_edges, nearest_edges
from graphssl.errors import ConfigError
from graphssl.graphs import PopulationBuilder
from graphssl.training import Model
from graphssl.training.model import fresh


def images(*shape, seed=0):
    return ImageBatch(tuple(map(str, range(shape[0]))), torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def patches(**arguments):
    torch.manual_seed(0)
    return TokenGraph(VisionTransformer(patch_size=4, width=8, depth=1, heads=2, n_maps=1), **{"heads": 2, "dropout": 0.0, **arguments}).eval()


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 2), (1, 1)])
def test_places_of_a_grid_touch_their_neighbours(grid):
    places = list(itertools.product(*map(range, grid)))
    expected = [[max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1 for other in places] for one in places]
    assert grid_edges(grid).tolist() == expected


def test_edges_lead_to_the_most_alike_in_either_direction():
    tokens = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 2:] = False
    mask[2, 4] = False
    found = nearest_edges(tokens, mask, 2)
    for row in range(3):
        real = np.flatnonzero(mask[row])
        unit = tokens[row].numpy() / np.linalg.norm(tokens[row], axis=1, keepdims=True)
        expected = np.zeros((7, 7), dtype=bool)
        for one in real:
            others = [other for other in real if other != one]
            for other in sorted(others, key=lambda each: -unit[one] @ unit[each])[:2]:
                expected[one, other] = expected[other, one] = True
        assert np.array_equal(found[row].numpy(), expected)


def test_what_a_node_hears_comes_along_edges_a_step_a_round():
    encoder = patches(depth=2)
    edges = grid_edges((5, 5)).unsqueeze(0)
    tokens = torch.randn(1, 25, 8, generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, 0] = -tokens[0, 0].flip(0)
    with torch.no_grad():
        changed = (encoder.mix(tokens, edges) - encoder.mix(other, edges)).abs().amax(dim=2)[0].view(5, 5) > 1e-6
    assert bool(changed[:3, :3].all())
    assert not bool(changed[3:].any() or changed[:, 3:].any())


def test_without_edges_each_node_is_alone():
    encoder = patches(edges="none")
    tokens = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    itself = encoder.edges_of(encoder.network(images(2, 1, 8, 8)), images(2, 1, 8, 8))
    with torch.no_grad():
        together = encoder.mix(tokens, itself)
        assert torch.allclose(encoder.mix(tokens[:, [2]], itself[:, :1, :1]), together[:, [2]], atol=1e-6)


@pytest.mark.parametrize("edges", ["grid", "nearest"])
def test_hidden_patches_are_not_heard(edges):
    encoder, batch = patches(edges=edges, n_neighbors=2), images(2, 1, 12, 12)
    hidden = torch.zeros(2, 12, 12, dtype=torch.bool)
    hidden[0, :4, :4] = True
    seen, other = batch.hide(hidden), batch.changed(images=torch.where(hidden.unsqueeze(1), 9.0, batch.images)).hide(hidden)
    with torch.no_grad():
        found = encoder(seen)
        assert found.mask.sum(dim=1).tolist() == [8, 9]
        assert torch.equal(found.pooled, encoder(other).pooled)
        assert torch.equal(encoder.edges_of(encoder.network(seen), seen)[0, 1:, 0], torch.zeros(8, dtype=torch.bool))
        assert torch.allclose(encoder(batch[[1]]).pooled, found.pooled[1:], atol=1e-6)


@pytest.mark.parametrize(
    ("network", "shape", "n_nodes"),
    [
        (ResNet(2, width=4, blocks=(1, 1), stem="small", norm="group"), (2, 1, 8, 8), 16),
        (ResNet(3, width=4, blocks=(1, 1), stem="small", norm="group"), (2, 1, 4, 8, 8), 32),
        (SliceTransformer(width=8, depth=1, heads=2, slice_width=4, blocks=(1, 1), stem="small", norm="group"), (2, 1, 5, 8, 8), 5),
    ],
)
def test_nodes_are_places_of_the_map_or_slices(network, shape, n_nodes):
    encoder = TokenGraph(network, width=12, heads=2)
    embedding = encoder(images(*shape))
    assert (embedding.tokens.shape, embedding.pooled.shape) == ((2, n_nodes, 12), (2, 12))
    assert [each.shape[1] for each in embedding.maps] == list(encoder.map_widths)
    embedding.pooled.sum().backward()
    assert all(weight.grad is not None for weight in encoder.blocks.parameters())
    if n_nodes == 5:
        edges = encoder.edges_of(encoder.network(images(*shape)), images(*shape))
        assert edges[0].sum(dim=1).tolist() == [2, 3, 3, 3, 2]


def test_it_is_made_again_from_its_arguments():
    encoder = patches(edges="nearest", n_neighbors=3, width=4)
    again = TokenGraph(**json.loads(json.dumps(encoder.arguments()))).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(images(2, 1, 8, 8)).pooled, encoder(images(2, 1, 8, 8)).pooled)


def test_patches_inside_of_patients_among_patients(patients, tmp_path):
    """A graph of graphs: it is trained from end to end, and saved."""
    builder = MultimodalBuilder({"image": ImageBuilder("image")})
    having = builder.readable(patients)
    population = PopulationBuilder(builder, n_neighbors=2).fit(patients.select(having[:12]))
    inside = TokenGraph(ResNet(2, width=4, blocks=(1, 1), stem="small", norm="group"), heads=2)
    encoder = fresh(PopulationGNN(8, 1, "gat", heads=2, patient=MultimodalEncoder({"image": inside}, GatedSum(8))).for_builder(population), 0)
    encoder(population.transform(patients.select(having[:12]))).pooled.square().sum().backward()
    inner = [weight for name, weight in encoder.named_parameters() if "encoders.image" in name]
    assert inner
    assert all(
        weight.grad is not None and bool(weight.grad.abs().sum() > 0) for name, weight in encoder.named_parameters() if "image.network.conv" in name
    )
    model = Model(population, encoder.eval())
    model.save_pretrained(tmp_path / "model")
    new = patients.select(having[12:])
    assert Model.from_pretrained(tmp_path / "model").embed(new).equals(model.embed(new))


@pytest.mark.parametrize("wrong", [{"edges": "ring"}, {"n_neighbors": 0}])
def test_impossible_edges_are_refused(wrong):
    with pytest.raises(ConfigError, match="Expected edges among grid, nearest, none and a neighbour or more, found"):
        patches(**wrong)


def test_tokens_on_no_grid_are_refused():
    class Bag(ResNet):
        def forward(self, batch):
            embedding = super().forward(batch)
            return embedding._replace(tokens=embedding.tokens[:, :3], mask=embedding.mask[:, :3])

    encoder = TokenGraph(Bag(2, width=4, blocks=(1,), stem="small"), heads=2)
    with pytest.raises(ConfigError, match=r"Expected a Bag whose 3 tokens are places of its last map or its slices, found a map of \[8, 8\]"):
        encoder(images(2, 1, 8, 8))
