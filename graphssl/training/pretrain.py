"""Pre-training: a cohort without labels in, an encoder out."""

import os

import torch
from sklearn.base import clone

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, hold_out
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.default import default_objective
from graphssl.training.fit import TrainingSettings, fit
from graphssl.training.model import Model, fresh


def pretrain(
    cohort: Cohort,
    *,
    objective: AbstractObjective | None = None,
    encoder: AbstractEncoder | None = None,
    builder: AbstractBuilder | None = None,
    settings: TrainingSettings | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Train an encoder on connectomes, tables or images without their labels.

    Some subjects are held out, families and repeated scans together, to choose the epoch. Where the objective's loss does not compare epochs they are
    only watched, and the last is kept. Labels are never read, but by an objective that says so (`reads_labels`).

    Args:
        cohort: Training subjects; leave test subjects out of it.
        objective: What to learn; masked regions when left out, masked columns where the encoder is one of tables.
        encoder: The encoder whose arguments to use, with new weights; a `GraphTransformer` when left out.
        builder: How connectomes or tables are made (`ConnectomeBuilder`, `ColumnTokenizer`); fitted here on the training share.
        settings: How long and how fast.
        validation_fraction: Share of the subjects that are held out.
        seed: Seed of weights, order, masks and dropout.
        folder: Where checkpoints go; the same call after a kill goes on from there.

    Returns:
        A model without a head, for `finetune` or `embed`.

    Raises:
        DataError: If the cohort is too small or lacks region data.
    """
    settings = settings or TrainingSettings()
    split = _held_out(cohort, validation_fraction, seed)
    train = cohort.select(split.train)
    model = untrained(train, encoder=encoder, builder=builder, seed=seed)
    objective = objective or default_objective(model.encoder)
    learned = _prepared(objective.for_cohort(cohort), model.encoder, seed)
    series = {"series": True} if objective.needs_series else {}
    batches = [model.builder.transform(part, **series) for part in (train, cohort.select(split.test))]
    fitted = fit(model.encoder, learned, batches[0], batches[1], settings, seed=seed, folder=folder, label="pre-training")
    card = {
        "pre-trained on": f"{cohort.name}, {len(train)} subjects (cohort hash {cohort.hash})",
        "objective": f"{type(objective).__name__} {objective.arguments()}",
        "epoch kept": f"{fitted.best_epoch} of {len(fitted.history)}, validation loss {fitted.best_score:.4f} on {len(split.test)} subjects",
        "seed": seed,
    }
    target = None if learned.target_encoder is None else learned.target_encoder.eval()
    return Model(model.builder, model.encoder.eval(), history=fitted.history, card=card, target_encoder=target)


def untrained(cohort: Cohort, *, encoder: AbstractEncoder | None = None, builder: AbstractBuilder | None = None, seed: int = 0) -> Model:
    """A model with random weights and a builder fitted on the cohort: where pre-training starts, and its control.

    Args:
        cohort: Training subjects.
        encoder: The encoder whose arguments to use; a `GraphTransformer` when left out.
        builder: How connectomes are made; a new one with the same arguments is fitted.
        seed: Seed of the weights.
    """
    encoder = encoder or GraphTransformer()
    fitted = clone(builder or encoder.default_builder()).fit(cohort)
    encoder = encoder.for_builder(fitted)
    return Model(fitted, fresh(encoder, seed))


def _held_out(cohort: Cohort, fraction: float, seed: int) -> Split:
    """A share of the subjects; two families at least, such as the clips of two patients, since contrast needs somebody else."""
    split = hold_out(cohort.ids, groups=cohort.groups.tolist(), test_fraction=fraction, seed=seed)
    while fraction < 0.5 and cohort.groups.loc[list(split.test)].nunique() < 2:
        fraction = min(0.5, 1.3 * fraction)
        split = hold_out(cohort.ids, groups=cohort.groups.tolist(), test_fraction=fraction, seed=seed)
    return split


def _prepared(objective: AbstractObjective, encoder: AbstractEncoder, seed: int) -> AbstractObjective:
    """A new objective of the same arguments, so that the one that was given stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return objective.fresh().prepare(encoder)
