"""What a cell is worth on other draws of its test subjects: the only spread there is where there is one split.

All cells draw alike, so that differences between them are paired draw by draw.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.evaluation.segmentation import SCORES
from graphssl.statistics.checks import Labels, Scores
from graphssl.statistics.metrics import resamples
from graphssl.statistics.resampling import WEIGHTED, weighted_mean, weighted_recalls

N_RESAMPLES = 1000


def resampled_classes(y: Labels, p: Scores, classes: Sequence[str], groups: npt.ArrayLike) -> dict[str, Scores]:
    """Metrics and the recall of each class on resamples of the subjects, drawn within each class.

    Args:
        y: Class of each subject `[n]`.
        p: Probability of class 1 `[n]`, or of each class `[n, C]`.
        classes: Names of the classes.
        groups: Family or repeated scans of each subject `[n]`.

    Returns:
        `[N_RESAMPLES]` by name; NaN where a metric is not defined.
    """
    parts = []
    for counts in resamples(y, N_RESAMPLES, groups=np.asarray(groups)):
        recalls = zip([f"recall: {name}" for name in classes], weighted_recalls(y, p, counts), strict=True)
        parts.append({**{name: metric(y, p, counts) for name, metric in WEIGHTED.items()}, **dict(recalls)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def resampled_masks(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, Scores]:
    """Scores of segmentations on resamples of the subjects, averaged as by `mean_scores`.

    Args:
        scores: Rows of `evaluate_segmentation`.
        classes: Names of the classes, the background left out.

    Returns:
        `[N_RESAMPLES]` by name; NaN where none of the subjects drawn has a score.
    """
    by_subject = scores.pivot_table(list(SCORES), "subject", "class", sort=False, dropna=False)
    counts = np.concatenate(list(resamples(np.zeros(len(by_subject), dtype=np.int64), N_RESAMPLES)))
    by_class = {
        (name, of): weighted_mean(by_subject[name][of].to_numpy(), counts) if of in by_subject[name] else np.full(N_RESAMPLES, np.nan)
        for name in SCORES
        for of in classes
    }
    found = {name: _mean_over([by_class[name, of] for of in classes]) for name in SCORES}
    return found | ({f"dice: {of}": by_class["dice", of] for of in classes} if len(classes) > 1 else {})


def _mean_over(values: Sequence[Scores]) -> Scores:
    """Mean over classes of each resample `[R]`, those without a score left out."""
    stacked = np.stack(values)
    present = ~np.isnan(stacked)
    return np.divide(np.nansum(stacked, axis=0), present.sum(axis=0), out=np.full(stacked.shape[1], np.nan), where=present.any(axis=0))
