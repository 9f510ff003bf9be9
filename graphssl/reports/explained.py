"""How far an explanation can be believed, in plain sentences."""

from collections.abc import Mapping
from typing import Any

from graphssl.reports.names import number

# Mean rank correlation of refits below which an explanation is called unstable, and from which it is called stable.
UNSTABLE = 0.5
STABLE = 0.75
# Rank correlation with an explanation of random weights from which it is said not to depend on what was learned.
WEIGHTLESS = 0.5


def explanation_sentences(summary: Mapping[str, Any]) -> list[str]:
    """What the checks of an explanation say (`explain/summary.json`)."""
    found = [stability_sentence(summary), randomisation_sentence(summary)]
    agreement = summary.get("attention_correlation")
    if isinstance(agreement, float):
        found.append(f"Attention roll-out ranks the regions with a correlation of {number(agreement, 2)} to integrated gradients.")
    return found


def stability_sentence(summary: Mapping[str, Any]) -> str:
    """Whether models fitted again read the same regions."""
    measured = summary.get("stability")
    if not measured:
        return "Whether a model fitted again would read the same regions was not measured; graphssl explain RUN does."
    correlation, overlap = measured["regions"]["rank_correlation"], measured["regions"]["top_overlap"]
    verdict = (
        "Models fitted again read largely the same regions"
        if correlation >= STABLE
        else "Models fitted again agree in part on the regions they read"
        if correlation >= UNSTABLE
        else "Models fitted again read other regions: do not interpret single ones"
    )
    return (
        f"{verdict} ({measured['n_refits']} refits over folds and seeds: rank correlation {number(correlation, 2)}, the top tenth overlaps by "
        f"{number(overlap, 2)} where 0 is chance and 1 is all; of single connections {number(measured['connections']['rank_correlation'], 2)} and "
        f"{number(measured['connections']['top_overlap'], 2)}). The refits share most subjects, so a new cohort would agree less."
    )


def randomisation_sentence(summary: Mapping[str, Any]) -> str:
    """Whether the explanation depends on the weights of the model."""
    correlation = random_correlation(summary)
    if correlation is None:
        return "Whether the explanation depends on what was learned was not checked."
    verdict = "hardly depends" if correlation >= WEIGHTLESS else "depends"
    return f"The explanation {verdict} on what was learned: with all weights random its rank correlation is {number(correlation, 2)}."


def is_unstable(summary: Mapping[str, Any]) -> bool:
    """Whether stability was measured and is low."""
    measured = summary.get("stability") or {"regions": {"rank_correlation": 1.0}}
    return bool(measured["regions"]["rank_correlation"] < UNSTABLE)


def random_correlation(summary: Mapping[str, Any]) -> float | None:
    """Rank correlation of the explanation with that of a model whose weights are all random; None where it was not checked."""
    stages = summary.get("randomisation") or []
    return float(stages[-1]["rank_correlation"]) if stages else None
