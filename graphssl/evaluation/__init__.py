"""Evaluation: protocols, baselines, tuning, audits and explanations."""

from graphssl.evaluation.audits import site_probe
from graphssl.evaluation.baselines import BASELINES, make_baseline
from graphssl.evaluation.cell import Cell, CellSettings
from graphssl.evaluation.challenges import CHALLENGE_SCORES
from graphssl.evaluation.explain import Saliency, integrated_gradients, saliency
from graphssl.evaluation.few_shot import few_shot_baselines
from graphssl.evaluation.missing_modality import MissingAtTest
from graphssl.evaluation.modalities import EmbeddingBoosting, LateAverage, ModalityClassifier
from graphssl.evaluation.nearest import NearestNeighborProbe
from graphssl.evaluation.permutation import refit_permutation_test
from graphssl.evaluation.protocols import Evaluation, evaluate
from graphssl.evaluation.randomisation import randomisation_check
from graphssl.evaluation.refits import refit_saliencies
from graphssl.evaluation.retrieval import modality_retrieval
from graphssl.evaluation.rollout import attention_rollout
from graphssl.evaluation.segmentation import evaluate_segmentation, segmentation_scores
from graphssl.evaluation.segmenter import MeanMask, Segmenter
from graphssl.evaluation.shares import Share
from graphssl.evaluation.studies import Study, run_study
from graphssl.evaluation.tuning import Tuned
from graphssl.evaluation.voting import CrossVoting, confirmed, probability_grids

__all__ = [
    "BASELINES",
    "CHALLENGE_SCORES",
    "Cell",
    "CellSettings",
    "CrossVoting",
    "EmbeddingBoosting",
    "Evaluation",
    "LateAverage",
    "MeanMask",
    "MissingAtTest",
    "ModalityClassifier",
    "NearestNeighborProbe",
    "Saliency",
    "Segmenter",
    "Share",
    "Study",
    "Tuned",
    "attention_rollout",
    "confirmed",
    "evaluate",
    "evaluate_segmentation",
    "few_shot_baselines",
    "integrated_gradients",
    "make_baseline",
    "modality_retrieval",
    "probability_grids",
    "randomisation_check",
    "refit_permutation_test",
    "refit_saliencies",
    "run_study",
    "saliency",
    "segmentation_scores",
    "site_probe",
]
