"""Population graphs of fitted neighbours: training patients among themselves, new patients attached to them."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from graphssl.data.cohort import Cohort
from graphssl.data.population import PopulationGraph
from graphssl.data.transforms import as_table
from graphssl.errors import ConfigError, LeakageError
from graphssl.graphs.neighbors import NeighborIndex, Neighbors


def population_graph(
    index: NeighborIndex,
    new: Cohort | pd.DataFrame | None = None,
    *,
    k: int | None = None,
    symmetric: bool = False,
    transductive: bool = False,
) -> PopulationGraph:
    """The graph of the training patients of an index, and of new patients.

    By default it is inductive: training patients are connected as they would be if nobody else existed, and each new patient receives edges from
    the training patients most like it. Whoever else is attached changes neither. Edges of a patient stand in order of their similarity.

    Args:
        index: Fitted on the training patients.
        new: Patients to attach; the training patients alone when left out.
        k: Neighbours of a patient; those of the index when left out.
        symmetric: Whether training patients are connected where one of the two has the other among its nearest. A new patient only receives.
        transductive: Connect all patients by their nearest among all, new ones included, in the units of the training patients. Published results on
            population graphs are mostly of this kind; the graph says so.

    Raises:
        sklearn.exceptions.NotFittedError: If the index was not fitted.
        LeakageError: If a new patient is a training patient.
        ConfigError: If `k` is below 1, or a transductive graph is asked for without new patients.
        DataError: If there are not more training patients than neighbours.
        SchemaError: If a column is absent, or not of the training patients' kind and unit, or ids repeat or are not strings.
    """
    if new is None:
        if transductive:
            raise ConfigError("Expected new patients for a transductive graph, found none. Pass them, or leave transductive=True out.")
        return _graph(index, [index.query(k=k)], symmetric=symmetric, transductive=False)
    repeated = sorted(set(index.ids_) & set(as_table(new).index.tolist()))
    if repeated:
        raise LeakageError(f"Expected new patients, found {len(repeated)} of the training patients among them: {repeated[:5]}. Leave them out.")
    if transductive:
        return _graph(index, [index.joined(new).query(k=k)], symmetric=symmetric, transductive=True)
    return _graph(index, [index.query(k=k), index.query(new, k=k)], symmetric=symmetric, transductive=False)


def _graph(index: NeighborIndex, found: list[Neighbors], *, symmetric: bool, transductive: bool) -> PopulationGraph:
    source = np.concatenate([part.indices.ravel() for part in found])
    n = sum(map(len, found))
    target = np.repeat(np.arange(n), found[0].indices.shape[1])
    similarity = np.concatenate([part.by_group.reshape(-1, part.by_group.shape[2]) for part in found])
    if symmetric:
        source, target, similarity = _both_ways(source, target, similarity, len(found[0]))
        order = np.lexsort([source, -(similarity @ index.weights_), target])
        source, target, similarity = source[order], target[order], similarity[order]
    starts = np.concatenate([[0], np.bincount(target, minlength=n).cumsum()])
    return PopulationGraph(
        tuple(subject for part in found for subject in part.subject_ids),
        torch.from_numpy(starts),
        torch.from_numpy(source),
        torch.from_numpy(similarity.astype(np.float32)),
        found[0].groups,
        torch.arange(n) < len(index.ids_),
        transductive,
    )


def _both_ways(
    source: npt.NDArray[np.int64], target: npt.NDArray[np.int64], similarity: npt.NDArray[np.float64], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Edges between the first `n` patients in both directions, each once."""
    mutual = target < n  # edges to patients attached later stay as they are
    ends = np.concatenate([np.stack([target, source], axis=1), np.stack([source, target], axis=1)[mutual]])
    ends, first = np.unique(ends, axis=0, return_index=True)
    return ends[:, 1].copy(), ends[:, 0].copy(), np.concatenate([similarity, similarity[mutual]])[first]
