"""Metrics, intervals and paired tests, computed from results and predictions; the evaluation and the report use the same functions."""

from graphssl.statistics.challenges import event1, event1_best_threshold, event1_threshold, event2, sepsis_utility, utility_threshold
from graphssl.statistics.compare import paired_comparison, paired_delong
from graphssl.statistics.convergence import late_spread, mean_height, time_to
from graphssl.statistics.difference import Comparison, corrected_resampled_t_test, delong_covariance, delong_test, wilcoxon_test
from graphssl.statistics.distances import frechet_distance, maximum_mean_discrepancy, median_distance
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
    recall_by_class,
    score_all,
)
from graphssl.statistics.permutation import PermutationTest, permutation_over_splits, permutation_test
from graphssl.statistics.power_law import PowerLaw, fit_power_law
from graphssl.statistics.predictions import ScoredSplit, bootstrap_over_splits, scored_splits
from graphssl.statistics.separation import bhattacharyya
from graphssl.statistics.stability import Stability, stability
from graphssl.statistics.summary import summarise

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "Comparison",
    "Interval",
    "PermutationTest",
    "PowerLaw",
    "ScoredSplit",
    "Stability",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bhattacharyya",
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
    "fit_power_law",
    "frechet_distance",
    "late_spread",
    "maximum_mean_discrepancy",
    "mean_height",
    "mean_interval",
    "median_distance",
    "paired_comparison",
    "paired_delong",
    "permutation_over_splits",
    "permutation_test",
    "recall_by_class",
    "score_all",
    "scored_splits",
    "sepsis_utility",
    "stability",
    "summarise",
    "time_to",
    "utility_threshold",
    "wilcoxon_test",
]
