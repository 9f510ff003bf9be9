"""How methods, metrics and numbers are called in a report."""

import math
from collections.abc import Iterable
from typing import Literal

Role = Literal["pretrained", "scratch", "control", "linear", "confounds", "majority"]

AUDIT = "shuffled_labels"
SITE_PROBE = "site_probe"
MISSING = "missing_"
_ONLY = "only_"

_METHODS = {
    "pretrained": ("Pre-trained encoder", "the pre-trained encoder"),
    "pretrained_probe": ("Pre-trained encoder, linear probe", "a linear probe on the pre-trained encoder"),
    "pretrained_linear": ("Ridge on connectivity pre-trained by scan contrast", "a ridge on connectivity pre-trained by scan contrast"),
    "late_average": ("Mean of the modalities’ own answers", "the mean of what each modality says alone"),
    "concatenated_boosting": ("Gradient boosting on embeddings of all modalities", "gradient boosting on the embeddings of all modalities"),
    "scratch": ("Same encoder from random weights", "the same encoder from random weights"),
    "scratch_probe": ("Random weights, linear probe", "a linear probe on random weights"),
    "gcn": ("Pre-trained GCN", "a pre-trained GCN"),
    "gat": ("Pre-trained GAT", "a pre-trained GAT"),
    "gin": ("Pre-trained GIN", "a pre-trained GIN"),
    "sage": ("Pre-trained GraphSAGE", "a pre-trained GraphSAGE"),
    "brain_network_transformer": ("Pre-trained Brain Network Transformer", "a pre-trained Brain Network Transformer"),
    "mlp": ("Pre-trained MLP without graph", "a pre-trained MLP without graph"),
    "no_edges": ("Pre-trained encoder, edges removed", "the pre-trained encoder with its edges removed"),
    "logistic_correlation": ("Logistic regression on correlation", "logistic regression on correlation"),
    "ridge_correlation": ("Ridge on correlation", "ridge on correlation"),
    "ridge_correlation_combat": ("Ridge on correlation, sites harmonised", "ridge on harmonised correlation"),
    "ridge_correlation_combat_estimate": (
        "Ridge on correlation, sites and held-out site harmonised",
        "ridge on correlation with the held-out site harmonised too",
    ),
    "ridge_correlation_tangent": ("Ridge on correlation and tangent", "ridge on correlation and tangent connectivity"),
    "logistic_tangent": ("Logistic regression on tangent", "logistic regression on tangent connectivity"),
    "ridge_tangent": ("Ridge on tangent", "ridge on tangent connectivity"),
    "logistic_partial": ("Logistic regression on partial correlation", "logistic regression on partial correlation"),
    "ridge_partial": ("Ridge on partial correlation", "ridge on partial correlation"),
    "svm_correlation": ("Linear SVM on correlation", "a linear SVM on correlation"),
    "svm_partial": ("Linear SVM on partial correlation", "a linear SVM on partial correlation"),
    "svm_tangent": ("Linear SVM on tangent", "a linear SVM on tangent connectivity"),
    "mlp_correlation": ("Perceptron on correlation", "a perceptron on correlation"),
    "logistic_table": ("Logistic regression on the table", "logistic regression on the table"),
    "boosting_table": ("Gradient boosting on the table", "gradient boosting on the table"),
    "majority": ("Majority class", "the majority class"),
    "mean_mask": ("Most common class of each voxel", "the most common class of each voxel"),
    "covariates": ("Covariates alone", "the covariates alone"),
    "site": ("Site alone", "the site alone"),
    "connectivity": ("Connectivity itself", "the connectivity itself"),
}
_METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "balanced_accuracy": "Balanced accuracy",
    "brier": "Brier score",
    "expected_calibration_error": "Expected calibration error",
    "physionet2012_event1": "min(sensitivity, positive predictivity)",
    "physionet2012_event1_best_threshold": "The same at the best threshold of the test subjects",
    "physionet2012_event2": "Hosmer–Lemeshow H over the range of risks",
    "physionet2019_utility": "Normalised utility",
    "dice": "Dice",
    "iou": "Intersection over union",
    "nsd": "Surface within 1 mm (or voxel)",
    "hd95": "Distance of surfaces, 95th percentile",
}
_PROTOCOLS = {
    "leave_one_site_out": "each site held out in turn",
    "k_fold": "cross-validation",
    "published": "published splits",
    "time_ordered": "trained on the past, tested on what came next",
    "hold_out": "one held-out test set",
}
_CONTROLS = ("no_edges", "gcn", "gat", "gin", "sage", "brain_network_transformer", "mlp")
_TUNED = "_tuned"
_MINUS = "−"


def role(method: str) -> Role:
    """What a method is in the comparison, by its name; a name that is not known counts as a baseline to be beaten."""
    if method.startswith("pretrained"):
        return "pretrained"
    if method.startswith("scratch"):
        return "scratch"
    if method.removesuffix(_TUNED) in _CONTROLS:
        return "control"
    if method in ("majority", "mean_mask"):
        return "majority"
    return "confounds" if method == "site" or "covariates" in method else "linear"


def method_label(method: str) -> str:
    """Name of a method in a table, such as `Ridge on tangent`."""
    name, _, audit = method.partition("|")
    if name.endswith(_TUNED):
        return f"{method_label(name.removesuffix(_TUNED))}, tuned"
    if name.startswith(_ONLY):
        return f"{_words(name.removeprefix(_ONLY))} alone"
    label = _METHODS[name][0] if name in _METHODS else _words(name)
    return f"{label}, labels shuffled" if audit == AUDIT else label


def method_phrase(method: str) -> str:
    """Name of a method within a sentence, such as `the pre-trained encoder`."""
    if method.endswith(_TUNED):
        return f"{method_phrase(method.removesuffix(_TUNED))}, tuned"
    return _METHODS[method][1] if method in _METHODS else method.replace("_", " ")


def metric_label(metric: str) -> str:
    """Name of a metric, such as `AUROC`."""
    return _METRICS.get(metric, _words(metric))


def protocol_phrase(protocol: str) -> str:
    """How the subjects were split, in words."""
    return _PROTOCOLS.get(protocol, protocol.replace("_", " "))


def fraction_label(fraction: float) -> str:
    """Share of the labels, such as `all labels` or `10% of the labels`."""
    return "all labels" if math.isclose(fraction, 1) else f"{100 * fraction:g}% of the labels"


def number(value: float, digits: int = 3) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("-", _MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return text if text.startswith((_MINUS, "–")) or float(text) == 0 else f"+{text}"


def estimate(value: float, low: float, high: float) -> str:
    """A value with its interval in words, such as `0.655, 95% interval 0.612 to 0.701`; the value alone where there is no interval."""
    return number(value) if math.isnan(low) else f"{number(value)}, 95% interval {interval(low, high)}"


def interval(low: float, high: float, *, sign: bool = False) -> str:
    """An interval, such as `0.612 to 0.701`; a dash where there is none."""
    show = signed if sign else number
    return "–" if math.isnan(low) or math.isnan(high) else f"{show(low)} to {show(high)}"


def p_value(value: float) -> str:
    """A p value, never shown as zero."""
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def count(n: int, thing: str) -> str:
    """A number of things, such as `1 site` or `4 sites`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}".replace(",", " ")


def listed(items: Iterable[str], most: int = 6) -> str:
    """Items in a sentence; the rest is counted."""
    names = list(items)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
