"""What fusion of modalities is compared with: each modality alone, the mean of their answers, and boosting on embeddings side by side."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from graphssl.data.cohort import Cohort
from graphssl.data.multimodal import MultimodalBatch, MultimodalBuilder
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.fusion import Concatenation
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.errors import ConfigError
from graphssl.estimators import WITHHELD, ConnectomeClassifier
from graphssl.evaluation.boosting import make_boosting
from graphssl.evaluation.fitted_once import fitted_once
from graphssl.training.model import Model

Floats = npt.NDArray[np.float64]


class ModalityClassifier(ClassifierMixin, BaseEstimator):
    """One modality alone, by its encoder of a multimodal one, fitted on those who have it; whoever lacks it gets the shares of the training labels.

    The encoder starts from random weights, or from those that `MultimodalEncoder(initial=…)` names for it.

    Args:
        classifier: The multimodal classifier.
        modality: Name of the modality.

    Attributes:
        classifier_: The classifier of the modality, fitted.
        classes_: Class indices.
    """

    def __init__(self, classifier: ConnectomeClassifier, modality: str) -> None:
        self.classifier = classifier
        self.modality = modality

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "ModalityClassifier":
        """Fit on the subjects who have the modality.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used.

        Raises:
            ConfigError: If the classifier has no such modality.
            DataError: If fewer than two classes are labelled among those who have it.
        """
        encoder, builder = parts_of(self.classifier)
        if self.modality not in builder.builders:
            raise ConfigError(f"Expected a modality among {', '.join(builder.builders)}, found {self.modality!r}.")
        alone = clone(self.classifier).set_params(objective=None, mode="full")
        alone.encoder, alone.builder = _only(encoder, self.modality), MultimodalBuilder({self.modality: builder.builders[self.modality]})
        labels, there = np.asarray(y), _having(alone.builder, X)
        known = labels[labels != WITHHELD]
        self.classifier_ = fitted_once(alone, X.select(there), labels[there])
        self.classes_ = np.unique(known)
        self.shares_ = np.array([(known == label).mean() for label in self.classes_])
        return self

    def predict_proba(self, X: Cohort) -> Floats:
        """Class probabilities `[n, C]`, columns as `classes_`."""
        there = self.having(X)
        found = np.tile(self.shares_, (len(X), 1))
        if there.any():
            found[there] = 0.0
            found[np.ix_(there, np.isin(self.classes_, self.classifier_.classes_))] = self.classifier_.predict_proba(X.select(there))
        return np.asarray(found)

    def having(self, X: Cohort) -> npt.NDArray[np.bool_]:
        """Who has the modality `[n]`."""
        return _having(self.classifier_.model_.builder, X)


class LateAverage(ClassifierMixin, BaseEstimator):
    """The mean of what each modality says alone, over those modalities that a subject has.

    Args:
        classifier: The multimodal classifier, whose encoders are fitted one by one.

    Attributes:
        classifiers_: The fitted `ModalityClassifier` of each modality.
        classes_: Class indices.
    """

    def __init__(self, classifier: ConnectomeClassifier) -> None:
        self.classifier = classifier

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "LateAverage":
        """Fit each modality on those who have it.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used.
        """
        names = parts_of(self.classifier)[1].builders
        self.classifiers_ = [ModalityClassifier(clone(self.classifier), name).fit(X, y) for name in names]
        self.classes_ = self.classifiers_[0].classes_
        return self

    def predict_proba(self, X: Cohort) -> Floats:
        """Class probabilities `[n, C]`, columns as `classes_`."""
        counts = np.stack([each.having(X) for each in self.classifiers_]).astype(float)
        counts[:, counts.sum(axis=0) == 0] = 1.0  # whoever has nothing gets the shares of the training labels
        found = np.stack([each.predict_proba(X) for each in self.classifiers_])
        return np.asarray((found * counts[:, :, None]).sum(axis=0) / counts.sum(axis=0)[:, None])


class EmbeddingBoosting(ClassifierMixin, BaseEstimator):
    """Gradient boosting on the embeddings of all modalities side by side, encoders frozen; what is missing is missing to the trees too.

    Of a table its values themselves are taken, since trees read them better than any embedding. The encoders are those that were pre-trained
    together, or from the weights that they start from. Source: HAIM (Soenksen et al., npj Digital Medicine 2022), whose boosting is XGBoost.

    Args:
        classifier: The multimodal classifier; its encoder is used as pre-training leaves it.

    Attributes:
        model_: The model that embeds.
        boosting_: The fitted boosting.
        classes_: Class indices.
    """

    def __init__(self, classifier: ConnectomeClassifier) -> None:
        self.classifier = classifier

    def fit(self, X: Cohort, y: npt.ArrayLike, groups: object = None) -> "EmbeddingBoosting":
        """Pre-train on all of the cohort, boost on those with a label.

        Args:
            X: Training cohort of `n` subjects.
            y: Class index of each subject `[n]`, `-1` where it is withheld.
            groups: Not used.
        """
        parts_of(self.classifier)
        labels = np.asarray(y)
        self.model_ = self.classifier.pretrain_cohort(X, labels)
        labelled = labels != WITHHELD
        boosting = make_boosting(self.classifier.class_weight)
        self.boosting_ = boosting.fit(embedded_modalities(self.model_, X.select(labelled)), labels[labelled])
        self.classes_ = self.boosting_.classes_
        return self

    def predict_proba(self, X: Cohort) -> Floats:
        """Class probabilities `[n, C]`, columns as `classes_`."""
        return np.asarray(self.boosting_.predict_proba(embedded_modalities(self.model_, X)))


def embedded_modalities(model: Model, cohort: Cohort) -> Floats:
    """Embeddings of all modalities side by side `[n, F]`, NaN where a subject lacks one; of tables their values.

    Args:
        model: A model of several modalities.
        cohort: The subjects.
    """
    encoder, batch = model.encoder, model.builder.transform(cohort)
    assert isinstance(encoder, MultimodalEncoder)
    assert isinstance(batch, MultimodalBatch)
    encoder.eval()
    device = next(encoder.parameters()).device
    found: list[Floats] = []
    with torch.no_grad():
        for rows in torch.arange(len(batch)).split(encoder.rows_at_once):
            some = batch[rows.tolist()].to(device)
            parts, presence = encoder.separate(some), encoder.presence(some)
            each = [_features(encoder.encoders[name], parts[name].pooled, some, name) for name in encoder.modalities]
            there = [mask.unsqueeze(1).expand(-1, values.shape[1]) for mask, values in zip(presence.unbind(dim=1), each, strict=True)]
            values = torch.cat(each, dim=1).masked_fill(~torch.cat(there, dim=1), torch.nan)
            found.append(np.asarray(values.double().cpu()))
    return np.concatenate(found)


def parts_of(classifier: ConnectomeClassifier) -> tuple[MultimodalEncoder, MultimodalBuilder]:
    """Encoder and builder of a classifier of several modalities.

    Raises:
        ConfigError: If it is one of other data.
    """
    encoder, builder = classifier.encoder, classifier.builder
    if not isinstance(encoder, MultimodalEncoder) or not isinstance(builder, MultimodalBuilder):
        raise ConfigError(
            f"Expected a classifier with a MultimodalEncoder and a MultimodalBuilder, found {type(encoder).__name__} and {type(builder).__name__}."
        )
    return encoder, builder


def _features(encoder: AbstractEncoder, pooled: torch.Tensor, batch: MultimodalBatch, name: str) -> torch.Tensor:
    """Embedding of a modality `[B, P]`, or the values of a table, NaN where not measured."""
    if not isinstance(encoder, AbstractTableEncoder):
        return pooled
    if name not in batch.parts:
        return pooled.new_full((len(batch), len(encoder.column_names)), torch.nan)
    part = batch.parts[name]
    values = torch.cat([part.numbers, part.codes.to(part.numbers.dtype)], dim=1).masked_fill(~part.visible, torch.nan)
    return values[batch.rows[name][:, 0].clamp(min=0)]


def _only(encoder: MultimodalEncoder, name: str) -> MultimodalEncoder:
    """The encoder of one modality, alone."""
    initial = {key: folder for key, folder in encoder.initial.items() if key == name}
    frozen = tuple(key for key in encoder.frozen if key == name)
    return MultimodalEncoder({name: encoder.encoders[name]}, Concatenation(encoder.fusion.width), 0.0, frozen, initial)


def _having(builder: Any, cohort: Cohort) -> npt.NDArray[np.bool_]:
    there = set(builder.readable(cohort))
    return np.array([subject in there for subject in cohort.ids], dtype=bool)
