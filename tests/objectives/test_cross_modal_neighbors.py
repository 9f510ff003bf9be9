"""Neighbours as partners in part: shares against loops, from a population graph and from an index."""

import math

import pytest
import torch

from graphssl.data import Population, PopulationBatch
from graphssl.data.population import PopulationGraph
from graphssl.errors import ConfigError, SchemaError
from graphssl.graphs import FeatureGroup, NeighborIndex
from graphssl.objectives.cross_modal_contrast import CrossModalContrast
from graphssl.objectives.cross_modal_neighbors import (
    NeighborContrast,
    nearest_subjects,
    neighbor_shares,
    placed_closeness,
    population_closeness,
)

GROUPS = [FeatureGroup("labs", ["lab0", "lab2"], "rbf", weight=3.0), FeatureGroup("ward", ["ward"], "agreement")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(encoder, cohort=None, **arguments):
    torch.manual_seed(1)
    objective = NeighborContrast(**{"width": 8, "hidden": 16, "corruption": 0.0, "groups": GROUPS, "n_neighbors": 3, **arguments})
    return (objective if cohort is None else objective.for_cohort(cohort)).fresh().prepare(encoder)


def chain(patients):
    """A population in which each patient learns from the one before, and the first two from one another."""
    n = len(patients)
    similarity = torch.linspace(0.2, 0.9, n).unsqueeze(1) * torch.tensor([1.0, 0.5])
    source = torch.tensor([1, *range(n - 1)])
    graph = PopulationGraph(patients.subject_ids, torch.arange(n + 1), source, similarity, ("a", "b"), torch.ones(n, dtype=torch.bool))
    return Population(patients, graph)


def test_shares_are_a_softmax_of_similarities_and_strangers_have_none():
    closeness = torch.tensor([[1.0, 0.5, -math.inf], [-math.inf, 1.0, -math.inf], [0.2, -math.inf, 1.0]])
    shares = neighbor_shares(closeness, 0.5)
    assert shares[0].tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1)), 0])
    assert shares[1].tolist() == [0.0, 1.0, 0.0]
    torch.testing.assert_close(neighbor_shares(closeness, 1e-3), torch.eye(3))


def test_closeness_in_a_population_is_that_of_its_edges(two_modalities):
    patients = two_modalities(7)[1]
    population, picked = chain(patients), [5, 0, 4, 1, 6]
    nodes = torch.tensor(picked)
    batch = PopulationBatch(patients[picked], nodes, torch.full((5, 0), -1), torch.zeros(5, 0, 2), population)
    found, graph = population_closeness(batch), population.graph
    for i, patient in enumerate(picked):
        for j, other in enumerate(picked):
            edges = [e for e in range(7) if int(graph.edge_index[1, e]) == patient and int(graph.neighbors[e]) == other]
            expected = 1.0 if i == j else float(graph.similarity[edges[0]].mean()) if edges else -math.inf
            assert float(found[i, j]) == pytest.approx(expected)


def test_an_attached_patient_is_close_to_its_neighbours_in_the_batch(two_modalities):
    patients = two_modalities(6)[1]
    population = chain(patients[[0, 1, 2, 3]])
    batch = PopulationBatch(
        patients[[1, 4, 3]],
        torch.tensor([1, -1, 3]),
        torch.tensor([[-1, -1], [3, 0], [-1, -1]]),
        torch.tensor([[[0.0, 0.0]] * 2, [[0.8, 0.4], [0.1, 0.1]], [[0.0, 0.0]] * 2]),
        population,
    )
    found = population_closeness(batch)
    assert found[1].tolist() == pytest.approx([-math.inf, 1.0, 0.6])
    assert found[:, 1].tolist() == [-math.inf, 1.0, -math.inf]


def test_an_index_finds_neighbours_in_either_direction(two_modalities):
    cohort, _ = two_modalities(12)
    nearest, index = nearest_subjects(cohort, GROUPS, 3), NeighborIndex(GROUPS, n_neighbors=3).fit(cohort)
    picked = ["p7", "p2", "p9", "stranger", "p0", "p11"]
    found, query = nearest.closeness(picked), index.query()
    lists = {
        subject: dict(zip(ids, values, strict=True))
        for subject, ids, values in zip(query.subject_ids, query.neighbor_ids, query.similarity, strict=True)
    }
    for i, subject in enumerate(picked):
        for j, other in enumerate(picked):
            expected = max(lists.get(subject, {}).get(other, -math.inf), lists.get(other, {}).get(subject, -math.inf))
            assert float(found[i, j]) == pytest.approx(1.0 if i == j else expected, rel=1e-5)
    assert 6 < (found > -math.inf).sum() < 36
    assert placed_closeness(torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0), torch.tensor([0, 1])).tolist() == [[-math.inf] * 2] * 2


def test_with_a_cold_softmax_over_neighbours_it_is_the_hard_contrast(two_modalities, make_multimodal):
    cohort, patients = two_modalities(10, no_image=[3])
    encoder = make_multimodal()
    soft = make(encoder, cohort, neighbor_temperature=1e-6)
    hard = CrossModalContrast(width=8, hidden=16, corruption=0.0).prepare(encoder)
    hard.load_state_dict(soft.state_dict())
    assert soft(encoder, patients, seeded()).total.item() == pytest.approx(hard(encoder, patients, seeded()).total.item(), rel=1e-5)
    warm = make(encoder, cohort, neighbor_temperature=1.0)(encoder, patients, seeded()).total
    assert warm.item() != pytest.approx(hard(encoder, patients, seeded()).total.item(), rel=1e-3)


def test_the_target_of_a_population_is_that_of_its_graph(two_modalities, make_multimodal):
    patients, encoder = two_modalities(6)[1], make_multimodal()
    batch = PopulationBatch(patients, torch.arange(6), torch.full((6, 0), -1), torch.zeros(6, 0, 2), chain(patients))
    objective = make(encoder)
    rows = torch.tensor([0, 1, 2, 4])
    forth, back = objective.targets(batch, rows, rows)
    torch.testing.assert_close(forth, back)
    assert forth.sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert (forth > 0).tolist() == [[True, True, False, False], [True, True, False, False], [False, True, True, False], [False, False, False, True]]
    assert objective(encoder, batch, seeded()).total.item() > 0


def test_all_columns_compare_subjects_where_no_groups_are_named(two_modalities):
    cohort, _ = two_modalities(5)
    assert nearest_subjects(cohort, None, 10).neighbors.shape == (5, 4)


def test_what_makes_no_sense_is_refused(two_modalities, make_multimodal):
    cohort, patients = two_modalities(6)
    encoder = make_multimodal()
    with pytest.raises(ConfigError, match="Expected a NeighborContrast that knows neighbours, found one without"):
        make(encoder)(encoder, patients, seeded())
    with pytest.raises(ConfigError, match="neighbor_temperature, n_neighbors above 0"):
        NeighborContrast(neighbor_temperature=0.0)
    with pytest.raises(SchemaError, match="weight"):
        NeighborContrast(groups=[FeatureGroup("w", ["weight"], "agreement")]).for_cohort(cohort)
