"""The site adversary: its head against scikit-learn, its gradient against a reversed one, and whether the site is hidden in the end."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data import Cohort, Schema
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import SiteAdversary, WeightedSum
from graphssl.objectives.adversarial import explained_sites

SITES = {f"sub-{k:03d}": "one" if k % 2 else "other" for k in range(8)}


def generator():
    return torch.Generator().manual_seed(0)


def prepared(encoder, **options):
    return SiteAdversary(**{"sites": SITES, **options}).prepare(encoder)


def of_three_sites(n=40, width=5, seed=0):
    """Vectors that tell something of the site, in double precision."""
    sites = torch.arange(n) % 7 // 3  # 3, 3 and 1 in seven
    vectors = torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    vectors[:, 0] += sites
    return vectors, sites


def fitted_head(vectors, sites, ridge):
    """scikit-learn's ridge regression of standardised membership, which makes sites count alike, and its penalty."""
    member = np.eye(3)[sites]
    target = (member - member.mean(axis=0)) / np.sqrt(member.mean(axis=0))
    penalty = ridge * vectors.var(axis=0).mean()
    return Ridge(alpha=len(vectors) * penalty).fit(vectors, target), target, penalty


@pytest.mark.parametrize("ridge", [0.01, 0.1, 3.0])
def test_the_share_is_what_a_ridge_regression_of_the_sites_explains(ridge):
    vectors, sites = of_three_sites()
    head, target, _ = fitted_head(vectors.numpy(), sites.numpy(), ridge)
    expected = (target * head.predict(vectors.numpy())).mean(axis=0).sum() / (target**2).mean(axis=0).sum()
    assert explained_sites(vectors, sites, ridge).item() == pytest.approx(expected)
    assert 0.1 < expected < 0.9


def test_without_a_penalty_it_is_the_mean_squared_canonical_correlation():
    vectors, sites = of_three_sites()
    member = torch.eye(3, dtype=torch.float64)[sites][:, :2]
    bases = [np.linalg.qr((each - each.mean(dim=0)).numpy())[0] for each in (vectors, member)]
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    assert explained_sites(vectors, sites, ridge=1e-12).item() == pytest.approx((correlations**2).mean())


def test_the_gradient_is_the_reversed_one_of_a_head_at_its_best():
    """The envelope theorem: the head is held fixed, as scikit-learn finds it, and its penalised error is differentiated."""
    vectors, sites = of_three_sites()
    head, target, penalty = fitted_head(vectors.numpy(), sites.numpy(), 0.1)
    coefficients, truth = torch.from_numpy(head.coef_.T), torch.from_numpy(target)
    watched = vectors.clone().requires_grad_()
    error = (truth - (watched - watched.mean(dim=0)) @ coefficients).square().sum(dim=1).mean()
    error = error + 0.1 * watched.var(dim=0, correction=0).mean() * coefficients.square().sum()
    expected = -torch.autograd.grad(error, watched)[0] / truth.square().sum(dim=1).mean()
    watched = vectors.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(explained_sites(watched, sites, 0.1), watched)[0], expected)
    assert penalty > 0


@given(seed=st.integers(0, 999), scale=st.floats(1e-2, 1e2), shift=st.floats(-5, 5), n=st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_longer_vectors_or_others_from_the_same_place_hide_nothing(seed, scale, shift, n):
    vectors, sites = of_three_sites(n, seed=seed)
    found = explained_sites(vectors, sites).item()
    assert -1e-9 <= found <= 1 + 1e-9
    assert explained_sites(scale * vectors + shift, sites).item() == pytest.approx(found, rel=1e-6)
    assert explained_sites(vectors, 2 - sites).item() == pytest.approx(found), "names of sites mean nothing"


@pytest.mark.parametrize("vectors", [torch.randn(6, 4, generator=generator()), torch.ones(1, 4), torch.ones(6, 4)])
@pytest.mark.parametrize("n_sites", [1, 2])
def test_one_site_or_one_place_explains_nothing(vectors, n_sites):
    watched = vectors.clone().requires_grad_()
    share = explained_sites(watched, torch.arange(len(vectors)) % n_sites)
    gradient = torch.autograd.grad(share, watched)[0]
    assert gradient.isfinite().all()
    assert (share > 0) == (n_sites == 2 and len(vectors.unique()) > 1)


def test_a_step_is_judged_with_the_minibatches_before_it(make_encoder, make_batch):
    encoder, batches = make_encoder(dropout=0.0), [make_batch(8, 8, seed=seed) for seed in range(3)]
    objective = prepared(encoder, memory=12)
    sites = torch.tensor([int(SITES[subject] == "other") for subject in batches[0].subject_ids])
    vectors = torch.empty(0, encoder.pooled_width)
    for number, batch in enumerate(batches):
        pooled = encoder(batch).pooled.detach()
        vectors = torch.cat([vectors[-12:], pooled])
        expected = explained_sites(vectors, sites.repeat(3)[-len(vectors) :], 0.1)
        for _ in range(2):
            loss = objective(encoder, batch, generator())
            torch.testing.assert_close(loss.total, expected)
        assert loss.parts["site_explained"] == loss.total
        objective.after_step(encoder, 0.5)
        assert int((objective.state_dict()["remembered_sites"] >= 0).sum()) == min(12, 8 * (number + 1)), "a resumed run goes on with it"
    with torch.no_grad():
        alone = objective.eval()(encoder, batches[0], generator()).total
    torch.testing.assert_close(alone, explained_sites(encoder(batches[0]).pooled, sites).detach())


def test_a_long_memory_does_not_make_the_gradient_small(make_encoder, make_batch):
    """A minibatch that is remembered four times and comes again: what all five copies would give reaches the encoder through one."""
    encoder, batch = make_encoder(dropout=0.0), make_batch(8, 8)
    watched = encoder.pool.project.weight
    objective = prepared(encoder, memory=32)
    expected = torch.autograd.grad(objective(encoder, batch, generator()).total, watched)[0]
    for _ in range(4):
        objective(encoder, batch, generator())
        objective.after_step(encoder, 0.5)
    torch.testing.assert_close(torch.autograd.grad(objective(encoder, batch, generator()).total, watched)[0], expected, rtol=1e-3, atol=1e-6)


def of_two_scanners(make_batch, n_rows, seed):
    """Connectomes of one atlas to which either scanner adds a pattern or takes it away."""
    batch = make_batch(n_rows, 10, seed=seed)
    sign = torch.where(torch.arange(n_rows) % 2 == 0, 0.4, -0.4)[:, None, None]
    return replace(batch, centroids=batch.centroids[:1].expand(n_rows, -1, -1), weights=batch.weights + sign * make_batch(1, 10, seed=99).weights)


def site_read(encoder, batch):
    """Accuracy of a fresh probe on the embedding."""
    with torch.no_grad():
        pooled = encoder.eval()(batch).pooled.numpy()
    encoder.train()
    return cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(C=0.1)), pooled, np.arange(len(batch)) % 2, cv=5).mean()


def test_a_fresh_probe_reads_the_site_of_others_worse_than_before(make_encoder, make_batch):
    """A head trained beside the encoder with reversed gradients left the probe at 0.93 of 0.95 here: the encoder ran ahead of it."""
    before, after = [], []
    for seed in range(3):
        encoder = make_encoder(dropout=0.0)
        train, others = of_two_scanners(make_batch, 96, seed), of_two_scanners(make_batch, 96, seed + 10)
        objective = prepared(encoder, sites={subject: str(row % 2) for row, subject in enumerate(train.subject_ids)})
        optimizer, order = torch.optim.Adam(encoder.parameters(), lr=0.01), torch.Generator().manual_seed(seed)
        before.append(site_read(encoder, others))
        for _ in range(60):
            optimizer.zero_grad()
            objective(encoder, train[torch.randperm(96, generator=order)[:32].tolist()], order).total.backward()
            optimizer.step()
            objective.after_step(encoder, 0.5)
        after.append(site_read(encoder, others))
    assert np.mean(before) > 0.9
    assert np.mean(after) < np.mean(before) - 0.1


def test_sites_are_those_of_the_cohort_unless_given(make_cohort):
    cohort = make_cohort(n_subjects=6, n_sites=3)
    objective = SiteAdversary(ridge=0.5, memory=9)
    told = objective.for_cohort(cohort)
    assert objective.sites is None
    assert told.sites == dict(zip(cohort.ids, ["site-0", "site-1", "site-2"] * 2, strict=True))
    assert (told.ridge, told.memory, told.site_names) == (0.5, 9, ["site-0", "site-1", "site-2"])
    given = SiteAdversary(SITES)
    assert given.for_cohort(cohort) is given
    assert WeightedSum({"sites": objective}).for_cohort(cohort).parts["sites"].sites == told.sites


def test_what_cannot_be_told_apart_is_refused(make_cohort, make_encoder, make_batch):
    with pytest.raises(DataError, match=r"at least two sites to tell apart, found \['a'\]. Leave the objective out"):
        SiteAdversary({"sub-000": "a", "sub-001": "a"})
    cohort = make_cohort(n_subjects=4)
    without = Schema([cohort.schema[name] for name in ("diagnosis", "age", "sex")])
    plain = Cohort(cohort.name, cohort.subjects.drop(columns="site"), without, cohort.regions, cohort.excluded)
    with pytest.raises(DataError, match="'toy' to have a column with the role 'site', found none"):
        SiteAdversary().for_cohort(plain)
    encoder = make_encoder()
    with pytest.raises(ConfigError, match=r"SiteAdversary that knows the sites, found one without. Give sites, or call for_cohort"):
        SiteAdversary().prepare(encoder)
    with pytest.raises(ConfigError, match=r"SiteAdversary prepared for an encoder, found one without 'remembered'"):
        SiteAdversary(SITES)(encoder, make_batch(8), generator())
    with pytest.raises(DataError, match=r"a site for every subject of the batch, found none for \['sub-008'\]"):
        prepared(encoder)(encoder, make_batch(9), generator())
    with pytest.raises(ConfigError, match=r"above 0, found \{'ridge': 0\}"):
        SiteAdversary(ridge=0)
