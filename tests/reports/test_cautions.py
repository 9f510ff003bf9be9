"""Each caution appears where its rule says so, and on a sound run none does."""

import json
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from graphssl.reports.cautions import Caution, cautions
from graphssl.reports.evaluated_task import read_evaluated
from graphssl.reports.run_folder import read_run

Make = Callable[[], Any]
SITES = "abcdef"
WOBBLE = (0.0, 0.01, -0.01, 0.005, -0.005, 0.002)


def spread(value: float, sign: int = 1) -> dict[str, float]:
    """Values of six sites around a mean."""
    return {site: value + sign * wobble for site, wobble in zip(SITES, WOBBLE, strict=True)}


def sound(make: Make) -> Any:
    """A run there is nothing to warn of."""
    run = make().method("pretrained", spread(0.8)).method("scratch", spread(0.7, -1)).method("ridge_tangent", spread(0.7, -1))
    run.method("no_edges", spread(0.7, -1)).method("covariates", spread(0.5)).method("pretrained|shuffled_labels", spread(0.5), seeds=(0,))
    return probe(run, 0.26)


def probe(run: Any, value: float) -> Any:
    folds = {f"fold-{k}": value + 0.01 * (k % 2) for k in range(5)}
    return run.method("pretrained", folds, seeds=(0,), task="site_probe", protocol="k_fold", metric="balanced_accuracy")


def found(run: Any, **manifest: Any) -> dict[str, Caution]:
    return {caution.kind: caution for caution in cautions(read_evaluated(read_run(run.write(**manifest))))}


def without(run: Any, method: str) -> Any:
    run.results = [result for result in run.results if result.method != method or result.task == "site_probe"]
    return run


def replaced(run: Any, method: str, values: dict[str, float], **changes: Any) -> Any:
    return without(run, method).method(method, values, **changes)


def test_a_sound_run_has_none(fake_run: Make) -> None:
    assert found(sound(fake_run)) == {}


@pytest.mark.parametrize(
    ("value", "title"),
    [(0.9, "The best baseline beats the pre-trained encoder"), (0.8, "The pre-trained encoder is not shown to beat the best baseline")],
)
def test_baseline_not_beaten(fake_run: Make, value: float, title: str) -> None:
    cautions = found(replaced(sound(fake_run), "ridge_tangent", spread(value, -1)))
    assert list(cautions) == ["baseline_not_beaten"]
    assert cautions["baseline_not_beaten"].title == title
    assert "With all labels," in cautions["baseline_not_beaten"].text
    assert ("ridge on tangent connectivity is better: the difference is −0.099" in cautions["baseline_not_beaten"].text) == (value == 0.9)


def test_a_baseline_that_wins_with_few_labels_is_named_with_the_fraction(fake_run: Make) -> None:
    run = sound(fake_run)
    for method, value in (("pretrained", 0.6), ("scratch", 0.5), ("ridge_tangent", 0.65)):
        run.method(method, spread(value, 1 if method == "pretrained" else -1), label_fraction=0.1)
    cautions = found(run)
    assert list(cautions) == ["baseline_not_beaten"]
    assert cautions["baseline_not_beaten"].text.startswith(
        "With 10% of the labels, ridge on tangent connectivity is better: the difference is −0.049"
    )
    assert "all labels" not in cautions["baseline_not_beaten"].text


@pytest.mark.parametrize(("value", "title"), [(0.9, "Pre-training does harm"), (0.8, "Pre-training is not shown to help")])
def test_scratch_not_beaten(fake_run: Make, value: float, title: str) -> None:
    cautions = found(replaced(sound(fake_run), "scratch", spread(value, -1)))
    assert list(cautions) == ["scratch_not_beaten"]
    assert cautions["scratch_not_beaten"].title == title


def test_nothing_to_compare_with(fake_run: Make) -> None:
    run = without(without(without(sound(fake_run), "ridge_tangent"), "covariates"), "scratch")
    assert set(found(run)) == {"no_baseline", "no_scratch"}


def test_a_single_split_cannot_tell(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.8}, n_test=200).method("scratch", {"a": 0.7}).method("ridge_tangent", {"a": 0.7})
    cautions = found(run)
    assert list(cautions) == ["baseline_not_beaten", "scratch_not_beaten"]
    assert "it cannot be told against ridge on tangent connectivity" in cautions["baseline_not_beaten"].text


def test_edges_not_needed(fake_run: Make) -> None:
    assert list(found(replaced(sound(fake_run), "no_edges", spread(0.8, -1)))) == ["edges_not_needed"]
    assert found(without(sound(fake_run), "no_edges")) == {}


# Four sites: chance is 0.25, the margin ends at 0.30; the interval of the folds reaches 0.007 below their mean of value + 0.004.
@pytest.mark.parametrize(("value", "warned"), [(0.20, False), (0.30, False), (0.31, True), (0.9, True)])
def test_site_readable(fake_run: Make, value: float, warned: bool) -> None:
    run = sound(fake_run)
    run.results = [result for result in run.results if result.task != "site_probe"]
    cautions = found(probe(run, value))
    assert list(cautions) == (["site_readable"] if warned else [])
    if warned:
        assert "chance 0.250" in cautions["site_readable"].text


def test_site_probe_of_one_fold_and_of_unknown_sites(fake_run: Make) -> None:
    run = sound(fake_run)
    run.results = [result for result in run.results if result.task != "site_probe"]
    shared = {"seeds": (0,), "task": "site_probe", "metric": "balanced_accuracy"}
    run.method("pretrained", {"fold-0": 0.5}, n_test=100, **shared).method("connectivity", {"fold-0": 0.8}, **shared)
    cautions = found(run)
    assert f"lower bound {0.5 - 1.96 * math.sqrt(0.25 / 100):.3f}" in cautions["site_readable"].text  # spread of a share of 100 subjects
    assert "the connectivity itself 0.800" in cautions["site_readable"].text
    assert found(run, cohort={}) == {}


# Six test sets of 50: chance has a standard error of sqrt(51 / (3 · 50²) · 2 / 6) = 0.0476 and 2.58 of them are 0.1228.
@pytest.mark.parametrize(("value", "warned"), [(0.62, False), (0.63, True), (0.38, False), (0.37, True)])
def test_shuffled_labels(fake_run: Make, value: float, warned: bool) -> None:
    run = replaced(sound(fake_run), "pretrained|shuffled_labels", dict.fromkeys(SITES, value), seeds=(0,))
    cautions = found(run)
    assert list(cautions) == (["shuffled_labels"] if warned else [])
    if warned:
        assert f"the pre-trained encoder scores {value:.3f} (standard error of chance 0.048)" in cautions["shuffled_labels"].text


def test_shuffled_labels_of_unequal_classes_move_more(fake_run: Make) -> None:
    """With one patient in ten the standard error is 5/3 as large: 0.65 is no news then."""
    run = replaced(sound(fake_run), "pretrained|shuffled_labels", dict.fromkeys(SITES, 0.65), seeds=(0,))
    cohort = {"name": "toy", "sites": dict.fromkeys("abcd", 75), "targets": {"diagnosis": {"control": 270, "patient": 30}}}
    assert found(run, cohort=cohort) == {}


@pytest.mark.parametrize(("seeds", "warned"), [((0,), False), ((0, 1, 2), True)])
def test_two_sites_that_test_each_other_are_one_test_set_and_shuffles_are_several(fake_run: Make, seeds: tuple[int, ...], warned: bool) -> None:
    """The standard error is sqrt(51 / (3 · 50²)) = 0.082 for one shuffle, not 0.058: 0.66 is no news then, and is after three shuffles."""
    run = replaced(sound(fake_run), "pretrained|shuffled_labels", {"a": 0.66, "b": 0.66}, seeds=seeds)
    assert list(found(run)) == (["shuffled_labels"] if warned else [])


# Wobble of ±0.01 over six sites: the interval of the mean reaches 0.0073 to either side.
@pytest.mark.parametrize(("value", "warned"), [(0.5, False), (0.505, False), (0.51, True), (0.45, False)])
@pytest.mark.parametrize("method", ["covariates", "site"])
def test_confounds(fake_run: Make, method: str, value: float, warned: bool) -> None:
    run = without(sound(fake_run), "covariates").method(method, spread(value))
    cautions = found(run)
    assert list(cautions) == (["confounds"] if warned else [])


def test_few_subjects_in_all(fake_run: Make) -> None:
    run = fake_run()
    for method, value, sign in (("pretrained", 0.8, 1), ("scratch", 0.6, -1), ("ridge_tangent", 0.6, -1)):
        run.method(method, {"a": value, "b": value + 0.001 * sign, "c": value}, n_test=33)
    text = found(run)["few_subjects"].text
    assert "99 subjects were scored in all (fewer than 100)" in text
    assert "test set" not in text


def test_few_subjects_in_a_test_set(fake_run: Make) -> None:
    run = sound(fake_run).method("pretrained", {"g": 0.8}, n_test=19).method("pretrained", {"h": 0.8}, n_test=20)
    cautions = found(run)
    assert list(cautions) == ["few_subjects"]
    assert cautions["few_subjects"].text.startswith("1 test set of 8 have fewer than 20 subjects: g 19.")


@pytest.mark.parametrize(("seeds", "warned"), [((0, 1), True), ((0, 1, 2), False)])
def test_few_seeds(fake_run: Make, seeds: tuple[int, ...], warned: bool) -> None:
    cautions = found(replaced(sound(fake_run), "pretrained", spread(0.8), seeds=seeds))
    assert list(cautions) == (["few_seeds"] if warned else [])
    assert found(replaced(sound(fake_run), "ridge_tangent", spread(0.7, -1), seeds=(0,))) == {}  # a baseline needs no more


def test_undefined_folds(fake_run: Make) -> None:
    run = sound(fake_run).method("pretrained", {"g": math.nan}).method("ridge_tangent", {"g": math.nan})
    cautions = found(run)
    assert list(cautions) == ["undefined_folds"]
    assert cautions["undefined_folds"].level == "note"
    assert "AUROC is not defined in g (" in cautions["undefined_folds"].text


def test_excluded_subjects(fake_run: Make) -> None:
    run = sound(fake_run)
    cohort = {"sites": dict.fromkeys("abcd", 50), "n_subjects": 200, "excluded_count": {"subject": 12, "region": 30}}
    assert found(run, cohort=cohort)["excluded_subjects"].text.startswith("12 subjects of the source left out; 200 subjects were kept.")
    assert found(run, cohort={**cohort, "excluded_count": {"region": 30}}) == {}
    rows = [("subject", "x", "no file"), ("subject", "x", "no label"), ("region", "y", "flat")]
    pd.DataFrame(rows, columns=["what", "id", "reason"]).to_csv(run.folder / "excluded.csv", index=False)
    assert found(run, cohort=cohort)["excluded_subjects"].text.startswith("1 subject of")  # the list counts, each subject once


def test_only_baselines(fake_run: Make) -> None:
    assert found(fake_run().method("ridge_tangent", spread(0.7))) == {}


def test_warnings_stand_before_notes(fake_run: Make) -> None:
    run = replaced(sound(fake_run), "pretrained", spread(0.8), seeds=(0,))
    assert list(found(run, cohort={"excluded_count": {"subject": 1}})) == ["few_seeds", "excluded_subjects"]


def test_no_caution_of_a_metric_without_chance(fake_run: Make) -> None:
    run = fake_run()
    for method, value, sign in (("pretrained", 0.1, 1), ("scratch", 0.3, -1), ("ridge_tangent", 0.3, -1), ("covariates", 0.4, 1)):
        run.method(method, spread(value, sign), metric="brier")
    run.method("pretrained|shuffled_labels", spread(0.25), metric="brier")
    assert json.dumps(list(found(run))) == "[]"


def test_a_method_that_was_not_run_is_named_with_its_reason(fake_run: Make) -> None:
    cautions = found(sound(fake_run), left_out={"covariates": "no column of the table has the role 'covariate'"})
    assert list(cautions) == ["methods_left_out"]
    assert cautions["methods_left_out"].text == "Not run: the covariates alone (no column of the table has the role 'covariate')."


@pytest.mark.parametrize(("rank_correlation", "random", "kinds"), [
    (0.5, 0.49, set()),
    (0.49, 0.1, {"unstable_saliency"}),
    (0.9, 0.5, {"saliency_ignores_weights"}),
])  # fmt: skip
def test_an_explanation_that_cannot_be_believed(fake_run: Make, rank_correlation: float, random: float, kinds: set[str]) -> None:
    run = sound(fake_run)
    agreement = {"rank_correlation": rank_correlation, "top_overlap": 0.1}
    stages = [{"layer": "head", "rank_correlation": 0.9}, {"layer": "tokens", "rank_correlation": random}]
    (run.folder / "explain").mkdir()
    record = {"randomisation": stages, "stability": {"n_refits": 4, "regions": agreement, "connections": agreement}}
    (run.folder / "explain" / "summary.json").write_text(json.dumps(record))
    cautions_found = found(run)
    assert {"unstable_saliency", "saliency_ignores_weights"} & set(cautions_found) == kinds
    for kind in kinds:
        assert cautions_found[kind].level == "warning"
        assert f"{min(rank_correlation, 0.5):.2f}" in cautions_found[kind].text


@pytest.mark.parametrize(("course", "collapsed"), [
    ([1.0, 0.5, 0.02], False),
    ([1.0, 0.5, 0.009], True),
    ([0.05, 0.01, 0.0009], True),
    ([0.05, 0.01, 0.0011], False),
    ([0.0001, 0.01, 0.5], False),
])  # fmt: skip
def test_a_collapsed_objective(fake_run: Make, course: list[float], collapsed: bool) -> None:
    run = sound(fake_run)
    table = pd.DataFrame({"stage": "pretrain", "split": "all", "seed": 0, "epoch": range(3), "train_loss": 1.0, "validation_pooled_spread": course})
    other = table.drop(columns="validation_pooled_spread").assign(stage="finetune")
    pd.concat([table, other]).to_csv(run.folder / "history.csv", index=False)
    caution = found(run).get("collapsed_objective")
    assert (caution is not None) is collapsed
    if caution is not None:
        assert caution.level == "warning"
        assert f"validation_pooled_spread of pretrain from {course[0]:.2g} to {course[-1]:.2g}" in caution.text
