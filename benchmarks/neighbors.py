"""Neighbours of every patient in a cohort: ours against a loop over pairs of the same similarity, and against a bare search of nearest vectors.

- The loop is Python over pairs with NumPy inside, the way such graphs are usually built, each pair once. It is timed on the pairs of a few patients
  and extrapolated to all pairs; sorting is not counted. On those patients neighbours and similarities have to be the same as ours.
- The bare search finds the nearest of the same columns by Euclidean distance, with nothing else: blocks of a matrix product in single precision and
  `topk`, or faiss's flat index where that is installed and faster. With one group of features it ranks as ours does.

564 patients × 12 columns have the three similarities published for TADPOLE, 20,000 × 56 one of a distance, and 20,000 × 56 features of four
statistics the one published for MIMIC-III. Ours is fitting and asking, the fastest of three times, since the first call of a process pays for what
Python loads. CPU seconds of one thread; every measurement runs in a process of its own, whose memory on top of the input is counted.

With `--json` the last line is the record of 20,000 × 56 against the bare search, with one record a comparison in `parts`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before numpy and torch are loaded

import numpy as np
import pandas as pd
import torch
from measure.forked import measure

from graphssl.graphs import FeatureGroup, NeighborIndex

K = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=20_000, help="of the large cohorts")
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = [part for case in cases(arguments.patients) for part in compare(*case)]
    if arguments.json:
        print(json.dumps({**next(part for part in parts if part["name"].endswith("distance") and part["peer"] != "loop"), "parts": parts}))


def cases(n_patients: int) -> list[tuple[str, pd.DataFrame, list[FeatureGroup], Callable[..., float], str]]:
    """Name, table, groups, similarity of one pair, and how a bare search ranks: the same, otherwise, or not asked."""
    rng = np.random.default_rng(0)
    small = pd.DataFrame({"age": rng.integers(55, 91, 564), "sex": rng.integers(0, 2, 564), "apoe4": rng.integers(0, 3, 564)}, dtype=float)
    small = small.join(pd.DataFrame({f"score{i}": rng.integers(0, top, 564) for i, top in enumerate((19, 107, 11, 68))}, dtype=float))
    small = small.join(pd.DataFrame({f"volume{i}": rng.random(564) for i in range(5)}))
    scores, volumes = [f"score{i}" for i in range(4)], [f"volume{i}" for i in range(5)]
    published = [
        FeatureGroup("demographics", ["age", "sex", "apoe4"], "agreement", tolerance={"age": 2}),
        FeatureGroup("cognition", scores, "euclidean", scaling="none", length=116),
        FeatureGroup("imaging", volumes, "sigmoid", scaling="none"),
    ]
    wide = normal(rng, n_patients, [f"v{i}" for i in range(56)])
    features = [tuple(f"v{i}_{name}" for name in ("mean", "std", "min", "max")) for i in range(56)]
    statistics = normal(rng, n_patients, [name for feature in features for name in feature])
    return [
        ("564 × 12, three groups", named(small), published, tadpole_pair, "other"),
        (f"{n_patients} × 56, distance", wide, [FeatureGroup("values", list(wide.columns), "sigmoid", scaling="none")], distance_pair, "same"),
        (f"{n_patients} × 56 × 4, statistics", statistics, [FeatureGroup("stays", features, "statistics", scaling="none")], statistics_pair, "none"),
    ]


def normal(rng: np.random.Generator, n: int, names: list[str]) -> pd.DataFrame:
    """Patients of sixteen kinds, with what they share and noise, as stays differ by reasons for admission."""
    kinds = rng.standard_normal((16, len(names)))
    return named(pd.DataFrame(kinds[rng.integers(0, 16, n)] + rng.standard_normal((n, len(names))), columns=names))


def named(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis([f"p{i:06d}" for i in range(len(table))])


def tadpole_pair(u: np.ndarray, v: np.ndarray) -> float:
    demographic = (float(abs(u[0] - v[0]) <= 2) + float(u[1] == v[1]) + float(u[2] == v[2])) / 3
    cognitive = 1 - np.linalg.norm(u[3:7] - v[3:7]) / 116
    imaging = 1 - 1 / (1 + np.exp(-np.linalg.norm(u[7:] - v[7:])))
    return float((demographic + cognitive + imaging) / 3)


def distance_pair(u: np.ndarray, v: np.ndarray) -> float:
    return float(1 - 1 / (1 + np.exp(-np.linalg.norm(u - v))))


def statistics_pair(u: np.ndarray, v: np.ndarray) -> float:
    return float(1 - 1 / (1 + np.exp(-np.mean(np.linalg.norm((u - v).reshape(-1, 4), axis=1)))))


def compare(name: str, table: pd.DataFrame, groups: list[FeatureGroup], pair: Callable[..., float], bare: str) -> list[dict[str, Any]]:
    """Records of ours against the loop and, where it is asked, against the bare search."""
    n = len(table)
    values = table.to_numpy()
    sample = np.linspace(0, n - 1, max(2, 20_000 // n)).astype(int)
    (found, seconds), _, mib = measure(lambda: ours(table, groups))
    (looped, loop_seconds), _, loop_mib = measure(lambda: loop(values, sample, pair))
    indices, similarity = found
    order = np.argsort(-looped, axis=1, kind="stable")[:, :K]
    gap = np.abs(np.take_along_axis(looped, order, axis=1) - similarity[sample]).max()
    equal = np.array_equal(order, indices[sample]) and gap < 1e-9
    all_pairs = loop_seconds / (len(sample) * (n - 1)) * n * (n - 1) / 2
    against_loop = record(name, "loop", seconds, all_pairs, mib, loop_mib, equal)
    report(against_loop, f"extrapolated from {len(sample) * (n - 1)} pairs, {1e6 * loop_seconds / (len(sample) * (n - 1)):.1f} µs each")
    if bare == "none":
        return [against_loop]
    sides = {"BLAS": lambda: blas(values)} | ({"faiss": lambda: flat(values)} if has_faiss() else {})
    searched = {peer: measure(function) for peer, function in sides.items()}
    peer = min(searched, key=lambda side: searched[side][0][1])
    (nearest, bare_seconds), _, bare_mib = searched[peer]
    shared = float((nearest[:, :, None] == indices[:, None]).any(axis=2).mean())
    against_bare = record(name, f"bare {peer}", seconds, bare_seconds, mib, bare_mib, shared > 0.999 if bare == "same" else None)
    others = ", ".join(f"{side} {result[0][1]:.3f} s" for side, result in searched.items())
    report(against_bare, f"{others}; {shared:.2%} of the neighbours are ours{'' if bare == 'same' else ', which have another similarity'}")
    return [against_loop, against_bare]


def ours(table: pd.DataFrame, groups: list[FeatureGroup]) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        found = NeighborIndex(groups, n_neighbors=K).fit(table).query()
        seconds.append(time.process_time() - start)
    return (found.indices, found.similarity), min(seconds)


def loop(values: np.ndarray, sample: np.ndarray, pair: Callable[..., float]) -> tuple[np.ndarray, float]:
    similarity = np.full((len(sample), len(values)), -np.inf)
    start = time.process_time()
    for row, u in enumerate(sample):
        for v in range(len(values)):
            if u != v:
                similarity[row, v] = pair(values[u], values[v])
    return similarity, time.process_time() - start


def blas(values: np.ndarray) -> tuple[np.ndarray, float]:
    torch.mm(torch.ones(1, 1), torch.ones(1, 1))  # what is loaded at the first call is not timed here either
    start = time.process_time()
    x = torch.from_numpy(values.astype(np.float32))
    squares = (x * x).sum(dim=1)
    parts = []
    for rows in torch.arange(len(x)).split(128):
        distance = torch.addmm(squares[None].expand(len(rows), -1), x[rows], x.T, alpha=-2.0)
        distance[torch.arange(len(rows)), rows] = torch.inf
        parts.append(distance.topk(K, dim=1, largest=False).indices)
    return torch.cat(parts).numpy(), time.process_time() - start


def flat(values: np.ndarray) -> tuple[np.ndarray, float]:
    import faiss

    faiss.omp_set_num_threads(1)
    start = time.process_time()
    single = values.astype(np.float32)
    index = faiss.IndexFlatL2(single.shape[1])
    index.add(single)
    found = index.search(single, K + 1)[1]  # the first is the patient itself, unless two are equal
    return found[:, 1:], time.process_time() - start


def has_faiss() -> bool:
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def record(name: str, peer: str, ours: float, theirs: float, ours_mib: float, peer_mib: float, equal: bool | None) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "ours_seconds": round(ours, 4),
        "peer_seconds": round(theirs, 4),
        "ratio": round(theirs / ours, 2),
        "ours_mib": round(ours_mib, 1),
        "peer_mib": round(peer_mib, 1),
        "equal": None if equal is None else bool(equal),
    }


def report(part: dict[str, Any], words: str) -> None:
    print(
        f"{part['name']:<32} ours {part['ours_seconds']:9.3f} s {part['ours_mib']:6.0f} MiB   {part['peer']:<10} {part['peer_seconds']:10.3f} s "
        f"{part['peer_mib']:6.0f} MiB   ratio {part['ratio']:9.2f}   {words}{'   NOT EQUAL' if part['equal'] is False else ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
