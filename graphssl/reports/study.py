"""The report of a study: for every question a figure, paired differences, and where they are asked for power laws and convergence."""

import math
import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from graphssl.reports.canvas import INCH, canvas, marks, png, tell
from graphssl.reports.markup import Html, Picture, figure, folded, paragraph, table, tag
from graphssl.reports.names import count, estimate, interval, listed, metric_label, number, p_value, signed
from graphssl.reports.run_folder import check_files, read_mapping, read_optional, read_text, whole, write_page
from graphssl.reports.run_page import reproduce, run_page
from graphssl.statistics.grid import axes_of, cell_means, convergence, mean_differences, paired_differences, power_laws, with_resamples
from graphssl.statistics.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PALETTE = ("#3b4754", "#0b5cad", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a8321f")
_MOST_PANELS = 4
_MOST_ROWS = 40
_COUNTS = {"n_labelled": "labelled", "n_rarest": "of the rarest class", "n_pretrained": "pre-trained on", "n_test": "tested"}


@dataclass(frozen=True, eq=False)
class StudyRun:
    """What a report reads from the run folder of a study.

    Attributes:
        folder: Where it is.
        manifest: `manifest.json`.
        shown: `study.json`: axes, questions and metrics by part.
        table: `study.csv`: one row a number, with its resamples where there is one split (`resampled.parquet`).
        curves: `curves.csv`: one row a check of a training.
        left_out: `left_out.csv`: cells that the data do not allow.
        configuration: Text of `config.yaml`; None where it was not kept.
    """

    folder: Path
    manifest: dict[str, Any]
    shown: dict[str, Any]
    table: pd.DataFrame
    curves: pd.DataFrame
    left_out: pd.DataFrame
    configuration: str | None

    def question_table(self, part: str, question: dict[str, Any], frame: str = "table") -> pd.DataFrame:
        """Rows of a part that a question is about: its axes at their levels, all others at their first."""
        axes, rows = self.shown["parts"][part]["axes"], getattr(self, frame)
        if rows.empty:
            return rows
        rows = rows[rows["part"] == part]
        for axis, levels in axes.items():
            wanted = (question["axes"][axis] or levels) if axis in question["axes"] else levels[:1]
            rows = rows[rows[axis].isin([str(level) for level in wanted])]
        kept = [axis for axis in axes if axis in question["axes"]]
        return rows[[*kept, *rows.columns[rows.columns.get_loc("split") :]]]


def is_study_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a run folder is that of a study."""
    return (Path(folder) / "study.json").is_file()


def read_study_run(folder: str | os.PathLike[str]) -> StudyRun:
    """Read the run folder of a study.

    Raises:
        RunFolderError: If it is no such folder.
        DataError: If a file is damaged.
    """
    path = Path(folder)
    check_files(path, ("manifest.json", "study.json", "study.csv"), "the folder of a study that `graphssl evaluate` wrote")
    manifest, shown = read_mapping(path / "manifest.json"), read_mapping(path / "study.json")
    with whole(path / "study.json"):
        axes = dict.fromkeys(["part", "split", *(axis for part in shown["parts"].values() for axis in part["axes"])], "str")
    numbers, curves, left_out = (_rows(path / name, axes) for name in ("study.csv", "curves.csv", "left_out.csv"))
    draws = read_optional(path / "resampled.parquet", pd.read_parquet)
    if draws is not None:
        with whole(path / "resampled.parquet"):
            numbers = with_resamples(numbers, draws)
    return StudyRun(path, manifest, shown, numbers, curves, left_out, read_optional(path / "config.yaml", read_text))


def write_study_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` into the run folder of a study; whole or not at all.

    Args:
        run_folder: The run folder.

    Returns:
        Path of the page.

    Raises:
        RunFolderError: If it is no such folder.
        DataError: If a file is damaged.
    """
    run = read_study_run(run_folder)
    return write_page(run.folder, _render(run))


def study_differences(run: StudyRun) -> pd.DataFrame:
    """Paired differences of every part, question and metric that the report shows.

    Args:
        run: The run.
    """
    found = []
    for part, shown in run.shown["parts"].items():
        for question in shown["questions"]:
            rows = run.question_table(part, question)
            ((axis, against),) = question["compare"].items()
            if axis in rows and str(against) in set(rows[axis]):
                for metric in _present(rows, question["metrics"] or shown["metrics"]):
                    differences = paired_differences(rows, axis, str(against), metric)
                    found.append(differences.assign(part=part, question=question["title"], metric=metric, axis=axis, level=differences[axis]))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _present(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that any row has a number of."""
    known = set(rows.dropna(subset=["value"])["metric"])
    return [metric for metric in metrics if metric in known]


def _rows(file: Path, axes: dict[str, str]) -> pd.DataFrame:
    frame = read_optional(file, lambda file: pd.read_csv(file, dtype=axes, keep_default_na=False))
    if frame is None:
        return pd.DataFrame()
    for name in frame.columns.difference([*axes, "metric", "why"]):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame


def _render(run: StudyRun) -> str:
    sections: list[tuple[str, str, list[Html]]] = []
    for part, shown in run.shown["parts"].items():
        questions = [piece for question in shown["questions"] for piece in _question(run, part, question, shown["metrics"])]
        body = [paragraph(_support(run.table[run.table["part"] == part]), "soft"), *questions]
        sections.append((f"part-{len(sections)}", part.replace("_", " ").capitalize(), body))
    sections.append(("left-out", "What was left out", list(_left_out(run))))
    sections.append(("reproduce", "Configuration and versions", list(reproduce(run))))
    foot = (
        "Means over splits, of each the mean over seeds, with Student’s t intervals. Differences are paired by split and tested by the corrected "
        "resampled t test (Nadeau & Bengio 2003). Where there is one split, intervals are percentiles over 1000 draws of its test subjects: they "
        "speak of other subjects and the same networks, not of other training subjects. Neither intervals nor p values are corrected for how many "
        "comparisons there are: of twenty that differ in nothing, about one leaves out zero by chance."
    )
    return run_page(run, _verdict(run), sections, foot)


def _verdict(run: StudyRun) -> str:
    """How many comparisons say anything, which is what a grid of many cells is to be read with."""
    n_cells = len(run.table[axes_of(run.table)].drop_duplicates())
    found = study_differences(run)
    first = found[found["metric"] == found["metric"].iloc[0]].dropna(subset=["low"]) if len(found) else found
    if first.empty:
        return f"{count(n_cells, 'cell')}; no comparison has an interval."
    flip = -1 if first["metric"].iloc[0] in LOWER_IS_BETTER else 1
    better, worse = int((flip * first["low" if flip > 0 else "high"] > 0).sum()), int((flip * first["high" if flip > 0 else "low"] < 0).sum())
    return (
        f"{count(n_cells, 'cell')}: of {count(len(first), 'paired difference')} in {metric_label(first['metric'].iloc[0])}, {better} are above zero, "
        f"{worse} below, and {len(first) - better - worse} leave it open."
    )


def _support(rows: pd.DataFrame) -> str:
    """How much stands behind the numbers of a part."""
    if rows.empty:
        return "The data allow no cell of it."
    n_cells, n_splits, n_seeds = (len(rows[names].drop_duplicates()) for names in (axes_of(rows), ["split"], ["seed"]))
    sizes = f"{_span(rows['n_train'])} subjects to train on and {_span(rows['n_test'])} to test on in each split"
    alone = " With one seed, what other initial weights and draws would give is not in the intervals." if n_seeds == 1 else ""
    return f"{count(n_cells, 'cell')} on {count(n_splits, 'split')}, each with {count(n_seeds, 'seed')}; {sizes}.{alone}"


def _question(run: StudyRun, part: str, question: dict[str, Any], metrics: Sequence[str]) -> Iterator[Html]:
    yield tag("h3", question["title"])
    rows = run.question_table(part, question)
    ((axis, against),) = question["compare"].items()
    wanted = question["metrics"] or metrics
    shown = [] if rows.empty else _present(rows, wanted)
    if not shown:
        yield paragraph("No cell of it could be computed; see what was left out.", "soft")
        return
    for metric in (metric for metric in wanted if metric not in shown):
        yield paragraph(f"{metric_label(metric)} was asked for, and no cell has a number of it.", "soft")
    along = _along(question, axis, rows)
    for metric in shown:
        yield from _answer(rows, metric, axis, str(against))
        yield figure(study_figure(rows, metric, axis, along, run.shown["parts"][part]["axes"]))
        yield from _differences(rows, metric, axis, str(against))
    if question["law"] is not None and along is not None:
        yield from _laws(rows, along, shown[0], question["law"])
    if question["curves"]:
        yield from _curves(run.question_table(part, question, "curves"), axis, str(against))


def _answer(rows: pd.DataFrame, metric: str, axis: str, against: str) -> Iterator[Html]:
    """What the table says to the question, a sentence a level, and never more than its intervals do."""
    if against not in set(rows[axis]):
        return
    found = mean_differences(rows, axis, against, metric)
    if found.empty:
        yield paragraph(f"{metric_label(metric)}: nothing is paired with {against}.", "soft")
        return
    better = " (lower is better)" if metric in LOWER_IS_BETTER else ""
    behind = f"{_span(found['n_splits'])} splits, {_span(found['n_seeds'])} seeds".replace("1 splits", "1 split").replace("1 seeds", "1 seed")
    yield paragraph(f"{metric_label(metric)}{better} against {against}; {behind}:")
    yield tag("ul", *(tag("li", tag("b", row[axis]), f": {_told(row)}") for row in found.to_dict("records")))


def _told(row: dict[Hashable, Any]) -> str:
    difference, low, high = row["difference"], row["low"], row["high"]
    n_averaged, n_cells, n_splits = row["n_averaged"], row["n_cells"], row["n_splits"]
    if not n_averaged:
        return f"not shown: none of {count(n_cells, 'cell')} has all of {count(n_splits, 'split')}, so there is no mean of the same cells."
    over = f"{n_averaged} of {n_cells} cells, those that have every split" if n_averaged < n_cells else count(n_cells, "cell")
    where = f"{signed(difference)} on average over {over}"
    if math.isnan(low):
        return f"not shown: {where}, without an interval, which takes two splits or more that differ, or one whose test subjects were drawn again."
    shown = f"95% interval {interval(low, high, sign=True)}{', over test subjects' if n_splits == 1 else ''}"
    what = "higher" if low > 0 else "lower" if high < 0 else "no difference is shown"
    sides = f" Cell by cell, the interval lies above zero in {row['n_above']} of {n_cells}, below it in {row['n_below']}." if n_cells > 1 else ""
    return f"{what}: {where} ({shown}).{sides}"


def _along(question: dict[str, Any], axis: str, rows: pd.DataFrame) -> str | None:
    others = [name for name in axes_of(rows) if name != axis and rows[name].unique().size > 1]
    return question["along"] or (others[0] if others else None)


def _differences(rows: pd.DataFrame, metric: str, axis: str, against: str) -> Iterator[Html]:
    if against not in set(rows[axis]):
        yield paragraph(f"Nothing to compare with: {axis} {against} was left out.", "soft")
        return
    found = paired_differences(rows, axis, against, metric)
    if found.empty:  # which the sentence above it says
        return
    others = [name for name in axes_of(rows) if name != axis]
    head = (_title(axis), *map(_title, others), metric_label(metric), f"With {against}", "Difference", "95% interval", "p", "Splits")
    cells = [
        (
            row[axis],
            *(row[name] for name in others),
            number(row["mean"]),
            number(row["mean_against"]),
            signed(row["difference"]),
            interval(row["low"], row["high"], sign=True),
            p_value(row["p_value"]),
            row["n_splits"],
        )
        for row in found.to_dict("records")
    ]
    made = table(
        head,
        cells,
        caption=f"{metric_label(metric)}, each level of {_title(axis).lower()} less {against}.",
        numeric=range(1 + len(others), len(head)),
    )
    yield made if len(cells) <= _MOST_ROWS else folded(f"{len(cells)} paired differences in {metric_label(metric)}", made)


def _laws(rows: pd.DataFrame, along: str, metric: str, size: str) -> Iterator[Html]:
    found = power_laws(rows, along, metric, size)
    if found.empty:
        yield paragraph("Fewer than three sizes: no power law was fitted.", "soft")
        return
    others = [name for name in axes_of(rows) if name != along]
    head = (*map(_title, others), "Exponent b", "95% interval", "Floor c", "95% interval", "Sizes", "Runs")
    cells = [
        (
            *(row[name] for name in others),
            number(row["b"]),
            interval(row["b_low"], row["b_high"]),
            number(row["c"]),
            interval(row["c_low"], row["c_high"]),
            row["n_sizes"],
            row["n_values"],
        )
        for row in found.to_dict("records")
    ]
    what = {"n_labelled": "labelled subjects", "n_pretrained": "subjects of the pre-training"}[size]
    caption = f"Error = a · N^−b + c, the error being one less {metric_label(metric)} and N the {what}; intervals by bootstrap within sizes."
    yield table(head, cells, caption=caption, numeric=range(len(others), len(head)))


def _curves(curves: pd.DataFrame, axis: str, against: str) -> Iterator[Html]:
    if curves.empty or against not in set(curves[axis]):
        yield paragraph("There are no curves: they take validation subjects (cell.validation_fraction).", "soft")
        return
    yield figure(curve_figure(curves, axis))
    yield paragraph("How fast trainings are is given without intervals: the table describes these trainings, and shows no difference.", "soft")
    found = convergence(curves, axis, against)
    others = [name for name in axes_of(curves) if name != axis]
    head = (_title(axis), *map(_title, others), "Steps to 95%", "Reached by", "Speed", "Mean height", "Late spread", "Best")
    cells = [
        (
            row[axis],
            *(row[name] for name in others),
            number(row["steps_to"], 0),
            f"{100 * row['reached']:.0f}%",
            number(row["speed"], 2),
            number(row["curve_area"]),
            number(row["late_spread"]),
            number(row["best"]),
        )
        for row in found.to_dict("records")
    ]
    caption = (
        f"Validation subjects on the way. Steps to 95% of the best that {against} reaches, mean over the trainings that get there; speed is the "
        f"steps of {against} for one of its own; mean height is the area under the curve for its length; late spread the deviation of the last five "
        "checks."
    )
    yield table(head, cells, caption=caption, numeric=range(1 + len(others), len(head)))


def _left_out(run: StudyRun) -> Iterator[Html]:
    if run.left_out.empty:
        yield paragraph("Nothing: the data allow every cell.")
        return
    reasons = run.left_out.groupby("why", sort=False).size()
    yield table(("Reason", "Cells"), [(why, n) for why, n in reasons.items()], caption="Cells, counted by split and seed.", numeric=(1,))


def study_figure(rows: pd.DataFrame, metric: str, axis: str, along: str | None, order: dict[str, list[str]]) -> Picture:
    """A metric along an axis, a line a level of another, a panel a level of a third.

    Args:
        rows: Rows of a study's table.
        metric: The metric.
        axis: The axis whose levels are compared.
        along: The axis of the abscissa; None where there is no other.
        order: Levels by axis, in their order.
    """
    means = cell_means(rows, metric)
    if axis == along:  # what is compared lies along the abscissa: lines are levels of another one
        axis = next((name for name in axes_of(rows) if name != along and means[name].unique().size > 1), axis)
    rest = [name for name in axes_of(rows) if name not in (axis, along) and means[name].unique().size > 1]
    by = rest[0] if rest else None
    means = means[np.logical_and.reduce([means[name] == _first(means[name], order[name]) for name in rest[1:]])] if rest[1:] else means
    panels: Sequence[str | None] = [None] if by is None else [level for level in order[by] if level in set(means[by])][:_MOST_PANELS]
    lines = [level for level in order[axis] if level in set(means[axis])]
    width = min(10.5, 2.2 + 3.1 * len(panels)) if along else min(10.5, 2.5 + 0.9 * len(lines))
    with canvas(width, 3.4 + 0.2 * (-(-len(lines) // 4)), columns=len(panels)) as (drawn, made):
        _alike(made)
        for axes, panel in zip(np.atleast_1d(made), panels, strict=True):
            part = means if panel is None else means[means[by] == panel]
            _draw(axes, part, axis, along, lines, order)
            axes.set(title="" if panel is None else f"{_title(by or '')} {panel}", xlabel=_title(along or axis))
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        first = np.atleast_1d(made)[0]
        first.set_ylabel(metric_label(metric))
        if along:
            handles, labels = first.get_legend_handles_labels()
            drawn.legend(handles, labels, frameon=False, loc="outside lower center", ncols=4)
        image, hovered = png(drawn), marks(drawn)
    told = listed(
        (f"{row[axis]} {number(row['mean'])}" for row in means.groupby(axis, sort=False)[["mean"]].mean().reset_index().to_dict("records")), 10
    )
    counts = listed(f"{word} {_span(means[name])}" for name, word in _COUNTS.items() if name in means)
    fixed = "".join(f"; {name} at {_first(rows[name], order[name])}" for name in rest[1:])
    caption = f"{metric_label(metric)}: mean over splits with its 95% interval{fixed}. Subjects: {counts}."
    return Picture(image, f"{metric_label(metric)} by {_title(along or axis)}. Means: {told}.", caption, round(width * INCH), hovered)


def curve_figure(curves: pd.DataFrame, axis: str) -> Picture:
    """The validation score by step, a line a level of an axis, a panel a combination of the others.

    Args:
        curves: Curves of a study.
        axis: The axis.
    """
    others = [name for name in axes_of(curves) if name != axis and curves[name].unique().size > 1]
    panels = list(curves.groupby(others, sort=False))[:_MOST_PANELS] if others else [((), curves)]
    width = min(10.5, 2.2 + 3.1 * len(panels))
    with canvas(width, 3.6, columns=len(panels)) as (drawn, made):
        _alike(made)
        for axes, (levels, part) in zip(np.atleast_1d(made), panels, strict=True):
            for place, (level, lines) in enumerate(part.groupby(axis, sort=False)):
                found = lines.groupby("step")["validation_score"].agg(["mean", "min", "max"])
                colour = _PALETTE[place % len(_PALETTE)]
                (line,) = axes.plot(found.index, found["mean"], color=colour, linewidth=1.7, label=str(level))
                tell(line, (f"{level}, step {step:g}: {number(value)}" for step, value in found["mean"].items()))
                axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.1, linewidth=0)
            axes.set(title=", ".join(f"{_title(name)} {level}" for name, level in zip(others, levels, strict=False)), xlabel="Step")
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        first = np.atleast_1d(made)[0]
        first.set_ylabel("Validation score")
        handles, labels = first.get_legend_handles_labels()
        drawn.legend(handles, labels, frameon=False, loc="outside lower center", ncols=4)
        image, hovered = png(drawn), marks(drawn)
    alt = f"Validation score by step for {listed(map(str, curves[axis].unique()))}."
    return Picture(image, alt, "Mean over splits and seeds, from the lowest to the highest of them.", round(width * INCH), hovered)


def _alike(made: Any) -> None:
    """One scale for the panels side by side, so that their heights can be compared."""
    first, *others = np.atleast_1d(made)
    for axes in others:
        axes.sharey(first)


def _draw(axes: "Axes", part: pd.DataFrame, axis: str, along: str | None, lines: Sequence[str], order: dict[str, list[str]]) -> None:
    ticks = _in_order([level for level in order[along] if level in set(part[along])]) if along else list(lines)
    for place, level in enumerate(lines):
        rows = part[part[axis] == level].set_index(along or axis).reindex(ticks if along else [level]).dropna(subset=["mean"])
        at = [ticks.index(name) + (0.06 * (place - (len(lines) - 1) / 2) if along else 0) for name in rows.index]
        below, above = ((rows["mean"] - rows["low"]).fillna(0), (rows["high"] - rows["mean"]).fillna(0))
        colour = _PALETTE[place % len(_PALETTE)]
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 1.6, "elinewidth": 0.9}
        line, *_ = axes.errorbar(at, rows["mean"], yerr=[below, above], color=colour, label=str(level), **style)
        scores = rows[["mean", "low", "high"]].itertuples(index=False)
        names = [f"{level}, {along.replace('_', ' ')} {name}" if along else str(level) for name in rows.index]
        tell(line, (f"{name}: {estimate(*score)}" for name, score in zip(names, scores, strict=True)))
    axes.set_xticks(range(len(ticks)), ticks)


def _in_order(levels: Sequence[str]) -> list[str]:
    """Numbers from low to high, then words as they come."""
    numbers = [level for level in levels if level.replace(".", "", 1).isdigit()]
    return [*sorted(numbers, key=float), *(level for level in levels if level not in numbers)]


def _span(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def _first(values: pd.Series, order: Sequence[str]) -> str:
    present = set(values)
    return next(level for level in order if level in present)


def _title(axis: str) -> str:
    words = axis.replace("_", " ")
    return words[:1].upper() + words[1:]
