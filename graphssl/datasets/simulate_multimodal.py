"""Simulated patients of whom a connectome, a table, events, images and volumes say each a part of the diagnosis, and some are missing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.events import ORIGIN, Events
from graphssl.data.schema import Column, Schema
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulate_images import draw_images, images_folder
from graphssl.errors import ConfigError

Floats = npt.NDArray[Any]

SHARES: Mapping[str, float] = MappingProxyType({"connectome": 0.8, "table": 0.9, "image": 0.7})
_RANKS = {"image": 2, "volume": 3}
_KNOWN = ("connectome", "table", "events", *_RANKS)
_N_LABS, _HOURS = 6, 48


def simulate_multimodal(
    atlases: Sequence[Atlas],
    *,
    n_subjects: int = 200,
    shares: Mapping[str, float] | None = None,
    sites: int = 2,
    effect: float = 1.0,
    size: int = 16,
    seed: int = 0,
    name: str = "multimodal",
    folder: str | os.PathLike[str] | None = None,
) -> Cohort:
    """Simulate patients and controls of whom several kinds of data say each a part of the diagnosis, some of them missing.

    Connectomes, age and sex are those of [`simulate`][graphssl.datasets.simulate], lesions of images and volumes those of
    [`simulate_images`][graphssl.datasets.simulate_images]. Values of the table and of the events, and the lesions, follow how ill a subject is, each
    with a noise of its own, so that all together say more than any alone. What a subject lacks is drawn without regard to the diagnosis; nobody lacks
    everything.

    Args:
        atlases: Atlases of the connectomes.
        n_subjects: Number of subjects.
        shares: Share of the subjects who have each kind of data, of `connectome`, `table`, `events`, `image` and `volume`; those not named are left
            out. Four fifths have a connectome, nine tenths a table and seven tenths an image when left out.
        sites: Number of sites.
        effect: How much the data differ by diagnosis; 0 makes it chance.
        size: Voxels of images along each axis; volumes have half as many slices.
        seed: Seed of everything random.
        name: Name of the cohort.
        folder: Where the files of images go; a temporary folder, removed when Python ends, when left out.

    Returns:
        A cohort with the columns `diagnosis` (target), `site`, `age`, `sex`, `motion` (covariates) and `lab0`, `lab1`, … (features).

    Raises:
        ConfigError: If a kind is unknown, there is none, or a share is not in (0, 1].
    """
    wanted = dict(SHARES if shares is None else shares)
    if not wanted or set(wanted) - set(_KNOWN) or not all(0 < share <= 1 for share in wanted.values()):
        raise ConfigError(f"Expected shares in (0, 1] of kinds among {', '.join(_KNOWN)}, one at least; found {wanted}.")
    cohort = simulate(atlases, n_subjects=n_subjects, sites=sites, effect=0.35 * effect, seed=seed, name=name).cohort
    there = _dealt(cohort.ids, wanted, np.random.default_rng([seed, 10]))
    ill = effect * (cohort.subjects["diagnosis"] == "patient").to_numpy(dtype=np.float64)
    parts: dict[str, Any] = {"events": None, "images": {}}
    for stream, (kind, rank) in enumerate(_RANKS.items()):
        if kind in wanted:
            rng = np.random.default_rng([seed, 11 + stream])
            having = there[kind]
            shape = (size, size) if rank == 2 else (size // 2, size, size)
            strong = np.clip(ill + 0.4 * rng.standard_normal(n_subjects), 0, None)[having]
            place = images_folder(folder) / f"{kind}.npz"
            parts["images"][kind] = draw_images(cohort.subjects.index[having], strong, np.zeros(having.sum()), shape, place, rng)
    if "events" in wanted:
        parts["events"] = _events(cohort.ids, ill, there["events"], np.random.default_rng([seed, 20]))
    has_table = there.get("table", np.zeros(n_subjects, dtype=bool))
    cohort = _with_table(cohort, ill, has_table, np.random.default_rng([seed, 21]))
    scanned = [subject for subject, has in zip(cohort.ids, there["connectome"].tolist(), strict=True) if has] if "connectome" in wanted else []
    regions = {atlas: data.select(scanned) for atlas, data in cohort.regions.items()} if scanned else {}
    cohort = replace(cohort, regions=regions, **parts)
    times = pd.Series(ORIGIN + pd.Timedelta(hours=_HOURS), index=cohort.subjects.index)
    return cohort.predict_at(times) if "events" in wanted else cohort


def _dealt(ids: Sequence[str], shares: Mapping[str, float], rng: np.random.Generator) -> dict[str, npt.NDArray[np.bool_]]:
    """Who has what; who has nothing by chance is given one kind, in turn."""
    there = np.stack([rng.permutation(len(ids)) < round(share * len(ids)) for share in shares.values()])
    bare = np.flatnonzero(~there.any(axis=0))
    there[np.arange(len(bare)) % len(shares), bare] = True
    return dict(zip(shares, there, strict=True))


def _with_table(cohort: Cohort, ill: Floats, there: npt.NDArray[np.bool_], rng: np.random.Generator) -> Cohort:
    """The cohort with laboratory values, every tenth not measured, and with no covariate and no value of those who have no table."""
    loading = rng.uniform(0.2, 0.7, _N_LABS) * rng.choice([-1.0, 1.0], _N_LABS)
    values = ill[:, None] * loading + rng.standard_normal((len(cohort), _N_LABS))
    values[rng.random(values.shape) < 0.1] = np.nan
    labs = pd.DataFrame((100 + 15 * values).round(1), index=cohort.subjects.index, columns=[f"lab{k}" for k in range(_N_LABS)])
    subjects = cohort.subjects.join(labs)
    columns = [column.name for column in cohort.schema if column.role == "covariate"]
    for column in (*columns, *labs.columns):
        subjects[column] = subjects[column].where(there)
    added = [Column(str(column), "continuous", "feature", unit="mg/dL") for column in labs.columns]
    return replace(cohort, subjects=subjects, schema=Schema([*cohort.schema, *added]))


def _events(ids: Sequence[str], ill: Floats, there: npt.NDArray[np.bool_], rng: np.random.Generator) -> Events:
    """A pulse every six hours or so over two days, faster and rising in patients, and now and then a temperature."""
    n_events = _HOURS // 6
    hours = np.sort(rng.uniform(0, _HOURS, (len(ids), n_events)), axis=1)
    level = 75 + 5 * ill[:, None] + 8 * rng.standard_normal((len(ids), 1))
    pulse = level + 4 * ill[:, None] * hours / _HOURS + 5 * rng.standard_normal(hours.shape)
    rows = np.repeat(np.flatnonzero(there), n_events)
    table = pd.DataFrame({"subject_id": np.asarray(ids)[rows], "time": ORIGIN + pd.to_timedelta(hours[there].ravel().round(2), unit="h")})
    warm = rng.random(len(table)) < 0.3
    return Events.of(
        table.assign(
            code=np.where(warm, "temperature", "pulse"),
            numeric_value=np.where(warm, 36.8 + 0.3 * rng.standard_normal(len(table)), pulse[there].ravel()).round(1),
        )
    )
