"""Connectivity matrices: ours against nilearn's `ConnectivityMeasure` with its defaults on the same series.

Every measurement is one call in a fresh process. Results are compared off the diagonal, which ours leaves empty for correlations. At the tangent
reference the matrices have a mean of zero; its norm, beside the one nilearn asks for, says how well either side found it. The floor of all kinds but
the tangent is the products of the series alone, that of the tangent two eigendecompositions of every covariance, in single precision.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
from nilearn.connectome import ConnectivityMeasure
from sklearn.covariance import EmpiricalCovariance

from graphssl.data import Atlas, Provenance, RegionData
from graphssl.graphs.connectivity import Connectivity

N_REGIONS = 200
TOLERANCE = 1e-4
KINDS: dict[str, tuple[float, Callable[[], Any], Callable[[], Any]]] = {
    "correlation": (
        5.0,
        partial(Connectivity, "correlation", fisher_z=False),
        lambda: ConnectivityMeasure(EmpiricalCovariance(store_precision=False), kind="correlation"),
    ),
    "Ledoit–Wolf covariance": (2.0, partial(Connectivity, "covariance", shrinkage="ledoit-wolf"), lambda: ConnectivityMeasure(kind="covariance")),
    "partial correlation": (
        2.0,
        partial(Connectivity, "partial correlation", fisher_z=False),
        lambda: ConnectivityMeasure(kind="partial correlation"),
    ),
    "tangent": (20.0, partial(Connectivity, "tangent"), lambda: ConnectivityMeasure(kind="tangent")),
}


class Scans(NamedTuple):
    """Series as ours reads them, and as nilearn does."""

    data: RegionData
    series: list[np.ndarray]


def simulate(n_subjects: int, n_regions: int = N_REGIONS, seed: int = 0) -> Scans:
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
    data = RegionData(atlas, series, Provenance("timeseries"))
    return Scans(data, [values.astype(np.float64) for values in data.values.values()])


def ours(kind: str, scans: Scans) -> Callable[[], np.ndarray]:
    return lambda: KINDS[kind][1]().fit_transform(scans.data, list(scans.data.values))[0].numpy()


def nilearn(kind: str, scans: Scans) -> Callable[[], np.ndarray]:
    return lambda: KINDS[kind][2]().fit_transform(scans.series)


def check(kind: str, scans: Scans) -> dict[str, Agreement]:
    mine, theirs = (side(kind, scans)() for side in (ours, nilearn))
    n_regions = mine.shape[1]
    off = ~np.eye(n_regions, dtype=bool)
    how = f"matrices of {len(mine)} subjects"
    if kind == "tangent":
        norms = (np.linalg.norm(found.mean(axis=0, dtype=np.float64)) for found in (mine, theirs))
        how += ", norm of their mean {:.0e} and {:.0e} of {:.0e}".format(*norms, 1e-7 * n_regions**2)
    return {"nilearn": Agreement(how, float(np.abs(mine - theirs)[:, off].max()), TOLERANCE)}


def products(scans: Scans, device: str) -> Callable[[], object]:
    series = [torch.from_numpy(values).float().to(device) for values in scans.series]
    return lambda: [values.T @ values for values in series]


def eigenvectors(scans: Scans, device: str) -> Callable[[], object]:
    matrices = torch.stack([torch.from_numpy(np.cov(values.T)).float() for values in scans.series]).to(device)
    return lambda: [torch.linalg.eigh(matrices) for _ in range(2)]


CASES = [
    Case(
        f"{kind} of {{}} subjects × {N_REGIONS} regions",
        sizes=(100, 200, 400),
        smoke=(8, 16),
        inputs=simulate,
        ours=partial(ours, kind),
        peers=[Peer("nilearn", partial(nilearn, kind), Goal(ratio=goal))],
        check=partial(check, kind),
        floor=Bare("two eigendecompositions", eigenvectors) if kind == "tangent" else Bare("products of the series", products),
        warm=False,
    )
    for kind, (goal, _, _) in KINDS.items()
]

if __name__ == "__main__":
    main(__doc__, CASES)
