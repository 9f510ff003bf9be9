"""Simulated patients with images of several modalities: each has one of them, or all."""

import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.datasets.simulate_images import simulate_images
from graphssl.errors import ConfigError


def simulate_modalities(
    n_subjects: int = 80,
    *,
    ranks: Mapping[str, int] | None = None,
    complete: float = 0.5,
    size: int = 24,
    n_sites: int = 2,
    effect: float = 1.0,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Cohort:
    """Simulate patients with images of several modalities, as [`simulate_images`][graphssl.datasets.simulate_images] does for one.

    Lesions of one patient are of one class, but of another place and shape in every modality. A share of the patients has all modalities, the others
    are dealt one each.

    Args:
        n_subjects: Number of patients, in turn of either class.
        ranks: Rank by name of the modality, 2 for images, 3 for volumes; `radiographs` and `volumes` when left out.
        complete: Share of the patients who have all modalities, in [0, 1].
        size: Voxels along each axis of space; volumes have half as many slices.
        n_sites: Number of sites, dealt to patients in turn.
        effect: How much lesions differ by class; 0 makes the diagnosis chance.
        seed: Seed of everything random.
        folder: Where the files go; a temporary folder, removed when Python ends, when left out.

    Raises:
        ConfigError: If there is no modality, or the share is out of range.
    """
    named = {"radiographs": 2, "volumes": 3} if ranks is None else dict(ranks)
    if not named or not 0.0 <= complete <= 1.0:
        raise ConfigError(f"Expected one modality or more and a share of complete patients in [0, 1], found {list(named)} and {complete}.")
    common = {"size": size, "n_sites": n_sites, "effect": effect, "folder": folder}
    cohorts = {
        name: simulate_images(n_subjects, rank=rank, seed=seed + number, name=name, **common)  # type: ignore[arg-type]
        for number, (name, rank) in enumerate(named.items())
    }
    first = next(iter(cohorts.values()))
    rng = np.random.default_rng(seed)
    dealt = pd.Series(rng.permutation(np.arange(n_subjects) % len(named)), index=first.ids)
    has_all = pd.Series(rng.permutation(n_subjects) < round(complete * n_subjects), index=first.ids)
    images = {
        name: cohort.images[name].select(first.ids[k] for k in range(n_subjects) if has_all.iloc[k] or dealt.iloc[k] == number)
        for number, (name, cohort) in enumerate(cohorts.items())
    }
    return replace(first, name="modalities", images=images)
