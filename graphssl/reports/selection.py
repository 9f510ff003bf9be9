"""What was chosen of a pool to be pre-trained on, and how far it is from the target: a section of the report, and a page of its own."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.errors import DataError, RunFolderError
from graphssl.folders import ordinary
from graphssl.reports.canvas import INCH, canvas, marks, png, tell
from graphssl.reports.markup import Html, Picture, document, facts, figure, paragraph, section, table, tag
from graphssl.reports.names import count, number
from graphssl.reports.run_folder import write_page

FOLDER = "selection"
_RULES = {
    "rounds": "the first neighbours of all subjects of the target, then the second, and so on",
    "similarity": "the most alike of all",
    "votes": "those that most subjects of the target have as a neighbour",
    "diversity": "of the neighbours those farthest from all chosen before",
    "class_means": "the nearest to the mean of each class",
    "random": "at random",
    "all": "everybody",
}
_COLOURS = {"chosen": "#0b5cad", "random": "#e69f00", "pool": "#3b4754"}
_MOST = 25
_BINS = 40


@dataclass(frozen=True, eq=False)
class Selected:
    """What a report reads from `selection/` of a run folder.

    Attributes:
        summary: `summary.json`: names and sizes of pool and target, settings, the columns that are counted.
        subjects: `subjects.csv`: similarity to the target of everybody who could be chosen, and who was.
        distances: `distances.csv`: how far the chosen, random ones and the pool are from the target.
        excluded: `excluded.csv`: who could not be chosen, and why.
    """

    summary: dict[str, Any]
    subjects: pd.DataFrame
    distances: pd.DataFrame
    excluded: pd.DataFrame


def read_selection(run_folder: str | os.PathLike[str]) -> Selected | None:
    """What was chosen in a run; None where it chose nothing.

    Raises:
        DataError: If a file is absent or damaged.
    """
    place = Path(run_folder) / FOLDER
    if not place.is_dir():
        return None
    try:
        summary = json.loads(ordinary(place / "summary.json").read_text(encoding="utf-8"))
        texts = {"subject_id": "str", **dict.fromkeys(summary["columns"], "str")}
        subjects = pd.read_csv(ordinary(place / "subjects.csv"), dtype=texts, keep_default_na=False, na_values=[""])
        distances = pd.read_csv(ordinary(place / "distances.csv"), index_col="subjects")
        excluded = pd.read_csv(ordinary(place / "excluded.csv"), dtype="str", keep_default_na=False)
        subjects["similarity"], subjects["chosen"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Expected whole files in {place}, found an absent or damaged one ({error}). Run the step that wrote it again.") from error
    return Selected(summary, subjects, distances, excluded)


def write_selection_page(run_folder: str | os.PathLike[str]) -> Path:
    """Write `selection/report.html` into a run folder.

    Args:
        run_folder: The run folder.

    Returns:
        Path of the page.

    Raises:
        RunFolderError: If the run chose nothing.
        DataError: If a file is absent or damaged.
    """
    found = read_selection(run_folder)
    if found is None:
        raise RunFolderError(f"Expected a run that chose subjects of a pool, found no {FOLDER}/ in {run_folder}. Give its configuration a selection.")
    name = Path(run_folder).resolve().name
    kicker = paragraph(f"graphssl report · {name}", "kicker")
    chosen, pool = f"{found.summary['n_chosen']} of {count(found.summary['n_pool'], 'subject')}", found.summary["pool"]
    top = tag("header", kicker, tag("h1", f"{chosen} of {pool} chosen for {found.summary['target']}"))
    body = [section("What was chosen of the pool", "selection", *selection_content(found))]
    page = document(f"{name}: what was chosen", top, body, tag("footer", paragraph("Research software; not a medical device.")))
    return write_page(Path(run_folder), page, f"{FOLDER}/report.html")


def selection_content(found: Selected) -> Iterator[Html]:
    """Settings, distances, the figure of similarities, and counts by source and site."""
    summary, settings = found.summary, found.summary["settings"]
    joined = f", with {count(summary['n_target'], 'subject')} of the target" if summary["with_target"] else ""
    told = {
        "Pre-trained on": f"{count(summary['n_chosen'], 'chosen subject')}{joined}",
        "Pool": f"{summary['pool']}, {count(summary['n_pool'], 'subject')}, of whom {len(found.subjects)} could be chosen",
        "Chosen": _RULES[settings["rule"]] + (f"; {settings['balance']} in turn" if settings["balance"] else ""),
        "Compared by": f"a model pre-trained on {summary['model']}",
    }
    yield facts(told.items())
    yield _distances(found)
    yield figure(similarity_figure(found))
    for column in summary["columns"]:
        yield _counts(found.subjects, column)
    if len(found.excluded):
        yield paragraph(f"{count(len(found.excluded), 'subject')} of the pool could not be chosen; {FOLDER}/excluded.csv says who, and why.")


def similarity_figure(found: Selected) -> Picture:
    """How alike the nearest subject of the target is: of the chosen, of as many at random, and of the pool."""
    values = found.subjects["similarity"].to_numpy(dtype=np.float64)
    is_chosen = found.subjects["chosen"].to_numpy(dtype=bool)
    bins = np.linspace(values.min(), max(values.max(), values.min() + 1e-6), _BINS + 1)
    with canvas(7.6, 3.3) as (drawing, axes):
        for name, part in (("pool", values), ("chosen", values[is_chosen])):
            named = f"{name} ({len(part)})"
            shares, _, bars = axes.hist(part, bins=bins, weights=np.full(len(part), 1 / len(part)), color=_COLOURS[name], alpha=0.55, label=named)
            for bar, share, low, high in zip(bars, shares, bins[:-1], bins[1:], strict=True):
                tell(bar, [f"{name}: {share:.1%} from {number(low, 3)} to {number(high, 3)}"])
            axes.axvline(part.mean(), color=_COLOURS[name], linewidth=1.4)
        axes.set(xlabel="Similarity to the nearest subject of the target (cosine)", ylabel="Share")
        axes.legend(frameon=False, loc="upper left")
        image, told = png(drawing), marks(drawing)
    means = f"{number(float(values[is_chosen].mean()), 2)} of the chosen, {number(float(values.mean()), 2)} of the pool"
    alt = f"Histograms of the similarity to the nearest subject of the target; means {means}."
    return Picture(image, alt, f"How alike the nearest subject of the target is. Lines: means, {means}.", round(7.6 * INCH), told)


def _distances(found: Selected) -> Html:
    names = {"chosen": "chosen", "random": "as many at random", "pool": "the whole pool"}
    rows = []
    for name, row in found.distances.iterrows():
        half = f"{number(row['low'])} to {number(row['high'])}"
        rows.append([names[str(name)], int(row["n"]), number(row["similarity"]), half, number(row["frechet"]), number(row["mmd"])])
    head = ["Subjects", "Number", "Similarity", "Middle half", "Fréchet distance", "Maximum mean discrepancy"]
    caption = "How far from the target, by the vectors of the model that compared. Fréchet distances compare at one number of subjects only."
    return table(head, rows, caption=caption, numeric=(1, 2, 3, 4, 5), strong=(0,))


def _counts(subjects: pd.DataFrame, column: str) -> Html:
    values = subjects[column].fillna("–")
    pool, chosen = values.value_counts(), values[subjects["chosen"].to_numpy(dtype=bool)].value_counts()
    rows = [
        [value, int(chosen.get(value, 0)), f"{chosen.get(value, 0) / chosen.sum():.0%}", int(n), f"{n / pool.sum():.0%}"] for value, n in pool.items()
    ]
    return table([column, "Chosen", "Share", "In the pool", "Share"], rows[:_MOST], caption=f"Chosen by {column}", numeric=(1, 2, 3, 4))
