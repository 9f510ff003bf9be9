"""Evaluation: protocols, baselines, audits and explanations."""

from graphssl.evaluation.audits import site_probe
from graphssl.evaluation.baselines import BASELINES, make_baseline
from graphssl.evaluation.explain import Saliency, saliency
from graphssl.evaluation.protocols import Evaluation, evaluate

__all__ = ["BASELINES", "Evaluation", "Saliency", "evaluate", "make_baseline", "saliency", "site_probe"]
