"""Patients of a population as a batch: rows by reference, and hidden from everybody at once."""

import pytest
import torch

from graphssl.data import ImageBatch, MultimodalBatch, Population, PopulationBatch, PopulationGraph, TableBatch
from graphssl.errors import DataError


def rows(ids, *, first=0.0):
    """Patients with one number and one category, the value of which tells who it is."""
    n = len(ids)
    numbers = first + torch.arange(n, dtype=torch.float32).unsqueeze(1)
    return TableBatch(tuple(ids), numbers, numbers.unsqueeze(-1), torch.zeros(n, 1, dtype=torch.long), torch.ones(n, 2, dtype=torch.bool))


@pytest.fixture
def population():
    """Four patients in a ring."""
    starts, neighbors = torch.arange(5), torch.tensor([1, 2, 3, 0])
    graph = PopulationGraph(("a", "b", "c", "d"), starts, neighbors, torch.full((4, 1), 0.5), ("all",), torch.ones(4, dtype=torch.bool))
    return Population(rows("abcd"), graph)


@pytest.fixture
def batch(population):
    """The patients d and b, and x and y attached."""
    patients = TableBatch(
        ("d", "x", "b", "y"),
        torch.tensor([[3.0], [10.0], [1.0], [11.0]]),
        torch.tensor([3.0, 10.0, 1.0, 11.0]).view(4, 1, 1),
        torch.zeros(4, 1, dtype=torch.long),
        torch.ones(4, 2, dtype=torch.bool),
    )
    neighbors = torch.tensor([[-1, -1], [0, 2], [-1, -1], [3, -1]])
    return PopulationBatch(patients, torch.tensor([3, -1, 1, -1]), neighbors, torch.full((4, 2, 1), 0.25), population)


def test_it_is_a_table_of_its_patients(batch):
    assert batch.subject_ids == ("d", "x", "b", "y")
    assert batch.numbers.flatten().tolist() == [3.0, 10.0, 1.0, 11.0]
    assert (batch.pieces.shape, batch.codes.shape, batch.measured.shape) == ((4, 1, 1), (4, 1), (4, 2))
    assert batch.visible.all()
    assert batch.attached.tolist() == [False, True, False, True]
    assert repr(batch) == "PopulationBatch(4 patients, 2 of them attached; population of 4)"


@pytest.mark.parametrize("chosen", [[2, 1], torch.tensor([2, 1]), torch.tensor([False, True, True, False])])
def test_rows_share_the_population(batch, chosen):
    part = batch[chosen]
    assert set(part.subject_ids) == {"b", "x"}
    assert part.population is batch.population
    assert part.neighbors[part.subject_ids.index("x")].tolist() == [0, 2]


def test_what_is_hidden_of_a_patient_is_hidden_in_the_population(batch):
    hidden = batch.hide(torch.tensor([[True, False], [True, True], [False, True], [False, False]]))
    assert hidden.read().hidden.tolist() == [[False, False], [False, True], [False, False], [True, False]]
    assert hidden.read(torch.tensor([1, 2])).hidden.tolist() == [[False, True], [False, False]]
    assert hidden.read(torch.tensor([0, 2])).hidden.any().item() is False
    assert not batch.population.patients.hidden.any(), "the population itself is as it was"
    everybody, place = hidden.with_everybody()
    assert everybody.subject_ids == ("a", "b", "c", "d", "x", "y")
    assert [everybody.subject_ids[i] for i in place] == ["d", "x", "b", "y"]
    assert torch.equal(everybody.hidden[place], hidden.hidden)


def test_what_is_hidden_in_a_batch_is_hidden_from_its_shares(batch):
    hidden = batch.hide(torch.tensor([[True, False], [True, True], [False, True], [False, False]]))
    share = hidden.share([1, 3, 0])
    for part in (share, share[[0, 2]], share.share([1]), share.to("cpu"), share[[2, 1]].share([0])):
        assert torch.equal(part.read().hidden, hidden.read().hidden)
        assert part.subject_ids == tuple(batch.subject_ids[row] for row in part.share_of.rows.tolist())
    assert not hidden[[1, 3]].read().hidden.any(), "rows of a batch alone are a batch of their own"


def test_nobody_attached_is_nobody_behind(batch):
    everybody, place = batch[[0, 2]].with_everybody()
    assert everybody is batch.population.patients
    assert place.tolist() == [3, 1]


def test_what_follows_from_the_population_is_made_once(population):
    made = []
    for _ in range(2):
        with torch.inference_mode():
            kept = population.keep("ones", lambda: made.append(1) or torch.ones(2))
    assert len(made) == 1
    assert not kept.is_inference(), "what was first asked for in an evaluation serves training too"


def test_it_is_moved_once(batch):
    assert batch.to("cpu").population is batch.population
    moved = batch.to("cpu:0").population  # a device that is named otherwise is another
    assert moved is not batch.population
    assert batch[[1]].to("cpu:0").population is moved


def test_signatures_tell_batches_apart(batch, population):
    others = [batch[[0, 1]], batch[[0, 3]]]
    relinked = PopulationGraph(
        population.graph.subject_ids, torch.arange(5), torch.tensor([2, 3, 0, 1]), torch.full((4, 1), 0.5), ("all",), population.graph.training
    )
    moved = PopulationBatch(batch.patients, batch.nodes, batch.neighbors, batch.similarity, Population(population.patients, relinked))
    assert len({each.signature() for each in (batch, *others, moved)}) == 4
    assert batch.signature() == batch[[0, 1, 2, 3]].signature()


def test_what_does_not_fit_is_refused(batch, population):
    with pytest.raises(DataError, match="records and graph of the same patients"):
        Population(rows("abc"), population.graph)
    with pytest.raises(DataError, match="places among the 4 patients of the population, found 4"):
        PopulationBatch(batch.patients, torch.tensor([4, -1, 1, -1]), batch.neighbors, batch.similarity, population)
    with pytest.raises(DataError, match=r"Expected shapes .* 'similarity': \(4, 2, 1\)"):
        PopulationBatch(batch.patients, batch.nodes, batch.neighbors, batch.similarity[:, :1], population)


def pictured(ids, first=0.0):
    """Patients with an image each, full of a number that tells who it is."""
    return MultimodalBatch.of({"image": ImageBatch(tuple(ids), (first + torch.arange(float(len(ids)))).view(-1, 1, 1, 1))})


def test_what_a_view_has_changed_is_read_from_the_batch(population):
    everybody = Population(pictured("abcd"), population.graph)
    none = torch.full((2, 0), -1)
    batch = PopulationBatch(pictured("dx", 10.0), torch.tensor([3, -1]), none, torch.zeros(2, 0, 1), everybody)
    assert batch.read() is everybody.patients
    changed = batch.with_parts(image=batch.patients.parts["image"].changed(images=torch.tensor([7.0, 8.0]).view(2, 1, 1, 1)))

    def shown(patients):
        return [patients[[k]].parts["image"].images.item() for k in range(len(patients))]

    assert shown(changed.read()) == [0.0, 1.0, 2.0, 7.0]
    assert shown(changed[[0]].to("cpu").read(torch.tensor([1, 3]))) == [1.0, 7.0]
    assert changed.read().subject_ids == ("a", "b", "c", "d")
    assert shown(changed[[1]].read(torch.tensor([0, 3]))) == [0.0, 3.0]
    hidden = changed.hide(torch.tensor([[True], [False]]))
    assert hidden.read().presence.flatten().tolist() == [True, True, True, False]


def test_a_modality_is_left_out_of_the_population_too(population):
    everybody = Population(pictured("abcd"), population.graph)
    batch = PopulationBatch(pictured("d", 3.0), torch.tensor([3]), torch.full((1, 0), -1), torch.zeros(1, 0, 1), everybody)
    without = batch.without("image")
    assert not without.presence.any()
    assert not without.read().presence.any()
    assert everybody.patients.presence.all()


def test_views_of_modalities_need_patients_with_modalities(batch):
    with pytest.raises(DataError, match="Expected patients with several kinds of data, found a TableBatch. Make them with a MultimodalBuilder"):
        batch.without("image")


def test_what_follows_from_the_graph_is_kept_with_other_records(population):
    population.keep("hops 8", lambda: 1)
    population.keep("on meta", lambda: 2)
    other = population.with_patients(rows("abcd", first=5.0))
    assert (other.graph is population.graph, other.patients.numbers[0].item()) == (True, 5.0)
    assert (other.keep("hops 8", lambda: 3), other.keep("on meta", lambda: 4)) == (1, 4)
    assert other.signature() != population.signature()
