import math

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import DataError
from graphssl.statistics.metrics import auroc, bootstrap_interval
from graphssl.statistics.predictions import bootstrap_over_splits, only, probability_columns, scored_splits


def predictions(sizes: dict[str, int], seeds: tuple[int, ...] = (0,), methods: tuple[str, ...] = ("m",)) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for split, n in sizes.items():
        for method in methods:
            for seed in seeds:
                for k in range(n):
                    p = 1 / (1 + math.exp(-(k % 2) - generator.normal()))
                    rows.append((f"{split}{k:03d}", split, seed, method, 1.0, k % 2, 1 - p, p, "dx", "loso"))
    columns = ["subject_id", "split", "seed", "method", "label_fraction", "y_true", "p_0", "p_1", "task", "protocol"]
    return pd.DataFrame(rows, columns=columns)


def test_test_sets_hold_seeds_side_by_side() -> None:
    frame = predictions({"a": 6, "b": 4}, seeds=(0, 1, 2))
    parts = scored_splits(frame.sample(frac=1, random_state=0), "m")
    assert list(parts) == ["a", "b"]
    assert parts["a"].p.shape == (3, 6)
    assert parts["b"].subjects == ("b000", "b001", "b002", "b003")
    expected = frame[(frame["split"] == "a") & (frame["seed"] == 1)]["p_1"].to_numpy()
    np.testing.assert_allclose(parts["a"].p[1], expected)
    assert parts["a"].sites == ("",) * 6
    assert scored_splits(frame.assign(site=frame["subject_id"].str[-1]), "m")["b"].sites == ("0", "1", "2", "3")


def test_many_classes_keep_their_columns() -> None:
    frame = predictions({"a": 6}).assign(p_2=0.0)
    assert probability_columns(frame) == ["p_0", "p_1", "p_2"]
    assert scored_splits(frame, "m")["a"].p.shape == (1, 6, 3)


def test_one_split_and_seed_is_the_plain_bootstrap() -> None:
    frame = predictions({"a": 60})
    found = bootstrap_over_splits(scored_splits(frame, "m"), n_resamples=4000)
    plain = bootstrap_interval(frame["y_true"], frame["p_1"], n_resamples=4000)
    assert found.estimate == pytest.approx(plain.estimate)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_splits_count_the_same_and_one_class_is_left_out() -> None:
    frame = predictions({"a": 40, "b": 20, "c": 1}, seeds=(0, 1))
    found = bootstrap_over_splits(scored_splits(frame, "m"), n_resamples=200)
    by_split = [np.mean([auroc(part["y_true"], part["p_1"]) for _, part in frame[frame["split"] == split].groupby("seed")]) for split in ("a", "b")]
    assert found.estimate == pytest.approx(np.mean(by_split))
    assert found.n == 60
    assert math.isnan(bootstrap_over_splits(scored_splits(predictions({"c": 1}), "m")).estimate)


def test_predictions_that_do_not_fit() -> None:
    frame = predictions({"a": 6}, seeds=(0, 1))
    with pytest.raises(DataError, match="predictions with the columns subject_id, split"):
        scored_splits(frame.drop(columns="p_0"), "m")
    with pytest.raises(DataError, match="predictions with the columns subject_id, split"):
        scored_splits(frame.drop(columns="task"), "m")
    with pytest.raises(DataError, match=r"predictions with method 'other', found \['m'\]"):
        scored_splits(frame, "other")
    with pytest.raises(DataError, match=r"label_fraction 0.1, found \[1.0\]"):
        scored_splits(frame, "m", label_fraction=0.1)
    with pytest.raises(DataError, match=r"predictions of one task, found \['dx', 'sex'\]"):
        scored_splits(pd.concat([frame, frame.assign(task="sex")]), "m")
    with pytest.raises(DataError, match=r"one prediction a subject, split and seed of 'm', found several for \['a000'\]"):
        scored_splits(pd.concat([frame, frame.head(1)]), "m")
    with pytest.raises(DataError, match="every seed of 'm' in split 'a' to score the same subjects"):
        scored_splits(frame.iloc[1:], "m")
    with pytest.raises(DataError, match="the same labels for every seed of 'm' in split 'a'"):
        scored_splits(frame.assign(y_true=np.where(frame["seed"] == 1, 1 - frame["y_true"], frame["y_true"])), "m")
    with pytest.raises(DataError, match="found an empty table"):
        only(frame.head(0), {"task": None}, "predictions")
