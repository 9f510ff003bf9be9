"""The population graph: what it holds and what it refuses."""

import pytest
import torch

from graphssl.data import PopulationGraph
from graphssl.errors import DataError, SchemaError


def small(**changes):
    """a and b learn from each other and c, c from a; the new patient d learns from b."""
    fields = {
        "subject_ids": ("a", "b", "c", "d"),
        "starts": torch.tensor([0, 2, 4, 5, 6]),
        "neighbors": torch.tensor([1, 2, 0, 2, 0, 1]),
        "similarity": torch.arange(12.0).reshape(6, 2),
        "groups": ("age", "tests"),
        "training": torch.tensor([True, True, True, False]),
    }
    return PopulationGraph(**{**fields, **changes})


def test_edges_run_from_neighbour_to_patient():
    assert small().edge_index.tolist() == [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 3]]


def test_new_patients_do_not_count_as_in_links():
    assert small().in_links.tolist() == [2, 1, 2, 0]


def test_it_says_what_it_is():
    assert repr(small()) == "PopulationGraph(4 patients, 1 of them new; 6 edges; groups age, tests; inductive; cpu)"
    assert "transductive" in repr(small(transductive=True))
    assert len(small()) == 4
    assert small().to("cpu").edge_index.equal(small().edge_index)


def test_one_patient_without_neighbours():
    none = torch.zeros(0, dtype=torch.long)
    alone = PopulationGraph(("a",), torch.tensor([0, 0]), none, torch.zeros(0, 1), ("g",), torch.tensor([True]))
    assert alone.edge_index.shape == (2, 0)
    assert alone.in_links.tolist() == [0]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"subject_ids": ("a", "b", "c", "a")}, SchemaError, "a"),
        ({"subject_ids": ()}, DataError, "at least one subject"),
        (
            {"training": torch.ones(3, dtype=torch.bool)},
            DataError,
            r"Expected shapes .* 4 patients, 6 edges and 2 groups; found \{'training': \(3,\)\}",
        ),
        ({"groups": ("age",)}, DataError, r"found \{'similarity': \(6, 2\)\}"),
        ({"starts": torch.tensor([0, 2, 1, 5, 6])}, DataError, r"starts to rise from 0 to the 6 edges, found \[0, 2, 1, 5, 6\]"),
        ({"starts": torch.tensor([0, 2, 4, 5, 5])}, DataError, "starts to rise from 0 to the 6 edges"),
        ({"neighbors": torch.tensor([1, 2, 0, 9, 0, 1])}, DataError, "neighbours among the 4 patients, found node 9"),
        ({"neighbors": torch.tensor([1, 2, 0, -1, 0, 1])}, DataError, "found node -1"),
        ({"neighbors": torch.tensor([1, 2, 0, 1, 0, 1])}, DataError, "no patient to be its own neighbour, found 'b'"),
        ({"neighbors": torch.tensor([1, 3, 0, 2, 0, 1])}, DataError, "training patients as neighbours, found the new patient 'd'"),
    ],
)
def test_what_is_refused(changes, error, match):
    with pytest.raises(error, match=match):
        small(**changes)


def test_a_transductive_graph_may_learn_from_new_patients():
    graph = small(neighbors=torch.tensor([1, 3, 0, 2, 0, 1]), transductive=True)
    assert graph.in_links.tolist() == [2, 1, 1, 1]
