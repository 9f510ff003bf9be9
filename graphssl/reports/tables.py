"""The tables of the report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from graphssl.reports.evaluated_task import EvaluatedTask, Score, audits, n_sites, site_probes
from graphssl.reports.markup import Html, facts, folded, paragraph, strip, table, tag, text
from graphssl.reports.names import count, interval, listed, method_label, metric_label, number, p_value, role, signed
from graphssl.reports.run_folder import EvaluationRun
from graphssl.statistics.difference import Comparison
from graphssl.statistics.metrics import LOWER_IS_BETTER

_TOP = 15
_MOST_EXCLUDED = 200
_EXPLAINED = " Stability is the share of refitted models in which it is among the top tenth."


def results_table(evaluated: EvaluatedTask, fraction: float, metric: str) -> Html:
    """Methods with their score, interval, spread and paired differences, at one label fraction and for one metric."""
    order = evaluated.methods(fraction)
    scores = sorted(evaluated.rows(fraction, metric), key=lambda score: order.index(score.method) if score.method in order else len(order))
    baseline, scratch = evaluated.best_baseline(fraction, metric), evaluated.scratch(fraction)
    tested = metric == evaluated.metric and evaluated.run.predictions is not None
    bounds, reference = _bounds(scores), evaluated.chance if metric == evaluated.metric else math.nan
    body = [
        [
            method_label(score.method),
            number(score.mean),
            interval(score.low, score.high),
            strip(score.mean, score.low, score.high, bounds, reference),
            number(score.sd),
            interval(score.min, score.max) if score.n_splits > 1 else "–",
            *([p_value(evaluated.chance_p_value(score.method, fraction))] if tested else []),
            _difference(evaluated, score.method, scratch, fraction, metric),
            _difference(evaluated, score.method, baseline, fraction, metric),
        ]
        for score in scores
    ]
    against = "Against best baseline" if baseline is None else Html(f"Against best baseline<br>({text(method_label(baseline))})")
    permuted = ["p, labels permuted"] if tested else []
    head = ["Method", metric_label(metric), "95% interval", "", "SD", "Range", *permuted, "Against random weights", against]
    better = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    ours = [k for k, score in enumerate(scores) if score.method == evaluated.ours]
    return table(head, body, caption=f"{metric_label(metric)}, {better}. {_reading(scores)}", numeric=(1, 2, 4, 5, 6)[: 4 + tested], strong=ours)


def subjects_table(evaluated: EvaluatedTask) -> Html | None:
    """AUROC differences over subjects by DeLong's test; None where predictions do not allow it."""
    body: list[list[object]] = []
    for fraction in evaluated.fractions:
        rivals = [evaluated.scratch(fraction), evaluated.best_baseline(fraction, "auroc")]
        for method in evaluated.methods(fraction):
            if role(method) not in ("pretrained", "scratch"):
                continue
            for rival in rivals:
                found = evaluated.delong(method, rival, fraction)
                if found is not None and rival is not None:
                    cells = _cells(evaluated, found)
                    body.append([f"{100 * fraction:g}%", method_label(method), method_label(rival), *cells, f"{found.n:,}".replace(",", " ")])
    if not body:
        return None
    head = ["Labels", "Method", "Against", "Difference in AUROC", "95% interval", "p", "Subjects"]
    said = (
        "The same differences over subjects: DeLong’s test within each test set, combined with weights by size. It asks whether these trained models "
        "would differ on other subjects of these test sets; the table above asks whether the methods would differ at other splits."
    )
    return table(head, body, caption=said, numeric=(3, 4, 5, 6))


def split_table(evaluated: EvaluatedTask, fraction: float) -> Html:
    """Score of every method in every test set."""
    rows = evaluated.results[(evaluated.results["label_fraction"] == fraction) & (evaluated.results["metric"] == evaluated.metric)]
    methods = [method for method in evaluated.methods(fraction) if method in set(rows["method"])]
    values = rows.groupby(["split", "method"])["value"].mean()
    sizes = rows.groupby("split")["n_test"].mean()
    body: list[list[object]] = [
        [split, f"{sizes[split]:g}", *(number(float(values.get((split, method), math.nan))) for method in methods)]
        for split in sorted(sizes.index, key=str)
    ]
    head = ["Test set", "Subjects", *map(method_label, methods)]
    return table(head, body, caption=f"{metric_label(evaluated.metric)} in each test set, mean over seeds.", numeric=range(1, len(head)))


def audit_table(evaluated: EvaluatedTask) -> Html | None:
    """Shuffled labels and site probe; None where neither was run."""
    sites = n_sites(evaluated.run)
    chance = 1 / sites if sites else math.nan
    body: list[list[object]] = [
        ["Labels shuffled", method_label(score.method.partition("|")[0]), *_score_cells(score), number(evaluated.chance)]
        for score in audits(evaluated)
    ]
    body += [["Site read from", _probe_label(score.method), *_score_cells(score), number(chance)] for score in site_probes(evaluated)]
    if not body:
        return None
    said = (
        f"Shuffled labels: {metric_label(evaluated.metric)}, must be at chance. "
        f"Site probe: balanced accuracy of a linear model, the nearer to chance the better."
    )
    return table(["Audit", "Of", "Score", "95% interval", "Chance"], body, caption=said, numeric=(2, 3, 4))


def fraction_table(evaluated: EvaluatedTask) -> Html:
    """Score of every method by share of the training labels."""
    shares = sorted(evaluated.fractions)
    methods = list(dict.fromkeys(method for share in evaluated.fractions for method in evaluated.methods(share)))
    body: list[list[object]] = []
    for method in methods:
        scores = [evaluated.score(method, share) for share in shares]
        body.append([method_label(method), *("–" if score is None else number(score.mean) for score in scores)])
    head = ["Method", *(f"{100 * share:g}%" for share in shares)]
    said = f"{metric_label(evaluated.metric)} by share of the training labels, mean over splits and seeds; the intervals stand in the tables below."
    return table(head, body, caption=said, numeric=range(1, len(head)), strong=[k for k, method in enumerate(methods) if method == evaluated.ours])


def tuning_table(tuning: pd.DataFrame) -> Html:
    """What tuned methods chose on inner folds, and how often."""
    counts = tuning.fillna("–").value_counts(["method", "parameter", "value"], sort=True).reset_index(name="n")
    body = [[method_label(row["method"]), row["parameter"], row["value"], row["n"]] for _, row in counts.iterrows()]
    said = "Counted over splits, seeds and label fractions; tuning.csv in the run folder has each choice with its inner score."
    return table(["Method", "Parameter", "Value", "Chosen"], body, caption=said, numeric=(3,))


def region_table(regions: pd.DataFrame) -> Html:
    """The regions the model looked at most."""
    top = regions.sort_values("rank").head(_TOP)
    extra = _measured(regions)
    body = [
        [_name(row["name"]), row["rank"], _name(row["network"]), *_place(row), f"{row['saliency']:.3g}", *(number(row[key], 2) for key in extra)]
        for _, row in top.iterrows()
    ]
    said = f"The {len(top)} most salient of {len(regions)} regions; centroids in MNI mm.{_EXPLAINED if 'stability' in extra else ''}"
    head = ["Region", "Rank", "Network", "x", "y", "z", "Saliency", *(extra[key] for key in extra)]
    return table(head, body, caption=said, numeric=(1, *range(3, len(head))))


def edge_table(edges: pd.DataFrame) -> Html:
    """The connections the model looked at most."""
    top = edges.sort_values("rank").head(_TOP)
    extra = {key: label for key, label in _measured(edges).items() if key == "stability"}
    body = [
        [f"{_name(row['name_a'])} – {_name(row['name_b'])}", row["rank"], f"{row['effect']:+.3g}", *(number(row[key], 2) for key in extra)]
        for _, row in top.iterrows()
    ]
    said = f"The {len(top)} most salient of {len(edges)} connections; the sign says for (+) or against (−) the last class."
    head = ["Connection", "Rank", "Effect", *extra.values()]
    return table(head, body, caption=said + (_EXPLAINED if extra else ""), numeric=range(1, len(head)))


def randomisation_table(stages: Sequence[Mapping[str, Any]]) -> Html:
    """How alike the explanation stays while layers become random, from the head down to the input."""
    body: list[list[object]] = [[stage["layer"], number(stage["rank_correlation"], 2)] for stage in stages]
    said = "Rank correlation of the connections’ saliency with that of the model, as layers are made random one after another (Adebayo et al. 2018)."
    return table(["Made random down to", "Rank correlation"], body, caption=said, numeric=(1,))


def network_table(pairs: pd.DataFrame, affected: set[frozenset[str]] | None) -> Html:
    """The pairs of networks the model looked at most; where the truth is known, which were planted."""
    top = pairs.sort_values("rank").head(_TOP)
    body: list[list[object]] = [
        [f"{_name(row['network_a'])} – {_name(row['network_b'])}", row["rank"], f"{row['saliency']:.3g}"] for _, row in top.iterrows()
    ]
    head, strong = ["Networks", "Rank", "Saliency"], []
    if affected is not None:
        planted = [frozenset((str(row["network_a"]), str(row["network_b"]))) in affected for _, row in top.iterrows()]
        body = [[*row, "planted" if here else ""] for row, here in zip(body, planted, strict=True)]
        head, strong = [*head, "Truth"], [k for k, here in enumerate(planted) if here]
    return table(head, body, caption=f"The {len(top)} most salient of {len(pairs)} pairs of networks.", numeric=(1, 2), strong=strong)


def affected_pairs(run: EvaluationRun) -> set[frozenset[str]] | None:
    """Pairs of networks a simulated disease acts on; None where the truth is not known."""
    if run.truth is None or not isinstance(run.truth.get("affected"), list):
        return None
    return {frozenset(map(str, pair)) for pair in run.truth["affected"]}


def excluded_table(excluded: pd.DataFrame) -> Html:
    """What was left out, with the reasons: counts first, then one by one."""
    total = excluded["what"].value_counts()
    short = ", ".join(f"{n} {what} {'entry' if n == 1 else 'entries'}" for what, n in total.items())
    named = excluded[excluded["id"].notna()]
    rows = [[_name(row["what"]), _name(row["id"]), _name(row["reason"])] for _, row in named.head(_MOST_EXCLUDED).iterrows()]
    cut = f" The first {_MOST_EXCLUDED} of {len(named)} are shown; excluded.csv in the run folder has all."
    unnamed = " Which subjects and scans they are stands in excluded.csv in the run folder."
    content = [paragraph(short + "." + (cut if len(named) > _MOST_EXCLUDED else unnamed if len(named) < len(excluded) else ""))]
    reasons = excluded.fillna("–").value_counts(["what", "reason"]).reset_index(name="n")
    if 1 < len(reasons) <= _TOP and len(reasons) < len(excluded):
        content.append(table(["What", "Reason", "Entries"], reasons.to_numpy().tolist(), numeric=(2,)))
    return Html("\n".join([*content, *([folded("Each entry", table(["What", "Id", "Reason"], rows))] if rows else [])]))


def without_ids(excluded: pd.DataFrame) -> pd.DataFrame:
    """What was left out, with the ids taken away but for those of columns, which name no patient."""
    return excluded.assign(id=excluded["id"].where(excluded["what"].isin(_OF_NO_PATIENT)))


_OF_NO_PATIENT = ("column", "code", "table")


def setting(evaluated: EvaluatedTask) -> Html:
    """What was run on what."""
    run, cohort, protocol = evaluated.run, evaluated.run.part("cohort"), evaluated.run.part("protocol")
    classes = run.part("task").get("classes") or []
    seeds = sorted(evaluated.results["seed"].unique().tolist())
    kept = cohort.get("n_subjects")
    pairs = [
        (
            "Cohort",
            f"{cohort.get('name', evaluated.results['cohort'].iloc[0])}{f', {kept:,} subjects' if isinstance(kept, int) else ''}",
        ),
        ("Data hash", cohort.get("hash", "not recorded")),
        ("Target", f"{evaluated.task}{_targets(cohort, evaluated.task)}"),
        (
            "Classes",
            f"{listed(map(str, classes))} (the last one counts as positive)" if len(classes) == 2 else listed(map(str, classes)) or "not recorded",
        ),
        ("Sites", listed((f"{site} {n}" for site, n in (cohort.get("sites") or {}).items()), most=30) or "not recorded"),
        ("Atlases", _atlases(cohort) or "not recorded"),
        ("Protocol", f"{evaluated.protocol.replace('_', ' ')}, {count(evaluated.results['split'].nunique(), 'split')}"),
        ("Splits hash", protocol.get("splits_hash", "not recorded")),
        ("Labels used", ", ".join(f"{100 * fraction:g}%" for fraction in evaluated.fractions)),
        ("Seeds", listed(map(str, seeds), most=20)),
        ("Fit time", f"{evaluated.results.drop_duplicates(['method', 'split', 'seed', 'label_fraction'])['seconds'].sum() / 60:.1f} minutes in all"),
        ("Machine", f"{run.manifest.get('device', 'not recorded')}, {count(int(run.manifest.get('threads', 1)), 'thread')}"),
    ]
    return facts(pairs)


def _bounds(scores: list[Score]) -> tuple[float, float]:
    values = [value for score in scores for value in (score.mean, score.low, score.high) if not math.isnan(value)]
    if not values:
        return 0.0, 1.0
    margin = max(0.01, 0.04 * (max(values) - min(values)))
    return min(values) - margin, max(values) + margin


def _reading(scores: list[Score]) -> str:
    """How the intervals of a table are to be read, and what they rest on."""
    over = {score.interval_over for score in scores}
    seeds = max((score.n_seeds for score in scores), default=0)
    if "splits" in over:
        n = max(score.n_splits for score in scores)
        rests = f"{count(n, 'split')}, {'up to ' if any(score.n_seeds < seeds for score in scores) else ''}{count(seeds, 'seed')}."
        return f"Mean over splits with Student’s t interval; differences are paired over splits, corrected for shared training subjects. {rests}"
    if "subjects" in over:
        return f"One split, {count(seeds, 'seed')}: the interval is a bootstrap over its subjects, differences are tested over subjects."
    return "One split and no predictions: no interval can be given."


def _difference(evaluated: EvaluatedTask, method: str, other: str | None, fraction: float, metric: str) -> Html | str:
    found = evaluated.compare(method, other, fraction, metric)
    if found is None:
        return ""
    verdict = evaluated.verdict(found, metric)
    words = {"better": "better", "worse": "worse"}.get(verdict, "")
    shown = tag("span", signed(found.difference), class_=words, title=words) if words else Html(signed(found.difference))
    if math.isnan(found.low):
        return shown
    p = p_value(found.p_value)
    rest = f"{interval(found.low, found.high, sign=True)}, p\u00a0{p}"
    return Html(f'{shown}<br><span class="range">{text(rest)}</span>')


def _cells(evaluated: EvaluatedTask, found: Comparison) -> list[object]:
    verdict = evaluated.verdict(found, "auroc")
    difference = tag("span", signed(found.difference), class_=verdict) if verdict in ("better", "worse") else signed(found.difference)
    return [difference, interval(found.low, found.high, sign=True), p_value(found.p_value)]


def _score_cells(score: Score) -> list[str]:
    return [number(score.mean), interval(score.low, score.high)]


def _probe_label(method: str) -> str:
    return {"pretrained": "Embedding, pre-trained", "scratch": "Embedding, random weights"}.get(method, method_label(method))


def _name(value: object) -> str:
    return "–" if value is None or value != value else str(value)


def _measured(explained: pd.DataFrame) -> dict[str, str]:
    return {key: label for key, label in (("attention", "Attention"), ("stability", "Stability")) if key in explained.columns}


def _place(row: "pd.Series[Any]") -> list[str]:
    return [number(float(row[axis]), 0) if axis in row.index else "–" for axis in "xyz"]


def _targets(cohort: dict[str, Any], task: str) -> str:
    counts = (cohort.get("targets") or {}).get(task)
    return f" ({listed(f'{value} {n}' for value, n in counts.items())})" if isinstance(counts, dict) else ""


def _atlases(cohort: dict[str, Any]) -> str:
    shown = []
    for name, entry in (cohort.get("atlases") or {}).items():
        z = ", Fisher z" if entry.get("fisher_z") else ""
        shown.append(
            f"{name} ({entry.get('n_regions', '?')} regions, {entry.get('kind', 'kind not recorded')}{z}, hash {entry.get('hash', 'not recorded')})"
        )
    return "; ".join(shown)
