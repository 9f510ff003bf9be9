"""How alike datasets and diseases are: by their gradients, by what a model of one does for another, by what models see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.splits import hold_out
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import DataError
from graphssl.progress import tracked
from graphssl.training.meta.adaptation import adaptation_curve, builder_for
from graphssl.training.meta.inner import as_function, support_gradients
from graphssl.training.meta.labelled_loss import LabelledLoss
from graphssl.training.meta.meta_train import meta_train
from graphssl.training.meta.reweighting import flat_gradients
from graphssl.training.meta.settings import MetaSettings
from graphssl.training.meta.source_batches import SourceBatches
from graphssl.training.meta.strategies import SingleSource
from graphssl.training.meta.tasks import Source, TaskSampler
from graphssl.training.model import Model, by_subject, embed_rows

Floats = npt.NDArray[np.float64]
_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike each pair of datasets is, and what permutation makes of it.

    Attributes:
        measure: What was measured.
        names: Names of the datasets.
        values: Value of each pair `[S, S]`; of rows trained on and columns adapted to, where it has a direction.
        low: Lower end of the central 95 % of what permutations give `[S, S]`.
        high: Upper end.
        null: What permutations stand for: what the interval would hold if this were true.
    """

    measure: str
    names: tuple[str, ...]
    values: Floats
    low: Floats
    high: Floats
    null: str

    def __repr__(self) -> str:
        off = self.values[~np.eye(len(self.names), dtype=bool)]
        return f"Similarity({self.measure}, {len(self.names)} datasets, {np.nanmin(off):.3f} to {np.nanmax(off):.3f} between them)"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        arrays = {name: _plain(getattr(self, name)) for name in ("values", "low", "high")}
        return {"measure": self.measure, "names": list(self.names), **arrays, "null": self.null}


def gradient_cosine(gradients: Sequence[npt.ArrayLike], names: Sequence[str], *, n_permutations: int = 500, seed: int = 0) -> Similarity:
    """Cosine of the mean gradients of datasets.

    The interval is that of draws dealt to the datasets at random: a pair below it is less alike than two parts of one dataset.

    Args:
        gradients: Gradients of draws of tasks `[N, P]`, of each dataset; see `task_gradients`.
        names: Names of the datasets.
        n_permutations: Number of permutations.
        seed: Seed of them.

    Raises:
        DataError: If a dataset has no draw, or names and datasets differ in number.
    """
    parts = [np.asarray(part, dtype=np.float64) for part in gradients]
    if len(parts) != len(names) or any(part.ndim != 2 or not len(part) for part in parts):
        raise DataError(f"Expected gradients [draws, parameters] of each of {len(names)} datasets, found {[part.shape for part in parts]}.")
    stacked = np.concatenate(parts)
    gram = stacked @ stacked.T
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    generator = np.random.default_rng(seed)
    drawn = np.stack([_mean_cosine(gram, generator.permutation(owner)) for _ in range(n_permutations)])
    return _similarity("gradient cosine", names, _mean_cosine(gram, owner), drawn, "the datasets are one")


def task_gradients(model: Model, sources: Sequence[Source], *, n_support: int = 10, n_draws: int = 10, seed: int = 0) -> list[Floats]:
    """Gradients of tasks of each source at a model's parameters `[n_draws, P]`, those of encoder and head.

    Args:
        model: A model of `meta_train`, with a head.
        sources: The sources, with labels.
        n_support: Subjects of each class in a task.
        n_draws: Tasks a source.
        seed: Seed of the tasks.

    Raises:
        DataError: If the model has no head, or a source too few subjects.
    """
    if model.head is None:
        raise DataError("Expected a model with a head, found none. Train on sources with a target.")
    sampler = TaskSampler(sources, n_support, 1, seed)
    batches = SourceBatches(sources, model.builder, is_fitted=True)
    module = LabelledLoss(model.encoder, model.head.out_features).eval()
    module.head.load_state_dict(model.head.state_dict())
    loss, parameters = as_function(module, first_order=True)
    drawn = [sampler.draw(step) for step in range(n_draws)]
    found = []
    for place in range(len(sampler.sources)):
        support = [batches.support(tasks[place]) for tasks in drawn]
        gradients = support_gradients(loss, parameters, support)
        rows = [{name: tensor[k] for name, tensor in gradients.items()} for k in range(n_draws)]
        found.append(np.asarray(flat_gradients(rows).detach().cpu().double()))
    return found


def representation_similarity(features: Sequence[npt.ArrayLike], names: Sequence[str], *, n_permutations: int = 500, seed: int = 0) -> Similarity:
    """Linear centred kernel alignment of what models make of the same subjects (Kornblith et al., ICML 2019; unbiased: Song et al., JMLR 2012).

    The interval is that of subjects permuted: a pair above it sees something in common.

    Args:
        features: Vectors of the same subjects in the same order `[n, P]`, by each model; widths may differ.
        names: Names of the models, by what they were trained on.
        n_permutations: Number of permutations.
        seed: Seed of them.

    Raises:
        DataError: If subjects differ in number, are fewer than four, or names and models differ in number.
    """
    parts = [np.asarray(part, dtype=np.float64) for part in features]
    sizes = {len(part) for part in parts}
    if len(parts) != len(names) or len(sizes) != 1 or min(sizes) < 4:
        raise DataError(f"Expected vectors of the same four or more subjects by each of {len(names)} models, found {[part.shape for part in parts]}.")
    kernels = np.stack([_centred_kernel(part) for part in parts])
    generator = np.random.default_rng(seed)
    drawn = np.stack([_alignment(kernels, kernels[:, order][:, :, order]) for order in _orders(generator, sizes.pop(), n_permutations)])
    return _similarity("representation similarity (CKA)", names, _alignment(kernels, kernels), drawn, "the models see nothing in common")


def transfer_matrix(
    sources: Sequence[Source],
    *,
    encoder: AbstractEncoder | None = None,
    builder: AbstractBuilder | None = None,
    settings: MetaSettings | None = None,
    n_support: int = 5,
    n_draws: int = 5,
    n_steps: int = 5,
    learning_rate: float = 0.05,
    n_permutations: int = 500,
    seed: int = 0,
) -> tuple[Similarity, list[Model]]:
    """AUROC in each dataset of a model trained on each, after adapting it to a few labelled subjects there.

    Models are trained on one half of a dataset and meet the other, so that the diagonal is honest as well. The interval is that of labels permuted: a
    pair within it is at chance.

    Args:
        sources: The datasets, with labels.
        encoder: The encoder whose arguments to use.
        builder: How connectomes or records are made.
        settings: How long and fast to train; tasks are of its sizes.
        n_support: Labelled subjects of each class to adapt on.
        n_draws: Draws of them.
        n_steps: Gradient steps.
        learning_rate: Of these steps.
        n_permutations: Number of permutations.
        seed: Seed of halves, models, draws and permutations.

    Returns:
        The matrix, rows trained on and columns adapted to, and the model of each dataset.

    Raises:
        DataError: If half of a dataset is too small.
    """
    settings = replace(settings or MetaSettings(), devices=1, nodes=1)  # one source is one task, which is not spread
    halves = [_halves(source, seed) for source in sources]
    learned = [train for train, _ in halves]
    models = [
        meta_train(learned, encoder=encoder, builder=builder, strategy=SingleSource(source.name), settings=settings, seed=seed)
        for source in tracked(sources, "Training on single datasets")
    ]
    values = np.empty((len(sources), len(sources)))
    for i, model in enumerate(tracked(models, "Adapting models of single datasets")):
        for j, (_, held) in enumerate(halves):
            curve = adaptation_curve(model, held, n_support=(n_support,), n_draws=n_draws, n_steps=n_steps, learning_rate=learning_rate, seed=seed)
            values[i, j] = curve.loc[curve["step"] == n_steps, "auroc"].mean()
    generator = np.random.default_rng(seed)
    chance = np.stack([_chance(held, n_support, n_permutations, generator) for _, held in halves], axis=1)
    drawn = np.broadcast_to(chance[:, None], (n_permutations, len(sources), len(sources)))
    return _similarity("transfer (AUROC)", [source.name for source in sources], values, drawn, "labels mean nothing"), models


def embedded(model: Model, cohort: Cohort) -> Floats:
    """Pooled vectors of subjects `[n, P]`, whose connectomes are centred on themselves, without labels."""
    batch = builder_for(model, cohort).transform(cohort)
    return np.asarray(by_subject(embed_rows(model.encoder, batch), batch.subject_ids, cohort.ids).double())


def _plain(array: Floats) -> list[list[float | None]]:
    """JSON has no NaN."""
    return [[float(value) if np.isfinite(value) else None for value in row] for row in array]


def _similarity(measure: str, names: Sequence[str], values: Floats, drawn: Floats, null: str) -> Similarity:
    low, high = (np.quantile(drawn, q, axis=0) for q in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return Similarity(measure, tuple(names), values, low, high, null)


def _mean_cosine(gram: Floats, owner: npt.NDArray[np.int64]) -> Floats:
    """Cosines of the means of each owner's rows, of their inner products alone."""
    shares = np.eye(owner.max() + 1)[:, owner]
    shares /= shares.sum(axis=1, keepdims=True)
    inner = shares @ gram @ shares.T
    norms = np.sqrt(np.diagonal(inner))
    return np.asarray(inner / np.maximum(np.outer(norms, norms), np.finfo(float).tiny))


def _centred_kernel(features: Floats) -> Floats:
    """Linear kernel, U-centred, so that its products with others are unbiased."""
    kernel = features @ features.T
    np.fill_diagonal(kernel, 0.0)
    n = len(kernel)
    rows = kernel.sum(axis=1, keepdims=True) / (n - 2)
    centred = kernel - rows - rows.T + kernel.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return np.asarray(centred)


def _alignment(first: Floats, second: Floats) -> Floats:
    inner = np.einsum("iab,jab->ij", first, second, optimize=True)
    norms = [np.sqrt(np.einsum("iab,iab->i", kernels, kernels)) for kernels in (first, second)]
    return np.asarray(inner / np.maximum(np.outer(*norms), np.finfo(float).tiny))


def _orders(generator: np.random.Generator, n: int, n_permutations: int) -> list[npt.NDArray[np.int64]]:
    return [generator.permutation(n) for _ in range(n_permutations)]


def _halves(source: Source, seed: int) -> tuple[Source, Source]:
    """Two halves of a source, families together, classes alike."""
    ids = list(source.labels)
    groups = source.cohort.groups[ids].tolist()
    split = hold_out(ids, [source.labels[subject] for subject in ids], groups=groups, test_fraction=0.5, seed=seed)
    first, second = (Source(source.name, source.cohort.select(side), source.target, source.classes) for side in (split.train, split.test))
    return first, second


def _chance(target: Source, n_support: int, n_permutations: int, generator: np.random.Generator) -> Floats:
    """AUROC of labels that mean nothing `[n_permutations]`; NaN where there are more than two classes.

    That of one draw: draws share most of the subjects who are scored, so their mean spreads hardly less.
    """
    counts = np.maximum(np.asarray(target.counts) - n_support, 1)
    if len(counts) != 2:
        return np.full(n_permutations, np.nan)
    ranks = np.stack([generator.permutation(counts.sum()) for _ in range(n_permutations)])[:, : counts[1]] + 1
    return np.asarray((ranks.sum(axis=1) - counts[1] * (counts[1] + 1) / 2) / counts.prod())
