"""Vectors of subjects as columns, so that patients can be compared by what an encoder says of their images."""

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column
from graphssl.errors import DataError
from graphssl.graphs.feature_groups import FeatureGroup, Similarity


def with_vectors(cohort: Cohort, name: str, vectors: pd.DataFrame, *, similarity: Similarity = "cosine") -> tuple[Cohort, FeatureGroup]:
    """The cohort with a column a number of its subjects' vectors, and the group of features that compares them.

    A tokenizer of columns reads them too, unless it names others: `ColumnTokenizer(columns=[…])`. An encoder that was trained on these subjects'
    labels, or on those of subjects they are tested with, would tell a graph what it must not know: take one that was pre-trained, or fitted on
    training subjects alone.

    Args:
        cohort: The cohort.
        name: Name of the group, with which the names of the columns begin.
        vectors: A row a subject, by subject id, such as `model.embed(cohort)`; subjects who lack one may be left out, and have no value then.
        similarity: How vectors are compared.

    Raises:
        DataError: If nobody of the cohort has a vector.
    """
    known = vectors.reindex(cohort.subjects.index)
    if not known.notna().any(axis=None):
        raise DataError(f"Expected vectors of subjects of {cohort.name!r}, by subject id, found none of theirs among {len(vectors)}.")
    names = [f"{name}_{k}" for k in range(known.shape[1])]
    for column, (_, values) in zip(names, known.items(), strict=True):
        cohort = cohort.with_column(Column(column, "continuous", "feature"), values.astype("float64"))
    return cohort, FeatureGroup(name, names, similarity, scaling="none")
