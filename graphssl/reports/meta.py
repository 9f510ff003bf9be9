"""The report of a meta-training: sources, the adaptation curve on the target, how alike the sources are."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from graphssl.reports.adaptation import adaptation_figure, compared, label, scored, summarised
from graphssl.reports.canvas import INCH, canvas, marks, png, tell
from graphssl.reports.markup import Html, Picture, figure, folded, paragraph, table, tag
from graphssl.reports.names import count, interval, listed, method_phrase, number, p_value, signed
from graphssl.reports.run_folder import check_files, read_mapping, read_optional, read_text, whole, write_page
from graphssl.reports.run_page import reproduce, run_page
from graphssl.reports.source_rates import rates_figure, rates_sentence, rates_summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PALETTE = ("#0b5cad", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3b4754", "#a8321f")
_RATES = {"loss": "Loss of the query", "weight": "Weight of the source", "learning_rate": "Inner learning rate", "weight_decay": "Inner weight decay"}


@dataclass(frozen=True, eq=False)
class MetaRun:
    """What a report reads from the run folder of a meta-training.

    Attributes:
        folder: Where it is.
        manifest: `manifest.json`.
        sources: `sources.csv`: loss, weight and rates by strategy, epoch and source.
        adaptation: `adaptation.csv`: scores by strategy, target, number of labelled subjects, draw and step; None without a target.
        baselines: `baselines.csv`: scores of baselines on the same draws; None likewise.
        rates: `rates.csv`: generated rates by strategy, source and tensor; None where none were generated.
        similarity: `similarity.json`; empty where it was not measured.
        configuration: Text of `config.yaml`; None where it was not kept.
    """

    folder: Path
    manifest: dict[str, Any]
    sources: pd.DataFrame
    adaptation: pd.DataFrame | None
    baselines: pd.DataFrame | None
    rates: pd.DataFrame | None
    similarity: list[dict[str, Any]]
    configuration: str | None


def is_meta_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a run folder is that of a meta-training."""
    return (Path(folder) / "sources.csv").is_file()


def read_meta_run(folder: str | os.PathLike[str]) -> MetaRun:
    """Read the run folder of a meta-training.

    Raises:
        RunFolderError: If it is no such folder.
        DataError: If a file is damaged.
    """
    path = Path(folder)
    check_files(path, ("manifest.json", "sources.csv"), "the folder that `graphssl meta-train` wrote")
    with whole(path / "sources.csv"):
        sources = _table(path / "sources.csv")
    adaptation, baselines, rates = (read_optional(path / f"{name}.csv", _table) for name in ("adaptation", "baselines", "rates"))
    similarity = read_optional(path / "similarity.json", lambda file: list(json.loads(read_text(file))))
    configuration = read_optional(path / "config.yaml", read_text)
    return MetaRun(path, read_mapping(path / "manifest.json"), sources, adaptation, baselines, rates, similarity or [], configuration)


def _table(file: Path) -> pd.DataFrame:
    names = dict.fromkeys(("source", "strategy", "target", "tensor", "method", "trained_on"), "str")
    return pd.read_csv(file, dtype=names, keep_default_na=False, na_values=[""])


def write_meta_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` into the run folder of a meta-training; whole or not at all.

    Args:
        run_folder: The run folder.

    Returns:
        Path of the page.

    Raises:
        RunFolderError: If it is no such folder.
        DataError: If a file is damaged.
    """
    run = read_meta_run(run_folder)
    return write_page(run.folder, _render(run))


def _render(run: MetaRun) -> str:
    sections = [
        ("setting", "What was run", _setting(run)),
        ("adaptation", "Adaptation to the target" if len(_targets(run)) < 2 else "Adaptation to each target", _adaptation(run)),
        ("sources", "What was learned from each source", _sources(run)),
        ("similarity", "How alike the sources are", _similarity(run)),
        ("reproduce", "Configuration and versions", reproduce(run)),
    ]
    foot = "Intervals of means: Student’s t over draws of labelled subjects, or over targets where there are several."
    return run_page(run, _verdict(run), sections, foot)


def _verdict(run: MetaRun) -> str:
    """The headline: what the kept strategy scores on the target, and beside it the target alone and the best baseline."""
    n_sources = len(run.sources["source"].unique())
    if run.adaptation is None:
        return f"Meta-trained on {n_sources} sources; no target was given."
    scores = summarised(scored(run.adaptation, run.baselines))
    kept, k = str(run.adaptation["strategy"].iloc[0]), int(scores["n_support"].min())
    beside = "" if kept == "direct" or "direct" not in set(scores["method"]) else f", {number(_at(scores, 'direct', k))} from random weights"
    baselines = scores[scores["method"].str.contains(":") & (scores["n_support"] == k)].sort_values("auroc")
    if len(baselines):
        best = baselines.iloc[-1]
        name, _, where = str(best["method"]).partition(":")
        beside += f", {number(best['auroc'])} by {method_phrase(name)}, trained on the {where}"
    targets = _targets(run)
    where = targets[0] if len(targets) == 1 else f"{len(targets)} targets"
    return f"{label(kept)}: AUROC {number(_at(scores, kept, k))} on {where} with {k} labelled {_subjects(k)} of each class{beside}."


def _targets(run: MetaRun) -> list[str]:
    return [] if run.adaptation is None else [str(name) for name in run.adaptation["target"].unique()]


def _subjects(n: int) -> str:
    return "subject" if n == 1 else "subjects"


def _setting(run: MetaRun) -> Iterator[Html]:
    sources, targets = run.manifest.get("sources", []), run.manifest.get("targets", [])
    datasets = [*sources, *targets]
    rows = []
    for place, dataset in enumerate(datasets):
        what = "source" if place < len(sources) else "target"
        counts = ", ".join(f"{name} {n}" for name, n in zip(dataset.get("classes", []), dataset.get("counts", []), strict=False))
        rows.append(
            (
                dataset.get("source"),
                what,
                dataset.get("target") or "–",
                counts or "–",
                ", ".join(dataset.get("atlases", {})) or "–",
                dataset.get("n_subjects"),
            )
        )
    yield table(("Dataset", "Role", "Label", "Subjects by class", "Atlas", "Subjects"), rows, numeric=(5,))


def _adaptation(run: MetaRun) -> Iterator[Html]:
    if run.adaptation is None:
        yield paragraph("No target was given, or it has no labels or too few of them (adaptation.csv).", "soft")
        return
    yield figure(adaptation_figure(run.adaptation, run.baselines))
    scores = scored(run.adaptation, run.baselines)
    table_of, several = summarised(scores), len(_targets(run)) > 1
    kept, n_steps = str(run.adaptation["strategy"].iloc[0]), int(run.adaptation["step"].max())
    head = ("Method", "AUROC", "95% interval", "Spread", "Difference of the kept one", "95% interval", "p")
    for k in sorted(table_of["n_support"].unique()):
        part = table_of[table_of["n_support"] == k]
        rows = [_row(row, scores, kept, _n_classes(run)) for row in part.to_dict("records")]
        strong = [place for place, method in enumerate(part["method"]) if method == kept]
        first = part.iloc[0]
        of = f"{count(int(first['n_targets']), 'target')}, " if several else ""
        caption = (
            f"{k} labelled {_subjects(int(k))} of each class: {of}{count(int(first['n_draws']), 'draw')}; after {count(n_steps, 'gradient step')}, "
            f"on all who were not drawn ({'at least ' if several else ''}{first['n_query']})."
        )
        yield table(head, rows, caption=caption, numeric=range(1, len(head)), strong=strong)
    yield paragraph(_SEVERAL if several else _ONE, "soft")
    if several:
        yield folded("By target", *_by_target(scores))


_ONE = (
    "Draws are of one target, and share most of the subjects who are scored: interval and spread of a score tell how much the draw of labelled "
    "subjects matters, not how another target would score. Differences are paired by draw and tested by the corrected resampled t test, which allows "
    "for what draws share. p values are not corrected for the number of comparisons. Baselines are trained on the same labelled subjects, or once on "
    "all sources."
)
_SEVERAL = (
    "Every target counts once: intervals and spread (standard deviation) are over targets, of each the mean over draws. Differences are paired by "
    "target (Hodges–Lehmann estimate, Wilcoxon's signed-rank test; fewer than six targets allow no interval). p values are not corrected for the "
    "number of comparisons. Baselines are trained on the same labelled subjects, or once on all sources."
)


def _row(row: Mapping[str, Any], scores: pd.DataFrame, kept: str, n_classes: int) -> tuple[str, ...]:
    shown = (label(row["method"]), number(row["auroc"]), interval(row["low"], row["high"]), number(row["spread"]))
    if row["method"] == kept:
        return (*shown, "–", "–", "–")
    found = compared(scores, kept, str(row["method"]), int(row["n_support"]), n_classes)
    p = p_value(found.p_value) if found.p_value == found.p_value else "–"
    return (*shown, signed(found.difference), interval(found.low, found.high, sign=True), p)


def _by_target(scores: pd.DataFrame) -> Iterator[Html]:
    for k, part in scores.groupby("n_support"):
        means = part.pivot_table(index="target", columns="method", values="auroc", sort=False)
        rows = [(name, *(number(value) for value in values)) for name, values in zip(means.index, means.to_numpy(), strict=True)]
        caption = f"AUROC with {k} of each class, mean over draws."
        yield table(("Target", *(label(str(name)) for name in means)), rows, caption=caption, numeric=range(1, 1 + means.shape[1]))


def _n_classes(run: MetaRun) -> int:
    return max(len(target.get("classes", [])) for target in run.manifest["targets"])


def _sources(run: MetaRun) -> Iterator[Html]:
    strategies = [str(name) for name in run.sources["strategy"].unique()]
    if not strategies:
        yield paragraph("Nothing was learned from the sources.", "soft")
    for strategy in strategies:
        part = run.sources[run.sources["strategy"] == strategy]
        shown = [name for name in _RATES if part[name].notna().any() and (name != "weight" or _differs(part))]
        yield tag("h3", label(strategy))
        yield figure(_source_figure(part, shown, strategy))
        last = part[part["epoch"] == part["epoch"].max()]
        rows = [(row["source"], *(f"{row[name]:.4g}" for name in shown)) for _, row in last.iterrows()]
        yield table(("Source", *(_RATES[name] for name in shown)), rows, caption="In the last meta-epoch.", numeric=range(1, len(shown) + 1))
        rates = None if run.rates is None else run.rates[run.rates["strategy"] == strategy]
        if rates is not None and len(rates):
            yield from _rates(rates)


def _differs(part: pd.DataFrame) -> bool:
    """Whether sources do not all count alike."""
    return bool(part.groupby("epoch")["weight"].agg(lambda weights: weights.max() - weights.min()).gt(1e-6).any())


def _rates(rates: pd.DataFrame) -> Iterator[Html]:
    yield figure(rates_figure(rates))
    found = rates_summary(rates)
    rows = [(row["source"], *(f"{row[name]:.4g}" for name in found.columns[1:])) for _, row in found.iterrows()]
    head = ("Source", "Learning rate", "lowest", "highest", "Weight decay", "lowest", "highest")
    yield table(head, rows, caption="Generated rates of the trained model: mean, lowest and highest over tensors.", numeric=range(1, 7))
    yield paragraph(rates_sentence(rates))


def _similarity(run: MetaRun) -> Iterator[Html]:
    if not run.similarity:
        yield paragraph("Similarity was not measured (similarity.json).", "soft")
    for record in run.similarity:
        yield tag("h3", _first_upper(str(record["measure"])))
        yield figure(similarity_figure(record))
        yield paragraph(_outside(record))


def _outside(record: Mapping[str, Any]) -> str:
    """Which pairs lie outside of what permutations give."""
    names, values, low, high = record["names"], *(_array(record[name]) for name in ("values", "low", "high"))
    is_symmetric = np.allclose(values, values.T, equal_nan=True)
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j and (not is_symmetric or i < j)]
    above = [f"{names[i]} – {names[j]}" for i, j in pairs if values[i, j] > high[i, j]]
    below = [f"{names[i]} – {names[j]}" for i, j in pairs if values[i, j] < low[i, j]]
    if not above and not below:
        return f"All pairs lie within the 95% interval of permutations, which stands for: {record['null']}."
    parts = [f"{listed(pairs_, most=8)} {where}" for pairs_, where in ((above, "above"), (below, "below")) if pairs_]
    return f"Of {count(len(pairs), 'pair')}: {'; '.join(parts)} the 95% interval of permutations, which stands for: {record['null']}."


def similarity_figure(record: Mapping[str, Any]) -> Picture:
    """A matrix of similarities, the datasets in the order of the dendrogram beside it; values within the interval of permutations are in brackets.

    Args:
        record: An entry of `similarity.json`.
    """
    names, values, low, high = record["names"], *(_array(record[name]) for name in ("values", "low", "high"))
    links = _links(values)
    order = dendrogram(links, no_plot=True)["leaves"]
    width, height = min(10.5, 5.6 + 0.75 * len(names)), 1.6 + 0.42 * len(names)
    with canvas(width, height, columns=2) as (drawn, (heat, tree)):
        shown = values[np.ix_(order, order)]
        colours = heat.imshow(np.ma.masked_invalid(shown), cmap="viridis", aspect="auto")
        labels = [str(names[k]) for k in order]
        tell(colours, (f"{row}, {column}: {number(shown[i, j])}" for i, row in enumerate(labels) for j, column in enumerate(labels)))
        heat.set_xticks(range(len(names)), labels, rotation=40, ha="right")
        heat.set_yticks(range(len(names)), labels)
        _write_values(heat, shown, low[np.ix_(order, order)], high[np.ix_(order, order)])
        drawn.colorbar(colours, ax=heat)
        dendrogram(
            links,
            labels=[str(name) for name in names],
            orientation="right",
            ax=tree,
            color_threshold=0,
            above_threshold_color="#3b4754",
            leaf_font_size=9.5,
        )
        tree.set_xlabel("Distance: one minus the value")
        image, hovered = png(drawn), marks(drawn)
    off = ~np.eye(len(names), dtype=bool)
    most = np.unravel_index(np.nanargmax(np.where(off, values, -np.inf)), values.shape)
    alt = f"Heat map and dendrogram of {record['measure']} between {listed(map(str, names))}; most alike: {names[most[0]]} and {names[most[1]]}."
    direction = "" if np.allclose(values, values.T, equal_nan=True) else "; rows are trained on, columns adapted to"
    told = "Values in brackets lie within the 95% interval of permutations. Dendrogram: average linkage."
    caption = f"{_first_upper(str(record['measure']))}{direction}. {told}"
    return Picture(image, alt, caption, round(width * INCH), hovered)


def _source_figure(part: pd.DataFrame, shown: list[str], strategy: str) -> Picture:
    width = min(10.5, 1.4 + 2.7 * len(shown))
    sources = [str(name) for name in part["source"].unique()]
    with canvas(width, 3.3, columns=len(shown)) as (drawn, panels):
        for axes, what in zip(np.atleast_1d(panels), shown, strict=True):
            for place, source in enumerate(sources):
                line = part[part["source"] == source]
                (curve,) = axes.plot(
                    line["epoch"],
                    line[what],
                    color=_PALETTE[place % len(_PALETTE)],
                    linestyle=("-", "--", ":")[place // len(_PALETTE) % 3],
                    label=source,
                    marker="o" if len(line) == 1 else None,
                )
                tell(curve, (f"{source}, meta-epoch {epoch:g}: {value:.4g}" for epoch, value in zip(line["epoch"], line[what], strict=True)))
            axes.set(title=_RATES[what], xlabel="Meta-epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
        drawn.legend(handles, labels, frameon=False, loc="outside lower center", ncols=6)
        image, hovered = png(drawn), marks(drawn)
    alt = f"{listed(_RATES[name] for name in shown)} by meta-epoch for the sources {listed(sources)}, {label(strategy)}."
    return Picture(
        image, alt, "Means over the tasks of a meta-epoch; rates are means over the tensors that are adapted.", round(width * INCH), hovered
    )


def _write_values(axes: "Axes", values: npt.NDArray[np.float64], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> None:
    bright = np.nanmin(values) + 0.6 * (np.nanmax(values) - np.nanmin(values))
    for (row, column), value in np.ndenumerate(values):
        within = row != column and low[row, column] <= value <= high[row, column]
        said = f"({value:.2f})" if within else f"{value:.2f}"
        axes.text(column, row, said, ha="center", va="center", fontsize=8, color="#1b2430" if value > bright else "white")


def _links(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average linkage; cosines, alignments and AUROCs are one at most."""
    distance = 1 - np.nan_to_num((values + values.T) / 2, nan=float(np.nanmin(values)))
    np.fill_diagonal(distance, 0.0)
    return np.asarray(linkage(squareform(distance, checks=False), "average"))


def _array(rows: list[list[float | None]]) -> npt.NDArray[np.float64]:
    return np.asarray([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def _first_upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _at(scores: pd.DataFrame, method: str, k: int) -> float:
    return float(scores.loc[(scores["method"] == method) & (scores["n_support"] == k), "auroc"].iloc[0])
