"""Atlas alignment against loops over pairs of rows, and against what it is for: a subject is known again in another atlas."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import simulated_atlas
from graphssl.data import ConnectomeBatch
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.errors import ConfigError, DataError
from graphssl.graphs import ConnectomeBuilder
from graphssl.objectives import AtlasAlignment
from graphssl.objectives.alignment import alignment
from graphssl.views import HideRegions, TimeWindow


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_alignment(vectors, subjects, atlases, temperature):
    """Mean over all ordered pairs of a row and its subject's row in another atlas; candidates are the rows in that atlas."""
    rows, losses = vectors.tolist(), []

    def similarity(i, j):
        return sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) / math.hypot(*rows[i]) / math.hypot(*rows[j]) / temperature

    for i in range(len(rows)):
        for j in range(len(rows)):
            if subjects[i] == subjects[j] and atlases[i] != atlases[j]:
                candidates = [k for k in range(len(rows)) if atlases[k] == atlases[j]]
                losses.append(math.log(sum(math.exp(similarity(i, k)) for k in candidates)) - similarity(i, j))
    return sum(losses) / len(losses)


@settings(max_examples=25, deadline=None)
@given(present=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=12), temperature=st.floats(0.1, 2.0), seed=st.integers(0, 99))
def test_the_loss_is_the_mean_over_pairs(present, temperature, seed):
    rows = sorted({*present, (0, 0), (0, 1)})  # at least one pair
    subjects, atlases = zip(*rows, strict=True)
    vectors = torch.randn(len(rows), 4, generator=generator(seed))
    found, _ = alignment(vectors, torch.tensor(subjects), torch.tensor(atlases), temperature)
    assert float(found) == pytest.approx(slow_alignment(vectors, subjects, atlases, temperature), rel=1e-4, abs=1e-5)


def test_closed_forms():
    apart = torch.eye(4)
    subjects, atlases = torch.arange(4).repeat(2), torch.tensor([0] * 4 + [1] * 4)
    found, accuracy = alignment(apart.repeat(2, 1), subjects, atlases, 0.5)
    assert float(found) == pytest.approx(math.log(math.exp(2) + 3) - 2, rel=1e-5)
    assert accuracy == 1
    found, _ = alignment(torch.ones(8, 3), subjects, atlases, 0.5)
    assert float(found) == pytest.approx(math.log(4), rel=1e-5)


def test_the_order_of_rows_does_not_matter():
    vectors = torch.randn(6, 4, generator=generator())
    subjects, atlases, order = torch.tensor([0, 1, 2, 0, 1, 3]), torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(alignment(vectors[order], subjects[order], atlases[order]), alignment(vectors, subjects, atlases))


@pytest.fixture(scope="module")
def two_atlases():
    """Twelve simulated subjects in two atlases."""
    sites = [SimulatedSite("a", n_timepoints=200, noise=0.3)]
    cohort = simulate([simulated_atlas(20), simulated_atlas(14)], n_subjects=12, sites=sites, n_sources=100).cohort
    return ConnectomeBuilder().fit_transform(cohort)


def test_subjects_are_known_again_in_another_atlas(make_encoder, two_atlases, train):
    encoder = make_encoder(width=16)
    torch.manual_seed(1)
    objective = AtlasAlignment().prepare(encoder)
    losses = train(objective, encoder, two_atlases, 30, 3e-3)
    parts = objective(encoder, two_atlases, generator(30)).parts
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert parts["accuracy"] > 0.5  # chance is 1 / 12
    assert parts["projected_spread"] > 0.1


def test_a_view_is_taken_if_there_is_one(make_encoder, two_atlases):
    encoder = make_encoder(dropout=0.0)
    torch.manual_seed(1)
    plain = AtlasAlignment().prepare(encoder)
    hidden = AtlasAlignment(HideRegions(0.5)).prepare(encoder)
    hidden.load_state_dict(plain.state_dict())
    totals = [objective(encoder, two_atlases, generator(seed)).total.item() for objective, seed in ((plain, 0), (plain, 1), (hidden, 0), (hidden, 1))]
    assert totals[0] == totals[1]
    assert len(set(totals)) == 3
    assert AtlasAlignment(TimeWindow()).needs_series
    assert not plain.needs_series


def test_what_cannot_be_aligned_is_refused(make_encoder, make_batch):
    encoder = make_encoder()
    objective = AtlasAlignment().prepare(encoder)
    with pytest.raises(DataError, match="subjects with rows in two atlases to align, found none among 4 rows in toy. Load a second atlas"):
        objective(encoder, make_batch(), generator())
    with pytest.raises(DataError, match=r"one row a subject and atlas to align atlases, found more of \['sub-000', 'sub-001', 'sub-002'\]"):
        objective(encoder, ConnectomeBatch.cat([make_batch(3), make_batch(3)]), generator())
    other = replace(make_batch(1), atlas=("other",))
    with pytest.raises(DataError, match="at least two subjects in a minibatch to compare, found 1"):
        objective(encoder, ConnectomeBatch.cat([make_batch(1), other]), generator())
    with pytest.raises(ConfigError, match=r"above 0, found \{'temperature': 0\}"):
        AtlasAlignment(temperature=0)


def test_a_subject_is_not_known_again_by_its_covariates(make_encoder, make_batch, with_covariates):
    encoder = make_encoder(dropout=0.0, covariates={"age": 3, "motion": 3, "sex": ("f", "m"), "eyes": ("both", "closed", "open")})
    torch.manual_seed(1)
    objective = AtlasAlignment(width=6, hidden=8).prepare(encoder)
    both = ConnectomeBatch.cat([replace(make_batch(4, 8), atlas=("fine",) * 4), replace(make_batch(4, 6, seed=1), atlas=("coarse",) * 4)])
    known, other = (with_covariates(both, seed) for seed in (0, 1))
    measured = torch.ones(8, 4, dtype=torch.bool)
    known, other = (replace(batch, covariates=replace(batch.covariates, measured=measured)) for batch in (known, other))
    with torch.no_grad():
        assert not torch.equal(encoder(known).pooled, encoder(other).pooled)
        assert torch.equal(objective(encoder, known, generator()).total, objective(encoder, other, generator()).total)
