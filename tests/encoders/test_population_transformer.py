"""The transformer over patients, against one written in loops."""

import copy

import networkx as nx
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import ColumnTokenizer
from graphssl.encoders import PopulationTransformer
from graphssl.errors import ConfigError
from graphssl.graphs import PopulationBuilder, hop_distances, population_graph
from graphssl.graphs.population_interop import to_networkx


def make(population, **arguments):
    torch.manual_seed(0)
    return PopulationTransformer(**{"width": 8, "depth": 2, "heads": 2, "max_hops": 3, "dropout": 0.0, **arguments}).for_builder(population).eval()


def in_loops(encoder, population, table):
    """Pooled vectors of new patients: one by one, one head at a time, with distances of NetworkX and no matrix of pairs."""
    graph = population_graph(population.index_, table)
    links, back = to_networkx(graph), to_networkx(graph).reverse()
    n, ids = len(population.population_), graph.subject_ids
    in_links = {subject: sum(target in ids[:n] for target in links.successors(subject)) for subject in ids}
    patients = [population.population_.patients, population.transform(table).patients]
    state = dict(zip(ids, torch.cat([encoder.patient(part).pooled for part in patients]), strict=True))
    for block in encoder.blocks:
        parts = {subject: block.qkv(block.norm_attention(vector)).view(3, encoder.heads, -1) for subject, vector in state.items()}
        new = {}
        for subject in ids:
            hops = nx.single_source_shortest_path_length(back, subject, cutoff=encoder.max_hops)
            heard = [*ids[:n], *([subject] if subject not in ids[:n] else [])]
            mixed = []
            for head in range(encoder.heads):
                logits = []
                for other in heard:
                    logit = parts[subject][0, head] @ parts[other][1, head] / 4**0.5
                    logit = logit + encoder.bias.by_hops[hops.get(other, encoder.max_hops + 1), head] * ("hops" in encoder.biases)
                    if links.has_edge(other, subject) and "similarity" in encoder.biases:
                        logit = logit + sum(links.edges[other, subject][g] * encoder.bias.by_group[i, head] for i, g in enumerate(encoder.groups))
                    links_in = torch.log1p(torch.tensor(float(in_links[other])))
                    logits.append(logit + links_in * encoder.bias.by_in_links[head] * ("in_links" in encoder.biases))
                share = torch.stack(logits).softmax(dim=0)
                mixed.append(sum(s * parts[other][2, head] for s, other in zip(share, heard, strict=True)))
            vector = state[subject] + block.out(torch.cat(mixed))
            new[subject] = vector + block.feed(block.norm_feed(vector))
        state = new
    return {subject: encoder.norm(vector) for subject, vector in state.items()}


@pytest.mark.parametrize("biases", [("hops", "similarity", "in_links"), ("hops",), ("similarity",), ("in_links",), ()])
def test_it_is_what_loops_give(population, make_patients, biases):
    encoder, table = make(population, biases=biases), make_patients(3, 1, "n")
    with torch.no_grad():
        expected = in_loops(encoder, population, table)
        new, known = encoder(population.transform(table)), encoder(population.transform(make_patients(30)))
    assert_close(new.pooled, torch.stack([expected[f"n{i}"] for i in range(3)]), atol=1e-5, rtol=1e-4)
    assert_close(known.pooled, torch.stack([expected[f"p{i}"] for i in range(30)]), atol=1e-5, rtol=1e-4)


def test_patients_without_a_path_are_heard(population, make_patients):
    """They are far in the graph and not cut off; distances of the published encoding are masked there."""
    encoder, batch = make(population), population.transform(make_patients(30))
    hops = hop_distances(population.population_.graph, max_hops=3)
    asking, asked = (hops < 0).nonzero()[0].tolist()
    hidden = torch.zeros(30, 4, dtype=torch.bool)
    hidden[asked] = True
    gap = (encoder(batch.hide(hidden)).pooled - encoder(batch).pooled)[asking].abs().max()
    assert gap > 1e-6


def test_fixed_biases_are_made_once_and_trained_ones_every_time(population, make_patients):
    batch = population.transform(make_patients(30))
    fixed, learned = make(population, heads=4), make(population, heads=4, learn_bias=True)
    assert fixed._bias(batch.population) is fixed._bias(batch.population)
    assert_close(learned(batch).pooled, fixed(batch).pooled)
    (learned(batch).pooled * torch.arange(8)).sum().backward()
    assert all(weight.grad.any() for weight in learned.bias.parameters())


def test_all_of_a_transductive_population_are_heard(make_patients, population):
    builder = PopulationBuilder(population.tokenizer, n_neighbors=3, transductive=True).fit(make_patients(30))
    table = make_patients(4, 1, "n")
    encoder = make(builder)
    together, alone = encoder(builder.transform(table)).pooled, encoder(builder.transform(table.iloc[:1])).pooled
    assert F.l1_loss(together[:1], alone) > 1e-6


def test_neighbourhoods_that_reach_everybody_give_what_the_whole_population_gives(make_patients):
    """The same weights: eight neighbours of eight are all nine patients, for training patients and new ones."""
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=4).fit(make_patients(9))
    batch = builder.transform(pd.concat([make_patients(9), make_patients(5, 1, "n")]))
    hidden = torch.rand(14, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    whole, sampled = make(builder), make(builder, whole_limit=8, fan_outs=(8, 8))
    nodes = sampled.neighborhoods(batch).nodes
    assert all(set(row.tolist()) >= set(range(9)) for row in nodes), "everybody is in reach"
    for each in (batch, batch.hide(hidden)):
        assert_close(sampled(each).pooled, whole(each).pooled, atol=1e-5, rtol=1e-4)
        assert_close(sampled(each).tokens, whole(each).tokens, atol=1e-5, rtol=1e-4)


def test_the_population_is_embedded_once_outside_of_training(population, make_patients):
    encoder, batch = make(population), population.transform(make_patients(4, 1, "n"))
    with torch.no_grad():
        first = encoder(batch).pooled
        kept = encoder._kept[2]
        assert_close(encoder(batch[[2, 1]]).pooled[1], first[1])
        assert encoder._kept[2] is kept
        encoder.blocks[0].out.bias.add_(1.0)
        assert not torch.equal(encoder(batch).pooled, first), "weights have changed"
    assert copy.deepcopy(encoder)._kept is None
    assert encoder(batch).pooled.requires_grad
    known = population.transform(make_patients(30))
    with torch.no_grad():
        hidden = encoder(known.hide(known.measured & (torch.arange(4) == 0))).pooled
        assert not torch.equal(hidden, encoder(known).pooled)


def test_what_is_wrong_is_refused():
    with pytest.raises(ConfigError, match="Expected biases among"):
        PopulationTransformer(biases=("degree",))
    with pytest.raises(ConfigError, match="max_hops of at least 1, found 0"):
        PopulationTransformer(max_hops=0)
