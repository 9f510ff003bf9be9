"""What each modality adds, and what is left of each method when it is missing at test."""

import re
from collections.abc import Iterator

import pandas as pd

from graphssl.reports.evaluated_task import EvaluatedTask
from graphssl.reports.headline import difference_phrase
from graphssl.reports.markup import Html, paragraph, table
from graphssl.reports.names import MISSING, method_label, method_phrase, metric_label, number
from graphssl.statistics.compare import paired_comparison
from graphssl.statistics.difference import Comparison

_SWEPT = re.compile(rf"(?P<method>.+)\|{MISSING}(?P<modality>.+)_(?P<percent>\d+)$")


def sections(evaluated: EvaluatedTask) -> Iterator[Html]:
    """A table a modality and a sentence on what it adds; nothing where no modality was taken away."""
    scores = swept(evaluated)
    for modality, rows in scores.groupby("modality", sort=False):
        by_share = rows.set_index(["method", "percent"])["mean"].unstack().loc[rows["method"].unique()]  # noqa: PD010
        head = ["Method", *(f"{percent}% of the test subjects with it lose it" if percent else "nobody loses it" for percent in by_share.columns)]
        body = [[method_label(str(method)), *map(number, values)] for method, values in zip(by_share.index, by_share.to_numpy(), strict=True)]
        caption = f"{metric_label(evaluated.metric)} when {modality} is missing at test; training is as it was."
        yield table(head, body, caption=caption, numeric=tuple(range(1, len(head))))
        yield from _added(evaluated, str(modality))


def swept(evaluated: EvaluatedTask) -> pd.DataFrame:
    """Mean score by `method`, `modality` and `percent` of those with it who lose it at test; nobody, where the method itself was scored."""
    results = evaluated.run.results
    mine = results[
        (results["task"] == evaluated.task) & (results["metric"] == evaluated.metric) & (results["label_fraction"] == evaluated.fractions[0])
    ]
    named = mine["method"].str.extract(_SWEPT)
    rows = mine.assign(method=named["method"], modality=named["modality"], percent=named["percent"])[named["method"].notna()]
    means = rows.groupby(["method", "modality", "percent", "split"], sort=False)["value"].mean().groupby(level=[0, 1, 2], sort=False).mean()
    found = means.rename("mean").reset_index().astype({"percent": int})
    pairs = found[["method", "modality"]].drop_duplicates().itertuples(index=False)
    scores = [(str(method), str(modality), evaluated.score(str(method), evaluated.fractions[0])) for method, modality in pairs]
    whole = [{"method": method, "modality": modality, "percent": 0, "mean": score.mean} for method, modality, score in scores if score is not None]
    return pd.concat([found, pd.DataFrame(whole)], ignore_index=True) if whole else found


def added(evaluated: EvaluatedTask, method: str, modality: str) -> Comparison | None:
    """How much better a method is with a modality than when everybody loses it at test, over splits; None where it cannot be told."""
    name, results = f"{method}|{MISSING}{modality}_100", evaluated.run.results
    if evaluated.score(method, evaluated.fractions[0]) is None or name not in set(results["method"]):
        return None
    mine = results[results["task"] == evaluated.task]
    if mine["split"].nunique() < 2:
        return None
    return paired_comparison(mine, method, name, evaluated.metric, protocol=evaluated.protocol, label_fraction=evaluated.fractions[0])


def _added(evaluated: EvaluatedTask, modality: str) -> Iterator[Html]:
    found = None if evaluated.ours is None else added(evaluated, evaluated.ours, modality)
    if found is not None and evaluated.ours is not None:
        yield paragraph(
            f"With {modality}, {method_phrase(evaluated.ours)} scores {difference_phrase(found)} beside the same model without it at test. "
            "What a model that was trained without it would score is another question: see the methods of one modality alone."
        )
