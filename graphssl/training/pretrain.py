"""Pre-training: a cohort without labels in, an encoder out."""

import os
from dataclasses import replace

import torch
from sklearn.base import clone

from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.splits import Split, hold_out
from graphssl.data.streamed_batch import StreamedBatch, Window
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.default import default_objective
from graphssl.training.fit import TrainingSettings, fit
from graphssl.training.initial_parts import with_initial_parts
from graphssl.training.learner import Watch
from graphssl.training.model import Model, fresh


def pretrain(
    cohort: Cohort | StreamedCohort,
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
        cohort: Training subjects; leave test subjects out of it. A streamed one never has more than its window of shards in memory.
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
        ConfigError: If the cohort is streamed and the builder needs all subjects at once.
        DataError: If the cohort is too small or lacks region data, or a shard is not what was written.
    """
    known = cohort.known if isinstance(cohort, StreamedCohort) else cohort
    split = held_out(known, validation_fraction, seed)
    model = untrained(cohort.select(split.train), encoder=encoder, builder=builder, seed=seed)
    objective = objective or default_objective(model.encoder)
    learned = prepared(objective, known, model.encoder, seed)
    card = {
        "pre-trained on": f"{cohort.name}, {len(split.train)} subjects (cohort hash {cohort.hash})",
        "objective": f"{type(objective).__name__} {objective.arguments()}",
    }
    found = trained(model, learned, batches_of(model, learned, cohort, split), settings or TrainingSettings(), seed=seed, folder=folder)
    return replace(found, card={**card, **found.card})


def batches_of(model: Model, objective: AbstractObjective, cohort: Cohort | StreamedCohort, split: Split) -> tuple[Batch, Batch]:
    """What the model's builder makes of those who train and of those who choose the epoch; of a streamed cohort when it is asked for."""
    series = {"series": True} if objective.needs_series else {}
    if isinstance(cohort, StreamedCohort):
        window = Window(cohort.window)
        of_train, of_validation = (StreamedBatch(cohort.select(part), model.builder, window, **series) for part in (split.train, split.test))
        return of_train, of_validation
    train, validation = (model.builder.transform(cohort.select(part), **series) for part in (split.train, split.test))
    return train, validation


def trained(
    model: Model,
    objective: AbstractObjective,
    batches: tuple[Batch, Batch],
    settings: TrainingSettings,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Model:
    """A model whose encoder was trained, in place, on an objective that is prepared for it.

    Args:
        model: Where training starts.
        objective: The objective.
        batches: Training rows, and those that choose the epoch.
        settings: How long and how fast.
        seed: Seed of order, masks and dropout.
        folder: Where checkpoints go.
        watch: What is measured of the encoder after an epoch, for the history.
    """
    fitted = fit(model.encoder, objective, *batches, settings, seed=seed, folder=folder, label="pre-training", watch=watch)
    n_validation = len(set(batches[1].subject_ids))
    how = f"learning rate {settings.learning_rate:g}, weight decay {settings.weight_decay:g}, patience {settings.patience}"
    card = {
        "training": f"at most {settings.max_epochs} epochs of minibatches of {settings.batch_size} rows, {how}",
        "epoch kept": f"{fitted.best_epoch + 1} of {len(fitted.history)}, validation loss {fitted.best_score:.4f} on {n_validation} subjects",
        "seed": seed,
    }
    target = None if objective.target_encoder is None else objective.target_encoder.eval()
    return Model(model.builder, model.encoder.eval(), history=fitted.history, card=card, target_encoder=target, objective=objective.eval())


def untrained(
    cohort: Cohort | StreamedCohort, *, encoder: AbstractEncoder | None = None, builder: AbstractBuilder | None = None, seed: int = 0
) -> Model:
    """A model with random weights and a builder fitted on the cohort: where pre-training starts, and its control.

    Of several modalities some encoders may have initial weights, see [`MultimodalEncoder`][graphssl.encoders.MultimodalEncoder].

    Args:
        cohort: Training subjects.
        encoder: The encoder whose arguments to use; a `GraphTransformer` when left out.
        builder: How connectomes are made; a new one with the same arguments is fitted.
        seed: Seed of the weights.
    """
    encoder = encoder or GraphTransformer()
    new = clone(builder or encoder.default_builder())
    if isinstance(cohort, StreamedCohort) and not cohort.has_all:
        fitted, known = new.fit_streamed(cohort), cohort.known
    else:
        known = cohort.whole() if isinstance(cohort, StreamedCohort) else cohort
        fitted = new.fit(known)
    encoder = encoder.for_builder(fitted)
    return with_initial_parts(Model(fitted, fresh(encoder, seed)), known, seed=seed)


def held_out(cohort: Cohort, fraction: float, seed: int) -> Split:
    """A share of the subjects; two families at least, such as the clips of two patients, since contrast needs somebody else."""
    split = hold_out(cohort.ids, groups=cohort.groups.tolist(), test_fraction=fraction, seed=seed)
    while fraction < 0.5 and cohort.groups.loc[list(split.test)].nunique() < 2:
        fraction = min(0.5, 1.3 * fraction)
        split = hold_out(cohort.ids, groups=cohort.groups.tolist(), test_fraction=fraction, seed=seed)
    return split


def prepared(objective: AbstractObjective, cohort: Cohort, encoder: AbstractEncoder, seed: int) -> AbstractObjective:
    """A new objective of the same arguments that knows the cohort, so that the one that was given stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return objective.for_cohort(cohort).fresh().prepare(encoder)
