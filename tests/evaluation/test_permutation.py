"""The permutation test by refits: small where there is an effect, anything where there is none, and the same as loops by hand."""

import numpy as np
import pytest

from graphssl.errors import DataError
from graphssl.evaluation import make_baseline, refit_permutation_test
from graphssl.evaluation.fit_and_score import fit_and_score
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.task import make_task, shuffle_labels


def test_it_is_the_loop_over_shuffled_tasks(make_cohort):
    cohort = make_cohort(n_subjects=24, n_regions=8, effect=1.0)
    task = make_task(cohort, None, None, "leave_one_site_out")
    splits = make_splits(cohort, task, "leave_one_site_out")

    def mean_auroc(one):
        found = [fit_and_score(make_baseline("logistic_correlation"), cohort, one, split, 0, 1.0, "x")[0] for split in splits]
        return np.mean([result.value for part in found for result in part if result.metric == "auroc"])

    permuted = np.asarray([mean_auroc(shuffle_labels(cohort, task, 3 + k)) for k in range(5)])
    found = refit_permutation_test(cohort, make_baseline("logistic_correlation"), n_permutations=5, seed=3)
    assert found.score == pytest.approx(mean_auroc(task))
    assert found.chance == pytest.approx(permuted.mean())
    assert found.p_value == (1 + (permuted >= found.score - 1e-12).sum()) / 6


def test_an_effect_is_found_and_noise_is_not(make_cohort):
    method = make_baseline("logistic_correlation")
    real = refit_permutation_test(make_cohort(n_subjects=24, n_regions=8, effect=3.0), method, n_permutations=9)
    assert real.p_value == 1 / 10
    noise = refit_permutation_test(make_cohort(n_subjects=24, n_regions=8, effect=0.0, seed=1), method, n_permutations=9)
    assert noise.p_value > 0.1


def test_one_permutation_at_least(make_cohort):
    with pytest.raises(DataError, match="at least one permutation"):
        refit_permutation_test(make_cohort(n_regions=8), make_baseline("majority"), n_permutations=0)
