"""What a run found, in one sentence and in a few more; a loss is worded as plainly as a gain."""

import math
from dataclasses import dataclass

from graphssl.reports.evaluated_task import EvaluatedTask
from graphssl.reports.names import count, fraction_label, interval, method_phrase, metric_label, number, p_value, protocol_phrase, signed
from graphssl.statistics.difference import Comparison
from graphssl.statistics.metrics import LOWER_IS_BETTER


@dataclass(frozen=True)
class Headline:
    """What was found.

    Attributes:
        verdict: One sentence.
        sentences: The numbers behind it.
    """

    verdict: str
    sentences: tuple[str, ...]


def headline(evaluated: EvaluatedTask) -> Headline:
    """Word the finding: our method against the best baseline and against the same encoder without pre-training."""
    fraction, ours = evaluated.fractions[0], evaluated.ours
    what = f"Predicting {evaluated.task} in {evaluated.results['cohort'].iloc[0]}, {protocol_phrase(evaluated.protocol)}, {fraction_label(fraction)}."
    if ours is None:
        return Headline("Only baselines were run; nothing can be said about pre-training.", (what, *_baseline_only(evaluated, fraction)))
    baseline, scratch = evaluated.best_baseline(fraction), evaluated.scratch(fraction)
    verdict = f"{_against_baseline(evaluated, ours, baseline, fraction)}; {_against_scratch(evaluated, ours, scratch, fraction)}."
    lines = [what, f"{_capital(method_phrase(ours))} scores {_score(evaluated, ours, fraction)}."]
    if baseline:
        lines.append(_versus(evaluated, ours, baseline, fraction, f"The baseline that did best on these same test folds, {method_phrase(baseline)},"))
    if scratch:
        lines.append(_versus(evaluated, ours, scratch, fraction, _capital(method_phrase(scratch))))
    lines += [_fewer_labels(evaluated, ours, share) for share in evaluated.fractions[1:]]
    return Headline(verdict, tuple(lines))


def difference_phrase(comparison: Comparison) -> str:
    """A difference with its interval, such as `+0.021 (95% interval −0.004 to +0.046, p = 0.082, over 4 splits)`."""
    if math.isnan(comparison.low):
        return f"{signed(comparison.difference)} (no interval from {count(comparison.n, 'split')})"
    p = p_value(comparison.p_value)
    p = f"p {p[0]} {p[1:]}" if p.startswith("<") else f"p = {p}"
    of = "subject" if "DeLong" in comparison.test else "split"
    return (
        f"{signed(comparison.difference)} (95% interval {interval(comparison.low, comparison.high, sign=True)}, {p}, over {count(comparison.n, of)})"
    )


_BASELINE = {
    "better": "The pre-trained encoder beats the best baseline",
    "worse": "The best baseline beats the pre-trained encoder",
    "open": "No difference from the best baseline could be shown",
    "unknown": "Whether the pre-trained encoder beats the best baseline cannot be told from this run",
}
_SCRATCH = {
    "better": "pre-training helps",
    "worse": "pre-training does harm",
    "open": "no effect of pre-training could be shown",
    "unknown": "the effect of pre-training cannot be told from this run",
}


def _against_baseline(evaluated: EvaluatedTask, ours: str, baseline: str | None, fraction: float) -> str:
    if baseline is None:
        return "No baseline was run"
    return _BASELINE[evaluated.verdict(evaluated.compare(ours, baseline, fraction))]


def _against_scratch(evaluated: EvaluatedTask, ours: str, scratch: str | None, fraction: float) -> str:
    if scratch is None:
        return "the same encoder from random weights was not run"
    return _SCRATCH[evaluated.verdict(evaluated.compare(ours, scratch, fraction))]


def _baseline_only(evaluated: EvaluatedTask, fraction: float) -> list[str]:
    baseline = evaluated.best_baseline(fraction)
    return [f"The best of them, {method_phrase(baseline)}, scores {_score(evaluated, baseline, fraction)}."] if baseline else []


def _score(evaluated: EvaluatedTask, method: str, fraction: float) -> str:
    row = evaluated.score(method, fraction)
    if row is None or math.isnan(row.mean):
        return f"no {metric_label(evaluated.metric)}"
    lower = " (lower is better)" if evaluated.metric in LOWER_IS_BETTER else ""
    over = f"mean over {count(int(row.n_splits), 'split')}" if row.n_splits > 1 else "one split"
    spread = "" if math.isnan(row.low) else f", 95% interval {interval(row.low, row.high)}"
    return f"{metric_label(evaluated.metric)} {number(row.mean)}{lower} ({over}{spread})"


def _versus(evaluated: EvaluatedTask, ours: str, other: str, fraction: float, subject: str) -> str:
    row, comparison = evaluated.score(other, fraction), evaluated.compare(ours, other, fraction)
    scored = f"{subject} scores {number(math.nan if row is None else row.mean)}"
    if comparison is None:
        return f"{scored}; no split has both."
    return f"{scored}: the difference is {difference_phrase(comparison)}.{_over_subjects(evaluated, ours, other, fraction, comparison)}"


def _over_subjects(evaluated: EvaluatedTask, ours: str, other: str, fraction: float, over_splits: Comparison) -> str:
    """What the test over subjects says, where it says something else than the test over splits."""
    if evaluated.metric != "auroc" or "DeLong" in over_splits.test:
        return ""
    found = evaluated.delong(ours, other, fraction)
    if found is None or evaluated.verdict(found) in ("unknown", evaluated.verdict(over_splits)):
        return ""
    return f" DeLong’s test over the subjects of these test sets, for these trained models, says {difference_phrase(found)}."


def _fewer_labels(evaluated: EvaluatedTask, ours: str, fraction: float) -> str:
    start = f"With {fraction_label(fraction)}"
    if evaluated.score(ours, fraction) is None:
        return f"{start}, {method_phrase(ours)} was not run."
    parts = [f"{start}, {method_phrase(ours)} scores {_score(evaluated, ours, fraction)}"]
    for other in (evaluated.best_baseline(fraction), evaluated.scratch(fraction)):
        comparison = evaluated.compare(ours, other, fraction)
        if other is not None and comparison is not None:
            parts.append(f"against {method_phrase(other)} the difference is {difference_phrase(comparison)}")
    return "; ".join(parts) + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
