"""Meta-learning: starting points from which a few labelled subjects of a new cohort go far."""

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
)
from graphssl.training.meta.source_batches import SourceBatches, centred_on
from graphssl.training.meta.stack import Stacked, stack
from graphssl.training.meta.tasks import Source, Task, TaskSampler, sources_by_site

__all__ = [
    "EncoderLoss",
    "GradientStep",
    "InnerLoop",
    "Source",
    "SourceBatches",
    "Stacked",
    "Task",
    "TaskSampler",
    "adapt",
    "adapted_parameters",
    "as_function",
    "centred_on",
    "check_adaptable",
    "choose_path",
    "query_losses",
    "sources_by_site",
    "stack",
]
