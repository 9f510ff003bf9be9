import math
from collections.abc import Callable
from typing import Any

import pytest

from graphssl.errors import DataError
from graphssl.reports.evaluated_task import EvaluatedTask, audits, n_sites, read_evaluated, site_probes
from graphssl.reports.run_folder import read_run
from graphssl.statistics.compare import paired_comparison
from graphssl.statistics.difference import Comparison
from graphssl.statistics.metrics import bootstrap_interval

Make = Callable[[], Any]


def evaluated_of(run: Any, **manifest: Any) -> EvaluatedTask:
    return read_evaluated(read_run(run.write(**manifest)))


def test_the_question_is_that_of_the_manifest(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.7, "b": 0.8}, task="sex").method("pretrained", {"a": 0.6, "b": 0.9})
    run.method("pretrained", {"x": 0.3}, task="site_probe", metric="balanced_accuracy").method("pretrained|shuffled_labels", {"a": 0.5})
    evaluated = evaluated_of(run)
    assert (evaluated.task, evaluated.protocol, evaluated.metric) == ("diagnosis", "leave_one_site_out", "auroc")
    assert evaluated.results["method"].unique().tolist() == ["pretrained"]
    assert evaluated_of(run, task={}).task == "sex"  # the first one where the manifest does not say
    assert [score.method for score in audits(evaluated)] == ["pretrained|shuffled_labels"]
    assert [score.mean for score in site_probes(evaluated)] == [0.3]


def test_the_deciding_metric(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.7, "b": 0.8}, metric="brier").method("pretrained", {"a": 0.7, "b": 0.8}, metric="balanced_accuracy")
    evaluated = evaluated_of(run, task={"target": "diagnosis", "classes": ["a", "b", "c"]})
    assert evaluated.metrics == ("balanced_accuracy", "brier")
    assert evaluated.chance == pytest.approx(1 / 3)
    assert math.isnan(evaluated_of(fake_run().method("pretrained", {"a": 0.7}, metric="f1")).chance)


def test_methods_are_in_order_of_their_role(fake_run: Make) -> None:
    run = fake_run()
    for method, value in (
        ("majority", 0.5),
        ("ridge_tangent", 0.7),
        ("logistic_correlation", 0.8),
        ("no_edges", 0.6),
        ("scratch", 0.6),
        ("pretrained", 0.7),
    ):
        run.method(method, {"a": value, "b": value})
    run.method("covariates", {"a": math.nan, "b": math.nan})
    assert evaluated_of(run).methods(1.0) == ["pretrained", "scratch", "no_edges", "logistic_correlation", "ridge_tangent", "covariates", "majority"]


def test_the_best_baseline_is_a_linear_one_where_there_is_one(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.9, "b": 0.9}).method("covariates", {"a": 0.8, "b": 0.8})
    assert evaluated_of(run).best_baseline(1.0) == "covariates"
    run.method("ridge_tangent", {"a": 0.6, "b": 0.6}).method("logistic_tangent", {"a": 0.7, "b": 0.7}).method("gcn", {"a": 0.95, "b": 0.95})
    run.method("ridge_tangent", {"a": 0.1, "b": 0.1}, metric="brier").method("logistic_tangent", {"a": 0.2, "b": 0.2}, metric="brier")
    evaluated = evaluated_of(run)
    assert evaluated.best_baseline(1.0) == "logistic_tangent"
    assert evaluated.best_baseline(1.0, "brier") == "ridge_tangent"  # lower is better
    assert evaluated.best_baseline(0.5) is None


def test_ours_is_the_fine_tuned_encoder_or_what_comes_nearest(fake_run: Make) -> None:
    run = fake_run().method("pretrained_probe", {"a": 0.9}).method("ridge_tangent", {"a": 0.6})
    assert evaluated_of(run).ours == "pretrained_probe"
    assert evaluated_of(run.method("pretrained", {"a": 0.5})).ours == "pretrained"
    assert evaluated_of(fake_run().method("ridge_tangent", {"a": 0.6})).ours is None


def test_differences_are_those_of_the_statistics(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.9, "b": 0.8, "c": 0.8}).method("scratch", {"a": 0.7, "b": 0.7, "c": 0.75})
    evaluated = evaluated_of(run)
    assert evaluated.compare("pretrained", "scratch", 1.0) == paired_comparison(evaluated.results, "pretrained", "scratch")
    assert evaluated.compare("pretrained", "pretrained", 1.0) is None
    assert evaluated.compare("pretrained", None, 1.0) is None
    assert evaluated.compare("pretrained", "absent", 1.0) is None
    assert evaluated.compare("pretrained", "scratch", 0.5) is None


def test_intervals_end_where_the_metric_does(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.9, "b": 0.7}).method("scratch", {"a": 0.1, "b": 0.8})
    for method in ("pretrained", "scratch"):
        run.method(method, {"a": 0.9, "b": 0.1 + len(method) / 100}, metric="loss")
    evaluated = evaluated_of(run)
    score, found = evaluated.score("pretrained", 1.0), evaluated.compare("pretrained", "scratch", 1.0)
    assert score is not None
    assert found is not None
    assert score.low == 0  # 0.8 ± 1.27
    assert score.high == 1
    assert (found.low, found.high) == (-1, 1)
    other = evaluated.score("pretrained", 1.0, "loss")  # of a metric that is not known nothing is cut
    assert other is not None
    assert other.high > 1
    assert other.low < 0


@pytest.mark.parametrize(
    ("low", "high", "metric", "verdict"),
    [
        (0.1, 0.2, "auroc", "better"),
        (-0.2, -0.1, "auroc", "worse"),
        (-0.1, 0.1, "auroc", "open"),
        (0.1, 0.2, "brier", "worse"),
        (-0.2, -0.1, "brier", "better"),
    ],
)
def test_verdicts(fake_run: Make, low: float, high: float, metric: str, verdict: str) -> None:
    evaluated = evaluated_of(fake_run().method("pretrained", {"a": 0.9}))
    assert evaluated.verdict(Comparison((low + high) / 2, low, high, 0.5, 4, "t"), metric) == verdict
    assert evaluated.verdict(None) == "unknown"
    assert evaluated.verdict(Comparison(0.1, math.nan, math.nan, math.nan, 1, "t")) == "unknown"


def test_a_single_split_is_judged_over_its_subjects(fake_run: Make) -> None:
    run = fake_run().predicted({"pretrained": 1.5, "scratch": 0.3}, seeds=(0,), sites={"hold-out": 120})
    evaluated = evaluated_of(run)
    score = evaluated.score("pretrained", 1.0)
    assert score is not None
    frame = evaluated.predictions("pretrained", 1.0)
    expected = bootstrap_interval(frame["y_true"], frame["p_1"])
    assert score.interval_over == "subjects"
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    found = evaluated.compare("pretrained", "scratch", 1.0)
    assert found is not None
    assert "DeLong" in found.test
    assert found.n == 120
    assert evaluated.verdict(found) == "better"


def test_a_single_split_without_predictions_has_no_interval(fake_run: Make) -> None:
    evaluated = evaluated_of(fake_run().method("pretrained", {"hold-out": 0.9}).method("scratch", {"hold-out": 0.7}))
    score, found = evaluated.score("pretrained", 1.0), evaluated.compare("pretrained", "scratch", 1.0)
    assert score is not None
    assert found is not None
    assert score.interval_over == ""
    assert math.isnan(score.low)
    assert math.isnan(found.low)
    assert evaluated.delong("pretrained", "scratch", 1.0) is None
    assert evaluated.interval_by_split("pretrained", 1.0) == {}


def test_results_of_audits_only(fake_run: Make) -> None:
    run = fake_run().method("pretrained|shuffled_labels", {"a": 0.5})
    with pytest.raises(DataError, match="found audits only"):
        evaluated_of(run)


def test_the_number_of_classes_is_that_of_the_predictions(fake_run: Make) -> None:
    run = fake_run().predicted({"pretrained": 1.0}, n_classes=3, seeds=(0,), sites={"a": 30})
    assert evaluated_of(run, task={}).n_classes == 3
    assert evaluated_of(fake_run().method("pretrained", {"a": 0.9}), task={"target": "diagnosis", "classes": ["a", "b", "c", "d"]}).n_classes == 4
    assert evaluated_of(fake_run().method("pretrained", {"a": 0.9}), task={}).n_classes == 2


def test_label_fractions_are_those_with_the_deciding_metric(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.9}, label_fraction=0.1).method("pretrained", {"a": 0.1}, metric="brier")
    assert evaluated_of(run).fractions == (0.1,)


def test_sites_not_recorded(fake_run: Make) -> None:
    assert n_sites(evaluated_of(fake_run().method("pretrained", {"a": 0.9}), cohort={}).run) == 0
