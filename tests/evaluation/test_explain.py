"""Saliency against the closed form of linear models, and against what was planted in a simulated cohort."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from graphssl.atlases import simulated_atlas
from graphssl.data import Atlas, Cohort, Provenance, RegionData
from graphssl.datasets import simulate
from graphssl.encoders import AbstractEncoder, Embedding, GraphTransformer
from graphssl.errors import DataError
from graphssl.evaluation import saliency
from graphssl.evaluation.explain import integrated_gradients, margins
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.training import Model, untrained


class Linear(AbstractEncoder):
    """The pooled vector is a weighted sum of the connections, plus dropout that must not act when a model is explained."""

    def __init__(self, weights, dropout=0.5):
        super().__init__()
        self.weights, self.dropout = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32)), nn.Dropout(dropout)
        self.token_width = self.pooled_width = 1

    def forward(self, batch):
        n = batch.weights.shape[1]
        pooled = self.dropout(batch.weights * self.weights[:n, :n]).sum(dim=(1, 2), keepdim=True).squeeze(-1)
        return Embedding(batch.weights.sum(dim=-1, keepdim=True), batch.mask, pooled)


class Square(Linear):
    """The square of what `Linear` gives; integrated gradients of it have a closed form too."""

    def forward(self, batch):
        embedding = super().forward(batch)
        return embedding._replace(pooled=embedding.pooled.square())


def head_of(slopes):
    """A head with one slope a class."""
    head = nn.Linear(1, len(slopes))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(slopes).unsqueeze(1))
        head.bias.copy_(torch.arange(len(slopes)))
    return head


def model_of(cohort, encoder, slopes=(-0.5, 1.5), **builder):
    classes = tuple(f"class {k}" for k in range(len(slopes)))
    return Model(ConnectomeBuilder(**builder).fit(cohort), encoder, head_of(slopes), classes, "diagnosis")


def random_weights(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, n)).astype(np.float32)


def spread_of(batch):
    """Population standard deviation of each connection over the subjects in whom it is visible, one at a time."""
    n = batch.weights.shape[1]
    spread = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            seen = batch.visible[:, i, j].numpy()
            if seen.any():
                spread[i, j] = batch.weights[:, i, j].numpy()[seen].astype(float).std()
    return spread


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=40, n_regions=9, n_timepoints=20, effect=1.0)


@pytest.mark.parametrize("options", [{}, {"center": False}, {"fisher_z": False}])
def test_of_a_linear_model_it_is_weight_times_spread(cohort, options):
    """A connection stands twice in the matrix, so its effect is the sum of both weights."""
    weights = random_weights(9)
    model = model_of(cohort, Linear(weights), **options)
    expected = (1.5 + 0.5) * (weights + weights.T) * spread_of(model.builder.transform(cohort))
    np.fill_diagonal(expected, 0.0)
    for steps in (1, 8):
        assert_allclose(saliency(model, cohort, steps=steps).connections, expected, rtol=1e-4, atol=1e-5)


def test_with_several_classes_it_is_the_last_against_the_mean_of_the_others(cohort):
    weights = random_weights(9)
    model = model_of(cohort, Linear(weights), slopes=(1.0, -3.0, 4.0))
    expected = (4.0 - (1.0 - 3.0) / 2) * (weights + weights.T) * spread_of(model.builder.transform(cohort))
    np.fill_diagonal(expected, 0.0)
    assert_allclose(saliency(model, cohort).connections, expected, rtol=1e-4, atol=1e-5)


def test_of_a_square_it_is_the_gradient_half_way(cohort):
    """The path integral of the gradient of (a·w)² from 0 to w is a (a·w); the midpoint rule is exact for it."""
    weights = random_weights(9)
    model = model_of(cohort, Square(weights))
    batch = model.builder.transform(cohort)
    inner = (batch.weights.numpy() * weights).sum(axis=(1, 2)).mean()
    expected = (1.5 + 0.5) * inner * (weights + weights.T) * spread_of(batch)
    np.fill_diagonal(expected, 0.0)
    for steps in (1, 5):
        assert_allclose(saliency(model, cohort, steps=steps).connections, expected, rtol=1e-3, atol=1e-4)


def test_a_region_without_signal_counts_where_it_has_one(cohort):
    data = cohort.regions["toy"]
    values = {s: v.copy() for s, v in data.values.items()}
    for subject in cohort.ids[:15]:
        values[subject][:, 4] = 0.0
    part = Cohort("toy", cohort.subjects, cohort.schema, {"toy": RegionData(data.atlas, values, data.provenance)})
    weights = random_weights(9)
    model = model_of(part, Linear(weights))
    found = saliency(model, part)
    expected = 2.0 * (weights + weights.T) * spread_of(model.builder.transform(part))
    np.fill_diagonal(expected, 0.0)
    assert_allclose(found.connections, expected, rtol=1e-4, atol=1e-5)
    by_hand = np.mean([np.arctanh(np.corrcoef(values[s].T.astype(float))[3, 4]) for s in part.ids[15:]])
    assert found.mean_connectome[3, 4] == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("center", [True, False])
def test_mean_connectome_is_the_mean_of_fisher_z(cohort, center):
    found = saliency(model_of(cohort, Linear(random_weights(9)), center=center), cohort)
    z = [np.arctanh(np.corrcoef(v.T.astype(float)) - np.eye(9)) for v in cohort.regions["toy"].values.values()]
    assert_allclose(found.mean_connectome, np.mean(z, axis=0), atol=1e-4)


def test_subjects_beyond_one_chunk_count_alike(cohort):
    """Forty subjects make two chunks; the mean over each half, averaged, is the mean over all."""
    model = model_of(cohort, Square(random_weights(9)))
    halves = [saliency(model, cohort.select(ids)) for ids in (cohort.ids[:20], cohort.ids[20:])]
    spreads = [spread_of(model.builder.transform(cohort.select(ids))) for ids in (cohort.ids[:20], cohort.ids[20:], cohort.ids)]
    off = ~np.eye(9, dtype=bool)
    gradients = [half.connections[off] / spread[off] for half, spread in zip(halves, spreads, strict=False)]
    assert_allclose(saliency(model, cohort).connections[off] / spreads[2][off], np.mean(gradients, axis=0), rtol=1e-3, atol=1e-4)


def test_explaining_leaves_the_model_as_it_was(cohort):
    model = model_of(cohort, Linear(random_weights(9)))
    for training in (True, False):
        model.encoder.train(training)
        first = saliency(model, cohort)
        assert model.encoder.training is training
        assert_array_equal(first.connections, saliency(model, cohort).connections)
    assert model.encoder.weights.grad is None


# Tables


def test_regions_are_ranked_by_the_mean_size_of_their_connections(cohort):
    found = saliency(model_of(cohort, Linear(random_weights(9))), cohort)
    table = found.regions
    assert table.columns.tolist() == ["label", "name", "network", "hemisphere", "x", "y", "z", "saliency", "rank"]
    assert table["rank"].tolist() == list(range(1, 10))
    assert table["saliency"].is_monotonic_decreasing
    atlas = cohort.atlas("toy")
    for row in table.itertuples():
        k = atlas.labels.tolist().index(row.label)
        assert (row.name, row.network) == (atlas.names[k], atlas.networks[k])
        assert_allclose([row.x, row.y, row.z], atlas.centroids[k])
        assert row.saliency == pytest.approx(np.abs(found.connections[k]).mean(), rel=1e-5)


def test_network_pairs_hold_every_connection_once(cohort):
    found = saliency(model_of(cohort, Linear(random_weights(9))), cohort)
    table = found.network_pairs
    assert set(zip(table["network_a"], table["network_b"], strict=True)) == {
        ("default", "default"), ("default", "motor"), ("default", "visual"), ("motor", "motor"), ("motor", "visual"), ("visual", "visual")
    }  # fmt: skip
    assert table["n_connections"].sum() == 9 * 8 / 2
    upper = found.connections[np.triu_indices(9, k=1)]
    assert (table["effect"] * table["n_connections"]).sum() == pytest.approx(upper.sum(), rel=1e-4)
    assert table["saliency"].tolist() == sorted(table["effect"].abs(), reverse=True)
    networks = np.asarray(cohort.atlas("toy").networks)
    row = table[(table["network_a"] == "default") & (table["network_b"] == "motor")].iloc[0]
    assert row["effect"] == pytest.approx(found.connections[np.ix_(networks == "default", networks == "motor")].mean(), rel=1e-4)


def test_what_points_one_way_outranks_what_cancels(cohort):
    """Larger weights of mixed sign between two networks say less of the pair than small ones of one sign."""
    networks = np.asarray(cohort.atlas("toy").networks)
    weights = np.zeros((9, 9), np.float32)
    weights[np.ix_(networks == "default", networks == "visual")] = 0.2
    mixed = np.ix_(networks == "default", networks == "motor")
    weights[mixed] = [[1, -1, 0], [-1, 1, 0], [0, 0, 0]]
    first = saliency(model_of(cohort, Linear(weights)), cohort).network_pairs.iloc[0]
    assert (first["network_a"], first["network_b"]) == ("default", "visual")


def test_an_atlas_without_networks_has_no_pairs(cohort):
    data = cohort.regions["toy"]
    atlas = replace(data.atlas, networks=("",) * 9)
    bare = Cohort("toy", cohort.subjects, cohort.schema, {"toy": RegionData(atlas, data.values, data.provenance)})
    found = saliency(model_of(bare, Linear(random_weights(9))), bare)
    assert isinstance(found.network_pairs, pd.DataFrame)
    assert len(found.network_pairs) == 0
    assert len(found.regions) == 9


def test_edges_hold_every_connection_once_with_both_ends(cohort):
    found = saliency(model_of(cohort, Linear(random_weights(9))), cohort)
    table = found.edges
    assert len(table) == 9 * 8 / 2
    assert table["saliency"].is_monotonic_decreasing
    assert table["rank"].tolist() == list(range(1, 37))
    atlas = cohort.atlas("toy")
    place = {label: k for k, label in enumerate(atlas.labels.tolist())}
    for row in table.itertuples():
        a, b = place[row.label_a], place[row.label_b]
        assert a < b
        assert row.effect == found.connections[a, b]
        assert (row.name_a, row.network_b) == (atlas.names[a], atlas.networks[b])
        assert_allclose([row.x_b, row.y_b, row.z_b], atlas.centroids[b])


def test_hemispheres_follow_the_coordinates(cohort):
    data = cohort.regions["toy"]
    centroids = data.atlas.centroids.copy()
    centroids[:3, 0] = [-20.0, 1.0, 20.0]
    moved = Cohort("toy", cohort.subjects, cohort.schema, {"toy": RegionData(replace(data.atlas, centroids=centroids), data.values, data.provenance)})
    table = saliency(model_of(moved, Linear(random_weights(9))), moved).regions.set_index("name")
    assert table.loc[list(data.atlas.names[:3]), "hemisphere"].tolist() == ["left", "midline", "right"]


def test_attention_stands_beside_it_where_there_is_any(cohort):
    assert saliency(model_of(cohort, Linear(random_weights(9))), cohort).attention is None
    found = saliency(random_transformer(cohort), cohort, steps=1)
    assert_allclose(found.attention.sum(axis=1), 1.0, rtol=1e-4)
    by_label = found.regions.set_index("label")["attention"]
    assert_allclose(by_label.loc[cohort.atlas("toy").labels], found.attention.mean(axis=0), rtol=1e-5)
    assert found.regions["attention"].sum() == pytest.approx(1.0, rel=1e-4)
    assert (found.edges["attention"] > 0).all()


def test_a_region_that_nobody_has_keeps_its_place(cohort):
    """The last region has no signal in anyone, and the batch is cut before it; the tables are not."""
    data = cohort.regions["toy"]
    values = {s: np.where(np.arange(9) == 8, 0.0, v) for s, v in data.values.items()}
    part = Cohort("toy", cohort.subjects, cohort.schema, {"toy": RegionData(data.atlas, values, data.provenance)})
    found = saliency(random_transformer(part), part, steps=1)
    assert found.connections.shape == found.mean_connectome.shape == found.attention.shape == (9, 9)
    assert (found.connections[8] == 0).all()
    assert len(found.regions) == 9


# Completeness


def random_transformer(cohort, seed=0):
    model = untrained(cohort, encoder=GraphTransformer(16, 2, 2), seed=seed)
    torch.manual_seed(seed)
    return model.with_head(nn.Linear(model.encoder.pooled_width, 2), ("a", "b"), "diagnosis")


def test_attributions_sum_to_the_difference_of_the_logit(cohort):
    """The axiom of completeness, of every subject by itself: from the training mean to the connectome."""
    model = random_transformer(cohort)
    batch = model.builder.transform(cohort)
    sums = integrated_gradients(model, batch, steps=64).sum(dim=(1, 2))
    with torch.no_grad():
        model.encoder.eval()
        difference = margins(model, batch) - margins(model, replace(batch, weights=torch.zeros_like(batch.weights)))
    assert difference.abs().max() > 0.05, "there must be something to attribute"
    assert_allclose(sums, difference, atol=0.02 * float(difference.abs().max()))


def test_attributions_of_a_linear_model_are_weight_times_slope(cohort):
    weights = random_weights(9)
    model = model_of(cohort, Linear(weights))
    batch = model.builder.transform(cohort)
    assert_allclose(integrated_gradients(model, batch, steps=3), 2.0 * batch.weights * torch.as_tensor(weights), rtol=1e-4, atol=1e-5)


# Several atlases


def with_coarse(cohort, ids):
    """The cohort with a second atlas of four regions, for some subjects."""
    data = cohort.regions["toy"]
    atlas = Atlas("coarse", [1, 2, 3, 4], ("a", "b", "c", "d"), data.atlas.centroids[:4], data.atlas.networks[:4])
    values = {s: data.values[s][:, :4] for s in ids}
    return Cohort("two", cohort.subjects, cohort.schema, {**cohort.regions, "coarse": RegionData(atlas, values, Provenance("timeseries"))})


def test_one_atlas_of_several_is_explained(cohort):
    both = with_coarse(cohort, cohort.ids[:20])
    weights = random_weights(9)
    model = model_of(both, Linear(weights))
    assert saliency(model, both).atlas.name == "toy"
    found = saliency(model, both, atlas="coarse")
    assert found.connections.shape == found.mean_connectome.shape == (4, 4)
    part = weights[:4, :4]
    batch = model.builder.transform(both)
    rows = [k for k, name in enumerate(batch.atlas) if name == "coarse"]
    expected = 2.0 * (part + part.T) * spread_of(batch[rows])
    np.fill_diagonal(expected, 0.0)
    assert_allclose(found.connections, expected, rtol=1e-4, atol=1e-5)


def test_no_subject_in_the_atlas(cohort):
    both = with_coarse(cohort, cohort.ids[:20])
    model = model_of(both, Linear(random_weights(9)))
    with pytest.raises(DataError, match=r"data in atlas 'coarse' to explain, found atlases \['toy'\]"):
        saliency(model, both.select(cohort.ids[20:]), atlas="coarse")


def test_a_model_without_a_head(cohort):
    with pytest.raises(DataError, match="fine-tuned model to explain, found one without a head"):
        saliency(untrained(cohort, encoder=GraphTransformer(8, 1, 2)), cohort)
    bare = untrained(cohort, encoder=GraphTransformer(8, 1, 2))
    with pytest.raises(DataError, match="found one without a head"):
        integrated_gradients(bare, bare.builder.transform(cohort))


# Truth


def test_the_planted_pairs_of_networks_rank_first():
    """A model that weighs each connection by how far patients and controls lie apart reads the networks that the disease acts on."""
    simulation = simulate([simulated_atlas(40)], n_subjects=100, sites=2, effect=0.8, missing_region_rate=0.0, seed=3)
    cohort, truth = simulation.cohort, simulation.truth
    model = model_of(cohort, Linear(np.zeros((40, 40))))
    batch = model.builder.transform(cohort)
    ill = torch.tensor((cohort.subjects["diagnosis"] == "patient").to_numpy())
    with torch.no_grad():
        model.encoder.weights.copy_(batch.weights[ill].mean(dim=0) - batch.weights[~ill].mean(dim=0))
    table = saliency(model, cohort).network_pairs
    first = {frozenset(pair) for pair in table[["network_a", "network_b"]].head(len(truth.affected)).itertuples(index=False, name=None)}
    assert first == {frozenset(pair) for pair in truth.affected}
    assert (table["effect"].head(len(truth.affected)) != 0).all()
