"""The permutation test of a method: fitted again on labels that mean nothing, would it score as high?"""

from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split
from graphssl.evaluation.fit_and_score import fit_and_score
from graphssl.evaluation.parallel import one_thread
from graphssl.evaluation.protocol_splits import ProtocolName, make_splits
from graphssl.evaluation.task import Task, make_task, shuffle_labels
from graphssl.statistics.metrics import LOWER_IS_BETTER
from graphssl.statistics.permutation import PermutationTest, against_permutations


def refit_permutation_test(
    cohort: Cohort,
    method: Any,
    *,
    protocol: ProtocolName = "leave_one_site_out",
    target: str | None = None,
    classes: Sequence[str] | None = None,
    metric: str = "auroc",
    n_splits: int = 5,
    n_permutations: int = 100,
    seed: int = 0,
    n_jobs: int = 1,
) -> PermutationTest:
    """Fit and score a method on the true labels and on labels permuted within each site (Ojala & Garriga, JMLR 2010, test 1).

    Every permutation costs a whole evaluation. `graphssl.statistics.permutation_over_splits` permutes the labels of the test subjects only, which
    costs nothing and asks a narrower question: whether these predictions know anything of the labels.

    Args:
        cohort: The cohort.
        method: An estimator with `fit(cohort, y, groups)` and `predict_proba(cohort)`.
        protocol: `"leave_one_site_out"`, or `"k_fold"`.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last; sorted when left out.
        metric: Name from `graphssl.statistics.METRICS`.
        n_splits: Folds of `k_fold`.
        n_permutations: Number of permutations.
        seed: Seed of the permutations.
        n_jobs: Processes; each uses one thread when there are several.

    Raises:
        ConfigError: If the protocol is unknown.
        DataError: If there is one class or one site, or no permutation.
    """
    task = make_task(cohort, target, classes, protocol)
    splits = make_splits(cohort, task, protocol, n_splits)
    tasks = [task, *(shuffle_labels(cohort, task, seed + k) for k in range(n_permutations))]
    jobs = (joblib.delayed(_mean_score)(method, cohort, one, splits, metric, n_jobs != 1) for one in tasks)
    score, *permuted = joblib.Parallel(n_jobs=n_jobs)(jobs)
    return against_permutations(score, np.asarray(permuted), lower=metric in LOWER_IS_BETTER)


def _mean_score(method: Any, cohort: Cohort, task: Task, splits: Sequence[Split], metric: str, alone: bool) -> float:
    with one_thread(alone):
        results = [fit_and_score(clone(method), cohort, task, split, 0, 1.0, "")[0] for split in splits]
    return float(np.nanmean([result.value for part in results for result in part if result.metric == metric]))
