"""A run in short: for machines as a dictionary, for the terminal as tables."""

import math
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graphssl.reports.cautions import cautions
from graphssl.reports.evaluated_task import EvaluatedTask, read_evaluated
from graphssl.reports.headline import headline
from graphssl.reports.names import fraction_label, interval, metric_label, number, p_value, signed
from graphssl.reports.run_folder import read_run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def report_summary(run_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What the report says, in plain values fit for JSON (`None` where there is no number).

    Args:
        run_folder: The run folder.

    Returns:
        `name`, `task`, `protocol`, `metric`, `verdict`, `sentences`, `cautions`, `results` (one row a method, label fraction and metric),
        `differences` (our method against the best baseline and random weights, by label fraction), and `report` (path of the page, if there is one).

    Raises:
        RunFolderError: If the folder or its manifest is absent.
        DataError: If there are no results, or a file is there and damaged.
    """
    evaluated = read_evaluated(read_run(run_folder))
    found, page = headline(evaluated), evaluated.run.folder / "report.html"
    return {
        "name": evaluated.run.name,
        "task": evaluated.task,
        "protocol": evaluated.protocol,
        "metric": evaluated.metric,
        "verdict": found.verdict,
        "sentences": list(found.sentences),
        "cautions": [asdict(caution) for caution in cautions(evaluated)],
        "results": [{str(key): _plain(value) for key, value in row.items()} for row in map(asdict, evaluated.scores)],
        "differences": _differences(evaluated),
        "report": str(page) if page.is_file() else None,
    }


def print_summary(run_folder: str | os.PathLike[str], console: "Console") -> None:
    """Print verdict, scores of all methods with intervals, differences from the best baseline, and warnings.

    Args:
        run_folder: The run folder.
        console: Where to print.

    Raises:
        RunFolderError: If the folder or its manifest is absent.
        DataError: If there are no results, or a file is there and damaged.
    """
    from rich.markup import escape

    evaluated = read_evaluated(read_run(run_folder))
    console.print(f"[bold]{escape(headline(evaluated).verdict)}[/bold]", highlight=False)
    for fraction in evaluated.fractions:
        console.print(_table(evaluated, fraction, console.width))
    for caution in cautions(evaluated):
        colour = "yellow" if caution.level == "warning" else "dim"
        console.print(f"[{colour}]{escape(caution.title)}.[/{colour}] {escape(caution.text)}", highlight=False)


# Narrower terminals show the deciding metric and one more, with intervals below the numbers.
_WIDE = 120
_ONE_MORE = "balanced_accuracy"
_SHORT = {"balanced_accuracy": "bal. acc.", "brier": "Brier", "expected_calibration_error": "ECE"}


def _differences(evaluated: EvaluatedTask) -> list[dict[str, Any]]:
    rows = []
    for fraction in evaluated.fractions:
        for kind, other in (("best_baseline", evaluated.best_baseline(fraction)), ("scratch", evaluated.scratch(fraction))):
            found = evaluated.compare(evaluated.ours, other, fraction) if evaluated.ours else None
            if found is not None:
                numbers = {key: _plain(value) for key, value in asdict(found).items()}
                rows.append(
                    {"label_fraction": fraction, "method": evaluated.ours, "against": other, "kind": kind, "metric": evaluated.metric, **numbers}
                )
    return rows


def _table(evaluated: EvaluatedTask, fraction: float, width: int) -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    baseline = evaluated.best_baseline(fraction)
    metrics = [metric for metric in evaluated.metrics if evaluated.rows(fraction, metric)]
    gap = "  "
    if width < _WIDE:
        metrics, gap = [metric for metric in metrics if metric in (evaluated.metric, _ONE_MORE)], "\n"
    title = escape(f"{evaluated.task}, {evaluated.protocol.replace('_', ' ')}, {fraction_label(fraction)}")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    for metric in metrics:
        table.add_column(_SHORT.get(metric, metric_label(metric)), justify="right", no_wrap=True)
    table.add_column(f"against {escape(baseline)}" if baseline else "against a baseline", no_wrap=True)
    for method in evaluated.methods(fraction):
        cells = [_cell(evaluated, method, fraction, metric, gap) for metric in metrics]
        table.add_row(
            escape(method), *cells, _against(evaluated, method, baseline, fraction, gap), style="bold" if method == evaluated.ours else None
        )
    return table


def _cell(evaluated: EvaluatedTask, method: str, fraction: float, metric: str, gap: str) -> str:
    row = evaluated.score(method, fraction, metric)
    if row is None:
        return "–"
    spread = interval(row.low, row.high)
    return number(row.mean) + ("" if spread == "–" or metric != evaluated.metric else f"{gap}{spread}")


def _against(evaluated: EvaluatedTask, method: str, baseline: str | None, fraction: float, gap: str) -> str:
    found = evaluated.compare(method, baseline, fraction)
    if found is None:
        return ""
    if math.isnan(found.low):
        return signed(found.difference)
    return f"{signed(found.difference)}  p {p_value(found.p_value)}{gap}{interval(found.low, found.high, sign=True)}"


def _plain(value: Any) -> Any:
    """NumPy scalars as Python's, NaN as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
