"""Fine-tuning: a pre-trained (or random) encoder and a few labels in, a model that predicts out."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from graphssl.data.batch import Batch
from graphssl.data.classes import classes_of
from graphssl.data.cohort import Cohort
from graphssl.data.splits import hold_out
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.supervised import ClassWeight, Supervised, check_class_weight
from graphssl.training.fit import TrainingSettings, fit
from graphssl.training.model import Model, by_subject, embed_rows

Mode = Literal["probe", "full"]

_INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_PROBE_FOLDS = 5
FINETUNING = TrainingSettings(max_epochs=20, learning_rate=3e-4, patience=5)


def finetune(
    model: Model,
    cohort: Cohort,
    *,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    mode: Mode = "full",
    class_weight: ClassWeight = "balanced",
    settings: TrainingSettings | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Give a model a head for a target, and train it on the subjects that have a label.

    `probe` fits a penalised logistic regression on the pooled vectors and leaves the encoder as it is. `full` starts from that probe and then
    trains encoder and head together (linear probing, then fine-tuning: Kumar et al., ICLR 2022). Cross-validation chooses the
    penalty; validation subjects choose the epoch, and whether training beyond the probe helped at all.

    Args:
        model: A pre-trained model; it is not changed.
        cohort: Training subjects; leave test subjects out of it.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last; sorted when left out.
        mode: `"probe"` or `"full"`.
        class_weight: `"balanced"` lets the classes count alike, however many subjects each has; None lets every subject count alike, so that
            probabilities follow how common a class is.
        settings: How long and how fast the full training goes.
        validation_fraction: Share of the labelled subjects that choose the epoch of the full training.
        seed: Seed of split, order and dropout.
        folder: Where checkpoints go.

    Raises:
        DataError: If there is one class only, too few labels, or a class that was not named.
        ConfigError: If the mode or the class weight is unknown.
    """
    if mode not in ("probe", "full"):
        raise ConfigError(f"Expected the mode 'probe' or 'full', found {mode!r}.")
    check_class_weight(class_weight)
    name = str(cohort.target(target).name)
    names, index = classes_of(cohort, target, classes)
    labelled = cohort.select([subject for subject in cohort.ids if subject in index])
    counts = np.bincount(list(index.values()), minlength=len(names))
    card = {
        **model.card,
        "fine-tuned on": f"{cohort.name}, {len(labelled)} labelled subjects (cohort hash {cohort.hash})",
        "target": f"{name}: {list(names)}",
    }
    tuned = Model(model.builder, copy.deepcopy(model.encoder), card=card, history=model.history)
    if mode == "probe":
        _check_counts(counts, 1)
        return tuned.with_head(_probe(model, labelled, index, class_weight), names, name)
    fraction = _feasible(validation_fraction, counts)
    split = hold_out(labelled.ids, [index[s] for s in labelled.ids], groups=labelled.groups.tolist(), test_fraction=fraction, seed=seed)
    train, validation = labelled.select(split.train), labelled.select(split.test)
    head = _probe(model, train, index, class_weight)
    history = _train_all(tuned, head, train, validation, index, len(names), class_weight, settings or FINETUNING, seed, folder)
    return Model(model.builder, tuned.encoder, card=card, history=history).with_head(head, names, name)


def _train_all(
    model: Model,
    head: nn.Linear,
    train: Cohort,
    validation: Cohort,
    index: Mapping[str, int],
    n_classes: int,
    class_weight: ClassWeight,
    settings: TrainingSettings,
    seed: int,
    folder: str | os.PathLike[str] | None,
) -> pd.DataFrame:
    batches = [model.encoder.once(model.builder.transform(part)) for part in (train, validation)]
    objective = Supervised({s: index[s] for s in (*train.ids, *validation.ids)}, n_classes, class_weight).prepare(model.encoder)
    objective.head.load_state_dict(head.state_dict())
    start = copy.deepcopy((model.encoder.state_dict(), head.state_dict()))
    before = _loss(model, head, batches[1], validation.ids, index)
    fitted = fit(model.encoder, objective, batches[0], batches[1], settings, seed=seed, folder=folder, label="fine-tuning")
    head.load_state_dict(objective.head.state_dict())
    if _loss(model, head, batches[1], validation.ids, index) >= before:
        model.encoder.load_state_dict(start[0])
        head.load_state_dict(start[1])
    model.encoder.eval()
    return fitted.history


def _loss(model: Model, head: nn.Linear, batch: Batch, ids: Sequence[str], index: Mapping[str, int]) -> float:
    probability = Model(model.builder, model.encoder, head).answers(batch, ids).probability
    assert probability is not None
    return float(log_loss([index[s] for s in ids], probability, labels=list(range(probability.shape[1]))))


def _probe(model: Model, cohort: Cohort, index: Mapping[str, int], class_weight: ClassWeight) -> nn.Linear:
    """Logistic regression on pooled vectors, its penalty chosen by cross-validation, as a linear layer with the scaling folded in."""
    y = np.asarray([index[subject] for subject in cohort.ids])
    pooled = _pooled(model, cohort)
    scaler = StandardScaler().fit(pooled)
    folds = _probe_folds(y, cohort.groups.to_numpy())
    if len(folds) < 2:
        regression = LogisticRegression(C=_INVERSE_PENALTIES[0], class_weight=class_weight, max_iter=2000)
    else:
        regression = LogisticRegressionCV(
            Cs=_INVERSE_PENALTIES,
            cv=folds,
            scoring="neg_log_loss",
            class_weight=class_weight,
            max_iter=2000,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        )
    return _as_linear(scaler, regression.fit(scaler.transform(pooled), y))


def _probe_folds(y: npt.NDArray[np.int64], groups: npt.NDArray[Any]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Stratified folds that cut no family, each with every class on both sides; none where there are too few subjects of a class."""
    n_folds = min(_PROBE_FOLDS, *(len(set(groups[y == label])) for label in np.unique(y)))
    if n_folds < 2:
        return []
    related = len(set(groups)) < len(groups)
    folds = StratifiedGroupKFold(n_folds).split(y, y, groups) if related else StratifiedKFold(n_folds).split(y, y)
    return [(train, test) for train, test in folds if set(y[train]) == set(y[test]) == set(y)]


def _as_linear(scaler: StandardScaler, regression: LogisticRegression) -> nn.Linear:
    weight, bias = regression.coef_ / scaler.scale_, regression.intercept_ - regression.coef_ @ (scaler.mean_ / scaler.scale_)
    if len(weight) == 1:  # two classes: one logit, the other is zero
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return head


def _pooled(model: Model, cohort: Cohort) -> np.ndarray:
    batch = model.builder.transform(cohort)
    pooled: Tensor = by_subject(embed_rows(model.encoder, batch), batch.subject_ids, cohort.ids)
    return np.asarray(pooled.double())


def _feasible(fraction: float, counts: npt.NDArray[np.int64]) -> float:
    """A validation share that leaves at least one subject of each class on both sides."""
    _check_counts(counts, 2)
    return min(0.5, max(fraction, 1 / int(counts.min())))


def _check_counts(counts: npt.NDArray[np.int64], least: int) -> None:
    if counts.min() < least:
        words = {1: "one labelled subject", 2: "two labelled subjects"}[least]
        raise DataError(f"Expected at least {words} of each class to fine-tune, found {counts.min()} of one. Give more labels.")
