"""Similarity: closed forms, chance where there is nothing, and the planted structure recovered by each measure."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from graphssl.errors import DataError
from graphssl.training.meta import JointTraining, MetaSettings, meta_train
from graphssl.training.meta.similarity import embedded, gradient_cosine, representation_similarity, task_gradients, transfer_matrix
from graphssl.training.meta.strategies import DirectLearning

SETTINGS = MetaSettings(max_epochs=2, steps_per_epoch=6, n_support=5, n_query=5, learning_rate=2e-3, accelerator="cpu")


def two_clusters(values):
    """Clusters of a matrix of similarities, by average linkage."""
    distance = 1 - (values + values.T) / 2
    np.fill_diagonal(distance, 0)
    return fcluster(linkage(squareform(distance, checks=False), "average"), 2, "maxclust").tolist()


def test_gradients_recover_the_planted_diseases(two_diseases, make_encoder):
    model = meta_train(two_diseases, encoder=make_encoder(), strategy=JointTraining(), settings=replace(SETTINGS, max_epochs=1))
    found = gradient_cosine(task_gradients(model, two_diseases, n_support=12, n_draws=10), [source.name for source in two_diseases])
    first, _, second, _ = two_clusters(found.values)
    assert two_clusters(found.values) == [first, first, second, second]
    assert first != second
    between = found.values[:2, 2:]
    assert (between < found.low[:2, 2:]).all(), "Diseases are less alike than parts of one dataset."
    assert found.values[0, 1] > found.low[0, 1]
    assert found.values[2, 3] > found.low[2, 3]


def test_transfer_and_representations_recover_the_planted_diseases(two_diseases, make_encoder):
    options = {"n_support": 2, "n_draws": 1, "n_steps": 1, "learning_rate": 0.01, "n_permutations": 200}
    transfer, models = transfer_matrix(two_diseases, encoder=make_encoder(), settings=SETTINGS, **options)
    within = [transfer.values[i, j] for i, j in ((0, 1), (1, 0), (2, 3), (3, 2))]
    assert min(within) > transfer.high.max(), "Of one disease, what is learned serves the other dataset better than chance."
    assert np.mean(within) > transfer.values[:2, 2:].mean()
    assert np.mean(within) > transfer.values[2:, :2].mean()
    assert np.diagonal(transfer.values).min() > 0.8
    seen = representation_similarity([embedded(model, two_diseases[0].cohort) for model in models], transfer.names, n_permutations=50)
    first, _, second, _ = two_clusters(seen.values)
    assert two_clusters(seen.values) == [first, first, second, second]
    assert first != second


def test_cosines_of_known_gradients():
    rng = np.random.default_rng(0)
    means = np.asarray([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    gradients = [mean + 0.01 * rng.standard_normal((8, 3)) for mean in means]
    found = gradient_cosine(gradients, ["a", "b", "c"])
    exact = [part.mean(axis=0) / np.linalg.norm(part.mean(axis=0)) for part in gradients]
    np.testing.assert_allclose(found.values, np.asarray(exact) @ np.asarray(exact).T, atol=1e-10)
    assert found.values[0, 2] < found.low[0, 2]
    assert (found.low <= found.high).all()


def test_draws_of_one_dataset_lie_within_their_interval():
    outside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        parts = [1.0 + rng.standard_normal((6, 20)) for _ in range(3)]
        found = gradient_cosine(parts, "abc", n_permutations=100, seed=seed)
        outside.append(not found.low[0, 1] <= found.values[0, 1] <= found.high[0, 1])
    assert np.mean(outside) < 0.15  # 5 % are expected


def test_alignment_knows_rotations_and_is_zero_for_noise():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 8))
    rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    found = representation_similarity([features, 3 * features @ rotation + 5, rng.standard_normal((60, 30))], "abc", n_permutations=200)
    assert found.values[0, 1] == pytest.approx(1.0)
    assert abs(found.values[0, 2]) < 0.15  # the biased form would give 0.3 here
    assert found.low[0, 2] < found.values[0, 2] < found.high[0, 2]
    assert found.values[0, 1] > found.high[0, 1]


def test_it_is_written_as_json():
    found = representation_similarity([np.eye(5), np.eye(5)[::-1]], ["a", "b"], n_permutations=5)
    record = json.loads(json.dumps(found.to_dict()))
    assert record["names"] == ["a", "b"]
    assert record["measure"] == "representation similarity (CKA)"
    assert np.asarray(record["low"]).shape == (2, 2)
    assert repr(found).startswith("Similarity(representation similarity (CKA), 2 datasets")


def test_bad_input_is_refused(two_diseases, make_encoder):
    with pytest.raises(DataError, match=r"gradients \[draws, parameters\] of each of 2 datasets"):
        gradient_cosine([np.ones((3, 2))], ["a", "b"])
    with pytest.raises(DataError, match="vectors of the same four or more subjects by each of 2 models"):
        representation_similarity([np.ones((5, 2)), np.ones((6, 2))], ["a", "b"])
    start = meta_train(two_diseases, encoder=make_encoder(), strategy=DirectLearning(), settings=SETTINGS)
    with pytest.raises(DataError, match="Expected a model with a head, found none"):
        task_gradients(start, two_diseases)
