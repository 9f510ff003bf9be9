import math
from collections.abc import Callable
from typing import Any

import pytest

from graphssl.reports.evaluated_task import read_evaluated
from graphssl.reports.headline import difference_phrase, headline
from graphssl.reports.run_folder import read_run
from graphssl.statistics.difference import Comparison

Make = Callable[[], Any]
SITES = "abcdef"
WOBBLE = (0.0, 0.01, -0.01, 0.005, -0.005, 0.0)


def spread(value: float) -> dict[str, float]:
    return {site: value + wobble for site, wobble in zip(SITES, WOBBLE, strict=True)}


def noisy(value: float) -> dict[str, float]:
    return {site: value + 20 * wobble for site, wobble in zip(SITES, reversed(WOBBLE), strict=True)}


def found(run: Any) -> Any:
    return headline(read_evaluated(read_run(run.write())))


@pytest.mark.parametrize(
    ("baseline", "scratch", "verdict"),
    [
        (0.6, 0.6, "The pre-trained encoder beats the best baseline; pre-training helps."),
        (0.8, 0.6, "The best baseline beats the pre-trained encoder; pre-training helps."),
        (0.8, 0.8, "The best baseline beats the pre-trained encoder; pre-training does harm."),
        (0.6, None, "The pre-trained encoder beats the best baseline; no effect of pre-training could be shown."),
        (None, 0.6, "No difference from the best baseline could be shown; pre-training helps."),
    ],
)
def test_gains_and_losses_are_worded_alike(fake_run: Make, baseline: float | None, scratch: float | None, verdict: str) -> None:
    run = fake_run().method("pretrained", spread(0.7))
    run.method(
        "ridge_tangent", noisy(0.7) if baseline is None else {site: value + 0.001 * k for k, (site, value) in enumerate(spread(baseline).items())}
    )
    run.method("scratch", noisy(0.7) if scratch is None else {site: value + 0.001 * k for k, (site, value) in enumerate(spread(scratch).items())})
    assert found(run).verdict == verdict


def test_the_numbers_are_said(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.80, "b": 0.70, "c": 0.75}).method("ridge_tangent", {"a": 0.70, "b": 0.66, "c": 0.68})
    sentences = " ".join(found(run).sentences)
    # t(0.975, 2) = 4.3027; the mean 0.75 has a standard error of 0.05/√3.
    assert "scores AUROC 0.750 (mean over 3 splits, 95% interval 0.626 to 0.874)" in sentences
    # Differences 0.10, 0.04, 0.07: mean 0.07, variance 0.0009, times 1/3 + 50/150.
    half = 4.302653 * math.sqrt(0.0009 * (1 / 3 + 50 / 150))
    assert (
        f"ridge on tangent connectivity, scores 0.680: the difference is +0.070 (95% interval −{half - 0.07:.3f} to +{0.07 + half:.3f}, p = "
        in sentences
    )
    assert "that did best on these same test folds" in sentences


def test_what_is_not_there_is_said(fake_run: Make) -> None:
    alone = found(fake_run().method("pretrained", spread(0.7)))
    assert alone.verdict == "No baseline was run; the same encoder from random weights was not run."
    single = found(fake_run().method("pretrained", {"a": 0.7}).method("scratch", {"a": 0.6}).method("ridge_tangent", {"a": 0.6}))
    assert single.verdict.startswith(
        "Whether the pre-trained encoder beats the best baseline cannot be told from this run; the effect of pre-training cannot"
    )
    assert "+0.100 (no interval from 1 split)" in " ".join(single.sentences)
    without = found(fake_run().method("ridge_tangent", spread(0.7)))
    assert without.verdict == "Only baselines were run; nothing can be said about pre-training."
    assert "ridge on tangent connectivity, scores AUROC 0.700" in " ".join(without.sentences)
    undefined = found(fake_run().method("pretrained", {"a": math.nan}).method("ridge_tangent", {"b": 0.7}))
    assert "scores no AUROC" in " ".join(undefined.sentences)
    assert "no split has both" in " ".join(undefined.sentences)


def test_fewer_labels_have_a_sentence_of_their_own(fake_run: Make) -> None:
    run = (
        fake_run()
        .method("pretrained", spread(0.8))
        .method("pretrained", spread(0.7), label_fraction=0.1)
        .method("ridge_tangent", noisy(0.6), label_fraction=0.1)
    )
    assert found(run).sentences[-1].startswith("With 10% of the labels, the pre-trained encoder scores AUROC 0.700")
    assert "against ridge on tangent connectivity the difference is +0.1" in found(run).sentences[-1]
    run.method("ridge_tangent", spread(0.6), label_fraction=0.05)
    assert found(run).sentences[-1] == "With 5% of the labels, the pre-trained encoder was not run."


def test_the_test_over_subjects_speaks_up_where_it_disagrees(fake_run: Make) -> None:
    run = fake_run().predicted({"pretrained": 1.6, "ridge_tangent": 1.1}, sites={"a": 80, "b": 16})
    assert "DeLong’s test over the subjects of these test sets, for these trained models, says +" in " ".join(found(run).sentences)


def test_lower_is_better_is_said(fake_run: Make) -> None:
    run = fake_run().method("pretrained", spread(0.1), metric="brier").method("ridge_tangent", noisy(0.9), metric="brier")
    assert found(run).verdict.startswith("The pre-trained encoder beats the best baseline")
    assert "Brier score 0.100 (lower is better)" in " ".join(found(run).sentences)


def test_difference_phrase() -> None:
    assert difference_phrase(Comparison(0.1, 0.05, 0.15, 0.0001, 4, "t")) == "+0.100 (95% interval +0.050 to +0.150, p < 0.001, over 4 splits)"
    assert (
        difference_phrase(Comparison(-0.1, -0.15, -0.05, 0.04, 90, "DeLong test"))
        == "−0.100 (95% interval −0.150 to −0.050, p = 0.040, over 90 subjects)"
    )
