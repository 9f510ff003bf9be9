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
from graphssl.training.meta.stack import Stacked, stack

__all__ = [
    "EncoderLoss",
    "GradientStep",
    "InnerLoop",
    "Stacked",
    "adapt",
    "adapted_parameters",
    "as_function",
    "check_adaptable",
    "choose_path",
    "query_losses",
    "stack",
]
