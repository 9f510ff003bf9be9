"""Retrieval: how well one modality of a patient finds another one of the same patient among those of many."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data.cohort import Cohort
from graphssl.data.multimodal import MultimodalBatch
from graphssl.data.population_batch import PopulationBatch
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.training.model import Model

Floats = npt.NDArray[np.float64]

_PENALTIES = np.logspace(-1, 5, 7)


def modality_retrieval(model: Model, train: Cohort, test: Cohort, given: str, sought: str, *, ks: Sequence[int] = (1, 5, 10)) -> pd.Series:
    """How often the sought modality of a test subject is among the `k` most alike to what the given one tells of it.

    How vectors of the one follow from those of the other is learned by ridge regression on training subjects who have both, with both standardised by
    them; so models compare whatever they were pre-trained on, and one with random weights is the control. Test subjects are told apart by cosine.

    Args:
        model: A model with a `MultimodalEncoder`.
        train: Subjects to learn from.
        test: Subjects to tell apart, none of whom is among the others.
        given: Name of the modality that is given, such as the image.
        sought: Name of the modality that is sought, such as the table.
        ks: How far to look.

    Returns:
        `recall_K` and its `chance_K` for every `k`, the `median_rank` (1 is found at once) and `n_subjects`.

    Raises:
        ConfigError: If the encoder is none of both modalities.
        DataError: If fewer than two subjects of either cohort have both, or a subject is in both cohorts.
    """
    repeated = sorted(set(train.ids) & set(test.ids))
    if repeated:
        raise DataError(f"Expected test subjects who are not among the training subjects, found {repeated[:5]} in both. Split them first.")
    (seen, answers), (asked, truth) = (vectors_of_both(model, cohort, given, sought) for cohort in (train, test))
    scale = StandardScaler().fit(answers)
    told = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES)).fit(seen, scale.transform(answers)).predict(asked)
    ranks = ranks_of_partners(told, scale.transform(truth))
    n = len(ranks)
    found = {f"recall_{k}": float((ranks <= k).mean()) for k in ks}
    chance = {f"chance_{k}": min(1.0, k / n) for k in ks}
    return pd.Series({**found, **chance, "median_rank": float(np.median(ranks)), "n_subjects": float(n)})


def ranks_of_partners(told: Floats, truth: Floats) -> Floats:
    """Place of each row's own partner among all, by falling cosine, 1 for the first; equals share the mean of their places.

    Args:
        told: What is told of each subject `[n, D]`.
        truth: Vectors of the same subjects `[n, D]`.
    """
    left, right = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) for vectors in (told, truth))
    cosines = left @ right.T
    own = np.diagonal(cosines)[:, None]
    close = np.isclose(cosines, own, rtol=0.0, atol=1e-12)
    ranks: Floats = ((cosines > own) & ~close).sum(axis=1) + (close.sum(axis=1) + 1) / 2
    return ranks


def vectors_of_both(model: Model, cohort: Cohort, first: str, second: str) -> tuple[Floats, Floats]:
    """Pooled vectors of two modalities, each embedded alone, of the subjects who have both.

    Raises:
        ConfigError: If the encoder is none of both modalities.
        DataError: If fewer than two subjects have both.
    """
    reader = model.encoder.reader
    if not isinstance(reader, MultimodalEncoder) or not {first, second} <= set(reader.modalities):
        raise ConfigError(f"Expected a MultimodalEncoder of {first} and {second}, found {type(reader).__name__}. Name two of its modalities.")
    batch = model.builder.transform(cohort)
    patients = batch.patients if isinstance(batch, PopulationBatch) else batch
    assert isinstance(patients, MultimodalBatch)
    both = reader.presence(patients)[:, [reader.modalities.index(first), reader.modalities.index(second)]].all(dim=1).nonzero().flatten()
    if len(both) < 2:
        raise DataError(f"Expected two subjects or more of {cohort.name!r} with {first} and {second}, found {len(both)}.")
    reader.eval()
    with torch.no_grad():
        made = [reader.separate(patients[rows.tolist()]) for rows in both.split(reader.rows_at_once)]
    halves = [torch.cat([part[name].pooled for part in made]).double().numpy() for name in (first, second)]
    return halves[0], halves[1]
