"""The scikit-learn face of the library: what protocols fit."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column, Schema, typed
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.encoders.population_transformer import PopulationTransformer
from graphssl.errors import ConfigError, DataError
from graphssl.graphs.neighbors import NeighborIndex
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.masked_columns import MaskedColumns
from graphssl.objectives.supervised import ClassWeight
from graphssl.training.finetune import FINETUNING, Mode, finetune
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model
from graphssl.training.pretrain import pretrain, untrained
from graphssl.training.selection import PoolSelection
from graphssl.training.stage import Stage
from graphssl.training.stages import pretrain_stages

WITHHELD = -1
_TARGET = "estimator_target"


class AbstractPretrainedClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Pre-trains an encoder on all training subjects, then fine-tunes it on those with a label.

    Subclasses say what they take; a cohort and class indices come out of it.

    Args:
        objective: What to pre-train on; None starts from random weights.
        encoder: The encoder whose arguments to use; that of the subclass when left out.
        builder: How batches are made; as the encoder needs them when left out.
        mode: `"full"` trains encoder and head, `"probe"` only a head.
        pretraining: How long and how fast to pre-train.
        finetuning: How long and how fast to fine-tune.
        seed: Seed of everything random.
        class_weight: `"balanced"` lets the classes count alike in fine-tuning, None every subject.
        n_members: How often to fine-tune; the predictions are the mean.
        stages: Pre-trainings that come before, one after the other (see `pretrain_stages`); none when empty.
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
        class_weight: ClassWeight = "balanced",
        n_members: int = 1,
        stages: Sequence[Stage] = (),
        selection: PoolSelection | None = None,
    ) -> None:
        self.objective = objective
        self.encoder = encoder
        self.builder = builder
        self.mode = mode
        self.pretraining = pretraining
        self.finetuning = finetuning
        self.seed = seed
        self.class_weight = class_weight
        self.n_members = n_members
        self.stages = stages
        self.selection = selection

    @abstractmethod
    def default_encoder(self) -> AbstractEncoder:
        """The encoder where none is given."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a double underscore reaches inside, such as `finetuning__learning_rate`, `encoder__width` or `objective__ratio`.

        Raises:
            ValueError: If there is no such parameter (scikit-learn's convention).
        """
        whole = {name: value for name, value in params.items() if "__" not in name or name.startswith("builder__")}
        super().set_params(**whole)
        for name, value in params.items():
            if name not in whole:
                part, _, argument = name.partition("__")
                setattr(self, part, _changed(self, part, argument, value))
        return self

    def fit_cohort(self, cohort: Cohort, labels: npt.NDArray[np.int64]) -> None:
        """Pre-train on all of a cohort, fine-tune on those whose label is a class index.

        Args:
            cohort: Training cohort of `n` subjects.
            labels: Class index of each subject `[n]`, `-1` where it is withheld.

        Raises:
            ConfigError: If there is to be no member.
            DataError: If labels and subjects differ in number, a label is missing, or fewer than two classes are labelled.
        """
        if self.n_members < 1:
            raise ConfigError(f"Expected n_members of at least 1, found {self.n_members}.")
        if len(labels) != len(cohort):
            raise DataError(f"Expected one label for each of {len(cohort)} subjects, found {len(labels)}.")
        if pd.isna(labels).any():
            raise DataError(f"Expected a label for every subject, or {WITHHELD} where it is withheld; found none for {int(pd.isna(labels).sum())}.")
        found = np.unique(labels[labels != WITHHELD])
        if len(found) < 2:
            raise DataError(f"Expected at least two classes among the labels, found {found.tolist()}. Nothing can be learned from one.")
        self.pretrained_ = self.pretrain_cohort(cohort, labels)
        # Nothing about a probe is drawn at random.
        seeds = [self.seed + _APART * k for k in range(self.n_members if self.mode == "full" else 1)]
        labelled, classes = _with_target(cohort, labels), [str(label) for label in found]
        self.models_ = [self._finetuned(labelled, classes, seed) for seed in seeds]
        self.model_ = self.models_[0]

    def predict_cohort(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`, the mean of the members'."""
        check_is_fitted(self, "models_")
        return np.asarray(np.mean([model.predict_proba(cohort) for model in self.models_], axis=0))

    @abstractmethod
    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`, columns as `classes_`."""

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable class of each subject `[n]`."""
        probability = self.predict_proba(X)  # which says so where nothing was fitted
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def _finetuned(self, labelled: Cohort, classes: list[str], seed: int) -> Model:
        return finetune(
            self.pretrained_,
            labelled,
            target=_TARGET,
            classes=classes,
            mode=self.mode,
            class_weight=self.class_weight,
            settings=self.finetuning,
            seed=seed,
        )

    def pretrain_cohort(self, cohort: Cohort, labels: npt.NDArray[np.int64] | None = None) -> Model:
        """Pre-train on a cohort, unless it was done last; random weights without an objective.

        Args:
            cohort: Training cohort of `n` subjects.
            labels: Class index of each subject `[n]`, `-1` where it is withheld, for an objective that reads labels.
        """
        encoder, objective = self.encoder or self.default_encoder(), self.objective
        known: dict[str, str] = {}
        reads = [each for each in (objective, *(stage.objective for stage in self.stages)) if each is not None and each.reads_labels]
        if objective is not None and labels is not None and reads:
            known = {subject: str(label) for subject, label in zip(cohort.ids, labels, strict=True) if label != WITHHELD}
            objective = objective.with_labels(known)
        if objective is not None and self.selection is not None:
            may_be_known = None if labels is None else {s: str(label) for s, label in zip(cohort.ids, labels, strict=True) if label != WITHHELD}
            cohort = self.selection.cohort_for(cohort, may_be_known)
        told: dict[str, Any] = {"encoder": encoder, "builder": self.builder, "seed": self.seed}
        if objective is None:
            return _once(cohort, [*_plain(self, encoder), known], lambda: untrained(cohort, **told))
        told |= {"objective": objective, "settings": self.pretraining}
        if self.stages:
            return self._pretrained_in_stages(cohort, told, known)
        return _once(cohort, [*_plain(self, encoder), known], lambda: pretrain(cohort, **told))

    def _pretrained_in_stages(self, cohort: Cohort, told: dict[str, Any], known: dict[str, str]) -> Model:
        """Stages before the first that reads the cohort are the same for every cohort, and done once."""
        own = list(takewhile(lambda stage: stage.cohort is not None, self.stages))
        rest = [_with_labels(stage, known) for stage in self.stages[len(own) :]]
        plain = [*_plain(self, told["encoder"]), [stage.described() for stage in own]]
        if own:
            start = _once(None, plain, lambda: pretrain_stages(own, **told).model)
            if not rest:
                return start
            rest[0] = replace(rest[0], initialisation=start) if rest[0].initialisation == "previous" else rest[0]
        key = [*plain, [stage.described() for stage in rest], known]
        return _once(cohort, key, lambda: pretrain_stages(rest, cohort, **told).model)


class ConnectomeClassifier(AbstractPretrainedClassifier):
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
        class_weight: `"balanced"` lets the classes count alike in fine-tuning, None every subject.
        n_members: How often to fine-tune, each time with other labelled subjects to choose the epoch, in another order and with other dropout;
            predictions are their mean (deep ensembles: Lakshminarayanan et al., NeurIPS 2017). A probe is fitted once.
        stages: Stages of pre-training, where there are several (`pretrain_stages`); one without a cohort takes the training subjects. What they do
            not say is that of the arguments above.
        selection: A pool, of which the subjects most like the training subjects are pre-trained on as well.

    Attributes:
        model_: The fitted [`Model`][graphssl.training.Model], the first of `models_`.
        models_: One or more, which predict together.
        pretrained_: The model before fine-tuning.
        classes_: Class indices.
    """

    def default_encoder(self) -> AbstractEncoder:
        """A `GraphTransformer`."""
        return GraphTransformer()

    def fit(self, X: Cohort, y: Sequence[int] | npt.NDArray[Any], groups: object = None) -> "ConnectomeClassifier":
        """Pre-train on all of the cohort, fine-tune on the labelled part of it.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used; the cohort knows its families and repeated scans.

        Raises:
            DataError: If X is no cohort, labels and subjects differ in number, a label is missing, or fewer than two classes are labelled.
        """
        if not isinstance(X, Cohort):
            raise DataError(f"Expected a cohort, found {type(X).__name__}. Cohort.from_arrays(values, atlas) makes one of arrays.")
        labels = np.asarray(y)
        self.fit_cohort(X, labels)
        self.classes_ = np.unique(labels[labels != WITHHELD])
        return self

    def predict_proba(self, X: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`, columns as `classes_`."""
        return self.predict_cohort(X)

    def transform(self, X: Cohort) -> pd.DataFrame:
        """Pooled vectors of the fitted encoder, one row a subject."""
        check_is_fitted(self, "model_")
        return self.model_.embed(X)


MASKED_COLUMNS = MaskedColumns()


class PopulationClassifier(AbstractPretrainedClassifier):
    """Patients of a table who learn from the training patients most like them: pre-trained on all without labels, fine-tuned on those with one.

    It takes a table as scikit-learn's own classifiers do: a DataFrame, with missing values and words, or an array. Kinds of columns are guessed where
    no schema tells them. A label that is missing (None, NaN) is withheld: such patients take part in pre-training, and others learn from them.

    Patients who are given to be predicted are new ones, even where their rows are among the training patients'; none changes what another gets. A
    fitted classifier holds the training patients' values.

    Args:
        objective: What to pre-train on; None starts from random weights, which is the control of pre-training.
        encoder: The encoder whose arguments to use; a `PopulationTransformer` when left out.
        builder: How patients are placed in a population; a `PopulationBuilder` when left out.
        mode: `"full"` trains encoder and head, `"probe"` only a head.
        pretraining: How long and how fast to pre-train.
        finetuning: How long and how fast to fine-tune.
        seed: Seed of everything random.
        schema: Kinds, units and ranges of the columns; guessed from the training patients when left out.
        class_weight: `"balanced"` lets the classes count alike in fine-tuning, None every patient.
        n_members: How often to fine-tune, each time with other labelled patients to choose the epoch; predictions are their mean.
        selection: A pool, of which the patients most like the training patients are pre-trained on as well.

    Attributes:
        model_: The fitted [`Model`][graphssl.training.Model], the first of `models_`.
        models_: One or more, which predict together.
        pretrained_: The model before fine-tuning.
        classes_: Classes, sorted.
        schema_: Schema of the training patients.
        index_: Index of the training table.
    """

    def __init__(
        self,
        objective: AbstractObjective | None = MASKED_COLUMNS,
        encoder: AbstractEncoder | None = None,
        builder: PopulationBuilder | None = None,
        mode: Mode = "full",
        pretraining: TrainingSettings | None = None,
        finetuning: TrainingSettings | None = None,
        seed: int = 0,
        schema: Schema | None = None,
        class_weight: ClassWeight = "balanced",
        n_members: int = 1,
        selection: PoolSelection | None = None,
    ) -> None:
        super().__init__(objective, encoder, builder, mode, pretraining, finetuning, seed, class_weight, n_members, selection=selection)
        self.schema = schema

    def default_encoder(self) -> AbstractEncoder:
        """A `PopulationTransformer`."""
        return PopulationTransformer()

    def fit(self, X: pd.DataFrame | npt.ArrayLike, y: Sequence[Any] | npt.NDArray[Any]) -> "PopulationClassifier":
        """Pre-train on all patients, fine-tune on the labelled ones.

        Args:
            X: Table of `n` training patients.
            y: Class of each `[n]`; missing where it is withheld.

        Raises:
            DataError: If labels and patients differ in number or in order, or fewer than two classes are labelled.
            SchemaError: If no column holds numbers or categories, or one does not fit the schema.
        """
        table = _table(X)
        _check_order(table.index, y)
        # Categories are learned where columns become tokens: one that comes up later is no error.
        inferred = Schema([replace(column, categories=None) for column in Schema.infer(table)])
        self.schema_, self.index_ = self.schema or inferred, table.index
        self.feature_names_in_, self.n_features_in_ = np.asarray(table.columns, dtype=object), table.shape[1]
        labels, classes = pd.factorize(np.asarray(y, dtype=object), sort=True, use_na_sentinel=True)
        self.fit_cohort(self._cohort(table, "training"), labels)
        self.classes_ = np.asarray(list(classes))
        return self

    def predict_proba(self, X: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]` of new patients, columns as `classes_`."""
        return self.predict_cohort(self._new(X))

    def transform(self, X: pd.DataFrame | npt.ArrayLike) -> pd.DataFrame:
        """Pooled vectors of the fitted encoder, one row a new patient."""
        return self.model_.embed(self._new(X)).set_axis(_table(X).index)

    def neighbors(self, X: pd.DataFrame | npt.ArrayLike, k: int | None = None) -> pd.DataFrame:
        """The training patients who inform new ones: those most like each.

        Training patients who only chose the epoch of pre-training are not among them.

        Args:
            X: Table of new patients.
            k: Neighbours of a patient; those of the builder when left out.

        Returns:
            A row a neighbour, the most alike first: `patient` and `neighbor` (of the two tables' indices), `similarity`, and that in each group.
        """
        found = self._fitted_index().query(self._new(X), k)
        places = [int(subject.removeprefix("training ")) for subject in found.neighbor_ids.ravel()]
        rows = pd.DataFrame({"patient": np.repeat(_table(X).index, found.indices.shape[1]), "neighbor": self.index_[places]})
        rows["similarity"] = found.similarity.ravel()
        by_group = pd.DataFrame(found.by_group.reshape(-1, len(found.groups)), columns=[f"similarity_{name}" for name in found.groups])
        return pd.concat([rows, by_group], axis=1)

    def unlikeness(self, X: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
        """How unlike the training patients new ones are: share of training patients whose own neighbours are more like them `[n]`."""
        return self._fitted_index().query(self._new(X)).unlikeness

    def _fitted_index(self) -> NeighborIndex:
        check_is_fitted(self, "model_")
        assert isinstance(self.model_.builder, PopulationBuilder)
        return self.model_.builder.index_

    def _new(self, X: pd.DataFrame | npt.ArrayLike) -> Cohort:
        check_is_fitted(self, "model_")
        return self._cohort(_table(X), "new")

    def _cohort(self, table: pd.DataFrame, word: str) -> Cohort:
        """Rows by number: an index may repeat, or be that of other patients."""
        return Cohort("table", table.set_axis([f"{word} {i}" for i in range(len(table))]), self.schema_)


def _table(X: pd.DataFrame | npt.ArrayLike) -> pd.DataFrame:
    if isinstance(X, pd.DataFrame):
        return typed(X.set_axis(X.columns.astype(str), axis=1))
    values = np.asarray(X)
    return pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])


def _check_order(index: "pd.Index[Any]", y: Any) -> None:
    """Check that labels with an index of their own stand in the order of the rows: they are taken by place, as scikit-learn takes them."""
    if isinstance(y, pd.Series) and len(y) == len(index) and not y.index.equals(index) and y.index.is_unique and set(y.index) == set(index):
        raise DataError("Expected labels in the order of the rows of the table, found the same index in another order. Give y.loc[X.index].")


# Pre-training is a function of cohort, settings and seed; label fractions and modes of one fold share it.
_STARTS: OrderedDict[tuple[str, str], Model] = OrderedDict()
_MAX_STARTS = 3
# Seeds of two members; a study has fewer seeds of its own.
_APART = 1000


def _once(cohort: Cohort | None, plain: list[Any], make: Callable[[], Model]) -> Model:
    """What was made of a cohort and plain values, unless it was made last."""
    # The hash holds values only; roles of columns say who belongs to a family.
    key = ("", repr(plain)) if cohort is None else (cohort.hash, repr([cohort.name, cohort.schema, plain]))
    if key in _STARTS:
        _STARTS.move_to_end(key)
        return _STARTS[key]
    _STARTS[key] = model = make()
    while len(_STARTS) > _MAX_STARTS:
        _STARTS.popitem(last=False)
    return model


def _with_labels(stage: Stage, known: dict[str, str]) -> Stage:
    """The stage with the labels that it may know, where its objective reads labels."""
    reads = known and stage.cohort is None and stage.objective is not None and stage.objective.reads_labels
    return replace(stage, objective=stage.objective.with_labels(known)) if reads and stage.objective is not None else stage


def _plain(estimator: AbstractPretrainedClassifier, encoder: AbstractEncoder) -> list[Any]:
    parts = [(type(part).__name__, part.arguments()) if part is not None else None for part in (estimator.objective, encoder)]
    builder = None if estimator.builder is None else estimator.builder.get_params()
    return [*parts, builder, estimator.pretraining if estimator.objective is not None else None, estimator.seed]


def _changed(estimator: AbstractPretrainedClassifier, name: str, argument: str, value: Any) -> Any:
    """Settings, an encoder or an objective with one argument changed."""
    part = getattr(estimator, name, None)
    if part is None:
        part = {"encoder": estimator.default_encoder(), "pretraining": TrainingSettings(), "finetuning": FINETUNING}.get(name)
    arguments = part.arguments() if hasattr(part, "arguments") else asdict(part) if isinstance(part, TrainingSettings) else {}
    if argument not in arguments:
        raise ValueError(f"Expected an argument of {name} ({', '.join(arguments) or 'there is none'}), found {argument!r}.")
    return type(part)(**{**arguments, argument: value})


def _with_target(cohort: Cohort, labels: npt.NDArray[Any]) -> Cohort:
    values = pd.Series([None if label == WITHHELD else str(label) for label in labels], index=cohort.subjects.index, dtype="str")
    categories = tuple(sorted(values.dropna().unique()))
    return cohort.with_column(Column(_TARGET, "categorical", "target", categories=categories), values)
