"""Tables of studies: pairs, laws and convergence against numbers that were planted."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import DataError
from graphssl.statistics.grid import axes_of, cell_means, convergence, mean_differences, paired_differences, power_laws, with_resamples


def table_of(value, starts=("scratch", "contrast"), sizes=("10", "100", "1000")):
    """One row a start, size, fold and seed; `value(start, size, fold, seed)`."""
    rows = [
        {
            "start": start,
            "size": size,
            "split": f"fold-{fold}",
            "seed": seed,
            "metric": "auroc",
            "value": value(start, float(size), fold, seed),
            "n_labelled": int(size),
            "n_rarest": int(size) // 2,
            "n_pretrained": 0 if start == "scratch" else 300,
            "n_train": 200,
            "n_test": 100,
            "seconds": 1.0,
        }
        for start, size, fold, seed in itertools.product(starts, sizes, range(3), range(2))
    ]
    return pd.DataFrame(rows)


def test_differences_are_paired_by_split_with_seeds_averaged():
    """Folds that are hard for both say nothing of the difference."""
    table = table_of(lambda start, size, fold, seed: 0.5 + 0.1 * fold + 0.01 * seed + (0.05 + 0.01 * fold) * (start != "scratch"))
    found = paired_differences(table, "start", "scratch", "auroc")
    assert found["size"].tolist() == ["10", "100", "1000"]
    assert found["start"].eq("contrast").all()
    assert found["difference"].tolist() == pytest.approx([0.06] * 3)
    assert found["mean_against"].tolist() == pytest.approx([0.605] * 3)
    assert (found["n_splits"] == 3).all()
    assert (found["low"] < 0.06).all()
    assert (found["high"] > 0.06).all()


def resampled_of(table, ahead, tested=lambda start: "same"):
    """Resamples of every row: the same noise in all, and how far the second start is ahead in each."""
    noise = np.random.default_rng(0).normal(0, 0.2, 1000)
    rows = table[["start", "size", "split", "seed", "metric"]]
    draws = [list(value + noise + (start != "scratch") * ahead) for value, start in zip(table["value"], table["start"], strict=True)]
    return rows.assign(tested=[tested(start) for start in table["start"]], resampled=draws)


def test_one_split_has_intervals_over_its_test_subjects():
    table = table_of(lambda start, size, fold, seed: 0.5 + 0.01 * seed + 0.05 * (start != "scratch"))
    table = table[table["split"] == "fold-0"]
    assert paired_differences(table, "start", "scratch", "auroc")["low"].isna().all()
    ahead = np.random.default_rng(1).normal(0, 0.01, 1000)
    both = with_resamples(table, resampled_of(table, ahead))
    low, high = 0.05 + np.quantile(ahead, [0.025, 0.975])
    found = paired_differences(both, "start", "scratch", "auroc")
    assert found["difference"].tolist() == pytest.approx([0.05] * 3)
    assert found["low"].tolist() == pytest.approx([low] * 3)
    assert found["high"].tolist() == pytest.approx([high] * 3)
    assert found["p_value"].tolist() == pytest.approx([2 / 1001] * 3)
    mean = mean_differences(both, "start", "scratch", "auroc").iloc[0]
    assert (mean["low"], mean["high"], mean["n_above"]) == (pytest.approx(low), pytest.approx(high), 3)
    assert cell_means(both, "auroc")["low"].notna().all()
    assert axes_of(both) == ["start", "size"]
    nothing = paired_differences(with_resamples(table, resampled_of(table, ahead - 0.05)), "start", "scratch", "auroc").iloc[0]
    assert nothing["low"] < 0 < nothing["high"]
    assert nothing["p_value"] > 0.5


def test_other_test_subjects_are_paired_with_nobody():
    table = table_of(lambda start, size, fold, seed: 0.5)
    table = table[table["split"] == "fold-0"]
    both = with_resamples(table, resampled_of(table, np.zeros(1000), tested=lambda start: start))
    assert paired_differences(both, "start", "scratch", "auroc")["low"].isna().all()
    assert cell_means(both, "auroc")["low"].notna().all()
    assert with_resamples(table, resampled_of(table, 0).iloc[:0]) is table


def test_intervals_end_where_two_values_can_differ_no_more():
    table = table_of(lambda start, size, fold, seed: 0.5 + (0.2 * fold - 0.2) * (start != "scratch"))
    table = table[table["split"] != "fold-1"]
    assert paired_differences(table, "start", "scratch", "auroc")[["low", "high"]].to_numpy().tolist() == [[-1.0, 1.0]] * 3
    assert mean_differences(table, "start", "scratch", "auroc")[["low", "high"]].to_numpy().tolist() == [[-1.0, 1.0]]
    apart = table.assign(metric="separation")
    assert (paired_differences(apart, "start", "scratch", "separation")["high"] > 1).all()


def test_what_one_of_the_two_lacks_is_no_pair():
    table = table_of(lambda start, size, fold, seed: 0.5 + 0.1 * fold)
    table = table[~((table["start"] == "scratch") & (table["size"] == "10"))]
    table = table[~((table["start"] == "scratch") & (table["split"] == "fold-2"))]
    found = paired_differences(table, "start", "scratch", "auroc")
    assert found["size"].tolist() == ["100", "1000"]
    assert found["n_splits"].tolist() == [2, 2]


def test_a_planted_law_is_found_in_each_combination():
    exponents = {"scratch": 0.3, "contrast": 0.6}
    found = power_laws(table_of(lambda start, size, fold, seed: 1 - 0.8 * size ** -exponents[start]), "size", "auroc", "n_labelled", n_resamples=20)
    assert found.set_index("start")["b"].to_dict() == pytest.approx(exponents, abs=0.01)
    assert found["n_sizes"].tolist() == [3, 3]
    assert power_laws(table_of(lambda *_: 0.5, sizes=("10", "100")), "size", "auroc", "n_labelled").empty
    assert power_laws(table_of(lambda *_: 0.5, starts=("scratch",)), "size", "auroc", "n_pretrained").empty  # nobody was pre-trained on


def test_means_over_splits():
    found = cell_means(table_of(lambda start, size, fold, seed: 0.1 * fold), "auroc")
    assert found["mean"].tolist() == pytest.approx([0.1] * 6)
    assert found["n_splits"].eq(3).all()
    assert found["n_labelled"].tolist() == [10, 100, 1000] * 2
    assert axes_of(table_of(lambda *_: 0.0)) == ["start", "size"]


def test_convergence_is_told_by_the_best_of_the_reference():
    steps = np.arange(10, 110, 10)
    rises = {"random": steps / 100, "domain": np.minimum(1.0, steps / 50), "never": np.full(10, 0.2)}
    curves = pd.concat(
        pd.DataFrame({"start": start, "split": "fold-0", "seed": 0, "step": steps, "train_loss": 1.0, "validation_score": scores})
        for start, scores in rises.items()
    )
    found = convergence(curves, "start", "random").set_index("start")
    assert found["steps_to"].tolist()[:2] == [100, 50]
    assert found.loc["domain", "speed"] == 2.0
    assert math.isnan(found.loc["never", "steps_to"])
    assert found["reached"].tolist() == [1, 1, 0]
    assert found.loc["domain", "curve_area"] > found.loc["random", "curve_area"]
    assert found.loc["never", "late_spread"] == 0
    with pytest.raises(DataError, match="Expected an axis among start"):
        convergence(curves, "start", "nowhere")


def test_errors():
    table = table_of(lambda *_: 0.5)
    with pytest.raises(DataError, match="Expected a metric among auroc; found 'dice'"):
        cell_means(table, "dice")
    with pytest.raises(DataError, match="Expected an axis among start, size"):
        paired_differences(table, "colour", "red", "auroc")


def test_mean_differences_are_over_the_same_cells_in_every_split():
    """By hand: 0.06 in each of two whole cells, one of which is shown alone; a cell without a split counts and is not averaged."""
    spread = {10.0: 0.001, 100.0: 0.02, 1000.0: 0.001}
    table = table_of(lambda start, size, fold, seed: 0.5 + 0.1 * fold + 0.01 * seed + (0.06 + spread[size] * (fold - 1)) * (start != "scratch"))
    table = table[~((table["size"] == "1000") & (table["split"] == "fold-2"))]
    found = mean_differences(table, "start", "scratch", "auroc").iloc[0]
    assert (found["start"], found["n_averaged"], found["n_cells"], found["n_splits"], found["n_seeds"]) == ("contrast", 2, 3, 3, 2)
    assert found["difference"] == pytest.approx(0.06)
    half = 4.302653 * 0.0105 * math.sqrt(1 / 3 + 100 / 200)  # t of 2 degrees of freedom; the mean of the cells spreads by 0.0105
    assert (found["low"], found["high"]) == pytest.approx((0.06 - half, 0.06 + half), abs=1e-6)
    assert (found["n_above"], found["n_below"]) == (2, 0)  # that of size 100 holds zero
    gone = table[~((table["split"] == "fold-0") & (table["size"] == "100")) & ~((table["split"] == "fold-1") & (table["size"] == "10"))]
    nothing = mean_differences(gone, "start", "scratch", "auroc").iloc[0]
    assert nothing["n_averaged"] == 0
    assert math.isnan(nothing["difference"])
    with pytest.raises(DataError, match="Expected an axis among start, size"):
        mean_differences(table, "start", "nobody", "auroc")
