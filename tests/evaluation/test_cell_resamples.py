"""Metrics on resamples of the test subjects, beside plain loops over them."""

import numpy as np
import pandas as pd
import pytest

from graphssl.evaluation.cell_resamples import N_RESAMPLES, resampled_classes, resampled_masks
from graphssl.evaluation.segmentation import mean_scores
from graphssl.statistics import bootstrap_interval, recall_by_class
from graphssl.statistics.metrics import resamples


def test_classes_are_resampled_as_a_bootstrap_does():
    generator = np.random.default_rng(0)
    y = np.arange(30) % 3
    p = generator.dirichlet(np.ones(3), size=30)
    found = resampled_classes(y, p, ("a", "b", "c"), np.arange(30))
    interval = bootstrap_interval(y, p, "auroc", n_resamples=N_RESAMPLES, groups=np.arange(30))
    assert np.quantile(found["auroc"], [0.025, 0.975]).tolist() == pytest.approx([interval.low, interval.high])
    drawn = np.repeat(np.arange(30), next(resamples(y, N_RESAMPLES, groups=np.arange(30)))[7].astype(int))
    assert [found[f"recall: {name}"][7] for name in "abc"] == pytest.approx(recall_by_class(y[drawn], p[drawn]))


def test_scans_of_a_family_are_drawn_together():
    y, p = np.arange(40) % 2, np.random.default_rng(0).random(40)
    together = resampled_classes(y, p, ("a", "b"), np.repeat(np.arange(10), 4))
    assert together["brier"].std() > 0
    assert not np.allclose(together["brier"], resampled_classes(y, p, ("a", "b"), np.arange(40))["brier"])


def test_masks_are_averaged_as_they_are_without_resamples():
    generator = np.random.default_rng(0)
    rows = [
        {"subject": f"s{s}", "class": name, **dict(zip(("dice", "iou", "nsd", "hd95"), generator.random(4), strict=True))}
        for s in [*range(8), 3]  # one has two images
        for name in ("head", "tail")
    ]
    scores = pd.DataFrame(rows)
    scores.loc[2, "dice"] = np.nan
    found = resampled_masks(scores, ("head", "tail", "body"))
    assert set(found) == {"dice", "iou", "nsd", "hd95", "dice: head", "dice: tail", "dice: body"}
    assert np.isnan(found["dice: body"]).all()
    counts = np.concatenate(list(resamples(np.zeros(8, dtype=np.int64), N_RESAMPLES)))[5]
    again = pd.concat([scores[scores["subject"] == f"s{s}"].assign(subject=f"{s}-{k}") for s in range(8) for k in range(int(counts[s]))])
    wanted = mean_scores(again, ("head", "tail"))
    assert {name: found[name][5] for name in wanted} == pytest.approx(wanted)
