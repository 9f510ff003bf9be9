"""Maps between atlases by optimal transport: of the regions' volumes, or of activity, at the least cost in distance or in correlation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphssl.atlases.label_volume import LabelVolume, Parcellation, atlas_of, check_same_space
from graphssl.atlases.map import AtlasMap, identity_map
from graphssl.atlases.overlap import model_edge_error, overlap_volumes, resampling, same_parcellation
from graphssl.atlases.paired import PairedSubjects, common_length, held_out_error, mean_matrix
from graphssl.atlases.sinkhorn import Transport, sinkhorn
from graphssl.atlases.stack import stack_atlases
from graphssl.data.atlas import Atlas, check_atlas
from graphssl.data.regions import RegionData
from graphssl.errors import AtlasError, ConfigError, DataError

Floats = npt.NDArray[np.float64]
Cost = Literal["spatial", "functional"]


@dataclass(frozen=True, eq=False)
class Frames:
    """Time points of scans in two atlases.

    Args:
        source: z-scored signal of each source region `[F, R_s]`; NaN where a region is missing.
        target: The same time points in the target atlas `[F, R_t]`.
    """

    source: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]


def transport_map(
    source: Parcellation | Sequence[Parcellation],
    target: Parcellation,
    pairs: PairedSubjects | None = None,
    *,
    cost: Cost = "spatial",
    entropy: float | None = None,
    source_price: float | Literal["all"] | None = None,
    frames: Frames | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 20_000,
    device: str = "cpu",
) -> AtlasMap:
    """Each target region as the weighted mean of the source regions from which its volume, or its activity, is brought at the least cost.

    The plan of an entropic transport between two atlases, each target's part of it divided by its sum, is the map (Dadashkarimi et al., *Cross
    Atlas Remapping via Optimal Transport (CAROT)*, Medical Image Analysis 2023). Regions have their volume as mass where a label volume is given and
    equal masses else. Costs are divided by their mean, so that one entropy serves all atlases.

    - `"spatial"`: the squared distance of the centroids, which is the mean squared distance of the two regions' voxels but for terms of
      each region alone, and those move no mass. Needs no subjects.
    - `"functional"`: one minus the correlation of the two regions' series, averaged over subjects who have both atlases.

    With `frames`, as in CAROT, activity is transported: a region's mass at a time point is how far it lies above the lowest one of its atlas, and the
    maps of all time points are averaged.

    Atlases do not cover the same parts of the brain. With a `source_price`, mass of source regions that no target region near wants is left where
    it is at that price (unbalanced transport); `"all"` carries all of it, as CAROT does.

    Args:
        source: Parcellation of the data. Several are put side by side ([`stack_atlases`][graphssl.atlases.stack_atlases]), each with the same
            mass in all; the map is then for what [`stack_series`][graphssl.atlases.stack_series] gives.
        target: Parcellation of the result.
        pairs: Training subjects with time series in both atlases, for the functional cost.
        cost: What it costs to bring mass from one region to another.
        entropy: Weight of the plan's entropy in units of the mean cost, the smaller the sharper; when left out 0.02 for spatial and 0.08 for
            functional costs.
        source_price: Weight of the divergence between what is taken from source regions and what they have, in units of the mean cost, or `"all"`;
            when left out 0.03 for spatial and 0.2 for functional costs.
        frames: Time points of training subjects ([`draw_frames`][graphssl.atlases.draw_frames]) to transport the activity of.
        tolerance: Largest sum of absolute differences between a plan's marginals and the masses.
        max_iterations: Most iterations.
        device: Where to compute.

    Raises:
        AtlasError: If the atlases lie in different spaces, several sources have one name, or the subjects' data are in other atlases.
        ConfigError: If the cost is unknown, or the entropy, the price or the tolerance is not above zero.
        DataError: If the cost is functional and there are no series of training subjects, frames do not fit the atlases, or the tolerance is not
            reached.
    """
    settings = _settings(cost, entropy, source_price, tolerance, max_iterations)
    if not isinstance(source, Sequence) and same_parcellation(source, target):
        return identity_map(atlas_of(source))
    problem = _problem(source, target, pairs, cost)
    learned = pairs if cost == "functional" else None

    def fit(part: PairedSubjects | None) -> AtlasMap:
        fitted = _of_subjects(problem, part)
        if frames is None:
            shares, error = _of_masses([fitted], device, settings)[0]
        else:
            shares, error = _of_frames(fitted, frames, device, settings)
        return _map(fitted, part, shares, {**settings, "marginal error": error, "frames": 0 if frames is None else len(frames.source)})

    return fit(None) if learned is None else held_out_error(fit, learned, fit(learned))


def transport_maps(
    atlases: Sequence[tuple[Parcellation | Sequence[Parcellation], Parcellation]],
    *,
    entropy: float | None = None,
    source_price: float | Literal["all"] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 20_000,
    device: str = "cpu",
) -> list[AtlasMap]:
    """Maps of many pairs of atlases by spatial transport, all plans found in one batch.

    Args:
        atlases: Source, or several side by side, and target of each map.
        entropy: As for [`transport_map`][graphssl.atlases.transport_map], and so are the others.
        source_price: What leaving mass at its source costs.
        tolerance: Largest error of the marginals.
        max_iterations: Most iterations.
        device: Where to compute.

    Raises:
        AtlasError: If atlases lie in different spaces, or several sources have one name.
        ConfigError: If the entropy, the price or the tolerance is not above zero.
        DataError: If the tolerance is not reached.
    """
    settings = _settings("spatial", entropy, source_price, tolerance, max_iterations)
    problems = [_problem(source, target, None, "spatial") for source, target in atlases]
    solved = _of_masses(problems, device, settings)
    return [_map(problem, None, shares, {**settings, "marginal error": error}) for problem, (shares, error) in zip(problems, solved, strict=True)]


def draw_frames(source: RegionData, target: RegionData, n_frames: int, *, subjects: Sequence[str] | None = None, seed: int = 0) -> Frames:
    """Time points of training subjects in two atlases, drawn at random, each as likely as any other.

    Where one series lacks volumes (some pipelines drop the first), the ends are aligned.

    Args:
        source: Time series in the source atlas.
        target: Time series in the target atlas.
        n_frames: How many to draw; all, if there are fewer.
        subjects: Training subjects; all that have both when left out.
        seed: For drawing.

    Raises:
        ConfigError: If no frame is asked for.
        DataError: If nobody has both, the data are no time series, or two series differ in length by more than a tenth.
    """
    if n_frames < 1:
        raise ConfigError(f"Expected one frame or more, found {n_frames}. A hundred are enough for most atlases.")
    kinds = (source.provenance.kind, target.provenance.kind)
    chosen = [s for s in (source.values if subjects is None else subjects) if s in source.values and s in target.values]
    if kinds != ("timeseries", "timeseries") or not chosen:
        raise DataError(
            f"Expected subjects with time series in both {source.atlas.name!r} and {target.atlas.name!r}, found {len(chosen)} with {kinds[0]} and "
            f"{kinds[1]}. Transport the masses of the regions instead (frames=None)."
        )
    lengths = np.array([common_length(len(source.values[s]), len(target.values[s]), s) for s in chosen])
    drawn = np.sort(np.random.default_rng(seed).choice(lengths.sum(), min(n_frames, int(lengths.sum())), replace=False))
    ends = np.cumsum(lengths)
    owner = np.searchsorted(ends, drawn, side="right")
    back = ends[owner] - drawn  # counted from the end of the scan
    return Frames(*(np.concatenate([_z_scored(data, chosen[i])[-back[owner == i]] for i in np.unique(owner)]) for data in (source, target)))


_ENTROPY = {"spatial": 0.02, "functional": 0.08}
_PRICE = {"spatial": 0.03, "functional": 0.2}
# Time points whose plans are found together.
_FRAMES_TOGETHER = 64
# Of the range of a time point's activity, so that the region with the lowest has some mass, too.
_LEAST_ACTIVITY = 1e-2


@dataclass(frozen=True, eq=False)
class _Problem:
    source: Atlas
    target: Atlas
    volumes: tuple[LabelVolume, LabelVolume] | None
    source_mass: Floats
    target_mass: Floats
    cost: Floats


def _settings(cost: str, entropy: float | None, source_price: float | str | None, tolerance: float, max_iterations: int) -> dict[str, Any]:
    if cost not in get_args(Cost):
        raise ConfigError(f"Expected the cost of transport to be one of {', '.join(get_args(Cost))}; found {cost!r}.")
    price = _PRICE[cost] if source_price is None else source_price
    return {
        "cost": cost,
        "entropy": _ENTROPY[cost] if entropy is None else entropy,
        "source_price": None if price == "all" else price,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
    }


def _problem(source: Parcellation | Sequence[Parcellation], target: Parcellation, pairs: PairedSubjects | None, cost: str) -> _Problem:
    parts = list(source) if isinstance(source, Sequence) else [source]
    start = stack_atlases([atlas_of(part) for part in parts]) if isinstance(source, Sequence) else atlas_of(source)
    end = atlas_of(target)
    if cost == "functional":
        _check_pairs(pairs, start, end)
    elif start.space != end.space:
        raise AtlasError(
            f"Expected {start.name!r} and {end.name!r} in one space, found {start.space!r} and {end.space!r}. "
            "Give both with coordinates of the same space, or use the functional cost."
        )
    volumes = None
    if isinstance(source, LabelVolume) and isinstance(target, LabelVolume):
        check_same_space(source, target)
        volumes = source, target
    source_mass = np.concatenate([_mass(part) for part in parts]) / len(parts)
    apart = start.centroids[:, None].astype(np.float64) - end.centroids[None]
    return _Problem(start, end, volumes, source_mass, _mass(target), _scaled((apart**2).sum(axis=2)))


def _check_pairs(pairs: PairedSubjects | None, source: Atlas, target: Atlas) -> None:
    if pairs is None or pairs.cross is None:
        held = "none" if pairs is None else "matrices only"
        raise DataError(f"Expected training subjects with time series in both atlases for the functional cost, found {held}. Use the spatial cost.")
    check_atlas(pairs.source_atlas, source)
    check_atlas(pairs.target_atlas, target)


def _mass(part: Parcellation) -> Floats:
    sizes = part.n_voxels.astype(np.float64) if isinstance(part, LabelVolume) else np.ones(len(part))
    return sizes / sizes.sum()


def _of_subjects(problem: _Problem, pairs: PairedSubjects | None) -> _Problem:
    """The problem with the costs of subjects, where there are any; regions that none of them has take no part."""
    if pairs is None:
        return problem
    assert pairs.cross is not None
    seen = [np.isfinite(matrices).any(axis=(0, 2)) for matrices in (pairs.source, pairs.target)]
    source_mass, target_mass = problem.source_mass * seen[0], problem.target_mass * seen[1]
    cost = _scaled(1 - mean_matrix(pairs.cross))
    return replace(problem, cost=cost, source_mass=source_mass / source_mass.sum(), target_mass=target_mass / target_mass.sum())


def _scaled(cost: Floats) -> Floats:
    return np.asarray(cost / max(float(cost.mean()), 1e-12))


def _of_masses(problems: Sequence[_Problem], device: str, settings: dict[str, Any]) -> list[tuple[Floats, float]]:
    """Share of each target that comes from each source `[R_s, R_t]`, and the error of the plan, for every problem."""
    n_sources, n_targets = max((len(p.source) for p in problems), default=1), max((len(p.target) for p in problems), default=1)
    cost, source_mass, target_mass = (np.zeros((len(problems), *shape)) for shape in ((n_sources, n_targets), (n_sources,), (n_targets,)))
    for place, problem in enumerate(problems):
        n, m = problem.cost.shape
        cost[place, :n, :m], source_mass[place, :n], target_mass[place, :m] = problem.cost, problem.source_mass, problem.target_mass
    solved = _solved(cost, source_mass, target_mass, device, settings)
    shares, errors = _shares(solved.plans).cpu().numpy(), solved.marginal_error.tolist()
    return [(shares[i, : len(p.source), : len(p.target)], errors[i]) for i, p in enumerate(problems)]


def _of_frames(problem: _Problem, frames: Frames, device: str, settings: dict[str, Any]) -> tuple[Floats, float]:
    wanted = (len(problem.source), len(problem.target))
    if (frames.source.shape[1], frames.target.shape[1]) != wanted or len(frames.source) != len(frames.target):
        raise DataError(
            f"Expected frames [F, {wanted[0]}] and [F, {wanted[1]}], found {list(frames.source.shape)} and {list(frames.target.shape)}. "
            "Draw them from data in the two atlases."
        )
    source_mass, target_mass = _activity(frames.source), _activity(frames.target)
    total, worst = np.zeros(wanted), 0.0
    for start in range(0, len(source_mass), _FRAMES_TOGETHER):
        some = slice(start, start + _FRAMES_TOGETHER)
        cost = np.broadcast_to(problem.cost, (len(source_mass[some]), *wanted))
        solved = _solved(cost, source_mass[some], target_mass[some], device, settings)
        total += _shares(solved.plans).sum(dim=0).cpu().numpy()
        worst = max(worst, float(solved.marginal_error.max()))
    size = total.sum(axis=0)
    return np.divide(total, size, out=np.zeros_like(total), where=size > 0), worst


def _activity(frames: npt.NDArray[np.float32]) -> Floats:
    """Masses of the regions at each time point `[F, R]`: how far each lies above the lowest, none where a region is missing."""
    values = frames.astype(np.float64)
    low, high = np.nanmin(values, axis=1, keepdims=True), np.nanmax(values, axis=1, keepdims=True)
    mass = np.nan_to_num(values - low + _LEAST_ACTIVITY * np.maximum(high - low, 1e-6))
    return np.asarray(mass / mass.sum(axis=1, keepdims=True))


def _z_scored(data: RegionData, subject: str) -> npt.NDArray[np.float32]:
    values = np.where(data.observed[subject], data.values[subject], np.nan).astype(np.float64)
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0), dtype=np.float32)


def _solved(cost: Floats, source_mass: Floats, target_mass: Floats, device: str, settings: dict[str, Any]) -> Transport:
    # Apple's devices have no double precision.
    dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
    tensors = (torch.tensor(array, dtype=dtype, device=device) for array in (cost, source_mass, target_mass))
    return sinkhorn(*tensors, **{name: setting for name, setting in settings.items() if name != "cost"})


def _shares(plans: Tensor) -> Tensor:
    """Plans with every target's part divided by its sum; zero for targets without mass."""
    size = plans.sum(dim=1, keepdim=True)
    return torch.where(size > 0, plans / size, 0.0)


def _map(problem: _Problem, pairs: PairedSubjects | None, shares: Floats, record: dict[str, Any]) -> AtlasMap:
    weights = np.ascontiguousarray(shares.T)
    coverage, handed_out, edge_error, within = np.full(len(problem.target), np.nan), None, None, None
    if problem.volumes is not None:
        source, target = problem.volumes
        volumes = overlap_volumes(source, target)
        coverage = np.minimum(volumes.sum(axis=1) / (target.n_voxels * target.voxel_mm3), 1.0)
        handed_out = _handed_out(weights, problem.target_mass)
        record |= {"grid": resampling(source, target)}
    if pairs is not None:
        within = mean_matrix(pairs.source)
        edge_error = model_edge_error(_told(weights, within, pairs))
        record |= {"subjects": len(pairs), "alignment": pairs.note, "error": "from what the weights tell"}
    elif problem.volumes is not None:
        weights = weights * (coverage > 0)[:, None]
        edge_error = model_edge_error(coverage * np.minimum((weights * volumes / (source.n_voxels * source.voxel_mm3)).sum(axis=1), 1.0))
        record |= {"error": "from coverage"}
    return AtlasMap(
        problem.source,
        problem.target,
        weights,
        f"{record['cost']} transport",
        coverage,
        source_covariance=within,
        standardized=pairs is not None,
        shares=handed_out,
        edge_error=edge_error,
        record=record,
    )


def _handed_out(weights: Floats, target_mass: Floats) -> Floats:
    """Share of what is taken from each source region that is brought to each target region `[R_t, R_s]`."""
    brought = weights * target_mass[:, None]
    taken = brought.sum(axis=0)
    return np.divide(brought, taken, out=np.zeros_like(brought), where=taken > 0)


def _told(weights: Floats, within: Floats, pairs: PairedSubjects) -> Floats:
    """Squared correlation of each target region with its weighted mean of source regions `[R_t]`."""
    assert pairs.cross is not None
    variance = np.einsum("ij,jk,ik->i", weights, within, weights)
    shared = (weights * mean_matrix(pairs.cross).T).sum(axis=1)
    return np.divide(shared**2, variance, out=np.zeros_like(variance), where=variance > 1e-8)
