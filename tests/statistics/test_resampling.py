import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.statistics.metrics import METRICS, recall_by_class
from graphssl.statistics.resampling import WEIGHTED, draw_counts, weighted_mean, weighted_recalls


@settings(max_examples=40)
@given(st.integers(2, 4), st.integers(4, 40), st.integers(0, 1000))
def test_counts_of_one_give_the_plain_metric(n_classes: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    p = generator.dirichlet(np.ones(n_classes), size=n).round(1)
    p = p / p.sum(axis=1, keepdims=True)
    p = p[:, 1] if n_classes == 2 else p
    for name, weighted in WEIGHTED.items():
        np.testing.assert_allclose(weighted(y, p, np.ones((2, n))), METRICS[name](y, p), err_msg=name)


def test_recalls_and_means_of_weights() -> None:
    y, p = np.asarray([0, 0, 1, 1]), np.asarray([0.1, 0.9, 0.8, 0.7])
    assert [recall[0] for recall in weighted_recalls(y, p, np.ones((1, 4)))] == recall_by_class(y, p)
    assert [recall[0] for recall in weighted_recalls(y, p, np.asarray([[3.0, 1.0, 0.0, 2.0]]))] == [0.75, 1.0]
    counts = np.asarray([[1.0, 2.0, 1.0], [0.0, 2.0, 0.0]])
    np.testing.assert_array_equal(weighted_mean(np.asarray([1.0, np.nan, 5.0]), counts), [3.0, np.nan])


def test_each_class_keeps_its_number_of_subjects() -> None:
    y = np.asarray([0] * 5 + [1] * 3 + [2])
    counts = draw_counts(y, 200, np.random.default_rng(0))
    assert counts.shape == (200, 9)
    assert (counts[:, :5].sum(axis=1) == 5).all()
    assert (counts[:, 5:8].sum(axis=1) == 3).all()
    assert (counts[:, 8] == 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.25)


def test_members_of_a_group_are_drawn_together() -> None:
    y = np.asarray([0, 0, 1, 1, 0, 1, 0, 1])
    groups = np.asarray([0, 0, 1, 1, 2, 2, 3, 3])
    counts = draw_counts(y, 100, np.random.default_rng(0), groups)
    for group in range(4):
        members = counts[:, groups == group]
        assert (members == members[:, :1]).all()
    # Groups 2 and 3 hold both classes and are exchanged among themselves only.
    assert (counts[:, [4, 6]].sum(axis=1) == 2).all()


def test_a_resample_without_a_class_is_undefined() -> None:
    y, p = np.asarray([0, 1]), np.asarray([0.2, 0.8])
    assert np.isnan(WEIGHTED["auroc"](y, p, np.asarray([[1.0, 0.0]]))).all()
    assert np.isnan(WEIGHTED["auprc"](y, p, np.asarray([[1.0, 0.0]]))).all()
