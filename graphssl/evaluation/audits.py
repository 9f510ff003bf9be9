"""Audits: what else than the target can be read from what was learned?"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data.cohort import Cohort
from graphssl.errors import DataError
from graphssl.graphs.connectivity import ConnectivityFeatures
from graphssl.progress import tracked
from graphssl.results import Result

SITE_PROBE = "site_probe"

_PROBED_COMPONENTS = 64


def leading_components(cohort: Cohort, atlases: Sequence[str]) -> npt.NDArray[np.float32]:
    """The first principal components of connections `[n, C]`, at most 64: few enough for a linear probe of a few hundred subjects.

    Args:
        cohort: The subjects.
        atlases: Atlases whose connections stand side by side.

    Raises:
        DataError: If the cohort, or one of its subjects, has no data in the atlases.
    """
    connections = ConnectivityFeatures(list(atlases)).fit_transform(cohort)
    n_components = min(_PROBED_COMPONENTS, len(cohort) - 1, connections.shape[1])
    return np.asarray(PCA(n_components, random_state=0).fit_transform(connections))


def site_probe(features: Mapping[str, npt.NDArray[Any]], sites: Sequence[str], *, cohort: str, seed: int = 0, n_splits: int = 5) -> list[Result]:
    """How well the site of a subject can be read from features, by cross-validated logistic regression.

    Chance is one over the number of sites. A score that rests on several sites is only as believable as this number is low.

    Args:
        features: Features `[n, F]` by name, such as embeddings of the subjects.
        sites: Site of each subject `[n]`.
        cohort: Name for the records.
        seed: Seed of the folds.
        n_splits: Folds, at most as many as the smallest site has subjects.

    Returns:
        Records with the task `site_probe` and the metric `balanced_accuracy`, one a fold.

    Raises:
        DataError: If there are fewer than two sites, a site with one subject, or features of another number of subjects.
    """
    names, counts = np.unique(np.asarray(sites), return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        raise DataError(
            f"Expected two sites or more with at least two subjects each, found {dict(zip(names.tolist(), counts.tolist(), strict=True))}."
        )
    folds = StratifiedKFold(min(n_splits, int(counts.min())), shuffle=True, random_state=seed)
    labels = np.asarray(sites)
    for name, values in features.items():
        if len(values) != len(labels):
            raise DataError(f"Expected features {name!r} of {len(labels)} subjects, one row each, found {len(values)}.")
    results = []
    fits = [(name, k, *fold) for name, values in features.items() for k, fold in enumerate(folds.split(values, labels))]
    for name, k, train, test in tracked(fits, "Reading the site from features"):
        values, started = features[name], time.perf_counter()
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
        probe.fit(values[train], labels[train])
        score = float(balanced_accuracy_score(labels[test], probe.predict(values[test])))
        seconds = time.perf_counter() - started
        results.append(Result(cohort, SITE_PROBE, "k_fold", name, f"fold-{k}", seed, 1.0, "balanced_accuracy", score, len(train), len(test), seconds))
    return results
