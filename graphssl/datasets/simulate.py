"""A simulated cohort: connectomes of a smooth field of sources, seen through any atlas, with everything that was put in as ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from graphssl.data import Atlas, Cohort, Column, Provenance, RegionData, Schema
from graphssl.data.regions import missing_regions
from graphssl.data.splits import label_fraction as draw_labels
from graphssl.datasets.simulated_scans import SimulatedSite, absent_regions, scanner_patterns, source_signals
from graphssl.datasets.sources import NETWORKS, Floats, SourceField, draw_sources
from graphssl.errors import AtlasError, DataError

DEFAULT_AFFECTED = (("Default", "Frontoparietal"), ("VentralAttention", "Default"), ("Visual", "Somatomotor"))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What was put into a simulated cohort. Subjects are in the order of the cohort, networks in that of `network_names`.

    Attributes:
        network_names: Names of the networks (K of them).
        source_coordinates: Places of the sources in MNI mm `[M, 3]`.
        source_networks: Network of each source, as an index `[M]`.
        base_covariance: Covariance of the network signals of a woman of 30 years without disease or peculiarity `[K, K]`.
        age_effect: Change of it with ten years of age `[K, K]`.
        sex_effect: Change of it in men `[K, K]`.
        disease_effect: Change of it in patients `[K, K]`; zero but on the affected pairs.
        variation_patterns: Ways in which people differ from one another `[P, K, K]`; the first is the direction of the disease.
        variation_scores: How far each subject lies along them `[n, P]`.
        network_covariance: The covariance each subject's network signals were drawn with `[n, K, K]`.
        diagnosis: True diagnosis by subject id, also where the cohort withholds it.
        affected: Pairs of networks the disease acts on.
        sites: The sites.
        site_patterns: Signal each scanner adds, by site and source `[S, 2, M]`.
        missing: Label ids of the regions without signal, by atlas and subject id (subjects with none are absent).
        region_networks: Network of each region, by atlas.
        region_weights: How much of each source a region sees, by atlas `[R, M]`.
        affected_connections: Which pairs of regions the disease acts on, by atlas `[R, R]`.
    """

    network_names: tuple[str, ...]
    source_coordinates: Floats
    source_networks: npt.NDArray[np.int64]
    base_covariance: Floats
    age_effect: Floats
    sex_effect: Floats
    disease_effect: Floats
    variation_patterns: Floats
    variation_scores: Floats
    network_covariance: Floats
    diagnosis: "pd.Series[str]"
    affected: tuple[tuple[str, str], ...]
    sites: tuple[SimulatedSite, ...]
    site_patterns: Floats
    missing: Mapping[str, Mapping[str, tuple[int, ...]]]
    region_networks: Mapping[str, tuple[str, ...]]
    region_weights: Mapping[str, Floats]
    affected_connections: Mapping[str, npt.NDArray[np.bool_]]

    def __repr__(self) -> str:
        pairs = ", ".join(f"{first}–{second}" for first, second in self.affected) or "no pairs of networks"
        missing = sum(len(labels) for subjects in self.missing.values() for labels in subjects.values())
        return f"GroundTruth({len(self.source_networks)} sources; disease acts on {pairs}; {len(self.sites)} sites; {missing} regions without signal)"


@dataclass(frozen=True)
class Simulation:
    """A simulated cohort and the truth behind it."""

    cohort: Cohort
    truth: GroundTruth


def simulate(
    atlases: Sequence[Atlas],
    *,
    n_subjects: int = 200,
    sites: Sequence[SimulatedSite] | int = 4,
    effect: float = 0.35,
    affected: Sequence[tuple[str, str]] = DEFAULT_AFFECTED,
    share_patients: float = 0.5,
    label_fraction: float | None = None,
    share_siblings: float = 0.0,
    missing_region_rate: float = 0.01,
    n_sources: int = 600,
    seed: int = 0,
    name: str = "simulated",
) -> Simulation:
    """Simulate resting-state time series of patients and controls at several sites, seen through one or more atlases.

    A subject has one field of sources: the signal of its network (seven, whose covariance depends on age, sex, disease and the subject), a smooth
    local field, and noise, with the memory of a first-order autoregression over the repetition time. How strongly a source follows its network
    varies smoothly over the brain and between people. A site adds noise, head motion (jumps shared by neighbouring places) and a smooth signal of
    its scanner. A region is the weighted mean of the sources around its centroid, so the matrices of one subject agree in all atlases; adding an
    atlas changes nothing in the others.

    The disease shifts people along a direction in which healthy people differ as well. With 300 subjects, one atlas of 80 to 100 regions and
    the other defaults, a logistic regression on the vectorised correlations scores an AUROC of 0.77 to 0.85 over sites left out, and 0.63 to 0.72
    with 10 % of the training labels (seeds 0 to 3); with `effect=0` it scores chance.

    Args:
        atlases: Atlases to see the sources through; their networks are replaced by those of the sources.
        n_subjects: Number of subjects, spread evenly over the sites.
        sites: The sites, or how many ordinary ones of differing length, repetition time, noise, motion, offset and age.
        effect: Change of the latent covariance of every affected pair of networks in patients; network signals have variance 1.
        affected: Pairs of networks the disease acts on.
        share_patients: Share of patients at sites that do not say their own.
        label_fraction: Share of the subjects, of each class, whose diagnosis is in the table; the others' is missing. All when left out.
        share_siblings: Share of subjects who have a sibling at the same site; adds the column `family` with the role `group`.
        missing_region_rate: Chance that a region of a subject has no signal.
        n_sources: Number of sources.
        seed: Seed of everything.
        name: Name of the cohort.

    Returns:
        The cohort, with the columns `diagnosis` (target), `site`, `age`, `sex` and `motion` (mm), and the ground truth.

    Raises:
        DataError: If a number is out of range, or an affected pair is not two known networks.
        AtlasError: If there is no atlas, or two have one name.
    """
    _check_atlases(atlases)
    places = _ordinary_sites(sites) if isinstance(sites, int) else tuple(sites)
    _check_numbers(n_subjects, places, share_patients, share_siblings, missing_region_rate)
    pairs = _check_pairs(affected)
    # The last bits of a matrix product depend on the number of threads, and the hash of a cohort on the last bits.
    with threadpool_limits(limits=1, user_api="blas"):
        field = draw_sources(n_sources, np.random.default_rng([seed, _STREAM["sources"]]))
        people = _draw_people(n_subjects, places, share_patients, share_siblings, np.random.default_rng([seed, _STREAM["people"]]))
        latent = _draw_latent(people, effect, pairs, np.random.default_rng([seed, _STREAM["latent"]]))
        patterns = scanner_patterns(field, len(places), np.random.default_rng([seed, _STREAM["sites"]]))
        seen = {atlas.name: _seen_through(atlas, field) for atlas in atlases}
        values, missing = _scan(field, people, latent, places, patterns, seen, missing_region_rate, seed)
    regions = {key: RegionData(view.atlas, values[key], Provenance("timeseries", pipeline="none", source="simulate")) for key, view in seen.items()}
    cohort = _cohort(name, people, regions, places, label_fraction, seed)
    return Simulation(cohort, _truth(field, people, latent, pairs, places, patterns, seen, missing))


# One stream of random numbers a purpose, so that a change in one leaves the others as they are.
_STREAM = {"sources": 0, "people": 1, "latent": 2, "sites": 3, "subject": 4, "atlas": 5}

# Covariance of the seven networks of a resting brain, in the order of NETWORKS; by hand, after the usual picture of group connectivity.
_BASE = np.array(
    [
        [1.00, 0.28, 0.28, 0.08, -0.04, 0.00, -0.04],
        [0.28, 1.00, 0.24, 0.24, 0.04, -0.04, -0.08],
        [0.28, 0.24, 1.00, 0.24, -0.08, 0.24, -0.16],
        [0.08, 0.24, 0.24, 1.00, 0.08, 0.16, -0.08],
        [-0.04, 0.04, -0.08, 0.08, 1.00, 0.04, 0.24],
        [0.00, -0.04, 0.24, 0.16, 0.04, 1.00, 0.16],
        [-0.04, -0.08, -0.16, -0.08, 0.24, 0.16, 1.00],
    ]
)
_REFERENCE_AGE = 30.0
_AGE_SD, _SEX_SD = 0.05, 0.04
_DISEASE_DIRECTION_SD, _PATTERN_SD, _PAIRS_PER_PATTERN = 0.1, 0.15, 3
_HERITABLE = 0.5
_SMALLEST_EIGENVALUE = 0.05


@dataclass(frozen=True, eq=False)
class _People:
    table: pd.DataFrame
    site: npt.NDArray[np.int64]
    family: npt.NDArray[np.int64]

    @property
    def ids(self) -> list[str]:
        return [str(subject) for subject in self.table.index]


@dataclass(frozen=True, eq=False)
class _Latent:
    age: Floats
    sex: Floats
    disease: Floats
    patterns: Floats
    scores: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class _View:
    atlas: Atlas
    weights: Floats


def _check_atlases(atlases: Sequence[Atlas]) -> None:
    names = [atlas.name for atlas in atlases]
    if not names:
        raise AtlasError("Expected at least one atlas to see the sources through, found none. graphssl.atlases.simulated_atlas() makes one.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise AtlasError(f"Expected atlases of different names, found {repeated} more than once. Give one of them another name.")


def _check_numbers(n_subjects: int, sites: Sequence[SimulatedSite], patients: float, siblings: float, missing: float) -> None:
    names = [site.name for site in sites]
    if not names or len(set(names)) < len(names):
        raise DataError(f"Expected at least one site and different names for them, found {names}.")
    if n_subjects < 2 * len(names):
        raise DataError(f"Expected at least two subjects a site, found {n_subjects} for {len(names)} sites. Ask for more subjects or fewer sites.")
    for what, value, top in (("share_patients", patients, 1.0), ("share_siblings", siblings, 1.0), ("missing_region_rate", missing, 0.5)):
        if not 0 <= value <= top:
            raise DataError(f"Expected {what} in [0, {top:g}], found {value}.")


def _check_pairs(affected: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    for pair in affected:
        if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(NETWORKS):
            raise DataError(f"Expected affected pairs of two different networks out of {', '.join(NETWORKS)}; found {tuple(pair)}.")
    return tuple((first, second) for first, second in affected)


def _ordinary_sites(n_sites: int) -> tuple[SimulatedSite, ...]:
    """Sites that differ as real ones do; the cycles have different lengths, so that no two of the first twelve are alike."""
    lengths, trs, noises = (120, 150, 100, 180), (2.0, 1.5, 2.5), (0.8, 1.2, 1.0)
    motions, ages = (0.08, 0.15, 0.10, 0.12), ((18.0, 40.0), (10.0, 25.0), (25.0, 60.0))
    return tuple(SimulatedSite(f"site-{k + 1}", lengths[k % 4], trs[k % 3], noises[k % 3], motions[k % 4], 0.5, ages[k % 3]) for k in range(n_sites))


def _draw_people(n: int, sites: Sequence[SimulatedSite], share_patients: float, share_siblings: float, rng: np.random.Generator) -> _People:
    site = np.sort(np.arange(n) % len(sites))
    patient, age, motion = np.zeros(n, dtype=bool), np.zeros(n), np.zeros(n)
    family = np.arange(n)
    owed = 0.0
    for k, place in enumerate(sites):
        members = np.flatnonzero(site == k)
        share = share_patients if place.patient_share is None else place.patient_share
        # What rounding takes from one site it gives to the next, so that the share holds for the cohort.
        owed += share * len(members)
        n_patients = min(len(members), round(owed))
        owed -= n_patients
        patient[rng.permutation(members)[:n_patients]] = True
        age[members] = rng.uniform(*place.age_range, size=len(members)).round(1)
        motion[members] = (place.motion * np.exp(rng.normal(0.0, 0.4, size=len(members)))).round(3)
        siblings = rng.permutation(members)[: 2 * int(share_siblings * len(members) / 2)]
        family[siblings[1::2]] = family[siblings[::2]]
    table = pd.DataFrame(
        {
            "diagnosis": np.where(patient, "patient", "control"),
            "site": [sites[k].name for k in site],
            "age": age,
            "sex": np.where(rng.random(n) < 0.5, "male", "female"),
            "motion": motion,
        },
        index=[f"sub-{k + 1:04d}" for k in range(n)],
    )
    if share_siblings > 0:
        table["family"] = [f"family-{k + 1:04d}" for k in family]
    return _People(table, site, family)


def _draw_latent(people: _People, effect: float, affected: tuple[tuple[str, str], ...], rng: np.random.Generator) -> _Latent:
    table = people.table
    disease = np.zeros_like(_BASE)
    for first, second in affected:
        i, j = NETWORKS.index(first), NETWORKS.index(second)
        disease[i, j] = disease[j, i] = 1.0
    age, sex = (_symmetric(rng.normal(0.0, sd, size=_BASE.shape)) for sd in (_AGE_SD, _SEX_SD))
    patterns = _variation_patterns(disease, rng)
    spread = np.where(np.arange(len(patterns)) == 0, _DISEASE_DIRECTION_SD, _PATTERN_SD)
    own, shared = rng.normal(size=(2, len(table), len(patterns)))
    scores = spread * _with_siblings(own, shared, people.family)
    decades = (table["age"].to_numpy(dtype=float) - _REFERENCE_AGE) / 10
    male, patient = (table["sex"] == "male").to_numpy(dtype=float), (table["diagnosis"] == "patient").to_numpy(dtype=float)
    covariance = (
        _BASE
        + np.multiply.outer(decades, age)
        + np.multiply.outer(male, sex)
        + np.multiply.outer(patient, effect * disease)
        + np.tensordot(scores, patterns, axes=1)
    )
    return _Latent(age, sex, effect * disease, patterns, scores, _nearest_covariance(covariance))


def _symmetric(matrix: Floats) -> Floats:
    """The upper triangle mirrored, without a diagonal: effects act between networks."""
    upper = np.triu(matrix, k=1)
    mirrored: Floats = upper + upper.T
    return mirrored


def _variation_patterns(disease: Floats, rng: np.random.Generator) -> Floats:
    """Ways in which people differ: along the disease, and in threes of the other pairs of networks, each pair up or down `[P, K, K]`."""
    rows, columns = np.nonzero(np.triu(1 - disease, k=1))
    order = rng.permutation(len(rows))
    patterns = [disease]
    for start in range(0, len(order), _PAIRS_PER_PATTERN):
        chosen = order[start : start + _PAIRS_PER_PATTERN]
        pattern = np.zeros_like(disease)
        pattern[rows[chosen], columns[chosen]] = rng.choice([-1.0, 1.0], size=len(chosen))
        patterns.append(pattern + pattern.T)
    return np.stack(patterns)


def _with_siblings(own: Floats, shared: Floats, family: npt.NDArray[np.int64]) -> Floats:
    """Scores of which siblings share a part; the variance is the same for everybody."""
    counts = np.bincount(family, minlength=len(family))[family][:, None]
    mixed = np.sqrt(_HERITABLE) * shared[family] + np.sqrt(1 - _HERITABLE) * own
    return np.where(counts > 1, mixed, own)


def _nearest_covariance(covariance: Floats) -> Floats:
    """Eigenvalues lifted to a small positive one, where effects added up to something impossible."""
    values, vectors = np.linalg.eigh(covariance)
    lifted: Floats = (vectors * np.maximum(values, _SMALLEST_EIGENVALUE)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return lifted


def _seen_through(atlas: Atlas, field: SourceField) -> _View:
    weights = field.weights(atlas.centroids)
    strongest = (weights @ field.membership).argmax(axis=1)
    return _View(replace(atlas, networks=tuple(NETWORKS[k] for k in strongest)), weights)


def _scan(
    field: SourceField,
    people: _People,
    latent: _Latent,
    sites: Sequence[SimulatedSite],
    site_patterns: Floats,
    views: Mapping[str, _View],
    missing_rate: float,
    seed: int,
) -> tuple[dict[str, dict[str, npt.NDArray[np.float32]]], dict[str, dict[str, tuple[int, ...]]]]:
    """Time series and missing labels of every subject in every atlas. One subject at a time keeps memory at one field of sources."""
    values: dict[str, dict[str, npt.NDArray[np.float32]]] = {name: {} for name in views}
    missing: dict[str, dict[str, tuple[int, ...]]] = {name: {} for name in views}
    root = np.linalg.cholesky(latent.covariance)
    motion = people.table["motion"].to_numpy(dtype=float)
    for k, subject in enumerate(people.ids):
        site = sites[people.site[k]]
        rng = np.random.default_rng([seed, _STREAM["subject"], k])
        sources = source_signals(field, root[k], site, site_patterns[people.site[k]], motion[k], rng)
        for name, view in views.items():
            rng = np.random.default_rng([seed, _STREAM["atlas"], k, crc32(name.encode())])
            series = sources @ view.weights.T.astype(np.float32)
            series += site.noise * rng.standard_normal(series.shape, dtype=np.float32)
            absent = absent_regions(len(view.atlas), missing_rate, rng)
            series[:, absent] = np.nan
            values[name][subject] = series
            if absent.any():
                missing[name][subject] = tuple(view.atlas.labels[absent].tolist())
    return values, missing


def _cohort(
    name: str, people: _People, regions: dict[str, RegionData], sites: Sequence[SimulatedSite], label_fraction: float | None, seed: int
) -> Cohort:
    table = people.table.copy()
    if label_fraction is not None:
        kept = draw_labels(people.ids, table["diagnosis"].tolist(), label_fraction, seed=seed)
        table["diagnosis"] = table["diagnosis"].where(table.index.isin(kept))
    columns = [
        Column("diagnosis", "binary", "target", categories=("control", "patient")),
        Column("site", "categorical", "site", categories=tuple(sorted(site.name for site in sites))),
        Column("age", "continuous", "covariate", unit="years", valid_range=(0.0, 120.0)),
        Column("sex", "binary", "covariate", categories=("female", "male")),
        Column("motion", "continuous", "covariate", unit="mm"),
    ]
    if "family" in table:
        columns.append(Column("family", "categorical", "group"))
    rows = [row for data in regions.values() for row in missing_regions(data, people.ids)]
    excluded = pd.DataFrame(rows, columns=["what", "id", "reason"], dtype="str")
    return Cohort(name, table, Schema(columns), regions, excluded)


def _truth(
    field: SourceField,
    people: _People,
    latent: _Latent,
    affected: tuple[tuple[str, str], ...],
    sites: tuple[SimulatedSite, ...],
    site_patterns: Floats,
    views: Mapping[str, _View],
    missing: Mapping[str, Mapping[str, tuple[int, ...]]],
) -> GroundTruth:
    networks = {name: view.atlas.networks for name, view in views.items()}
    return GroundTruth(
        network_names=NETWORKS,
        source_coordinates=field.coordinates,
        source_networks=field.networks,
        base_covariance=_BASE.copy(),
        age_effect=latent.age,
        sex_effect=latent.sex,
        disease_effect=latent.disease,
        variation_patterns=latent.patterns,
        variation_scores=latent.scores,
        network_covariance=latent.covariance,
        diagnosis=people.table["diagnosis"].copy(),
        affected=affected,
        sites=sites,
        site_patterns=site_patterns,
        missing=missing,
        region_networks=networks,
        region_weights={name: view.weights for name, view in views.items()},
        affected_connections={name: _between(view.atlas, affected) for name, view in views.items()},
    )


def _between(atlas: Atlas, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.bool_]:
    """Which pairs of regions lie in one of the pairs of networks `[R, R]`."""
    networks = np.asarray(atlas.networks)
    connections = np.zeros((len(atlas), len(atlas)), dtype=bool)
    for first, second in pairs:
        connections |= np.outer(networks == first, networks == second)
    return connections | connections.T
