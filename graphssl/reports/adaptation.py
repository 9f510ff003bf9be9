"""What few labelled subjects of a target bring: strategies and baselines on the same draws, with paired tests."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.reports.canvas import INCH, canvas, marks, png, tell
from graphssl.reports.markup import Picture
from graphssl.reports.names import estimate, method_label, number
from graphssl.statistics.compare import Comparison, corrected_resampled_t_test, wilcoxon_test
from graphssl.statistics.metrics import Interval, kept_within, mean_interval

STRATEGY_LABELS = {
    "direct": "Target alone (random start)",
    "single_source": "One source",
    "joint": "All sources jointly",
    "meta": "Meta-learning",
    "meta_reweighted": "Meta-learning, adaptive rates",
}
_COLOURS = {"direct": "#3b4754", "single_source": "#e69f00", "joint": "#d55e00", "meta": "#56b4e9", "meta_reweighted": "#0b5cad"}
_LINES = ("--", ":", "-.")


def label(method: str) -> str:
    """Name of a strategy, or of a baseline and what it was trained on, such as `Ridge on correlation, trained on the sources`."""
    name, _, where = method.partition(":")
    return f"{method_label(name)}, trained on the {where}" if where else STRATEGY_LABELS.get(name, name)


def scored(adaptation: pd.DataFrame, baselines: pd.DataFrame | None = None) -> pd.DataFrame:
    """AUROC after the last step by `method`, `target`, `n_support` and `draw`, and how many were scored: strategies, then baselines.

    Args:
        adaptation: Rows of `adaptation.csv`.
        baselines: Rows of `baselines.csv`; a method is then named `baseline:where it was trained`.
    """
    last = adaptation[adaptation["step"] == adaptation["step"].max()].rename(columns={"strategy": "method"})
    parts = [last]
    if baselines is not None and len(baselines):
        parts.append(baselines.assign(method=baselines["method"] + ":" + baselines["trained_on"]))
    return pd.concat(parts, ignore_index=True)[["method", "target", "n_support", "draw", "auroc", "n_query"]]


def summarised(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean AUROC of each method and number of labelled subjects, with its 95 % interval and its spread.

    Of several targets each counts once, and interval and standard deviation are over targets; of one they are over draws.

    Args:
        scores: What `scored` gives.
    """
    rows = []
    for (method, k), part in scores.groupby(["method", "n_support"], sort=False):
        found, values = _interval(part)
        found = kept_within(found, 0.0, 1.0)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        counts = (part["target"].nunique(), part["draw"].nunique(), int(part["n_query"].min()))
        rows.append((method, k, found.estimate, found.low, found.high, spread, *counts))
    return pd.DataFrame(rows, columns=["method", "n_support", "auroc", "low", "high", "spread", "n_targets", "n_draws", "n_query"])


def compared(scores: pd.DataFrame, ours: str, theirs: str, n_support: int, n_classes: int = 2) -> Comparison:
    """Difference of two methods on the same draws, ours minus theirs.

    Of several targets, Wilcoxon's signed-rank test over their means. Draws of one target share nearly all who are scored, which the corrected
    resampled t test takes into account (Nadeau & Bengio 2003): its intervals are wide, as they must be, but no wider than two AUROCs can differ.

    Args:
        scores: What `scored` gives.
        ours: One method.
        theirs: The other.
        n_support: Labelled subjects of each class.
        n_classes: Number of classes.

    Raises:
        DataError: If there is no draw that both were scored on.
    """
    chosen = scores[scores["n_support"] == n_support].set_index(["target", "draw"]).sort_index()
    values = [chosen.loc[chosen["method"] == method, "auroc"] for method in (ours, theirs)]
    differences = (values[0] - values[1]).dropna()
    by_target = differences.groupby(level="target").mean()
    if len(by_target) > 1:
        return wilcoxon_test(by_target.to_numpy())
    found = corrected_resampled_t_test(differences.to_numpy(), n_support * n_classes, chosen.loc[chosen["method"] == ours, "n_query"].to_numpy())
    return kept_within(found, -1.0, 1.0)  # as far as two AUROCs can differ


def adaptation_figure(adaptation: pd.DataFrame, baselines: pd.DataFrame | None = None) -> Picture:
    """AUROC on the target by gradient step, a panel a number of labelled subjects, a line a strategy or baseline.

    Args:
        adaptation: Rows of `adaptation.csv`.
        baselines: Rows of `baselines.csv`.
    """
    numbers = sorted(adaptation["n_support"].unique())
    strategies = [str(name) for name in adaptation["strategy"].unique()]
    scores = scored(adaptation, baselines)
    others = [method for method in scores["method"].unique() if ":" in method]
    several = _has_several_targets(adaptation)
    width = min(10.5, max(7.6, 1.6 + 3.0 * len(numbers)))
    rows_of_legend = -(-(len(strategies) + len(others)) // (2 if width < 9 else 3))
    with canvas(width, 3.1 + 0.2 * rows_of_legend, columns=len(numbers)) as (drawn, panels):
        for axes, k in zip(np.atleast_1d(panels), numbers, strict=True):
            for strategy in strategies:
                part = adaptation[(adaptation["n_support"] == k) & (adaptation["strategy"] == strategy)]
                found = [_interval(rows)[0] for _, rows in part.groupby("step")]
                steps = np.sort(part["step"].unique())
                colour = _COLOURS.get(strategy, "#3b4754")
                means = [one.estimate for one in found]
                (line,) = axes.plot(steps, means, color=colour, linewidth=1.8, marker="o", markersize=3, label=label(strategy))
                tell(
                    line,
                    (
                        f"{label(strategy)}, step {step:g}: {estimate(one.estimate, one.low, one.high)}"
                        for step, one in zip(steps, found, strict=True)
                    ),
                )
                if found[0].n > 2:  # the interval of two says nothing
                    axes.fill_between(steps, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.12, linewidth=0)
            for place, method in enumerate(others):
                part = scores[(scores["n_support"] == k) & (scores["method"] == method)]
                if len(part):
                    axes.axhline(_interval(part)[0].estimate, color="#6b7683", linewidth=1.3, linestyle=_LINES[place % 3], label=label(method))
            axes.axhline(0.5, color="#c3cad1", linewidth=1)
            axes.set(title=f"{k} of each class", xlabel="Gradient steps")
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, 0.0), min(high, 1.0))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        np.atleast_1d(panels)[0].set_ylabel("AUROC on the targets" if several else "AUROC on the target")
        handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
        drawn.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2 if width < 9 else 3)
        image, told = png(drawn), marks(drawn)
    last = "; ".join(f"{label(row['method'])} with {row['n_support']}: {number(row['auroc'])}" for row in summarised(scores).to_dict("records"))
    caption = (
        f"Mean over {'targets' if several else 'draws of the labelled subjects'} with its 95% interval. At step 0 no labelled subject of the target "
        "was used. Broken lines: baselines. Gray line: chance."
    )
    return Picture(image, f"Line charts of AUROC by gradient step. After the last: {last}.", caption, round(width * INCH), told)


def _has_several_targets(rows: pd.DataFrame) -> bool:
    return len(rows["target"].unique()) > 1


def _interval(rows: pd.DataFrame) -> tuple[Interval, npt.NDArray[np.float64]]:
    """Mean and interval over targets, of one target over draws; and the values they are of."""
    values = rows.groupby("target")["auroc"].mean() if _has_several_targets(rows) else rows["auroc"]
    numbers = values.to_numpy(dtype=float)
    return mean_interval(numbers), numbers
