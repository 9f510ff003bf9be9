"""How cohorts and results show themselves in a notebook: tables with small plots of counts and summaries. Text is escaped, nothing is loaded."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.reports.markup import Html, strip, table, tag, text
from graphssl.reports.names import interval, method_label, metric_label, number
from graphssl.statistics.metrics import LOWER_IS_BETTER
from graphssl.statistics.summary import summarise

_N_BINS = 12
_MOST_COLUMNS, _MOST_VALUES = 40, 12
_STYLE = (
    ".graphssl{font-size:13px;max-width:1000px}.graphssl table{border-collapse:collapse;margin:4px 0 10px;color:inherit;font-size:inherit}"
    ".graphssl th,.graphssl td{text-align:left;padding:2px 12px 2px 0;font-weight:400;vertical-align:middle}"
    ".graphssl thead th{font-weight:600;border-bottom:1px solid currentColor}.graphssl .n{text-align:right}"
    ".graphssl caption{text-align:left;opacity:.7}.graphssl .soft{opacity:.7}.graphssl svg{vertical-align:middle}"
    ".graphssl svg rect.bar{fill:#2f80c9}.graphssl .strip circle{fill:#2f80c9}.graphssl .strip .ci{stroke:#2f80c9;stroke-width:2}"
    ".graphssl .strip .ref{stroke:#999}.graphssl summary{cursor:pointer}"
)


def card(title: str, *content: object) -> str:
    """What stands in a notebook: a title and its content, with a style that touches nothing else.

    Args:
        title: The title, as plain text.
        content: Pieces of markup; plain text among them is escaped.
    """
    return tag("div", Html(f"<style>{_STYLE}</style>"), tag("strong", title), *content, class_="graphssl")


def bars(counts: Sequence[float], labels: Sequence[str] = ()) -> Html:
    """A small plot of counts side by side, each with its number on hover.

    Args:
        counts: The counts, none negative.
        labels: What each is of.
    """
    top = max(counts, default=0) or 1
    width = 8
    marks = []
    for k, count in enumerate(counts):
        height = 20 * count / top
        told = text(f"{labels[k]}: {count:g}" if labels else f"{count:g}")
        bar = f'<rect class="bar" x="{k * width}" y="{22 - height:.1f}" width="{width - 1}" height="{height:.1f}"/>'
        marks.append(f'<g><title>{told}</title><rect x="{k * width}" width="{width}" height="22" fill="none" pointer-events="all"/>{bar}</g>')
    return Html(f'<svg viewBox="0 0 {len(counts) * width} 22" width="{len(counts) * width}" height="22" role="img">{"".join(marks)}</svg>')


def histogram(values: npt.ArrayLike) -> Html:
    """A small histogram of numbers; NaN are left out, and nothing is drawn of none.

    Args:
        values: The numbers `[n]`.
    """
    present = np.asarray(values, dtype=float)
    present = present[np.isfinite(present)]
    if not len(present):
        return Html("")
    counts, edges = np.histogram(present, bins=_N_BINS)
    return bars(counts.tolist(), [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)])


def columns_table(columns: Iterable[tuple[str, str, str, str, "pd.Series[Any]"]]) -> Html:
    """Columns of a table of subjects with a plot of each: a histogram of numbers, counts of categories; none of texts, ids and times.

    Args:
        columns: Name, kind, role, unit and values of each.
    """
    rows, n = [], 0
    for name, kind, role, unit, values in columns:
        n += 1
        if n <= _MOST_COLUMNS:
            share = "–" if not len(values) else f"{100 * values.notna().mean():.0f}%"
            rows.append([name, kind if not unit else f"{kind}, {unit}", role, share, *_shown(kind, role, values)])
    said = "" if n <= _MOST_COLUMNS else f"The first {_MOST_COLUMNS} of {n} columns."
    return table(["Column", "Kind", "Role", "Measured", "Values", ""], rows, caption=said, numeric=(3,))


def counts_table(counts: pd.DataFrame, head: str) -> Html:
    """Counts by two things, such as sites and classes, with a plot of each row.

    Args:
        counts: Counts; its index and columns name the two.
        head: What the rows are.
    """
    names = [str(name) for name in counts.columns]
    rows: list[list[object]] = [
        [name, *(f"{n:g}" for n in row), bars(row, names)] for name, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)
    ]
    said = "" if len(rows) <= _MOST_COLUMNS else f"The first {_MOST_COLUMNS} of {len(rows)}."
    return table([head, *names, ""], rows[:_MOST_COLUMNS], caption=said, numeric=range(1, 1 + len(names)))


def lines(pairs: Mapping[str, str]) -> Html:
    """Names with what is to be said of each, a line a name."""
    return Html("".join(tag("div", tag("span", f"{name}: ", class_="soft"), what) for name, what in pairs.items()))


def results_card(results: pd.DataFrame) -> str:
    """Scores by method with intervals, a table a metric; the first metric is open.

    Args:
        results: Table of results, as `graphssl.results.read_results` gives it.
    """
    if results.empty:
        return card("No results")
    found = summarise(results)
    n_splits, n_seeds = results["split"].nunique(), results["seed"].nunique()
    title = f"{results['task'].iloc[0]} in {results['cohort'].iloc[0]}, {str(results['protocol'].iloc[0]).replace('_', ' ')}: "
    title += f"{n_splits} split{'s' * (n_splits != 1)}, {n_seeds} seed{'s' * (n_seeds != 1)}"
    metrics = found["metric"].unique().tolist()
    first, *others = (_scores(found[found["metric"] == metric], metric) for metric in metrics)
    return card(title, first, tag("details", tag("summary", "Other metrics"), *others) if others else "")


def _scores(rows: pd.DataFrame, metric: str) -> Html:
    present = [value for column in ("mean", "low", "high") for value in rows[column] if not math.isnan(value)]
    bounds = (min(present) - 0.01, max(present) + 0.01) if present else (0.0, 1.0)
    body = [
        [method_label(method), f"{100 * share:g}%", number(mean), interval(low, high), strip(mean, low, high, bounds, math.nan)]
        for method, share, mean, low, high in rows[["method", "label_fraction", "mean", "low", "high"]].itertuples(index=False)
    ]
    better = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    return table(["Method", "Labels", metric_label(metric), "95% interval", ""], body, caption=f"{metric_label(metric)}, {better}", numeric=(1, 2, 3))


def _shown(kind: str, role: str, values: "pd.Series[Any]") -> tuple[object, object]:
    """A column in words and as a plot."""
    if kind in ("text", "timestamp") or role == "identifier" or not values.notna().any():
        return "", ""
    if kind in ("continuous", "ordinal") and pd.api.types.is_numeric_dtype(values):
        present = pd.to_numeric(values.dropna()).astype(float)
        return f"{present.mean():.3g} ± {present.std(ddof=1):.2g}" if len(present) > 1 else "", histogram(present)
    counts = values.value_counts()
    names = [str(name) for name in counts.index[:_MOST_VALUES]]
    words = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=False))
    more = len(counts) - len(names)
    return words + (f" and {more} more" if more > 0 else ""), bars(counts.head(_MOST_VALUES).tolist(), names)
