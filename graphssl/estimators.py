"""The scikit-learn face of the library: what protocols fit."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.errors import DataError
from graphssl.objectives.base import AbstractObjective
from graphssl.training.finetune import FINETUNING, Mode, finetune
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model
from graphssl.training.pretrain import pretrain, untrained

WITHHELD = -1
_TARGET = "estimator_target"


class ConnectomeClassifier(ClassifierMixin, BaseEstimator):
    """Pre-trains an encoder on all training subjects, then fine-tunes it on those with a label.

    A cohort is indexed by scikit-learn as an array is, so `cross_val_score(ConnectomeClassifier(), cohort, y, groups=sites)` and `GridSearchCV` work.
    `fit` takes a cohort and a class index a subject, `-1` where the label is withheld (scikit-learn's convention for semi-supervised
    learning): such subjects take part in pre-training only. Without an objective the encoder starts from random weights, which is the control
    of pre-training.

    Args:
        objective: What to pre-train on; None starts from random weights.
        encoder: The encoder whose arguments to use; a `GraphTransformer` when left out.
        builder: How connectomes, or tables, are made.
        mode: `"full"` trains encoder and head, `"probe"` only a head.
        pretraining: How long and how fast to pre-train.
        finetuning: How long and how fast to fine-tune.
        seed: Seed of everything random.

    Attributes:
        model_: The fitted [`Model`][graphssl.training.Model].
        pretrained_: The model before fine-tuning.
        classes_: Class indices.
    """

    def __init__(
        self,
        objective: AbstractObjective | None = None,
        encoder: AbstractEncoder | None = None,
        builder: AbstractBuilder | None = None,
        mode: Mode = "full",
        pretraining: TrainingSettings | None = None,
        finetuning: TrainingSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.objective = objective
        self.encoder = encoder
        self.builder = builder
        self.mode = mode
        self.pretraining = pretraining
        self.finetuning = finetuning
        self.seed = seed

    def fit(self, X: Cohort, y: Sequence[int] | npt.NDArray[Any], groups: object = None) -> "ConnectomeClassifier":
        """Pre-train on all of the cohort, fine-tune on the labelled part of it.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used; the cohort knows its families and repeated scans.

        Raises:
            DataError: If labels and subjects differ in number, or fewer than two classes are labelled.
        """
        labels = np.asarray(y)
        if len(labels) != len(X):
            raise DataError(f"Expected one label for each of {len(X)} subjects, found {len(labels)}.")
        self.classes_ = np.unique(labels[labels != WITHHELD])
        if len(self.classes_) < 2:
            raise DataError(f"Expected at least two classes among the labels, found {self.classes_.tolist()}.")
        self.pretrained_ = self._start(X)
        names = [str(label) for label in self.classes_]
        self.model_ = finetune(
            self.pretrained_,
            _with_target(X, labels),
            target=_TARGET,
            classes=names,
            mode=self.mode,
            settings=self.finetuning,
            seed=self.seed,
        )
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`, columns as `classes_`."""
        check_is_fitted(self, "model_")
        return self.model_.predict_proba(X)

    def predict(self, X: Cohort) -> npt.NDArray[Any]:
        """The most probable class of each subject `[n]`."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def set_params(self, **params: Any) -> "ConnectomeClassifier":
        """Set parameters; a double underscore reaches inside, such as `finetuning__learning_rate`, `encoder__width` or `objective__ratio`.

        Raises:
            ValueError: If there is no such parameter (scikit-learn's convention).
        """
        whole = {name: value for name, value in params.items() if "__" not in name or name.startswith("builder__")}
        super().set_params(**whole)
        for name, value in params.items():
            if name not in whole:
                part, _, argument = name.partition("__")
                setattr(self, part, _changed(getattr(self, part, None), part, argument, value))
        return self

    def transform(self, X: Cohort) -> pd.DataFrame:
        """Pooled vectors of the fitted encoder, one row a subject."""
        check_is_fitted(self, "model_")
        return self.model_.embed(X)

    def _start(self, cohort: Cohort) -> Model:
        # The hash holds values only; roles of columns say who belongs to a family.
        key = (cohort.hash, repr([cohort.name, cohort.schema, *_plain(self)]))
        if key in _STARTS:
            _STARTS.move_to_end(key)
            return _STARTS[key]
        if self.objective is None:
            model = untrained(cohort, encoder=self.encoder, builder=self.builder, seed=self.seed)
        else:
            model = pretrain(cohort, objective=self.objective, encoder=self.encoder, builder=self.builder, settings=self.pretraining, seed=self.seed)
        _STARTS[key] = model
        while len(_STARTS) > _MAX_STARTS:
            _STARTS.popitem(last=False)
        return model


# Pre-training is a function of cohort, settings and seed; label fractions and modes of one fold share it.
_STARTS: OrderedDict[tuple[str, str], Model] = OrderedDict()
_MAX_STARTS = 3


def _plain(estimator: ConnectomeClassifier) -> list[Any]:
    parts = [(type(part).__name__, part.arguments()) if part is not None else None for part in (estimator.objective, estimator.encoder)]
    builder = None if estimator.builder is None else estimator.builder.get_params()
    return [*parts, builder, estimator.pretraining if estimator.objective is not None else None, estimator.seed]


def _changed(part: Any, name: str, argument: str, value: Any) -> Any:
    """Settings, an encoder or an objective with one argument changed."""
    part = part if part is not None else {"encoder": GraphTransformer(), "pretraining": TrainingSettings(), "finetuning": FINETUNING}.get(name)
    arguments = part.arguments() if hasattr(part, "arguments") else asdict(part) if isinstance(part, TrainingSettings) else {}
    if argument not in arguments:
        raise ValueError(f"Expected an argument of {name} ({', '.join(arguments) or 'there is none'}), found {argument!r}.")
    return type(part)(**{**arguments, argument: value})


def _with_target(cohort: Cohort, labels: npt.NDArray[Any]) -> Cohort:
    values = pd.Series([None if label == WITHHELD else str(label) for label in labels], index=cohort.subjects.index, dtype="str")
    categories = tuple(sorted(values.dropna().unique()))
    return cohort.with_column(Column(_TARGET, "categorical", "target", categories=categories), values)
