"""What a reader must know before believing the numbers; each caution is there when its rule says so, and only then."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from graphssl.reports.evaluated_task import EvaluatedTask, audits, n_sites, site_probes
from graphssl.reports.explained import WEIGHTLESS, is_unstable, random_correlation, randomisation_sentence, stability_sentence
from graphssl.reports.headline import difference_phrase
from graphssl.reports.names import count, fraction_label, interval, listed, method_phrase, metric_label, number, role
from graphssl.reports.run_folder import EvaluationRun
from graphssl.statistics.permutation import shuffled_error

# The site counts as readable where the lower end of the probe's interval lies this far above chance.
SITE_MARGIN = 0.05
# Shuffled labels: how far from 0.5 the mean AUROC may lie at least, and in standard errors of chance (99 %).
AUDIT_MARGIN = 0.05
AUDIT_ERRORS = 2.58
FEW_SUBJECTS = 100
# A spread below this share of its first value, or below this value, has collapsed.
COLLAPSED = 0.01
COLLAPSED_TO = 1e-3
FEW_IN_A_SPLIT = 20
FEW_SEEDS = 3

Level = Literal["warning", "note"]


@dataclass(frozen=True)
class Caution:
    """One caution.

    Attributes:
        kind: Its name, stable for machines, such as `"baseline_not_beaten"`.
        level: `"warning"` where the numbers may mislead, `"note"` where the reader should know.
        title: In a few words.
        text: In full.
    """

    kind: str
    level: Level
    title: str
    text: str


def cautions(evaluated: EvaluatedTask) -> list[Caution]:
    """All cautions that apply to a run, warnings first."""
    found = [caution for rule in _RULES if (caution := rule(evaluated)) is not None]
    return sorted(found, key=lambda caution: caution.level != "warning")


def n_excluded(run: EvaluationRun) -> int:
    """Number of subjects that were left out."""
    if run.excluded is not None:
        ids = run.excluded.loc[run.excluded["what"] == "subject", "id"]
        return int(ids.nunique()) if ids.notna().all() else len(ids)  # ids are taken away where a report is passed on
    return int(run.part("cohort").get("excluded_count", {}).get("subject", 0))


def _baseline_not_beaten(evaluated: EvaluatedTask) -> Caution | None:
    if evaluated.ours is None:
        return None
    if evaluated.best_baseline(evaluated.fractions[0]) is None:
        text = "No baseline was scored on these splits, so nothing says whether the score is a good one. Run the evaluation with baselines."
        return Caution("no_baseline", "warning", "No baseline to compare with", text)
    lost = _not_better(evaluated, evaluated.best_baseline)
    if not lost:
        return None
    worse = _worse(evaluated, evaluated.best_baseline)
    title = "The best baseline beats the pre-trained encoder" if worse else "The pre-trained encoder is not shown to beat the best baseline"
    return Caution("baseline_not_beaten", "warning", title, " ".join(lost))


def _scratch_not_beaten(evaluated: EvaluatedTask) -> Caution | None:
    if evaluated.ours is None:
        return None
    if evaluated.scratch(evaluated.fractions[0]) is None:
        text = "The same encoder from random weights was not scored, so nothing says what the pre-training is worth."
        return Caution("no_scratch", "warning", "No encoder without pre-training to compare with", text)
    lost = _not_better(evaluated, evaluated.scratch)
    title = "Pre-training does harm" if _worse(evaluated, evaluated.scratch) else "Pre-training is not shown to help"
    return Caution("scratch_not_beaten", "warning", title, " ".join(lost)) if lost else None


def _not_better(evaluated: EvaluatedTask, rival: Callable[[float], str | None]) -> list[str]:
    lines = []
    for fraction in evaluated.fractions:
        other, ours = rival(fraction), evaluated.ours
        if ours is None or other is None or evaluated.score(ours, fraction) is None:
            continue
        comparison = evaluated.compare(ours, other, fraction)
        verdict = evaluated.verdict(comparison)
        if verdict == "better":
            continue
        rival_name = method_phrase(other)
        said = {"worse": f"{rival_name} is better", "open": f"no advantage over {rival_name} is shown"}
        detail = f": the difference is {difference_phrase(comparison)}" if comparison else ""
        lines.append(f"With {fraction_label(fraction)}, {said.get(verdict, f'it cannot be told against {rival_name}')}{detail}.")
    return lines


def _worse(evaluated: EvaluatedTask, rival: Callable[[float], str | None]) -> bool:
    """Whether ours loses with the most labels."""
    fraction = evaluated.fractions[0]
    return evaluated.ours is not None and evaluated.verdict(evaluated.compare(evaluated.ours, rival(fraction), fraction)) == "worse"


def _edges_not_needed(evaluated: EvaluatedTask) -> Caution | None:
    fraction, ours = evaluated.fractions[0], evaluated.ours
    if ours is None or evaluated.score("no_edges", fraction) is None:
        return None
    comparison = evaluated.compare(ours, "no_edges", fraction)
    if comparison is None or evaluated.verdict(comparison) == "better":
        return None
    text = (
        f"With its edges removed the encoder is not shown to score less: the edges are worth {difference_phrase(comparison)}. "
        "What it predicts from may not be in the connections it passes messages along."
    )
    return Caution("edges_not_needed", "warning", "The graph is not shown to be needed", text)


def _site_readable(evaluated: EvaluatedTask) -> Caution | None:
    sites, probes = n_sites(evaluated.run), site_probes(evaluated)
    probe = next((found for found in probes if found.method == (evaluated.ours or "pretrained")), None)
    if probe is None or sites < 2:
        return None
    low = probe.low
    if math.isnan(low):  # one fold: the spread of a share of that many subjects
        low = probe.mean - 1.96 * math.sqrt(max(probe.mean * (1 - probe.mean), 0) / max(probe.n_test, 1))
    if not low > 1 / sites + SITE_MARGIN:
        return None
    others = listed(f"{method_phrase(found.method)} {number(found.mean)}" for found in probes if found.method != probe.method)
    text = (
        f"A linear probe tells the {sites} sites apart from the embedding with a balanced accuracy of {number(probe.mean)} "
        f"(lower bound {number(low)}, chance {number(1 / sites)}{f'; {others}' if others else ''}). "
        "Where the target and the site go together, part of the score may be the site."
    )
    return Caution("site_readable", "warning", "The site can be read from the embedding", text)


def _shuffled_labels(evaluated: EvaluatedTask) -> Caution | None:
    if evaluated.metric != "auroc":
        return None
    lines = []
    for audit in audits(evaluated):
        error = _chance_error(evaluated, audit.method)
        if abs(audit.mean - 0.5) > max(AUDIT_MARGIN, AUDIT_ERRORS * error):
            lines.append(f"{method_phrase(audit.method.partition('|')[0])} scores {number(audit.mean)} (standard error of chance {number(error)})")
    if not lines:
        return None
    text = (
        f"Trained on shuffled labels, where nothing can be learned, {listed(lines)}. "
        "Something leaks from training to test, or a site stands for a class."
    )
    return Caution("shuffled_labels", "warning", "Shuffled labels do not score chance", text)


def _chance_error(evaluated: EvaluatedTask, method: str) -> float:
    """Standard error by chance of the mean AUROC over the test sets of all shuffles, with the share of the rarer class in the cohort."""
    counts = (evaluated.run.part("cohort").get("targets") or {}).get(evaluated.task) or {}
    share = min(counts.values()) / sum(counts.values()) if len(counts) == 2 and min(counts.values()) > 0 else 0.5
    rows = evaluated.run.results
    rows = rows[(rows["method"] == method) & (rows["task"] == evaluated.task) & (rows["metric"] == evaluated.metric)].dropna(subset="value")
    sizes = rows.groupby("split")["n_test"].mean().to_numpy()
    return shuffled_error(sizes, share * sizes, rows["seed"].nunique())


def _confounds(evaluated: EvaluatedTask) -> Caution | None:
    above = [
        score
        for score in evaluated.rows(evaluated.fractions[0], evaluated.metric)
        if role(score.method) == "confounds" and score.low > evaluated.chance
    ]
    if not above:
        return None
    found = listed(f"{method_phrase(score.method)} {number(score.mean)} (95% interval {interval(score.low, score.high)})" for score in above)
    metric, chance = metric_label(evaluated.metric), number(evaluated.chance)
    text = f"{metric} without any brain data: {found}; chance is {chance}. A model of the brain has to beat this."
    return Caution("confounds", "warning", "Site or covariates alone predict the target", text)


def _few_subjects(evaluated: EvaluatedTask) -> Caution | None:
    sizes = _test_sizes(evaluated)
    total, small = round(float(sizes.sum())), sizes[sizes < FEW_IN_A_SPLIT]
    if total >= FEW_SUBJECTS and small.empty:
        return None
    parts = []
    if total < FEW_SUBJECTS:
        parts.append(f"{count(total, 'subject')} were scored in all (fewer than {FEW_SUBJECTS}).")
    if len(small):
        named = listed(f"{split} {n:g}" for split, n in small.items())
        parts.append(f"{count(len(small), 'test set')} of {len(sizes)} have fewer than {FEW_IN_A_SPLIT} subjects: {named}.")
    return Caution("few_subjects", "warning", "Few test subjects", " ".join(parts) + " Scores on so few move a lot by chance; read the intervals.")


def _few_seeds(evaluated: EvaluatedTask) -> Caution | None:
    rows = evaluated.results if evaluated.ours is None else evaluated.results[evaluated.results["method"] == evaluated.ours]
    seeds = rows["seed"].nunique()
    if seeds >= FEW_SEEDS:
        return None
    text = f"The run has {count(seeds, 'seed')}. How much the score moves with the seed of the training is not known; use at least {FEW_SEEDS}."
    return Caution("few_seeds", "warning", "Few seeds", text)


def _undefined(evaluated: EvaluatedTask) -> Caution | None:
    if not any(score.n_undefined for score in evaluated.rows(evaluated.fractions[0], evaluated.metric)):
        return None
    bad = evaluated.results[(evaluated.results["metric"] == evaluated.metric) & evaluated.results["value"].isna()]
    where = listed(sorted(bad["split"].astype(str).unique()))
    text = f"{metric_label(evaluated.metric)} is not defined in {where} (one class only, or no number came out). Means leave these out."
    return Caution("undefined_folds", "note", "Some test sets have no score", text)


def _excluded(evaluated: EvaluatedTask) -> Caution | None:
    n = n_excluded(evaluated.run)
    if not n:
        return None
    kept = evaluated.run.part("cohort").get("n_subjects")
    share = f"; {count(kept, 'subject')} were kept" if isinstance(kept, int) else ""
    text = f"{count(n, 'subject')} of the source left out{share}. The reasons are listed under “What was left out”."
    return Caution("excluded_subjects", "note", "Subjects were left out", text)


def _methods_left_out(evaluated: EvaluatedTask) -> Caution | None:
    absent = evaluated.run.part("left_out")
    if not absent:
        return None
    text = f"Not run: {listed(f'{method_phrase(name)} ({reason})' for name, reason in absent.items())}."
    return Caution("methods_left_out", "note", "A method was not run", text)


def _collapsed(evaluated: EvaluatedTask) -> Caution | None:
    """Parts of an objective that end in `_spread` are spreads of what the encoder gives; near zero, it gives everybody the same."""
    history = evaluated.run.history
    if history is None:
        return None
    runs = [name for name in ("stage", "split", "seed") if name in history.columns]
    spreads = [str(name) for name in history.columns if str(name).endswith("_spread")]
    gone = [
        f"{name} of {part['stage'].iloc[0]} from {values.iloc[0]:.2g} to {values.iloc[-1]:.2g}"
        for _, part in history.groupby(runs, sort=False)
        for name in spreads
        if len(values := part[name].dropna()) and (values.iloc[-1] < COLLAPSED * values.iloc[0] or values.iloc[-1] < COLLAPSED_TO)
    ]
    if not gone:
        return None
    text = (
        f"The spread of what the encoder gives went to nothing during training: {listed(gone)}. It gives every subject the same, and what is "
        "trained on it learns nothing. Lower the learning rate, or choose another objective."
    )
    return Caution("collapsed_objective", "warning", "The pre-training objective collapsed", text)


def _unstable_saliency(evaluated: EvaluatedTask) -> Caution | None:
    summary = evaluated.run.explanation
    if summary is None or not is_unstable(summary):
        return None
    return Caution("unstable_saliency", "warning", "What the model looked at changes when it is fitted again", stability_sentence(summary))


def _weightless_saliency(evaluated: EvaluatedTask) -> Caution | None:
    correlation = None if evaluated.run.explanation is None else random_correlation(evaluated.run.explanation)
    if evaluated.run.explanation is None or correlation is None or correlation < WEIGHTLESS:
        return None
    text = f"{randomisation_sentence(evaluated.run.explanation)} It shows the data or the architecture rather than what the model found."
    return Caution("saliency_ignores_weights", "warning", "What the model looked at does not depend on what it learned", text)


def _test_sizes(evaluated: EvaluatedTask) -> "pd.Series[float]":
    rows = evaluated.results[(evaluated.results["metric"] == evaluated.metric) & (evaluated.results["label_fraction"] == evaluated.fractions[0])]
    method = evaluated.ours if evaluated.ours in set(rows["method"]) else rows["method"].iloc[0]
    return rows[rows["method"] == method].groupby("split")["n_test"].mean()


_RULES: tuple[Callable[[EvaluatedTask], Caution | None], ...] = (
    _baseline_not_beaten,
    _scratch_not_beaten,
    _edges_not_needed,
    _site_readable,
    _shuffled_labels,
    _confounds,
    _collapsed,
    _unstable_saliency,
    _weightless_saliency,
    _few_subjects,
    _few_seeds,
    _undefined,
    _excluded,
    _methods_left_out,
)
