"""Made-up parcellations of one ellipsoid, and subjects whose voxels are known, so that both atlases are means of the same signals."""

from collections.abc import Callable

import numpy as np
import pytest

from graphssl.atlases import LabelVolume
from graphssl.atlases.label_volume import to_mm
from graphssl.data import Atlas, Provenance, RegionData

AFFINE = np.array([[6.0, 0, 0, -69], [0, 6, 0, -99], [0, 0, 6, -51], [0, 0, 0, 1]])
SHAPE = (24, 30, 22)


@pytest.fixture(scope="session")
def make_volume() -> Callable[..., LabelVolume]:
    """Factory of parcellations of one ellipsoid into the cells of random seeds: `make_volume(20, seed=0, name="a", affine=…, shape=…)`."""
    return cells


def cells(n_regions: int, *, seed: int = 0, name: str = "cells", affine: np.ndarray = AFFINE, shape: tuple[int, int, int] = SHAPE) -> LabelVolume:
    """Labels are 10, 20, …: gaps are the rule in the field."""
    rng = np.random.default_rng(seed)
    where = np.argwhere(np.ones(shape, dtype=bool))
    places = to_mm(where, affine)
    inside = (((places - [0, -12, 12]) / [62, 78, 55]) ** 2).sum(axis=1) <= 1
    seeds = places[inside][rng.choice(int(inside.sum()), n_regions, replace=False)]
    nearest = np.argmin(((places[inside][:, None] - seeds) ** 2).sum(axis=2), axis=1)
    values = np.zeros(shape, dtype=np.int64)
    values[tuple(where[inside].T)] = 10 * (nearest + 1)
    centroids = np.stack([places[inside][nearest == k].mean(axis=0) for k in range(n_regions)])
    atlas = Atlas(name, 10 * np.arange(1, n_regions + 1), tuple(f"{name} {k}" for k in range(n_regions)), centroids, ("",) * n_regions)
    return LabelVolume(atlas, values, affine, f"{name}.nii.gz")


@pytest.fixture(scope="session")
def scan_both() -> Callable[..., tuple[RegionData, RegionData]]:
    """Factory of subjects seen in two parcellations of one grid: `scan_both(first, second, n_subjects=12, seed=0, n_timepoints=80)`."""
    return both_seen


def both_seen(
    first: LabelVolume, second: LabelVolume, n_subjects: int = 12, *, seed: int = 0, n_timepoints: int = 80
) -> tuple[RegionData, RegionData]:
    """Signals are mixtures of bumps of 18 mm at places that all subjects share, how strong each is differs; a region's series is its voxels' mean."""
    rng = np.random.default_rng(seed)
    where = np.argwhere((first.places >= 0) & (second.places >= 0))
    places = to_mm(where, first.affine)
    bumps = np.exp(-((places[:, None] - places[rng.choice(len(places), 60)]) ** 2).sum(axis=2) / (2 * 18.0**2))
    found: list[dict[str, np.ndarray]] = [{}, {}]
    for subject in range(n_subjects):
        strength = rng.gamma(2.0, size=60)
        factors = rng.standard_normal((n_timepoints, 12)) @ rng.standard_normal((12, 60)) / 12**0.5 + rng.standard_normal((n_timepoints, 60))
        voxels = (factors * strength) @ bumps.T + 0.5 * rng.standard_normal((n_timepoints, len(places)))
        for values, volume in zip(found, (first, second), strict=True):
            owner = volume.places[tuple(where.T)]
            values[f"s{subject:02d}"] = np.stack([voxels[:, owner == k].mean(axis=1) for k in range(len(volume.atlas))], axis=1)
    return tuple(RegionData(v.atlas, data, Provenance("timeseries")) for v, data in zip((first, second), found, strict=True))
