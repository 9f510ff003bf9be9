"""Neighbours of every patient in a cohort: ours against a loop over pairs of the same similarity, and against a bare search of nearest vectors.

- The loop is Python over pairs with NumPy inside, the way such graphs are usually built, each pair once. It is timed on the pairs of a few patients
  and extrapolated to all pairs; sorting is not counted. On those patients neighbours and similarities have to be the same as ours.
- The bare search finds the nearest of the same columns by Euclidean distance, with nothing else: blocks of a matrix product in single precision and
  `topk`, and faiss's flat index. With one group of features it ranks as ours does.

564 patients × 12 columns have the three similarities published for TADPOLE, 20,000 × 56 one of a distance, and 20,000 × 56 features of four
statistics the one published for MIMIC-III. Ours is fitting and asking. The floor is the product of all patients with all, in single precision.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal

from graphssl.graphs import FeatureGroup, NeighborIndex

K = 5
# Patients are worked on so many at a time by a bare search.
BLOCK = 128
# Pairs that the loop is timed on.
N_PAIRS = 20_000
FEATURES = [tuple(f"v{i}_{name}" for name in ("mean", "std", "min", "max")) for i in range(56)]
SCORES, VOLUMES, VALUES = [f"score{i}" for i in range(4)], [f"volume{i}" for i in range(5)], [f"v{i}" for i in range(56)]
GROUPS = {
    "TADPOLE": [
        FeatureGroup("demographics", ["age", "sex", "apoe4"], "agreement", tolerance={"age": 2}),
        FeatureGroup("cognition", SCORES, "euclidean", scaling="none", length=116),
        FeatureGroup("imaging", VOLUMES, "sigmoid", scaling="none"),
    ],
    "distance": [FeatureGroup("values", VALUES, "sigmoid", scaling="none")],
    "statistics": [FeatureGroup("stays", FEATURES, "statistics", scaling="none")],
}
Pair = Callable[[np.ndarray, np.ndarray], float]


class Patients(NamedTuple):
    """A table, the same as numbers, and the rows the loop looks at."""

    table: pd.DataFrame
    values: np.ndarray
    sample: np.ndarray


def patients(table: pd.DataFrame) -> Patients:
    n = len(table)
    table = table.set_axis([f"p{i:06d}" for i in range(n)])
    return Patients(table, table.to_numpy(), np.linspace(0, n - 1, max(2, N_PAIRS // n)).astype(int))


def tadpole(n: int) -> Patients:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(55, 91, n), "sex": rng.integers(0, 2, n), "apoe4": rng.integers(0, 3, n)}, dtype=float)
    table = table.join(pd.DataFrame({name: rng.integers(0, top, n) for name, top in zip(SCORES, (19, 107, 11, 68), strict=True)}, dtype=float))
    return patients(table.join(pd.DataFrame({name: rng.random(n) for name in VOLUMES})))


def normal(names: Sequence[str], n: int) -> Patients:
    """Patients of sixteen kinds, with what they share and noise, as stays differ by reasons for admission."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((16, len(names)))
    return patients(pd.DataFrame(kinds[rng.integers(0, 16, n)] + rng.standard_normal((n, len(names))), columns=names))


def tadpole_pair(u: np.ndarray, v: np.ndarray) -> float:
    demographic = (float(abs(u[0] - v[0]) <= 2) + float(u[1] == v[1]) + float(u[2] == v[2])) / 3
    cognitive = 1 - np.linalg.norm(u[3:7] - v[3:7]) / 116
    imaging = 1 - 1 / (1 + np.exp(-np.linalg.norm(u[7:] - v[7:])))
    return float((demographic + cognitive + imaging) / 3)


def distance_pair(u: np.ndarray, v: np.ndarray) -> float:
    return float(1 - 1 / (1 + np.exp(-np.linalg.norm(u - v))))


def statistics_pair(u: np.ndarray, v: np.ndarray) -> float:
    return float(1 - 1 / (1 + np.exp(-np.mean(np.linalg.norm((u - v).reshape(-1, 4), axis=1)))))


def ours(kind: str, given: Patients) -> Callable[[], object]:
    return lambda: NeighborIndex(GROUPS[kind], n_neighbors=K).fit(given.table).query()


def loop(pair: Pair, given: Patients) -> Callable[[], np.ndarray]:
    """Similarities of the sample to everybody; a patient itself is never near."""

    def work() -> np.ndarray:
        similarity = np.full((len(given.sample), len(given.values)), -np.inf)
        for row, u in enumerate(given.sample):
            for v in range(len(given.values)):
                if u != v:
                    similarity[row, v] = pair(given.values[u], given.values[v])
        return similarity

    return work


def all_pairs(given: Patients) -> float:
    """How many times as many pairs there are, each once, as the loop looks at."""
    return len(given.values) / 2 / len(given.sample)


def blas(given: Patients) -> Callable[[], np.ndarray]:
    def work() -> np.ndarray:
        x = torch.from_numpy(given.values.astype(np.float32))
        squares = (x * x).sum(dim=1)
        parts = []
        for rows in torch.arange(len(x)).split(BLOCK):
            distance = torch.addmm(squares[None].expand(len(rows), -1), x[rows], x.T, alpha=-2.0)
            distance[torch.arange(len(rows)), rows] = torch.inf
            parts.append(distance.topk(K, dim=1, largest=False).indices)
        return torch.cat(parts).numpy()

    return work


def flat(given: Patients) -> Callable[[], np.ndarray]:
    import faiss

    faiss.omp_set_num_threads(1)

    def work() -> np.ndarray:
        single = given.values.astype(np.float32)
        index = faiss.IndexFlatL2(single.shape[1])
        index.add(single)
        return index.search(single, K + 1)[1][:, 1:]  # the first is the patient itself, unless two are equal

    return work


def product(given: Patients, device: str) -> Callable[[], object]:
    x = torch.from_numpy(given.values.astype(np.float32)).to(device)

    def work() -> None:
        for rows in x.split(BLOCK):
            rows @ x.T

    return work


def check(kind: str, pair: Pair, given: Patients) -> dict[str, Agreement]:
    """Similarities of the sample with its neighbours; a bare search shares them where it ranks the same."""
    found = ours(kind, given)()
    looped = loop(pair, given)()
    order = np.argsort(-looped, axis=1, kind="stable")[:, :K]
    gap = float(np.abs(np.take_along_axis(looped, order, axis=1) - found.similarity[given.sample]).max())
    equal = {"loop": Agreement("similarities of the same neighbours", gap if np.array_equal(order, found.indices[given.sample]) else 1.0, 1e-9)}
    if kind == "distance":
        for name, side in BARE.items():
            other = 1 - float((side(given)()[:, :, None] == found.indices[:, None]).any(axis=2).mean())
            equal[name] = Agreement("share of other neighbours", other, 1e-3)
    return equal


def has_faiss() -> bool:
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


BARE = {"BLAS and `topk`": blas} | ({"faiss, flat": flat} if has_faiss() else {})


def case(kind: str, what: str, inputs: Callable[[int], Patients], sizes: Sequence[int], pair: Pair) -> Case:
    peers = [Peer("loop", partial(loop, pair), Goal(ratio=100), scale=all_pairs, repeats=1)]
    if kind != "statistics":
        other = "" if kind == "distance" else "another similarity"
        peers += [Peer(name, side, Goal(ratio=0.5), differs=other) for name, side in BARE.items()]
    return Case(
        f"neighbours of {{}} {what}",
        sizes=sizes,
        smoke=(100, 200),
        inputs=inputs,
        ours=partial(ours, kind),
        peers=peers,
        check=partial(check, kind, pair),
        floor=Bare("products of all pairs", product),
        unit="patients",
    )


CASES = [
    case("TADPOLE", "× 12, three groups", tadpole, (141, 282, 564), tadpole_pair),
    case("distance", "× 56, one distance", partial(normal, VALUES), (2000, 6000, 20_000), distance_pair),
    case(
        "statistics", "× 56 of four statistics", partial(normal, [name for names in FEATURES for name in names]), (1000, 3000, 9000), statistics_pair
    ),
]

if __name__ == "__main__":
    main(__doc__, CASES)
