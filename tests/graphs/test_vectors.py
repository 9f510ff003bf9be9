"""Vectors as columns by which patients are compared."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import ColumnTokenizer
from graphssl.errors import DataError
from graphssl.graphs import PopulationBuilder, with_vectors


def test_neighbours_are_those_with_the_nearest_vectors(patients):
    rng = np.random.default_rng(0)
    vectors = pd.DataFrame(rng.standard_normal((40, 5)), index=patients.subjects.index, columns=[f"pooled_{k}" for k in range(5)])
    cohort, group = with_vectors(patients, "image", vectors)
    assert group.column_names == [f"image_{k}" for k in range(5)]
    builder = PopulationBuilder(ColumnTokenizer(["age"]), groups=[group], n_neighbors=3, symmetric=False).fit(cohort.select(cohort.ids[:30]))
    unit = vectors.to_numpy() / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(unit[30:] @ unit[:30].T), axis=1)[:, :3]
    assert builder.transform(cohort.select(cohort.ids[30:])).neighbors.tolist() == nearest.tolist()
    assert [column.name for column in builder.tokenizer_.encoder_.columns_] == ["age"]


def test_who_has_no_vector_is_compared_by_nothing(patients):
    vectors = pd.DataFrame(np.eye(39, 2) + 0.1, index=patients.subjects.index[:39])
    cohort, group = with_vectors(patients, "image", vectors)
    assert cohort.subjects["image_0"].isna().sum() == 1
    batch = PopulationBuilder(ColumnTokenizer(), groups=[group], n_neighbors=3).fit(cohort.select(cohort.ids[:20])).transform(cohort)
    assert batch.similarity[39].abs().max() == 0
    assert batch.similarity[20].abs().max() > 0


def test_vectors_of_others_are_refused(patients):
    with pytest.raises(DataError, match="Expected vectors of subjects of 'multimodal', by subject id, found none of theirs among 2"):
        with_vectors(patients, "image", pd.DataFrame(np.ones((2, 2)), index=["x", "y"]))
