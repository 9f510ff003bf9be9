import math

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import DataError
from graphssl.results import FIELDS
from graphssl.statistics.compare import Comparison, corrected_resampled_t_test, delong_test, paired_comparison, paired_delong, wilcoxon_test
from graphssl.statistics.metrics import auroc


def results(values: dict[tuple[str, str, int], float], fraction: float = 1.0, n_train: int = 80) -> pd.DataFrame:
    rows = [("toy", "dx", "loso", method, split, seed, fraction, "auroc", value, n_train, 20, 1.0) for (method, split, seed), value in values.items()]
    return pd.DataFrame(rows, columns=list(FIELDS))


def predictions(sizes: list[int], gain: float, seeds: int = 1, seed: int = 0, separation: float = 1.0) -> pd.DataFrame:
    """Two methods over sites; scores of each site are shifted, so that ranks across sites mean nothing."""
    generator = np.random.default_rng(seed)
    parts = []
    for site, n in enumerate(sizes):
        y = np.arange(n) % 2
        shared = generator.normal(size=n)
        for method, strength in (("ours", separation + gain), ("theirs", separation)):
            for draw in range(seeds):
                score = strength * y + shared + 0.6 * generator.normal(size=n) + (2 * site if method == "ours" else -site)
                p = 1 / (1 + np.exp(-score))
                ids = [f"s{site}-{k:03d}" for k in range(n)]
                parts.append(
                    pd.DataFrame({"subject_id": ids, "split": f"site-{site}", "seed": draw, "method": method, "y_true": y, "p_0": 1 - p, "p_1": p})
                )
    return pd.concat(parts).assign(label_fraction=1.0, task="dx", protocol="loso")


def alike(found: Comparison, expected: Comparison) -> bool:
    numbers = ("difference", "low", "high", "p_value")
    assert [getattr(found, name) for name in numbers] == pytest.approx([getattr(expected, name) for name in numbers], nan_ok=True)
    return (found.n, found.test) == (expected.n, expected.test)


VALUES = {("ours", s, k): v for s, vs in {"a": (0.8, 0.9), "b": (0.7, 0.6), "c": (0.9, 0.9)}.items() for k, v in enumerate(vs)}
BASELINE = {("theirs", "a", 0): 0.75, ("theirs", "b", 0): 0.66, ("theirs", "c", 0): 0.80}


def test_seeds_are_averaged_before_splits_are_compared() -> None:
    found = paired_comparison(results({**VALUES, **BASELINE}), "ours", "theirs")
    assert alike(found, corrected_resampled_t_test([0.85 - 0.75, 0.65 - 0.66, 0.9 - 0.8], 80, 20))
    assert found.n == 3


def test_wilcoxon_over_sites() -> None:
    found = paired_comparison(results({**VALUES, **BASELINE}), "ours", "theirs", test="wilcoxon")
    assert alike(found, wilcoxon_test([0.85 - 0.75, 0.65 - 0.66, 0.9 - 0.8]))


def test_a_label_fraction_is_corrected_by_what_it_was_drawn_from() -> None:
    whole = paired_comparison(results({**VALUES, **BASELINE}), "ours", "theirs")
    tenth = paired_comparison(results({**VALUES, **BASELINE}, fraction=0.1, n_train=8), "ours", "theirs", label_fraction=0.1)
    assert alike(tenth, whole)


def test_splits_without_a_value_are_left_out() -> None:
    found = paired_comparison(results({**VALUES, **BASELINE, ("theirs", "b", 0): math.nan}), "ours", "theirs")
    assert alike(found, corrected_resampled_t_test([0.85 - 0.75, 0.9 - 0.8], 80, 20))


def test_the_same_results_do_not_differ() -> None:
    found = paired_comparison(results(VALUES), "ours", "ours")
    assert (found.difference, found.p_value) == (0, 1)


def test_results_that_do_not_fit() -> None:
    table = results({**VALUES, **BASELINE})
    with pytest.raises(DataError, match=r"results of the method 'ridge', found \['ours', 'theirs'\]"):
        paired_comparison(table, "ours", "ridge")
    with pytest.raises(DataError, match=r"results with metric 'f1', found \['auroc'\]"):
        paired_comparison(table, "ours", "theirs", "f1")
    with pytest.raises(DataError, match=r"results of one task, found \['dx', 'sex'\]. Name the one to use: task="):
        paired_comparison(pd.concat([table, table.assign(task="sex")]), "ours", "theirs")
    with pytest.raises(DataError, match="a split scored by both 'ours' and 'theirs'"):
        paired_comparison(results({("ours", "a", 0): 0.5, ("theirs", "b", 0): 0.5}), "ours", "theirs")
    with pytest.raises(DataError, match="each number once, found 9"):
        paired_comparison(pd.concat([table, table]), "ours", "theirs")
    with pytest.raises(DataError, match="'corrected_t' or 'wilcoxon', found 'sign'"):
        paired_comparison(table, "ours", "theirs", test="sign")  # type: ignore[arg-type]


def test_one_test_set_is_the_plain_delong_test() -> None:
    frame = predictions([120], gain=0.4)
    wide = frame.pivot_table(index="subject_id", columns="method", values="p_1")
    y = frame[frame["method"] == "ours"].set_index("subject_id")["y_true"].loc[wide.index]
    plain, found = delong_test(y, wide["ours"], wide["theirs"]), paired_delong(frame, "ours", "theirs")
    assert (found.difference, found.low, found.high, found.p_value) == pytest.approx((plain.difference, plain.low, plain.high, plain.p_value))


@pytest.mark.parametrize("weights", ["size", "inverse_variance"])
def test_test_sets_are_combined_by_their_weights(weights: str) -> None:
    frame = predictions([60, 90, 40], gain=0.4)
    parts = [delong_test(*_columns(part)) for _, part in frame.groupby("split")]
    errors = np.asarray([(part.high - part.low) / (2 * 1.959964) for part in parts])
    weight = np.asarray([15.0, 22.5, 10.0]) if weights == "size" else errors**-2
    weight /= weight.sum()
    found = paired_delong(frame, "ours", "theirs", weights=weights)  # type: ignore[arg-type]
    error = math.sqrt((weight**2 * errors**2).sum())
    assert found.difference == pytest.approx(weight @ [part.difference for part in parts])
    assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(error, rel=1e-6)
    assert found.n == 190


def test_sites_are_never_ranked_against_each_other() -> None:
    """The scores of `ours` drift with the site. Pooled ranks would mix the sites up; within sites nothing changes."""
    frame = predictions([80, 80, 80], gain=0.0)
    moved = frame.assign(p_1=np.where(frame["split"] == "site-1", frame["p_1"] / 10, frame["p_1"]))
    moved["p_0"] = 1 - moved["p_1"]
    assert paired_delong(moved, "ours", "theirs").difference == pytest.approx(paired_delong(frame, "ours", "theirs").difference)


def test_seeds_are_averaged_as_aurocs_with_their_covariance() -> None:
    frame = predictions([100], gain=0.3, seeds=3)
    by_seed = {key: auroc(part["y_true"], part["p_1"]) for key, part in frame.groupby(["method", "seed"])}
    found = paired_delong(frame, "ours", "theirs")
    assert found.difference == pytest.approx(np.mean([by_seed["ours", k] - by_seed["theirs", k] for k in range(3)]))
    once = paired_delong(frame[frame["seed"] == 0], "ours", "theirs")
    assert (once.high - once.low) * 3**-0.5 < found.high - found.low < once.high - once.low
    copies = pd.concat([frame[frame["seed"] == 0].assign(seed=k) for k in range(4)])
    assert paired_delong(copies, "ours", "theirs").p_value == pytest.approx(once.p_value)


def test_error_rate_and_size_weights_over_small_sites() -> None:
    """Ten sites of twelve, nearly separable: inverse-variance weights lose most of a true difference, size weights keep it."""
    nothing = [paired_delong(predictions([12] * 10, 0.0, seed=k), "ours", "theirs").p_value < 0.05 for k in range(40)]
    assert np.mean(nothing) <= 0.15
    there = [predictions([12] * 10, 1.0, seed=k, separation=1.5) for k in range(8)]
    by_size = np.mean([paired_delong(frame, "ours", "theirs").difference for frame in there])
    by_variance = np.mean([paired_delong(frame, "ours", "theirs", weights="inverse_variance").difference for frame in there])
    macro = np.mean([np.mean([_difference(part) for _, part in frame.groupby("split")]) for frame in there])
    assert by_size == pytest.approx(macro)
    assert by_variance < 0.8 * by_size


def test_test_sets_too_small_are_left_out() -> None:
    found = paired_delong(predictions([60, 1, 3], gain=0.3), "ours", "theirs")
    assert found.n == 60
    nothing = paired_delong(predictions([1], gain=0.3), "ours", "theirs")
    assert (nothing.n, math.isnan(nothing.p_value)) == (0, True)


def test_predictions_that_do_not_fit() -> None:
    frame = predictions([20], gain=0.3)
    with pytest.raises(DataError, match=r"score the same subjects in split 'site-0', found 1 scored by one only: \['s0-000'\]"):
        paired_delong(frame.iloc[1:], "ours", "theirs")
    other = frame.assign(y_true=np.where(frame["method"] == "ours", 1 - frame["y_true"], frame["y_true"]))
    with pytest.raises(DataError, match="the same labels for 'ours' and 'theirs' in split 'site-0'"):
        paired_delong(other, "ours", "theirs")
    with pytest.raises(DataError, match="'size' or 'inverse_variance', found 'equal'"):
        paired_delong(frame, "ours", "theirs", weights="equal")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="found 3 classes"):
        paired_delong(frame.assign(p_2=0.0), "ours", "theirs")


def _columns(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wide = part.pivot_table(index="subject_id", columns="method", values="p_1")
    y = part[part["method"] == "ours"].set_index("subject_id")["y_true"].loc[wide.index]
    return y.to_numpy(), wide["ours"].to_numpy(), wide["theirs"].to_numpy()


def _difference(part: pd.DataFrame) -> float:
    y, ours, theirs = _columns(part)
    return auroc(y, ours) - auroc(y, theirs)
