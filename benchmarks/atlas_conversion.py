"""Conversion between atlases: matrices of a cohort, a map from two label volumes, and transport maps of all pairs of ten atlases.

- Matrices from 200 to 400 regions against the bare products `W C Wᵀ` in blocks of 50; ours also adds what the map does not tell, divides by the roots
  of the diagonal, masks missing regions and looks for matrices that are not positive definite.
- A map from two label volumes of 91 × 109 × 91 voxels of 2 mm, of made-up regions, half as many in the first, against counting the labels inside of
  each target region.
- Sinkhorn plans of all pairs of atlases of 48 to 400 regions in one call, by the squared distance of their centroids, against POT's `sinkhorn` (plain
  scalings) and `sinkhorn_log` (in the log domain, as ours is), one after the other; all stop at the same tolerance.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import ot
import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
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
BLOCK, COMPARED = 50, 20
UNEXPLAINED = 0.1


class Matrices(NamedTuple):
    """A map, and what is converted by it `[N, 200, 200]`."""

    atlas_map: AtlasMap
    matrices: np.ndarray


def matrices(n_subjects: int) -> Matrices:
    rng = np.random.default_rng(0)
    source, target = made_up(rng, 200, "source"), made_up(rng, 400, "target")
    weights = np.where(rng.random((400, 200)) < 0.03, rng.random((400, 200)), 1e-4)
    weights /= weights.sum(axis=1, keepdims=True)
    series = rng.standard_normal((n_subjects, 120, 200)).astype(np.float32)
    series /= np.linalg.norm(series, axis=1, keepdims=True)
    atlas_map = AtlasMap(source, target, weights, "made up", np.ones(400), unexplained=UNEXPLAINED * np.eye(400))
    return Matrices(atlas_map, series.transpose(0, 2, 1) @ series)


def converted(given: Matrices) -> Callable[[], np.ndarray]:
    return lambda: convert_matrices(given.atlas_map, given.matrices).values


def multiplied(given: Matrices) -> Callable[[], np.ndarray]:
    return lambda: bare_products(given.atlas_map.weights, given.matrices)


def compare_matrices(given: Matrices) -> dict[str, Agreement]:
    mine, theirs = (side(given)()[:COMPARED] for side in (converted, multiplied))
    covariance = theirs + UNEXPLAINED * np.eye(400)
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    gap = float(np.abs(covariance / scale[:, :, None] / scale[:, None, :] - mine).max())
    return {"bare products": Agreement("correlations from the products", gap, 1e-4)}


def bare_products(weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    left, values = torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(matrices)
    result = torch.empty(len(values), len(left), len(left))
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        half = (block.reshape(-1, block.shape[2]) @ left.T).reshape(*block.shape[:2], len(left))
        torch.matmul(left, half, out=result[start : start + BLOCK])
    return result.numpy()


class Volumes(NamedTuple):
    """Two atlases and their labels."""

    source: Atlas
    first: np.ndarray
    target: Atlas
    second: np.ndarray


def volumes(n_regions: int) -> Volumes:
    rng = np.random.default_rng(1)
    return Volumes(*labels(rng, n_regions // 2, "source"), *labels(rng, n_regions, "target"))


def overlapped(given: Volumes) -> Callable[[], np.ndarray]:
    return lambda: overlap_map(LabelVolume(given.source, given.first, AFFINE), LabelVolume(given.target, given.second, AFFINE)).weights


def looped(given: Volumes) -> Callable[[], np.ndarray]:
    return lambda: counted(given.first, given.second, len(given.source), len(given.target))


def pairs_of_labels(given: Volumes, device: str) -> Callable[[], object]:
    """Counts of all pairs of labels of a voxel."""
    pairs = torch.from_numpy(given.first * (1 + len(given.target)) + given.second).flatten().to(device)
    return lambda: torch.bincount(pairs)


def compare_maps(given: Volumes) -> dict[str, Agreement]:
    return {"a loop": Agreement("weights", float(np.abs(overlapped(given)() - looped(given)()).max()), 1e-9)}


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


Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


def problems(n_atlases: int) -> list[Problem]:
    """Costs and masses of all pairs of the first atlases."""
    rng = np.random.default_rng(2)
    atlases = [made_up(rng, n, f"atlas {i}").centroids.astype(np.float64) for i, n in enumerate(SIZES)]
    masses = [rng.dirichlet(np.full(n, 4.0)) for n in SIZES]
    return [(distances(atlases[i], atlases[j]), masses[i], masses[j]) for i, j in combinations(range(n_atlases), 2)]


def transported(given: list[Problem]) -> Callable[[], list[np.ndarray]]:
    return partial(in_one_call, given)


def by_pot(method: str, given: list[Problem]) -> Callable[[], list[np.ndarray]]:
    return partial(one_by_one, given, method)


def compare_plans(given: list[Problem]) -> dict[str, Agreement]:
    mine, found = in_one_call(given), {}
    for name, method in METHODS.items():
        gap = max(float(np.abs(a - b).sum()) for a, b in zip(mine, one_by_one(given, method), strict=True))
        found[name] = Agreement("sum of differences of a plan", gap, 1e-5)
    return found


def distances(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    apart = ((source[:, None] - target[None]) ** 2).sum(axis=2)
    return apart / apart.mean()


def in_one_call(problems: list[Problem]) -> list[np.ndarray]:
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


def one_by_one(problems: list[Problem], method: str) -> list[np.ndarray]:
    return [ot.sinkhorn(source, target, cost, ENTROPY, method=method, stopThr=TOLERANCE, numItermax=20_000) for cost, source, target in problems]


def made_up(rng: np.random.Generator, n_regions: int, name: str) -> Atlas:
    return named(rng.uniform([-70, -100, -50], [70, 70, 80], (n_regions, 3)), name)


def named(centroids: np.ndarray, name: str) -> Atlas:
    n = len(centroids)
    return Atlas(name, np.arange(1, n + 1), tuple(f"region {i}" for i in range(n)), centroids, ("",) * n)


METHODS: Mapping[str, str] = {"POT, `sinkhorn`": "sinkhorn", "POT, `sinkhorn_log`": "sinkhorn_log"}
CASES = [
    Case(
        "matrices of {} subjects, 200 → 400 regions",
        sizes=(100, 300, 1000),
        smoke=(20, 40),
        inputs=matrices,
        ours=converted,
        peers=[Peer("bare products", multiplied, Goal(ratio=1 / 3))],
        check=compare_matrices,
    ),
    Case(
        "map from two volumes of 2 mm to {} regions",
        sizes=(100, 200, 400),
        smoke=(20, 40),
        inputs=volumes,
        ours=overlapped,
        peers=[Peer("a loop", looped, Goal(seconds=2))],
        check=compare_maps,
        floor=Bare("counts of pairs of labels", pairs_of_labels),
        unit="regions",
    ),
    Case(
        "transport between all pairs of {} atlases",
        sizes=(3, 6, 10),
        smoke=(2, 3),
        inputs=problems,
        ours=transported,
        peers=[Peer(name, partial(by_pot, method), repeats=1 if method == "sinkhorn_log" else 99) for name, method in METHODS.items()],
        check=compare_plans,
        unit="atlases",
    ),
]

if __name__ == "__main__":
    main(__doc__, CASES)
