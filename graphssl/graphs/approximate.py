"""Approximate nearest vectors through an inverted file of faiss."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.extras import require

_PER_LIST = 40  # fewest vectors from which faiss learns a list without complaint
_FIRST_SEARCHED = 8


class InvertedLists:
    """Vectors in lists around centres, of which a search looks into the nearest few.

    What is found for a vector does not depend on those it is asked with. Inverted files are described in Jégou et al., *Product quantization
    for nearest neighbor search*, PAMI 2011; vectors are kept whole here.

    Args:
        metric: `"distance"` (Euclidean) or `"product"`.
        vectors: The vectors to find `[n, D]`.
        seed: Of the choice of centres.

    Raises:
        MissingExtraError: If faiss is not installed.
    """

    def __init__(self, metric: str, vectors: npt.NDArray[np.float64], seed: int = 0) -> None:
        self._faiss = require("faiss", extra="knn", purpose="search neighbours approximately (search='exact' needs none)")
        n, width = vectors.shape
        n_lists = max(1, min(int(4 * np.sqrt(n)), n // _PER_LIST))
        flat, kind = (
            (self._faiss.IndexFlatIP, self._faiss.METRIC_INNER_PRODUCT) if metric == "product" else (self._faiss.IndexFlatL2, self._faiss.METRIC_L2)
        )
        self._index: Any = self._faiss.IndexIVFFlat(flat(width), width, n_lists, kind)
        self._index.cp.seed = seed
        self._index.cp.max_points_per_centroid = 2 * _PER_LIST
        self._index.nprobe = min(_FIRST_SEARCHED, n_lists)
        single = vectors.astype(np.float32)
        self._index.train(single)
        self._index.add(single)

    def widen(self) -> bool:
        """Look into twice as many lists from now on; False where all are looked into already."""
        before = self._index.nprobe
        self._index.nprobe = min(2 * before, self._index.nlist)
        return bool(self._index.nprobe > before)

    def search(self, vectors: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
        """Places of vectors near each of the given ones `[m, k]`; where the lists hold too few, the search widens to all of them."""
        single = vectors.astype(np.float32)
        with self._one_by_one():
            found = self._index.search(single, k)[1]
            short = np.flatnonzero((found < 0).any(axis=1))
            if len(short):
                wide = self._faiss.SearchParametersIVF(nprobe=self._index.nlist)
                found[short] = self._index.search(single[short], k, params=wide)[1]
        return found

    @contextmanager
    def _one_by_one(self) -> Iterator[None]:
        """Centres compared without matrix products, whose last digits depend on the size of the batch."""
        before = self._faiss.cvar.distance_compute_blas_threshold
        self._faiss.cvar.distance_compute_blas_threshold = np.iinfo(np.int32).max
        try:
            yield
        finally:
            self._faiss.cvar.distance_compute_blas_threshold = before
