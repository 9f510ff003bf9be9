"""Evaluation: protocols, baselines, tuning, audits and explanations."""

from graphssl.evaluation.audits import site_probe
from graphssl.evaluation.baselines import BASELINES, make_baseline
from graphssl.evaluation.explain import Saliency, saliency
from graphssl.evaluation.permutation import refit_permutation_test
from graphssl.evaluation.protocols import Evaluation, evaluate
from graphssl.evaluation.tuning import Tuned

__all__ = ["BASELINES", "Evaluation", "Saliency", "Tuned", "evaluate", "make_baseline", "refit_permutation_test", "saliency", "site_probe"]
