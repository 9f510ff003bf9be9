"""Does an explanation depend on what the model has learned? If not, it explains nothing."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import DataError
from graphssl.evaluation.explain import connection_effects
from graphssl.progress import tracked
from graphssl.statistics.stability import rank_correlations
from graphssl.training.model import Model, fresh

# A map of connections `[R, R]` from a model and connectomes of one atlas.
Measure = Callable[[Model, ConnectomeBatch], npt.NDArray[Any]]


def randomisation_check(
    model: Model,
    cohort: Cohort,
    *,
    atlas: str | None = None,
    measure: Measure = connection_effects,
    n_subjects: int = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """Cascading randomisation of parameters (Adebayo et al., NeurIPS 2018): from the head down to the input, layers get the weights of a new encoder.

    An explanation of what was learned loses its likeness on the way. One that keeps it shows the data or the architecture, as an edge detector does.

    Args:
        model: A fine-tuned model; it is not changed.
        cohort: Subjects to explain.
        atlas: Atlas to explain; the model's first when left out.
        measure: What makes a map of connections; integrated gradients by default.
        n_subjects: Subjects at most, spread evenly over the cohort.
        seed: Seed of the new weights.

    Returns:
        One row a stage: `layer` (the one randomised last) and `rank_correlation`, Spearman's correlation of the sizes of the connections' effects
        with those of the model itself. In the last row every weight is random.

    Raises:
        DataError: If the model has no head, or nobody has data in the atlas.
    """
    if model.head is None:
        raise DataError("Expected a fine-tuned model to check, found one without a head. Call graphssl.finetune first.")
    name = atlas or next(iter(model.connectomes.atlases_))
    batch = model.connectomes.transform(cohort)
    rows = [k for k, row in enumerate(batch.atlas) if row == name]
    if not rows:
        raise DataError(f"Expected subjects with data in atlas {name!r} to check, found atlases {sorted(set(batch.atlas))}.")
    batch = batch[_spread(rows, n_subjects)]
    layers, models = zip(*_cascade(model, seed), strict=True)
    upper = np.triu_indices(batch.mask.shape[1], k=1)
    maps = np.stack([np.abs(measure(stage, batch)[upper]) for stage in tracked((model, *models), "Explaining ever more random models")])
    return pd.DataFrame({"layer": layers, "rank_correlation": rank_correlations(maps)[0, 1:]})


def _spread(rows: list[int], n: int) -> list[int]:
    return [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int))]


def _cascade(model: Model, seed: int) -> list[tuple[str, Model]]:
    """Models with ever more random layers, each with the name of the one made random last."""
    assert model.head is not None
    new = fresh(model.encoder, seed).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(model.head.in_features, model.head.out_features)
    state = copy.deepcopy(model.encoder.state_dict())
    found = [("head", replace(model, head=head))]
    for layer, names in _layers(model.encoder):
        state = {**state, **{name: new[name] for name in names}}
        encoder = copy.deepcopy(model.encoder)
        encoder.load_state_dict(state)
        found.append((layer, replace(model, head=head, encoder=encoder)))
    return found


def _layers(encoder: AbstractEncoder) -> list[tuple[str, list[str]]]:
    """Parts of an encoder from its output to its input, as they were registered, each with the names of its weights."""
    order: list[str] = []
    for name, child in encoder.named_children():
        order += [f"{name}.{k}" for k in range(len(child))] if isinstance(child, nn.ModuleList) else [name]
    learned = [name for name, _ in encoder.named_parameters()]
    parts = [(part, [name for name in learned if name.startswith(f"{part}.")]) for part in reversed(order)]
    rest = [name for name in learned if not any(name in names for _, names in parts)]
    return [(part, names) for part, names in [*parts, ("parameters", rest)] if names]
