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

from graphssl.errors import DataError, RunFolderError
from graphssl.folders import file_written_whole
from graphssl.reports.canvas import INCH, canvas, png
from graphssl.reports.markup import Html, Picture, facts, figure, folded, paragraph, section, table, tag, text
from graphssl.reports.names import interval, listed, number
from graphssl.reports.style import CSS
from graphssl.statistics.metrics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRATEGY_LABELS = {
    "direct": "Target alone (random start)",
    "single_source": "One source",
    "joint": "All sources jointly",
    "meta": "Meta-learning",
    "meta_reweighted": "Meta-learning, adaptive rates",
}
_COLOURS = {"direct": "#3b4754", "single_source": "#e69f00", "joint": "#d55e00", "meta": "#56b4e9", "meta_reweighted": "#0b5cad"}
_PALETTE = ("#0b5cad", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3b4754", "#a8321f")
_RATES = {"loss": "Loss of the query", "weight": "Weight of the source", "learning_rate": "Inner learning rate", "weight_decay": "Inner weight decay"}


@dataclass(frozen=True, eq=False)
class MetaRun:
    """What a report reads from the run folder of a meta-training.

    Attributes:
        folder: Where it is.
        manifest: `manifest.json`.
        sources: `sources.csv`: loss, weight and rates by strategy, epoch and source.
        adaptation: `adaptation.csv`: scores on the target by strategy, number of labelled subjects, draw and step; None without a target.
        similarity: `similarity.json`; empty where it was not measured.
        configuration: Text of `config.yaml`.
    """

    folder: Path
    manifest: dict[str, Any]
    sources: pd.DataFrame
    adaptation: pd.DataFrame | None
    similarity: list[dict[str, Any]]
    configuration: str


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
    for name in ("manifest.json", "sources.csv"):
        if not (path / name).is_file():
            raise RunFolderError(f"Expected {name} in the run folder {path}, found none. Give the folder that `graphssl meta-train` wrote.")
    try:
        manifest = dict(json.loads((path / "manifest.json").read_text(encoding="utf-8")))
        similarity = json.loads((path / "similarity.json").read_text(encoding="utf-8")) if (path / "similarity.json").is_file() else []
        sources = pd.read_csv(path / "sources.csv", dtype={"source": "str", "strategy": "str"}, keep_default_na=False, na_values=[""])
        adaptation = pd.read_csv(path / "adaptation.csv") if (path / "adaptation.csv").is_file() else None
        configuration = (path / "config.yaml").read_text(encoding="utf-8") if (path / "config.yaml").is_file() else ""
    except (ValueError, TypeError) as error:
        raise DataError(f"Expected whole files in the run folder {path}, found a damaged one ({error}). Run the step that wrote it again.") from error
    return MetaRun(path, manifest, sources, adaptation, similarity, configuration)


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
    target = run.folder / "report.html"
    with file_written_whole(target) as aside:
        aside.write_text(_render(run), encoding="utf-8")
    return target


def _render(run: MetaRun) -> str:
    sections = [
        ("setting", "What was run", _setting(run)),
        ("adaptation", "Adaptation to the target", _adaptation(run)),
        ("sources", "What was learned from each source", _sources(run)),
        ("similarity", "How alike the sources are", _similarity(run)),
        ("reproduce", "Configuration and versions", _reproduce(run)),
    ]
    links = tag("nav", *(tag("a", title, href=f"#{anchor}") for anchor, title, _ in sections), aria_label="Sections")
    body = "\n".join(section(title, anchor, *content) for anchor, title, content in sections)
    created = str(run.manifest.get("created", "")).replace("T", " ")
    kicker = paragraph(" · ".join(part for part in ("graphssl report", run.folder.name, created) if part), "kicker")
    header = tag("header", kicker, tag("h1", _verdict(run)), links)
    foot = tag("footer", paragraph("Intervals of means: Student’s t over draws of labelled subjects. Research software; not a medical device."))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(run.folder.name)}: graphssl report</title>\n<style>{CSS}</style>\n</head>\n<body>\n{header}\n<main>\n{body}\n</main>\n"
        f"{foot}\n</body>\n</html>\n"
    )


def _verdict(run: MetaRun) -> str:
    """The headline: what the kept strategy scores on the target, and the target alone beside it."""
    n_sources = len(run.sources["source"].unique())
    if run.adaptation is None:
        return f"Meta-trained on {n_sources} sources; no target was given."
    scores = last_scores(run.adaptation)
    kept, k = str(run.adaptation["strategy"].iloc[0]), int(scores["n_support"].min())
    score = _at(scores, kept, k)
    beside = "" if kept == "direct" or "direct" not in set(scores["strategy"]) else f", {number(_at(scores, 'direct', k))} from random weights"
    name = str((run.manifest.get("target") or {}).get("source", "the target"))
    return f"{_label(kept)}: AUROC {number(score)} on {name} with {k} labelled subjects of each class{beside}."


def last_scores(adaptation: pd.DataFrame) -> pd.DataFrame:
    """AUROC after the last step by strategy and number of labelled subjects, with its interval over draws.

    Args:
        adaptation: Rows of `adaptation.csv`.
    """
    last = adaptation[adaptation["step"] == adaptation["step"].max()]
    rows = []
    for (strategy, k), part in last.groupby(["strategy", "n_support"], sort=False):
        found = mean_interval(part["auroc"].to_numpy(dtype=float))
        rows.append((strategy, int(k), found.estimate, found.low, found.high, len(part), int(part["n_query"].min())))
    return pd.DataFrame(rows, columns=["strategy", "n_support", "auroc", "low", "high", "n_draws", "n_query"])


def _setting(run: MetaRun) -> Iterator[Html]:
    sources, target = run.manifest.get("sources", []), run.manifest.get("target")
    datasets = [*sources, *([target] if target else [])]
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
    scores = last_scores(run.adaptation)
    yield figure(adaptation_figure(run.adaptation))
    n_steps = int(run.adaptation["step"].max())
    rows = [
        (_label(row["strategy"]), row["n_support"], number(row["auroc"]), interval(row["low"], row["high"]), row["n_draws"], row["n_query"])
        for row in scores.sort_values(["n_support", "strategy"], kind="stable").to_dict("records")
    ]
    head = ("Strategy", "Labelled, each class", "AUROC", "95% interval", "Draws", "Scored")
    yield table(head, rows, caption=f"After {n_steps} gradient steps, on all who were not drawn.", numeric=(1, 2, 3, 4, 5))
    yield paragraph(
        "Draws are of one target, and share most of the subjects who are scored: the interval tells how much the draw of labelled subjects matters, "
        "not how another target would score.",
        "soft",
    )


def _sources(run: MetaRun) -> Iterator[Html]:
    strategies = [str(name) for name in run.sources["strategy"].unique()]
    if not strategies:
        yield paragraph("Nothing was learned from the sources.", "soft")
    for strategy in strategies:
        part = run.sources[run.sources["strategy"] == strategy]
        shown = [name for name in _RATES if part[name].notna().any()]
        yield tag("h3", _label(strategy))
        yield figure(_source_figure(part, shown, strategy))
        last = part[part["epoch"] == part["epoch"].max()]
        rows = [(row["source"], *(f"{row[name]:.4g}" for name in shown)) for _, row in last.iterrows()]
        yield table(("Source", *(_RATES[name] for name in shown)), rows, caption="In the last meta-epoch.", numeric=range(1, len(shown) + 1))


def _similarity(run: MetaRun) -> Iterator[Html]:
    if not run.similarity:
        yield paragraph("Similarity was not measured (similarity.json).", "soft")
    for record in run.similarity:
        yield tag("h3", str(record["measure"]).capitalize())
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
    return f"Of {len(pairs)} pairs: {'; '.join(parts)} the 95% interval of permutations, which stands for: {record['null']}."


def _reproduce(run: MetaRun) -> Iterator[Html]:
    yield tag("pre", tag("code", run.manifest.get("command") or "The command was not recorded."))
    versions = run.manifest.get("versions") or {}
    yield facts(versions.items()) if versions else paragraph("Versions were not recorded.", "soft")
    yield folded("Configuration (config.yaml)", tag("pre", tag("code", run.configuration or "It was not kept.")))


def adaptation_figure(adaptation: pd.DataFrame) -> Picture:
    """AUROC on the target by gradient step, a panel a number of labelled subjects, a line a strategy."""
    numbers = sorted(adaptation["n_support"].unique())
    strategies = [str(name) for name in adaptation["strategy"].unique()]
    width = min(10.5, max(7.6, 1.6 + 3.0 * len(numbers)))
    with canvas(width, 3.5, columns=len(numbers)) as (drawn, panels):
        for axes, k in zip(np.atleast_1d(panels), numbers, strict=True):
            for strategy in strategies:
                part = adaptation[(adaptation["n_support"] == k) & (adaptation["strategy"] == strategy)]
                found = [mean_interval(values.to_numpy(dtype=float)) for _, values in part.groupby("step")["auroc"]]
                steps = np.sort(part["step"].unique())
                colour = _COLOURS.get(strategy, "#3b4754")
                axes.plot(steps, [one.estimate for one in found], color=colour, linewidth=1.8, marker="o", markersize=3, label=_label(strategy))
                axes.fill_between(steps, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.12, linewidth=0)
            axes.axhline(0.5, color="#97a1ac", linewidth=1, linestyle=":")
            axes.set(title=f"{k} of each class", xlabel="Gradient steps")
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, 0.0), min(high, 1.0))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        np.atleast_1d(panels)[0].set_ylabel("AUROC on the target")
        handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
        drawn.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2 if width < 9 else 3)
        image = png(drawn)
    last = last_scores(adaptation).to_dict("records")
    means = "; ".join(f"{_label(row['strategy'])} with {row['n_support']}: {number(row['auroc'])}" for row in last)
    caption = "Mean over draws of the labelled subjects with its 95% interval. At step 0 no labelled subject of the target was used. Dotted: chance."
    return Picture(image, f"Line charts of AUROC by gradient step. After the last: {means}.", caption, round(width * INCH))


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
        tree.set_xlabel("Distance: one minus the value, mean of both directions")
        image = png(drawn)
    off = ~np.eye(len(names), dtype=bool)
    most = np.unravel_index(np.nanargmax(np.where(off, values, -np.inf)), values.shape)
    alt = f"Heat map and dendrogram of {record['measure']} between {listed(map(str, names))}; most alike: {names[most[0]]} and {names[most[1]]}."
    caption = (
        f"{str(record['measure']).capitalize()}; rows are trained on, columns adapted to, where it has a direction. Values in brackets lie within "
        "the 95% interval of permutations. Dendrogram: average linkage."
    )
    return Picture(image, alt, caption, round(width * INCH))


def _source_figure(part: pd.DataFrame, shown: list[str], strategy: str) -> Picture:
    width = min(10.5, 1.4 + 2.7 * len(shown))
    sources = [str(name) for name in part["source"].unique()]
    with canvas(width, 3.3, columns=len(shown)) as (drawn, panels):
        for axes, what in zip(np.atleast_1d(panels), shown, strict=True):
            for place, source in enumerate(sources):
                line = part[part["source"] == source]
                axes.plot(
                    line["epoch"],
                    line[what],
                    color=_PALETTE[place % len(_PALETTE)],
                    linestyle=("-", "--", ":")[place // len(_PALETTE) % 3],
                    label=source,
                    marker="o" if len(line) == 1 else None,
                )
            axes.set(title=_RATES[what], xlabel="Meta-epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
        handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
        drawn.legend(handles, labels, frameon=False, loc="outside lower center", ncols=6)
        image = png(drawn)
    alt = f"{listed(_RATES[name] for name in shown)} by meta-epoch for the sources {listed(sources)}, {_label(strategy)}."
    return Picture(image, alt, "Means over the tasks of a meta-epoch; rates are means over the tensors that are adapted.", round(width * INCH))


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


def _label(strategy: str) -> str:
    return STRATEGY_LABELS.get(strategy, strategy)


def _at(scores: pd.DataFrame, strategy: str, k: int) -> float:
    return float(scores.loc[(scores["strategy"] == strategy) & (scores["n_support"] == k), "auroc"].iloc[0])
