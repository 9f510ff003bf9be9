"""Conversion between atlases: matrices of a cohort, a map from two label volumes, and transport maps of all pairs of ten atlases.

- Matrices of 1,000 subjects from 200 to 400 regions against the bare products `W C Wᵀ` in blocks of 50; ours also adds what the map does not tell,
  divides by the roots of the diagonal, masks missing regions and looks for matrices that are not positive definite.
- A map from two label volumes of 91 × 109 × 91 voxels of 2 mm, 200 and 400 made-up regions, against counting the labels inside of each target region.
- Sinkhorn plans of all 45 pairs of ten atlases of 48 to 400 regions in one call, by the squared distance of their centroids, against POT's `sinkhorn`
  (plain scalings) and `sinkhorn_log` (in the log domain, as ours is), one after the other; all stop at the same tolerance.

CPU seconds of one thread, the fastest of three times; every measurement runs in a process of its own, whose memory on top of the input is counted.

With `--json` the last line is the record of the matrices, with one record a comparison in `parts`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before numpy and torch are loaded

import numpy as np
import ot
import torch
from measure.forked import measure
from scipy.spatial import cKDTree

from graphssl.atlases.apply import convert_matrices
from graphssl.atlases.label_volume import LabelVolume
from graphssl.atlases.map import AtlasMap
from graphssl.atlases.overlap import overlap_map
from graphssl.atlases.sinkhorn import sinkhorn
from graphssl.data import Atlas

SIZES = (48, 70, 84, 100, 116, 116, 200, 200, 300, 400)
ENTROPY = 0.02
TOLERANCE = 1e-9
SHAPE = (91, 109, 91)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
# Subjects of one block, and of those that are compared.
BLOCK = 50
COMPARED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=1000, help="whose matrices are converted")
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = [of_matrices(arguments.subjects), of_volumes(), *of_transport()]
    if arguments.json:
        print(json.dumps({**parts[0], "parts": parts}))


def of_matrices(n_subjects: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    source, target = made_up(rng, 200, "source"), made_up(rng, 400, "target")
    weights = np.where(rng.random((400, 200)) < 0.03, rng.random((400, 200)), 1e-4)
    weights /= weights.sum(axis=1, keepdims=True)
    series = rng.standard_normal((n_subjects, 120, 200)).astype(np.float32)
    series /= np.linalg.norm(series, axis=1, keepdims=True)
    matrices = series.transpose(0, 2, 1) @ series
    atlas_map = AtlasMap(source, target, weights, "made up", np.ones(400), unexplained=0.1 * np.eye(400))
    ours = measure(lambda: fastest(lambda: convert_matrices(atlas_map, matrices).values[:COMPARED].copy()))
    peer = measure(lambda: fastest(lambda: bare_products(weights, matrices)[:COMPARED].copy()))
    covariance = peer[0][0] + 0.1 * np.eye(400)
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    gap = float(np.abs(covariance / scale[:, :, None] / scale[:, None, :] - ours[0][0]).max())
    part = record(f"{n_subjects} matrices, 200 → 400", "bare products", ours, peer, gap < 1e-4)
    report(part, f"goal 0.33; largest difference {gap:.1e}")
    return part


def bare_products(weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    left, values = torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(matrices)
    result = torch.empty(len(values), len(left), len(left))
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        half = (block.reshape(-1, block.shape[2]) @ left.T).reshape(*block.shape[:2], len(left))
        torch.matmul(left, half, out=result[start : start + BLOCK])
    return result.numpy()


def of_volumes() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    (source, first), (target, second) = labels(rng, 200, "source"), labels(rng, 400, "target")
    ours = measure(lambda: fastest(lambda: overlap_map(LabelVolume(source, first, AFFINE), LabelVolume(target, second, AFFINE)).weights))
    peer = measure(lambda: fastest(lambda: counted(first, second, 200, 400)))
    gap = float(np.abs(ours[0][0] - peer[0][0]).max())
    part = record("map from two 2 mm volumes", "a loop", ours, peer, gap < 1e-9)
    report(part, f"goal under 2 s; largest difference {gap:.1e}")
    return part


def labels(rng: np.random.Generator, n_regions: int, name: str) -> tuple[Atlas, np.ndarray]:
    """Voxels of an ellipsoid the size of a brain, each with the nearest of random points."""
    where = np.argwhere(np.ones(SHAPE, bool))
    inside = where[((where - np.array([45, 54, 40])) ** 2 / np.array([35.0, 43.0, 33.0]) ** 2).sum(axis=1) < 1]
    seeds = inside[rng.choice(len(inside), n_regions, replace=False)]
    values = np.zeros(SHAPE, np.int64)
    values[tuple(inside.T)] = cKDTree(seeds).query(inside)[1] + 1
    return named(seeds @ AFFINE[:3, :3].T + AFFINE[:3, 3], name), values


def counted(source: np.ndarray, target: np.ndarray, n_source: int, n_target: int) -> np.ndarray:
    counts = np.stack([np.bincount(source[target == label], minlength=n_source + 1)[1:] for label in range(1, n_target + 1)])
    return counts / counts.sum(axis=1, keepdims=True)


def of_transport() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    atlases = [made_up(rng, n, f"atlas {i}").centroids.astype(np.float64) for i, n in enumerate(SIZES)]
    masses = [rng.dirichlet(np.full(n, 4.0)) for n in SIZES]
    problems = [(distances(atlases[i], atlases[j]), masses[i], masses[j]) for i, j in combinations(range(len(SIZES)), 2)]
    ours = measure(lambda: fastest(lambda: in_one_call(problems)))
    parts = []
    for method in ("sinkhorn", "sinkhorn_log"):
        peer = measure(lambda method=method: fastest(lambda: one_by_one(problems, method), 3 if method == "sinkhorn" else 1))
        gap = max(float(np.abs(mine - theirs).sum()) for mine, theirs in zip(ours[0][0], peer[0][0], strict=True))
        part = record("transport, 45 pairs of atlases", f"POT {method}", ours, peer, gap < 1e-5)
        report(part, f"{len(problems)} plans, entropy {ENTROPY:g}; largest sum of differences of a plan {gap:.1e}")
        parts.append(part)
    return parts


def distances(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    apart = ((source[:, None] - target[None]) ** 2).sum(axis=2)
    return apart / apart.mean()


def in_one_call(problems: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    n, m = (max(cost.shape[side] for cost, _, _ in problems) for side in (0, 1))
    costs, sources, targets = (
        torch.zeros(len(problems), n, m).double(),
        torch.zeros(len(problems), n).double(),
        torch.zeros(len(problems), m).double(),
    )
    for place, (cost, source, target) in enumerate(problems):
        costs[place, : len(source), : len(target)] = torch.from_numpy(cost)
        sources[place, : len(source)], targets[place, : len(target)] = torch.from_numpy(source), torch.from_numpy(target)
    plans = sinkhorn(costs, sources, targets, entropy=ENTROPY, tolerance=TOLERANCE).plans.numpy()
    return [plan[: len(source), : len(target)] for plan, (_, source, target) in zip(plans, problems, strict=True)]


def one_by_one(problems: list[tuple[np.ndarray, np.ndarray, np.ndarray]], method: str) -> list[np.ndarray]:
    return [ot.sinkhorn(source, target, cost, ENTROPY, method=method, stopThr=TOLERANCE, numItermax=20_000) for cost, source, target in problems]


def made_up(rng: np.random.Generator, n_regions: int, name: str) -> Atlas:
    return named(rng.uniform([-70, -100, -50], [70, 70, 80], (n_regions, 3)), name)


def named(centroids: np.ndarray, name: str) -> Atlas:
    n = len(centroids)
    return Atlas(name, np.arange(1, n + 1), tuple(f"region {i}" for i in range(n)), centroids, ("",) * n)


def fastest(function: Callable[[], Any], times: int = 3) -> tuple[Any, float]:
    """Result, and the CPU seconds of the fastest of several calls."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        found = function()
        seconds.append(time.process_time() - start)
    return found, min(seconds)


def record(name: str, peer: str, ours: tuple[Any, float, float], theirs: tuple[Any, float, float], equal: bool) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "ours_seconds": round(ours[0][1], 4),
        "peer_seconds": round(theirs[0][1], 4),
        "ratio": round(theirs[0][1] / ours[0][1], 2),
        "ours_mib": round(ours[2], 1),
        "peer_mib": round(theirs[2], 1),
        "equal": bool(equal),
    }


def report(part: dict[str, Any], words: str) -> None:
    print(
        f"{part['name']:<32} ours {part['ours_seconds']:8.3f} s {part['ours_mib']:6.0f} MiB   {part['peer']:<16} {part['peer_seconds']:8.3f} s "
        f"{part['peer_mib']:6.0f} MiB   ratio {part['ratio']:6.2f}   {words}{'' if part['equal'] else '   NOT EQUAL'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
