"""In which order the subjects of a pool are chosen for a target, and where the order ends."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.neighbors import NeighborIndex, Search

Floats = npt.NDArray[np.float64]
Rule = Literal["rounds", "similarity", "votes", "diversity", "class_means", "random", "all"]

_BLOCK = 512


def in_order(
    vectors: Floats,
    asked: Floats,
    *,
    rule: Rule,
    budget: int,
    k: int,
    near_duplicate: float | None = None,
    values: "pd.Series[str] | None" = None,
    search: Search = "auto",
    seed: int = 0,
) -> pd.DataFrame:
    """Candidates in the order of choice, with the best `rank` among neighbours, the `votes` of the target, and who is `chosen`.

    Args:
        vectors: Vectors of length one of those who can be chosen `[n, P]`.
        asked: Vectors of length one of the target, or of its classes `[m, P]`.
        rule: Which neighbours come first.
        budget: How many to choose.
        k: Neighbours of each of the target at first; doubled until the budget is reached.
        near_duplicate: Cosine from which two vectors count as one; None lets all count.
        values: Of each who can be chosen, what is chosen in turn `[n]`.
        search: How neighbours are searched.
        seed: Of what is random.

    Returns:
        A row a candidate by its place in `vectors`.

    Raises:
        MissingExtraError: If the search is approximate and faiss is not installed.
    """
    n = len(vectors)
    if rule in ("random", "all"):
        everybody = pd.DataFrame({"rank": pd.NA, "votes": pd.NA}, index=np.random.default_rng(seed).permutation(n))
        return _cut(everybody, vectors, n if rule == "all" else budget, None, values)
    index = _index(vectors, min(k, n - 1), search, seed) if n > 1 else None
    while True:
        ordered = _ORDERS[rule](_candidates(index, asked, k, n), vectors, budget)
        ordered = _cut(ordered, vectors, budget, near_duplicate, values)
        if k >= n or (ordered["chosen"].sum() >= budget and _in_balance(ordered, values, budget)):
            return ordered
        k = 2 * k


def _index(vectors: Floats, k: int, search: Search, seed: int) -> NeighborIndex:
    group = FeatureGroup("vector", [f"vector_{entry}" for entry in range(vectors.shape[1])], "cosine", scaling="none")
    return NeighborIndex([group], n_neighbors=k, search=search, seed=seed).fit(_table(vectors))


def _table(vectors: Floats) -> pd.DataFrame:
    index = pd.Index([str(row) for row in range(len(vectors))], dtype="str")
    return pd.DataFrame(vectors, index=index, columns=[f"vector_{entry}" for entry in range(vectors.shape[1])])


def _candidates(index: NeighborIndex | None, asked: Floats, k: int, n: int) -> pd.DataFrame:
    """Who is a neighbour, by place: the best rank, the highest similarity and the number of votes; everybody where `k` is as large as the pool."""
    if index is None:
        return pd.DataFrame({"rank": [1], "similarity": [1.0], "votes": [len(asked)]})
    found = index.query(_table(asked), min(k, n - 1))
    ranks = np.broadcast_to(np.arange(1, found.indices.shape[1] + 1), found.indices.shape)
    flat = pd.DataFrame({"place": found.indices.ravel(), "rank": ranks.ravel(), "similarity": found.similarity.ravel()})
    by_place = flat.groupby("place").agg(rank=("rank", "min"), similarity=("similarity", "max"), votes=("rank", "size"))
    if k < n or len(by_place) == n:
        return by_place
    last = pd.DataFrame({"rank": n, "similarity": -1.0, "votes": 0}, index=np.setdiff1d(np.arange(n), by_place.index))
    return pd.concat([by_place, last])


def _rounds(candidates: pd.DataFrame, vectors: Floats, wanted: int) -> pd.DataFrame:
    return candidates.sort_values(["rank", "similarity"], ascending=[True, False], kind="stable")


def _by_similarity(candidates: pd.DataFrame, vectors: Floats, wanted: int) -> pd.DataFrame:
    return candidates.sort_values("similarity", ascending=False, kind="stable")


def _by_votes(candidates: pd.DataFrame, vectors: Floats, wanted: int) -> pd.DataFrame:
    return candidates.sort_values(["votes", "similarity"], ascending=False, kind="stable")


def _by_diversity(candidates: pd.DataFrame, vectors: Floats, wanted: int) -> pd.DataFrame:
    """From the most alike on, each the farthest from all before it; behind as many as are wanted, the rest."""
    mine = vectors[candidates.index.to_numpy()]
    order = [int(candidates["similarity"].to_numpy().argmax())]
    nearest = mine @ mine[order[0]]
    while len(order) < min(wanted, len(mine)):
        nearest[order[-1]] = np.inf  # never again
        order.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, mine @ mine[order[-1]])
    return candidates.iloc[[*order, *np.setdiff1d(np.arange(len(mine)), order)]]


_ORDERS: dict[Rule, Callable[[pd.DataFrame, Floats, int], pd.DataFrame]] = {
    "rounds": _rounds,
    "class_means": _rounds,
    "similarity": _by_similarity,
    "votes": _by_votes,
    "diversity": _by_diversity,
}


def _cut(ordered: pd.DataFrame, vectors: Floats, budget: int, near_duplicate: float | None, values: "pd.Series[str] | None") -> pd.DataFrame:
    """The first of an order up to the budget, without near duplicates of others, values in turn; the rest follows, not chosen."""
    places = ordered.index.to_numpy()
    if values is not None:
        turn = ordered.groupby(values.iloc[places].astype("str").fillna("–").to_numpy()).cumcount().to_numpy()
        ordered = ordered.iloc[np.argsort(turn, kind="stable")]
        places = ordered.index.to_numpy()
    kept = np.ones(len(places), dtype=bool) if near_duplicate is None else _distinct(vectors[places], near_duplicate, budget)
    return ordered.assign(chosen=kept & (np.cumsum(kept) <= budget))


def _in_balance(ordered: pd.DataFrame, values: "pd.Series[str] | None", budget: int) -> bool:
    """Whether every value that is balanced has its share, or all that there is of it."""
    if values is None:
        return True
    there = values.value_counts()
    chosen = values.iloc[ordered.index[ordered["chosen"]].to_numpy()].value_counts().reindex(there.index, fill_value=0)
    return bool((chosen >= np.minimum(there, budget // len(there))).all())


def _distinct(vectors: Floats, threshold: float, wanted: int) -> npt.NDArray[np.bool_]:
    """Which vectors, in their order, are not nearly one of those kept before, up to as many as are wanted."""
    kept = np.zeros(len(vectors), dtype=bool)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        is_free = ~(block @ vectors[:start][kept[:start]].T >= threshold).any(axis=1)
        near = block @ block.T >= threshold
        mine = kept[start : start + _BLOCK]
        for row in np.flatnonzero(is_free):
            mine[row] = not near[row, mine].any()
        if kept.sum() >= wanted:
            break
    return kept
