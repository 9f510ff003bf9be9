"""Meta-learning: starting points from which a few labelled subjects of a new cohort go far."""

from graphssl.training.meta.adaptation import adapt_and_score, adaptation_curve
from graphssl.training.meta.generator import AdaptiveStep, rates_of_tasks
from graphssl.training.meta.inner import (
    EncoderLoss,
    GradientStep,
    InnerLoop,
    adapt,
    adapted_parameters,
    as_function,
    check_adaptable,
    choose_path,
    query_losses,
    support_gradients,
)
from graphssl.training.meta.labelled_loss import LabelledLoss
from graphssl.training.meta.learn2learn import learn2learn_algorithm, load_learn2learn
from graphssl.training.meta.maml import ANIL, MAML, MetaSGD
from graphssl.training.meta.meta_train import meta_train
from graphssl.training.meta.protonet import ProtoNet, prototypes
from graphssl.training.meta.reptile import reptile_gradients
from graphssl.training.meta.reweighting import AbstractWeighting, EqualWeights, GradientAgreement, UncertaintyWeights
from graphssl.training.meta.sample_weights import MetaContrast, PairWeights
from graphssl.training.meta.settings import MetaSettings
from graphssl.training.meta.similarity import Similarity, gradient_cosine, representation_similarity, task_gradients, transfer_matrix
from graphssl.training.meta.source_batches import SourceBatches, centred_on
from graphssl.training.meta.source_rates import rates_by_source
from graphssl.training.meta.stack import Stacked, stack
from graphssl.training.meta.strategies import STRATEGIES, DirectLearning, JointTraining, MetaLearning, SingleSource, Strategy
from graphssl.training.meta.tasks import Source, Task, TaskSampler, sources_by_site

__all__ = [
    "ANIL",
    "MAML",
    "STRATEGIES",
    "AbstractWeighting",
    "AdaptiveStep",
    "DirectLearning",
    "EncoderLoss",
    "EqualWeights",
    "GradientAgreement",
    "GradientStep",
    "InnerLoop",
    "JointTraining",
    "LabelledLoss",
    "MetaContrast",
    "MetaLearning",
    "MetaSGD",
    "MetaSettings",
    "PairWeights",
    "ProtoNet",
    "Similarity",
    "SingleSource",
    "Source",
    "SourceBatches",
    "Stacked",
    "Strategy",
    "Task",
    "TaskSampler",
    "UncertaintyWeights",
    "adapt",
    "adapt_and_score",
    "adaptation_curve",
    "adapted_parameters",
    "as_function",
    "centred_on",
    "check_adaptable",
    "choose_path",
    "gradient_cosine",
    "learn2learn_algorithm",
    "load_learn2learn",
    "meta_train",
    "prototypes",
    "query_losses",
    "rates_by_source",
    "rates_of_tasks",
    "representation_similarity",
    "reptile_gradients",
    "sources_by_site",
    "stack",
    "support_gradients",
    "task_gradients",
    "transfer_matrix",
]
