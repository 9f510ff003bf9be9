"""How far a few labelled subjects of a target bring a model, step by step."""

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.func import functional_call

from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.errors import ConfigError, DataError
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.statistics.metrics import auroc
from graphssl.training.meta.inner import GradientStep, InnerLoop, Parameters, Update, adapt, as_function
from graphssl.training.meta.labelled_loss import LabelledLoss
from graphssl.training.meta.source_batches import centred_on
from graphssl.training.meta.tasks import Source, Task, TaskSampler
from graphssl.training.model import Model

CURVE = ("n_support", "draw", "step", "loss", "auroc", "n_query")


def adaptation_curve(
    model: Model,
    target: Source,
    *,
    n_support: Sequence[int] = (5, 10, 20),
    n_draws: int = 10,
    n_steps: int = 10,
    learning_rate: float = 0.05,
    learned: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Adapt a model to a few labelled subjects of a target by gradient steps, and score it after each on all others.

    Nothing is learned from those who are scored: connectomes are centred on the labelled subjects alone. Draws are the same for every model. To try
    several ways of adapting on the same draws, take these once (`labelled_and_others`, `builder_for`) and call `adapt_and_score`.

    Args:
        model: A model of `meta_train`; one without a head gets one that knows nothing.
        target: The target, none of whose subjects the model has seen.
        n_support: Numbers of labelled subjects of each class.
        n_draws: Draws of labelled subjects.
        n_steps: Gradient steps.
        learning_rate: Of these steps.
        learned: Whether a model that learned what a step does (`model.update`) takes such steps instead.
        seed: Seed of the draws.

    Returns:
        One row a number, draw and step (from 0, before any), with loss and AUROC on those who were not drawn, and how many these are.

    Raises:
        DataError: If the target has no labels, or too few subjects of a class for a number.
        ConfigError: If the model's head is of another number of classes, or there is no draw.
    """
    if target.classes is None:
        raise DataError(f"Expected a target with labels to adapt to, found none in {target.name!r}. Name the column to predict.")
    if model.head is not None and model.head.out_features != target.n_classes:
        raise ConfigError(f"Expected a head for the {target.n_classes} classes of {target.name!r}, found one for {model.head.out_features}.")
    if n_draws < 1 or not n_support:
        raise ConfigError(f"Expected at least one draw and one number of labelled subjects, found {n_draws} and {list(n_support)}.")
    update = model.update if learned and model.update is not None else GradientStep(learning_rate)
    rows = []
    for k in n_support:
        sampler = TaskSampler([target], k, 1, seed)
        for draw in range(n_draws):
            labelled, others = labelled_and_others(target, sampler.draw(draw)[0])
            builder = builder_for(model, labelled)
            support, query = ((batch := builder.transform(cohort), _classes(target, batch.subject_ids)) for cohort in (labelled, others))
            scores = adapt_and_score(model, support, query, update, n_steps=n_steps)
            rows += [(k, draw, step, loss, auroc, len(others)) for step, loss, auroc in scores.itertuples(index=False)]
    return pd.DataFrame(rows, columns=list(CURVE))


def adapt_and_score(
    model: Model,
    support: tuple[Batch, Int[Tensor, "b"]],
    query: tuple[Batch, Int[Tensor, "q"]],
    update: Update,
    *,
    n_steps: int = 10,
    head_only: bool = False,
) -> pd.DataFrame:
    """Adapt a model to some rows, and score it before any step and after each on others.

    Args:
        model: The model; one without a head gets one that knows nothing.
        support: Rows to adapt to, and the class of each.
        query: Rows to score, and the class of each.
        update: What a step does: a `GradientStep`, or what a model learned with its start (`model.update`).
        n_steps: Number of steps.
        head_only: Whether the encoder is left as it is.

    Returns:
        One row a step (from 0, before any), with loss and AUROC of the query; AUROC is NaN where one class alone is in it.

    Raises:
        ConfigError: If the classes are more than the model's head tells apart.
        GraphSSLError: If a loss is not finite.
    """
    n_classes = 1 + int(max(labels.max() for _, labels in (support, query)))
    if model.head is not None and model.head.out_features < n_classes:
        raise ConfigError(f"Expected a head for {n_classes} classes, found one for {model.head.out_features}.")
    module = _module(model, n_classes).eval()
    loss, parameters = as_function(module, first_order=True)
    adapted = [name for name in parameters if name.startswith("head.")] if head_only else _known_to(update, parameters)
    inner, rows = InnerLoop(update, first_order=True, adapted=adapted), []
    for step in range(n_steps + 1):
        if step:
            parameters = {name: tensor.detach() for name, tensor in adapt(loss, parameters, support, inner).items()}
        rows.append((step, *_scores(module, parameters, query)))
    return pd.DataFrame(rows, columns=["step", "loss", "auroc"])


def labelled_and_others(target: Source, task: Task) -> tuple[Cohort, Cohort]:
    """Those of a target who were drawn to be labelled, and all others with a label who are of no family of theirs."""
    families = target.cohort.groups
    drawn = {families[subject] for subject in task.support}
    others = [subject for subject in target.labels if families[subject] not in drawn]
    return target.cohort.select(task.support), target.cohort.select(others)


def builder_for(model: Model, labelled: Cohort) -> AbstractBuilder:
    """A model's builder for another dataset: connectomes are centred on that, in its atlases; records are read as they were."""
    builder = model.builder
    if not isinstance(builder, ConnectomeBuilder) or builder.covariates_ is not None or builder.harmonizer_ is not None:
        return builder
    return centred_on(builder, labelled)


def _known_to(update: Update, parameters: Parameters) -> list[str]:
    """Names of the tensors that an update moves: those it was made for, where it was."""
    names = getattr(update, "names", None)
    return list(parameters) if names is None else list(names)


def _scores(module: LabelledLoss, parameters: Parameters, query: tuple[Batch, Tensor]) -> tuple[float, float]:
    """Loss and AUROC."""
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in parameters.items() if name.startswith("encoder.")}
    with torch.no_grad():
        pooled = functional_call(module.encoder, encoder, (query[0],)).pooled
        logits = torch.nn.functional.linear(pooled, parameters["head.weight"], parameters["head.bias"])
        loss = torch.nn.functional.cross_entropy(logits, query[1])
    probability = np.asarray(logits.double().softmax(dim=1))
    labels = query[1].numpy()
    return float(loss), auroc(labels, probability[:, 1] if probability.shape[1] == 2 else probability)


def _module(model: Model, n_classes: int) -> LabelledLoss:
    module = LabelledLoss(copy.deepcopy(model.encoder), n_classes)
    if model.head is not None:
        module.head.load_state_dict(model.head.state_dict())
    else:
        torch.nn.init.zeros_(module.head.weight)
        torch.nn.init.zeros_(module.head.bias)
    return module


def _classes(target: Source, subject_ids: Sequence[str]) -> Tensor:
    return torch.tensor([target.labels[subject] for subject in subject_ids])
