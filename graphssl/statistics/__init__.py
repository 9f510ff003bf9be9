"""Metrics, intervals and paired tests, computed from results and predictions; the evaluation and the report use the same functions."""

from graphssl.statistics.challenges import event1, event1_best_threshold, event1_threshold, event2, sepsis_utility, utility_threshold
from graphssl.statistics.compare import paired_comparison, paired_delong
from graphssl.statistics.difference import Comparison, corrected_resampled_t_test, delong_covariance, delong_test, wilcoxon_test
from graphssl.statistics.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    Interval,
    auprc,
    auroc,
    balanced_accuracy,
    bootstrap_interval,
    brier,
    expected_calibration_error,
    mean_interval,
    score_all,
)
from graphssl.statistics.permutation import PermutationTest, permutation_over_splits, permutation_test
from graphssl.statistics.predictions import ScoredSplit, bootstrap_over_splits, scored_splits
from graphssl.statistics.stability import Stability, stability
from graphssl.statistics.summary import summarise

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "Comparison",
    "Interval",
    "PermutationTest",
    "ScoredSplit",
    "Stability",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bootstrap_interval",
    "bootstrap_over_splits",
    "brier",
    "corrected_resampled_t_test",
    "delong_covariance",
    "delong_test",
    "event1",
    "event1_best_threshold",
    "event1_threshold",
    "event2",
    "expected_calibration_error",
    "mean_interval",
    "paired_comparison",
    "paired_delong",
    "permutation_over_splits",
    "permutation_test",
    "score_all",
    "scored_splits",
    "sepsis_utility",
    "stability",
    "summarise",
    "utility_threshold",
    "wilcoxon_test",
]
