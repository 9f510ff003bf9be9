"""What a generator of rates has learned of each source: how fast each tensor moves on it, and how much it decays."""

from collections.abc import Sequence

import pandas as pd

from graphssl.errors import ConfigError
from graphssl.training.meta.generator import AdaptiveStep, rates_of_tasks
from graphssl.training.meta.inner import as_function
from graphssl.training.meta.labelled_loss import LabelledLoss
from graphssl.training.meta.source_batches import SourceBatches
from graphssl.training.meta.tasks import Source, TaskSampler
from graphssl.training.model import Model


def rates_by_source(model: Model, sources: Sequence[Source], *, n_support: int = 10, n_draws: int = 10, seed: int = 0) -> pd.DataFrame:
    """Learning rate and weight decay of each tensor in the first inner step on each source, mean over draws of tasks.

    Args:
        model: A model of `meta_train` with labels and the adaptive strategy.
        sources: The sources, with labels.
        n_support: Subjects of each class in a task.
        n_draws: Tasks a source.
        seed: Seed of the tasks.

    Returns:
        One row a source and tensor: `source`, `tensor`, `learning_rate`, `weight_decay`.

    Raises:
        ConfigError: If the model has no head, or no generator of rates.
        DataError: If a source has too few subjects.
    """
    if model.head is None or not isinstance(model.update, AdaptiveStep):
        raise ConfigError("Expected a model with a head and generated rates, found none. Meta-train with adaptive=True, on sources with labels.")
    sampler, batches = TaskSampler(sources, n_support, 1, seed), SourceBatches(sources, model.builder, is_fitted=True)
    module = LabelledLoss(model.encoder, model.head.out_features).eval()
    module.head.load_state_dict(model.head.state_dict())
    loss, parameters = as_function(module, first_order=True)
    drawn = [sampler.draw(step) for step in range(n_draws)]
    parts = []
    for place, source in enumerate(sampler.sources):
        alpha, beta = rates_of_tasks(model.update, loss, parameters, [batches.support(tasks[place]) for tasks in drawn])
        means = {"learning_rate": alpha.mean(dim=0).tolist(), "weight_decay": beta.mean(dim=0).tolist()}
        parts.append(pd.DataFrame({"source": source.name, "tensor": model.update.names, **means}))
    return pd.concat(parts, ignore_index=True)
