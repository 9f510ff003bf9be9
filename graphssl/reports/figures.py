"""Figures of scores, predictions and training."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.reports.canvas import INCH, canvas, marks, png, tell
from graphssl.reports.evaluated_task import EvaluatedTask
from graphssl.reports.markup import Picture
from graphssl.reports.names import count, estimate, fraction_label, listed, method_label, metric_label, number, role
from graphssl.statistics.checks import check_scores
from graphssl.statistics.metrics import Interval
from graphssl.statistics.predictions import probability_columns
from graphssl.statistics.resampling import calibration_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that stay apart for readers who see few (Okabe & Ito 2008); baselines are grey.
_COLOURS = {"pretrained": "#0b5cad", "pretrained_probe": "#56b4e9", "scratch": "#d55e00", "scratch_probe": "#e69f00", "no_edges": "#cc79a7"}
_GREY = "#3b4754"
_MARKERS = {"pretrained": "o", "scratch": "s", "control": "D", "linear": "^", "confounds": "v", "majority": "x"}
_BINS = 10


def forest(evaluated: EvaluatedTask) -> Picture | None:
    """Score in each test set with its interval, of our method, random weights and the best baseline; None for a single test set."""
    fraction = evaluated.fractions[0]
    methods = _three(evaluated, fraction)
    rows = evaluated.results[(evaluated.results["label_fraction"] == fraction) & (evaluated.results["metric"] == evaluated.metric)]
    sizes = rows.groupby("split")["n_test"].mean().sort_index()
    splits = [str(split) for split in sizes.index]
    if len(splits) < 2 or not methods:
        return None
    values = rows.groupby(["method", "split"])["value"].mean()
    bottom = len(splits) + 0.35
    with canvas(8.6, 1.1 + 0.11 * (len(splits) + 1) * (len(methods) + 1.2)) as (figure, axes):
        for k, method in enumerate(methods):
            offset = (k - (len(methods) - 1) / 2) * 0.8 / len(methods)
            intervals = evaluated.interval_by_split(method, fraction)
            points = [_point(float(values.get((method, split), math.nan)), intervals.get(split)) for split in splits]
            _draw(axes, splits, points, np.arange(len(splits)) + offset, method)
            score = evaluated.score(method, fraction)
            if score is not None:
                _draw(axes, ["Mean over test sets"], [(score.mean, score.low, score.high)], np.asarray([bottom + offset]), method, mean=True)
        axes.set_yticks(
            [*range(len(splits)), bottom], [*(f"{split}  ({n:g})" for split, n in zip(splits, sizes, strict=True)), "Mean over test sets"]
        )
        axes.set_ylim(bottom + 0.6, -0.7)
        axes.axhline(len(splits) - 0.35, color="#aab4bf", linewidth=0.8)
        _reference(axes, evaluated.chance)
        axes.set_xlabel(metric_label(evaluated.metric))
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handletextpad=0.3)
        axes.grid(axis="x", color="#e7ebef", linewidth=0.8)
        image, told = png(figure), marks(figure)
    means = "; ".join(
        f"{method_label(score.method)} {number(score.mean)}" for score in evaluated.rows(fraction, evaluated.metric) if score.method in methods
    )
    alt = f"Forest plot of {metric_label(evaluated.metric)} in {count(len(splits), 'test set')}. Means: {means}."
    caption = (
        f"{metric_label(evaluated.metric)} in each test set ({fraction_label(fraction)}; number of subjects in brackets), mean over seeds. "
        "Bars: 95% bootstrap over the subjects of the test set where predictions were kept; "
        "at the bottom, 95% interval of the mean over test sets. Dotted: chance."
    )
    return Picture(image, alt, caption, round(8.6 * INCH), told)


def label_curve(evaluated: EvaluatedTask) -> Picture | None:
    """Score against the share of labels; None with one share."""
    if len(evaluated.fractions) < 2:
        return None
    fractions = sorted(evaluated.fractions)
    methods = _shown_methods(evaluated, evaluated.fractions[0])
    with canvas(8.6, 3.8) as (figure, axes):
        for k, method in enumerate(methods):
            scores = [score for fraction in fractions if (score := evaluated.score(method, fraction)) is not None]
            x, mean, low, high = np.asarray([(score.label_fraction, score.mean, score.low, score.high) for score in scores]).T
            x = x * 1.025 ** (k - (len(methods) - 1) / 2)
            colour = _colour(method)
            (line,) = axes.plot(x, mean, color=colour, marker=_MARKERS[role(method)], markersize=5, linewidth=1.8, label=method_label(method))
            tell(line, (f"{method_label(method)}, {fraction_label(s.label_fraction)}: {estimate(s.mean, s.low, s.high)}" for s in scores))
            axes.vlines(x, low, high, color=colour, linewidth=1.1, alpha=0.7)
        axes.set_xscale("log")
        axes.set_xticks(fractions, [f"{100 * fraction:g}%" for fraction in fractions])
        axes.minorticks_off()
        axes.set_xlabel("Share of the training labels")
        axes.set_ylabel(metric_label(evaluated.metric))
        _reference(axes, evaluated.chance, horizontal=True)
        axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        figure.legend(frameon=False, loc="outside right center")
        image, told = png(figure), marks(figure)
    shares = listed(f"{100 * fraction:g}%" for fraction in fractions)
    alt = f"Line chart of {metric_label(evaluated.metric)} against the share of training labels ({shares}) for {listed(map(method_label, methods))}."
    caption = "Mean over splits and seeds with its 95% interval. Points are moved sideways a little so that bars do not hide one another."
    return Picture(image, alt, caption, round(8.6 * INCH), told)


def calibration(evaluated: EvaluatedTask) -> Picture | None:
    """Claimed probability against outcome, test sets pooled; None without predictions."""
    fraction = evaluated.fractions[0]
    drawn = [
        (method, *pairs) for method in _shown_methods(evaluated, fraction) if (pairs := _calibration_pairs(evaluated, method, fraction)) is not None
    ]
    if not drawn:
        return None
    with canvas(7.6, 4.6) as (figure, axes):
        axes.plot([0, 1], [0, 1], color="#aab4bf", linewidth=1, linestyle=":")
        for method, claimed, outcome in drawn:
            bins = np.minimum((claimed * _BINS).astype(int), _BINS - 1)
            n = np.bincount(bins, minlength=_BINS)
            full = n > 0
            x, y = (np.bincount(bins, values, minlength=_BINS)[full] / n[full] for values in (claimed, outcome))
            colour = _colour(method)
            axes.plot(x, y, color=colour, linewidth=1.4, label=method_label(method))
            drawn_bins = axes.scatter(x, y, s=10 + 160 * n[full] / n.sum(), color=colour, marker=_MARKERS[role(method)], alpha=0.85, linewidths=0)
            parts = zip(x, y, n[full] / n.sum(), strict=True)
            tell(
                drawn_bins,
                (f"{method_label(method)}: claimed {said:.3f}, true {was:.3f}, {part:.1%} of the predictions" for said, was, part in parts),
            )
        two = evaluated.n_classes == 2
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="Claimed probability", ylabel="Share of positives" if two else "Share that was right")
        axes.grid(color="#e7ebef", linewidth=0.8)
        figure.legend(frameon=False, loc="outside right center")
        image, told = png(figure), marks(figure)
    names = listed(method_label(method) for method, *_ in drawn)
    alt = f"Calibration plot: claimed probability against how often it came true, for {names}; the diagonal is perfect calibration."
    caption = (
        "Test sets and seeds pooled, bins of a tenth; the size of a point is its share of the predictions. "
        "On the dotted line, claims come true as often as they say."
    )
    return Picture(image, alt, caption, round(7.6 * INCH), told)


def learning_curves(history: pd.DataFrame) -> Picture | None:
    """Training and validation loss by epoch, one panel a stage; None where nothing was recorded."""
    history = history.dropna(subset=["epoch"])
    stages = [str(stage) for stage in history["stage"].unique()]
    if not stages:
        return None
    runs = [name for name in ("split", "seed") if name in history.columns]
    width = min(9.6, 4.8 * len(stages))
    with canvas(width, 3.3, columns=len(stages)) as (figure, panels):
        for axes, stage in zip(np.atleast_1d(panels), stages, strict=True):
            part = history[history["stage"] == stage]
            _losses(axes, part, runs)
            axes.set(title=stage, xlabel="Epoch", ylabel="Loss")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        np.atleast_1d(panels)[0].legend(frameon=False)
        image, told = png(figure), marks(figure)
    alt = f"Learning curves: training and validation loss by epoch for the stage{'' if len(stages) == 1 else 's'} {listed(stages)}."
    return Picture(
        image,
        alt,
        "Loss by epoch; thin lines are single runs, thick lines their mean. The epoch kept is chosen on validation subjects.",
        round(width * INCH),
        told,
    )


def _shown_methods(evaluated: EvaluatedTask, fraction: float) -> list[str]:
    """Our methods and random weights, the control without edges, the best baseline."""
    wanted = [method for method in evaluated.methods(fraction) if role(method) in ("pretrained", "scratch") or method == "no_edges"]
    baseline = evaluated.best_baseline(fraction)
    return [*wanted, *([baseline] if baseline else [])]


def _three(evaluated: EvaluatedTask, fraction: float) -> list[str]:
    """Our method, random weights, the best baseline: as many as a crowded figure holds."""
    return [method for method in (evaluated.ours, evaluated.scratch(fraction), evaluated.best_baseline(fraction)) if method is not None]


def _colour(method: str) -> str:
    return _COLOURS.get(method, _GREY)


def _point(value: float, found: Interval | None) -> tuple[float, float, float]:
    return (value, math.nan, math.nan) if found is None else (value, found.low, found.high)


def _draw(
    axes: "Axes", names: list[str], points: list[tuple[float, float, float]], y: "npt.NDArray[Any]", method: str, *, mean: bool = False
) -> None:
    """Points `(value, low, high)` with their names and bars at the given heights."""
    x, low, high = np.asarray(points, dtype=np.float64).T
    colour = _colour(method)
    axes.hlines(y, low, high, color=colour, linewidth=2.2 if mean else 1.1, alpha=1 if mean else 0.75)
    label = None if mean else method_label(method)
    drawn = axes.scatter(x, y, s=46 if mean else 24, color=colour, marker=_MARKERS[role(method)], label=label, zorder=3)
    tell(drawn, (f"{name}, {method_label(method)}: {estimate(*point)}" for name, point in zip(names, points, strict=True)))


def _reference(axes: "Axes", value: float, *, horizontal: bool = False) -> None:
    if not math.isnan(value):
        (axes.axhline if horizontal else axes.axvline)(value, color="#97a1ac", linewidth=1, linestyle=":", zorder=1)


def _calibration_pairs(evaluated: EvaluatedTask, method: str, fraction: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    frame = evaluated.predictions(method, fraction)
    if frame.empty:
        return None
    columns = probability_columns(frame)
    return calibration_pairs(*check_scores(frame["y_true"].to_numpy(), frame[columns].to_numpy(dtype=np.float64), probabilities=True))


def _losses(axes: "Axes", part: pd.DataFrame, runs: list[str]) -> None:
    for column, colour, style, label in (("train_loss", "#3b4754", "-", "training"), ("validation_loss", "#0b5cad", "--", "validation")):
        if column not in part.columns or part[column].isna().all():
            continue
        shown = part.dropna(subset=[column])
        lines = list(shown.groupby(runs)) if runs else []
        if len(lines) > 1:
            for _, line in lines:
                axes.plot(line["epoch"], line[column], color=colour, linestyle=style, linewidth=0.7, alpha=0.3)
        mean = shown.groupby("epoch")[column].mean()
        marker = "o" if len(mean) == 1 else None
        (drawn,) = axes.plot(mean.index, mean.to_numpy(), color=colour, linestyle=style, linewidth=1.9, label=label, marker=marker)
        tell(drawn, (f"Epoch {epoch:g}, {label}: {value:.4g}" for epoch, value in mean.items()))
