"""The report: one HTML page that holds all it needs and opens offline."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from graphssl.reports import brain, figures, modalities
from graphssl.reports.cautions import Caution, cautions
from graphssl.reports.evaluated_task import EvaluatedTask, read_evaluated
from graphssl.reports.explained import explanation_sentences
from graphssl.reports.headline import Headline, headline
from graphssl.reports.markup import Html, figure, folded, paragraph, pictures, tag, text
from graphssl.reports.names import fraction_label, interval, listed, method_label, metric_label, number, p_value, signed
from graphssl.reports.run_folder import EvaluationRun, read_run, write_page
from graphssl.reports.run_page import reproduce, run_page
from graphssl.reports.selection import read_selection, selection_content
from graphssl.reports.tables import (
    affected_pairs,
    audit_table,
    edge_table,
    excluded_table,
    fraction_table,
    network_table,
    randomisation_table,
    region_table,
    results_table,
    setting,
    split_table,
    subjects_table,
    tuning_table,
    without_ids,
)


def write_report(run_folder: str | os.PathLike[str], *, ids: bool = False) -> Path:
    """Write `report.html` into a run folder: what was run on what, what came out against which baselines, and what to beware of.

    All numbers are computed from `results.jsonl` and `predictions.parquet` with `graphssl.statistics`. Where a file is absent, a sentence
    stands for its part. The page is written whole or not at all.

    Args:
        run_folder: The run folder; `manifest.json` and `results.jsonl` must be there.
        ids: Whether to name the subjects and scans that were left out; else they are counted, since a report is passed on.

    Returns:
        Path of the page.

    Raises:
        RunFolderError: If the folder or its manifest is absent.
        DataError: If there are no results, or a file is there and damaged.
    """
    run = read_run(run_folder)
    evaluated = read_evaluated(run if ids or run.excluded is None else replace(run, excluded=without_ids(run.excluded)))
    return write_page(evaluated.run.folder, render(evaluated))


def render(evaluated: EvaluatedTask) -> str:
    """The page as text."""
    contents = [
        ("setting", "What was run", _setting),
        ("results", "Results", _results),
        ("splits", "By test set", _splits),
        ("calibration", "Calibration", _calibration),
        ("audits", "Audits", _audits),
        ("learning", "Learning curves", _learning),
        ("connectome", "What the model looked at", _connectome),
        ("excluded", "What was left out", _excluded),
    ]
    if read_selection(evaluated.run.folder) is not None:
        contents.insert(-1, ("selection", "What was chosen of the pool", _selection))
    found = headline(evaluated)
    sections = [(anchor, title, content(evaluated)) for anchor, title, content in contents]
    last = ("reproduce", "Configuration and versions", reproduce(evaluated.run))
    return run_page(evaluated.run, found.verdict, [*sections, last], _FOOT, [_lead(found), _cards(evaluated), _warnings(cautions(evaluated))])


def _lead(found: Headline) -> Html:
    return tag("div", *(paragraph(sentence) for sentence in found.sentences), class_="lead")


def _cards(evaluated: EvaluatedTask) -> Html:
    fraction = evaluated.fractions[0]
    shown = [
        (evaluated.ours, "card ours", ""),
        (evaluated.scratch(fraction), "card", ""),
        (evaluated.best_baseline(fraction), "card", "Best baseline on these test folds: "),
    ]
    cards = []
    for method, class_, before in shown:
        row = None if method is None else evaluated.score(method, fraction)
        if method is None or row is None:
            continue
        spread = interval(row.low, row.high)
        value = Html(f"{number(row.mean)} <small>{text(metric_label(evaluated.metric))}</small>")
        below = "no interval" if spread == "–" else f"95% interval {spread}"
        name = f"{before}{method_label(method)}"
        cards.append(tag("div", tag("div", name, class_="name"), tag("div", value, class_="value"), tag("div", below, class_="range"), class_=class_))
    return tag("div", *cards, class_="cards")


def _warnings(found: list[Caution]) -> Html:
    if not found:
        return Html("")
    items = (tag("li", tag("strong", f"{caution.title}. "), caution.text, class_=caution.level) for caution in found)
    return tag("aside", tag("h2", "Before you believe the numbers"), tag("ul", *items), class_="cautions", role="note")


def _setting(evaluated: EvaluatedTask) -> Iterator[Html]:
    yield setting(evaluated)


def _results(evaluated: EvaluatedTask) -> Iterator[Html]:
    fraction = evaluated.fractions[0]
    baseline = evaluated.best_baseline(fraction)
    if baseline is not None:
        yield paragraph(
            f"“Best baseline” is the one that scored best on these same test folds ({method_label(baseline)} with {fraction_label(fraction)}); "
            "choosing it after the fact favours the baseline. p values are not corrected for the number of comparisons."
        )
    for share in evaluated.fractions:
        if len(evaluated.fractions) > 1:
            yield tag("h3", fraction_label(share)[:1].upper() + fraction_label(share)[1:])
        yield results_table(evaluated, share, evaluated.metric)
        others = evaluated.metrics[1:]
        if others:
            tables = (results_table(evaluated, share, metric) for metric in others if evaluated.rows(share, metric))
            yield folded(f"Other metrics, {fraction_label(share)}: {listed(map(metric_label, others))}", *tables)
    if len(evaluated.fractions) > 1:
        yield fraction_table(evaluated)
    yield from pictures(figures.label_curve(evaluated))
    yield from modalities.sections(evaluated)
    over_subjects = subjects_table(evaluated)
    yield over_subjects or paragraph(_no_subject_test(evaluated), "soft")
    if evaluated.run.tuning is not None:
        yield folded("What tuned methods chose on inner folds", tuning_table(evaluated.run.tuning))


def _no_subject_test(evaluated: EvaluatedTask) -> str:
    if evaluated.run.predictions is None:
        return "Predictions of single subjects were not kept (predictions.parquet), so there is no test over subjects."
    if evaluated.n_classes != 2:
        return "DeLong’s test over subjects is for two classes; with more, differences are tested over splits only."
    return "There is no test over subjects: predictions hold no pair of methods to compare, or fewer than two subjects of a class in every test set."


def _splits(evaluated: EvaluatedTask) -> Iterator[Html]:
    yield from pictures(figures.forest(evaluated))
    yield split_table(evaluated, evaluated.fractions[0])


def _calibration(evaluated: EvaluatedTask) -> Iterator[Html]:
    picture = figures.calibration(evaluated)
    yield (
        figure(picture)
        if picture
        else paragraph("Predictions of single subjects were not kept (predictions.parquet), so calibration cannot be drawn.", "soft")
    )


def _audits(evaluated: EvaluatedTask) -> Iterator[Html]:
    fraction = evaluated.fractions[0]
    yield audit_table(evaluated) or paragraph("Neither shuffled labels nor a site probe were run.", "soft")
    found = evaluated.compare(evaluated.ours, "no_edges", fraction) if evaluated.ours and evaluated.score("no_edges", fraction) is not None else None
    if found is None:
        yield paragraph("The encoder was not scored with its edges removed.", "soft")
        return
    p = f", p {p_value(found.p_value)}" if found.p_value == found.p_value else ""
    yield paragraph(
        f"Removing the edges changes the {metric_label(evaluated.metric)} of the encoder by {signed(-found.difference)} "
        f"(95% interval {interval(-found.high, -found.low, sign=True)}{p})."
    )


def _learning(evaluated: EvaluatedTask) -> Iterator[Html]:
    picture = None if evaluated.run.history is None else figures.learning_curves(evaluated.run.history)
    yield figure(picture) if picture else paragraph("The course of the training was not recorded (history.csv).", "soft")


def _connectome(evaluated: EvaluatedTask) -> Iterator[Html]:
    run = evaluated.run
    if run.connectome is None:
        yield paragraph("The model was not explained (explain/connectome.npz).", "soft")
    else:
        if run.connectome.atlas:
            yield paragraph(f"In atlas {run.connectome.atlas}. Saliency says what moves this model’s answer, not what causes the condition.")
        for sentence in explanation_sentences(run.explanation or {}):
            yield paragraph(sentence)
        yield from pictures(*brain.explanation_figures(run.connectome, run.regions).values())
    yield from _saliency(run)


def _saliency(run: EvaluationRun) -> Iterator[Html]:
    affected = affected_pairs(run)
    if affected is not None and run.network_pairs is not None:
        ranked = run.network_pairs.sort_values("rank")
        ranks = [
            int(rank)
            for a, b, rank in zip(ranked["network_a"], ranked["network_b"], ranked["rank"], strict=True)
            if frozenset((str(a), str(b))) in affected
        ]
        many = len(affected) != 1
        found = f"rank{'' if many else 's'} {listed(map(str, ranks), most=12)}" if ranks else f"{'are' if many else 'is'} not among the pairs"
        planted = f"{len(affected)} planted pairs of networks" if many else "planted pair of networks"
        yield paragraph(f"The cohort is simulated, so the truth is known: the {planted} {found} of {len(ranked)}.")
    tables = [network_table(run.network_pairs, affected)] if run.network_pairs is not None else []
    tables += [region_table(run.regions)] if run.regions is not None else []
    if tables:
        yield tag("div", *tables, class_="pair")
    if run.edges is not None:
        yield folded("Single connections", edge_table(run.edges))
    stages = (run.explanation or {}).get("randomisation")
    if stages:
        yield folded("Randomised layers", randomisation_table(stages))


def _selection(evaluated: EvaluatedTask) -> Iterator[Html]:
    found = read_selection(evaluated.run.folder)
    if found is not None:
        yield paragraph("For all subjects at once; for each split, subjects were chosen by its training subjects alone.")
        yield from selection_content(found)


def _excluded(evaluated: EvaluatedTask) -> Iterator[Html]:
    excluded = evaluated.run.excluded
    if excluded is None:
        yield paragraph("The list of what was left out was not kept (excluded.csv).", "soft")
    elif excluded.empty:
        yield paragraph("Nothing was left out.")
    else:
        yield excluded_table(excluded)


_FOOT = (
    "Seeds are averaged within each split, then splits with equal weight. Intervals of means: Student’s t over splits. "
    "Differences over splits: corrected resampled t test (Nadeau & Bengio 2003). Differences over subjects: DeLong’s test (Sun & Xu 2014)."
)
