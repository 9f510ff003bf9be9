"""Gradients of sources and target: of one objective with the same draws, and of as many rows."""

import pytest
import torch

from graphssl.errors import DataError
from graphssl.objectives import MaskedRegions
from graphssl.processes import Processes
from graphssl.training.meta import SourceBatches, TaskSampler
from graphssl.training.meta.agreement import TargetAgreement
from graphssl.training.model import fresh


@pytest.fixture
def agreement(sources, make_encoder):
    batches = SourceBatches(sources[:2], make_encoder().default_builder())
    encoder = fresh(make_encoder().for_builder(batches.builder_), 0).eval()  # no dropout, which the seed of the step does not draw
    objective = MaskedRegions(rank=4).fresh().prepare(encoder)
    return lambda target, n_query=3: TargetAgreement(encoder, objective, batches, target, n_query, Processes(device="cpu"))


def test_gradients_are_those_of_each_source_alone(agreement, sources):
    found = agreement(sources[2].cohort)
    tasks = TaskSampler(sources[:2], 3, 3).draw(0)
    of_sources, of_target = found.gradients(tasks, 7)
    assert of_sources.shape == (2, len(of_target))
    for row, task in zip(of_sources, tasks, strict=True):
        batch = found.batches.query(task)[0]
        found.encoder.zero_grad()
        found.objective(found.encoder, batch, torch.Generator().manual_seed(7)).total.backward()
        expected = torch.cat([parameter.grad.flatten() for parameter in found.encoder.parameters()])
        torch.testing.assert_close(row, expected)


def test_the_same_seed_takes_the_same_rows_of_the_target(agreement, sources):
    found, tasks = agreement(sources[2].cohort), TaskSampler(sources[:2], 3, 3).draw(0)
    first, again, other = (found.gradients(tasks, seed)[1] for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_target_is_as_large_as_a_query(agreement, sources):
    few = sources[2].cohort.select(sources[2].cohort.ids[:2])
    with pytest.raises(DataError, match="at least 3 subjects of the target 'toy', found 2"):
        agreement(few)
