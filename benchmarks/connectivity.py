"""Connectivity matrices: ours against nilearn's `ConnectivityMeasure` with its defaults on the same series, in alternation.

Each measurement runs in a process of its own, forked after the input was made: its CPU seconds (one thread) and the memory it took on top are
counted there. The median of the repeats counts. At the tangent reference the matrices have a mean of zero; its
norm, beside the one nilearn asks for, says how well either side found it.

With `--json` the last line is the record of the sum, with one record a kind in `parts`.
"""

import argparse
import json
import os
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before numpy and torch are loaded

import numpy as np
import torch
from measure.forked import measure
from nilearn.connectome import ConnectivityMeasure
from sklearn.covariance import EmpiricalCovariance

from graphssl.data import Atlas, Provenance, RegionData
from graphssl.graphs.connectivity import Connectivity

TOLERANCE = 1e-4
KINDS = {
    "correlation": (
        lambda: Connectivity("correlation", fisher_z=False),
        lambda: ConnectivityMeasure(EmpiricalCovariance(store_precision=False), kind="correlation"),
    ),
    "ledoit-wolf covariance": (lambda: Connectivity("covariance", shrinkage="ledoit-wolf"), lambda: ConnectivityMeasure(kind="covariance")),
    "partial correlation": (
        lambda: Connectivity("partial correlation", fisher_z=False),
        lambda: ConnectivityMeasure(kind="partial correlation"),
    ),
    "tangent": (lambda: Connectivity("tangent"), lambda: ConnectivityMeasure(kind="tangent")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=800)
    parser.add_argument("--regions", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = simulate(arguments.subjects, arguments.regions)
    parts = [compare(kind, data, arguments.repeats) for kind in arguments.kinds]
    for part in parts:
        report(part, arguments.regions)
    if arguments.json:
        print(json.dumps({**total(parts), "parts": parts}))


def simulate(n_subjects: int, n_regions: int, seed: int = 0) -> RegionData:
    """Smooth series that share signals, so that covariances differ between subjects as those of band-passed scans do; four lengths, as in ABIDE."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n_regions // 4 + 1, n_regions))
    series = {}
    for subject in range(n_subjects):
        length = (116, 146, 176, 236)[subject % 4]
        own = shared + 0.5 * rng.standard_normal(shared.shape)
        white = rng.standard_normal((length + 6, len(own))) @ own + 3 * rng.standard_normal((length + 6, n_regions))
        summed = np.cumsum(white, axis=0)
        series[f"sub-{subject:04d}"] = summed[6:] - summed[:-6]
    names = tuple(f"region {index}" for index in range(n_regions))
    atlas = Atlas("simulated", np.arange(1, n_regions + 1), names, np.zeros((n_regions, 3)), ("",) * n_regions)
    return RegionData(atlas, series, Provenance("timeseries"))


def compare(kind: str, data: RegionData, repeats: int) -> dict[str, object]:
    """One kind: both sides in turn, their results compared off the diagonal (which ours leaves empty for correlations)."""
    make_ours, make_peer = KINDS[kind]
    subjects = list(data.values)
    series = [data.values[subject].astype(np.float64) for subject in subjects]
    sides = {"ours": lambda: make_ours().fit_transform(data, subjects)[0].numpy(), "peer": lambda: make_peer().fit_transform(series)}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    memory: dict[str, list[float]] = {side: [] for side in sides}
    results = {}
    for _ in range(repeats):
        for side, function in sides.items():
            results[side], cpu, mib = measure(function)
            seconds[side].append(cpu)
            memory[side].append(mib)
    ours, peer = (float(np.median(seconds[side])) for side in sides)
    off = ~np.eye(len(data.atlas), dtype=bool)
    gap = float(np.abs(results["ours"] - results["peer"])[:, off].max())
    found = {"residual": {side: float(np.linalg.norm(result.mean(axis=0, dtype=np.float64))) for side, result in results.items()}}
    return {
        **record(kind, ours, peer, max(memory["ours"]), max(memory["peer"]), gap <= TOLERANCE),
        "largest_difference": gap,
        **(found if kind == "tangent" else {}),
    }


def record(name: str, ours: float, peer: float, ours_mib: float, peer_mib: float, equal: bool) -> dict[str, object]:
    return {
        "name": name,
        "peer": "nilearn",
        "ours_seconds": round(ours, 4),
        "peer_seconds": round(peer, 4),
        "ratio": round(peer / ours, 2),
        "ours_mib": round(ours_mib, 1),
        "peer_mib": round(peer_mib, 1),
        "equal": bool(equal),
    }


def total(parts: list[dict[str, object]]) -> dict[str, object]:
    sums = [sum(float(str(part[key])) for part in parts) for key in ("ours_seconds", "peer_seconds")]
    peaks = [max(float(str(part[key])) for part in parts) for key in ("ours_mib", "peer_mib")]
    return record("connectivity", *sums, *peaks, equal=all(part["equal"] for part in parts))


def report(part: dict[str, Any], n_regions: int) -> None:
    print(
        f"{part['name']:<24} ours {part['ours_seconds']:8.3f} s {part['ours_mib']:7.0f} MiB   nilearn {part['peer_seconds']:8.3f} s "
        f"{part['peer_mib']:7.0f} MiB   ratio {part['ratio']:5.2f}   largest difference {part['largest_difference']:.1e}"
        f"{'' if part['equal'] else '   NOT EQUAL'}"
    )
    if residual := part.get("residual"):
        goal = 1e-7 * n_regions**2
        print(f"  norm of the mean: ours {residual['ours']:.2e}, nilearn {residual['peer']:.2e}, of {goal:.2e} that nilearn asks for")


if __name__ == "__main__":
    main()
