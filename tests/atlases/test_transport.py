"""Transport maps: known permutations are found, volumes and subjects count as told, a batch is what its parts are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from graphssl.atlases import (
    AtlasMap,
    Frames,
    PairedSubjects,
    convert_series,
    draw_frames,
    paired_subjects,
    stack_atlases,
    stack_series,
    transport_map,
    transport_maps,
)
from graphssl.atlases.sinkhorn import sinkhorn
from graphssl.atlases.transport import _activity
from graphssl.data import Atlas, Provenance, RegionData
from graphssl.errors import AtlasError, ConfigError, DataError

ORDER = np.array([3, 0, 5, 1, 4, 2])


def points(name: str, n_regions: int, seed: int = 0, space: str = "MNI152") -> Atlas:
    centroids = np.random.default_rng(seed).uniform(-60, 60, (n_regions, 3))
    return Atlas(name, np.arange(1, n_regions + 1), tuple(f"{name}{i}" for i in range(n_regions)), centroids, ("",) * n_regions, space)


ONE, TWO, THREE = points("a", 6), points("b", 6, seed=1), points("c", 6, seed=2)


def permuted(n_subjects: int = 12, noise: float = 0.3, seed: int = 0) -> tuple[RegionData, RegionData]:
    """The second atlas has the regions of the first in another order, with noise."""
    rng = np.random.default_rng(seed)
    first = {f"s{i}": rng.standard_normal((40 + i, 6)) for i in range(n_subjects)}
    second = {s: x[:, ORDER] + noise * rng.standard_normal(x.shape) for s, x in first.items()}
    return RegionData(ONE, first, Provenance("timeseries")), RegionData(TWO, second, Provenance("timeseries"))


@pytest.fixture(scope="module")
def pairs() -> PairedSubjects:
    return paired_subjects(*permuted())


def test_regions_at_the_same_places_are_carried_to_one_another() -> None:
    moved = Atlas("b", ONE.labels + 1, ONE.names, ONE.centroids + 1, ONE.networks)
    found = transport_map(ONE, moved, entropy=0.001, source_price="all")
    np.testing.assert_allclose(found.weights, np.eye(6), atol=1e-3)
    assert found.method == "spatial transport"
    assert not found.standardized
    assert np.isnan(found.coverage).all()
    assert found.shares is None
    assert transport_map(ONE, ONE).method == "identity"


def test_weights_of_a_target_sum_to_one_and_all_mass_is_taken() -> None:
    found = transport_map(points("a", 9), points("b", 5, seed=1), source_price="all", tolerance=1e-9)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    np.testing.assert_allclose(found.weights.sum(axis=0) / 5, 1 / 9, atol=1e-8)
    assert found.record["marginal error"] <= 1e-9


def test_volumes_count_by_their_mass_and_the_distance_of_all_their_voxels(make_volume) -> None:
    """Costs of the mean squared distance over all pairs of voxels give the plan that centroids give."""
    source, target = make_volume(9, seed=1), make_volume(7, seed=2)
    found = transport_map(source, target, source_price="all", entropy=0.05, tolerance=1e-10)
    voxels = [[np.argwhere(side.values == label) * 6.0 for label in side.atlas.labels] for side in (source, target)]
    squares = [[(x**2).sum(axis=1).mean() for x in side] for side in voxels]
    means = [np.stack([x.mean(axis=0) for x in side]) for side in voxels]
    apart = np.add.outer(*squares) - 2 * means[0] @ means[1].T
    mean = ((source.atlas.centroids[:, None] - target.atlas.centroids[None]) ** 2).sum(axis=2).mean()
    masses = [torch.tensor([[len(x) for x in side]]).double() for side in voxels]
    cost = torch.tensor(apart[None] / mean).double()
    plan = sinkhorn(cost, masses[0] / masses[0].sum(), masses[1] / masses[1].sum(), entropy=0.05, tolerance=1e-10).plans[0].numpy()
    np.testing.assert_allclose(found.weights, (plan / plan.sum(axis=0)).T, atol=1e-5)


def test_volumes_give_coverage_expected_error_and_shares(make_volume) -> None:
    source, target = make_volume(12, seed=1), make_volume(8, seed=2)
    lacking = source.select(source.atlas.labels[:9])
    found = transport_map(lacking, target)
    assert found.shares is not None
    np.testing.assert_allclose(found.shares.sum(axis=0), 1)
    assert found.coverage.min() < 0.9
    assert found.record["error"] == "from coverage"
    assert found.edge_error is not None
    assert np.corrcoef(found.coverage, found.region_error)[0, 1] < -0.3
    np.testing.assert_allclose(transport_map(source, target).coverage, 1)


def test_a_region_without_any_source_voxel_is_not_served(make_volume) -> None:
    source, target = make_volume(40, seed=1), make_volume(30, seed=2)
    near = np.linalg.norm(source.atlas.centroids - target.atlas.centroids[4], axis=1) < 60
    found = transport_map(source.select(source.atlas.labels[~near]), target)
    assert found.coverage[4] == 0
    assert not found.served[4]
    np.testing.assert_array_equal(found.served, found.coverage > 0)


def test_mass_that_nobody_near_wants_stays_unless_all_is_taken() -> None:
    centroids = np.array([[0, 0, 0], [10, 0, 0], [200, 0, 0]])
    source = Atlas("a", [1, 2, 3], ("x", "y", "z"), centroids, ("",) * 3)
    target = Atlas("b", [1, 2], ("x", "y"), centroids[:2], ("",) * 2)
    assert transport_map(source, target).weights[:, 2].max() < 1e-6
    assert transport_map(source, target, source_price="all").weights[:, 2].sum() > 0.5


@pytest.mark.parametrize("n_frames", [0, 150])
def test_a_permutation_is_found_from_series(pairs: PairedSubjects, n_frames: int) -> None:
    frames = draw_frames(*permuted(), n_frames) if n_frames else None
    found = transport_map(ONE, TWO, pairs, cost="functional", entropy=0.05, frames=frames)
    assert found.weights.argmax(axis=1).tolist() == ORDER.tolist()
    assert found.weights.max(axis=1).min() > 0.8
    assert found.standardized
    assert found.method == "functional transport"
    assert found.record["subjects"] == 12
    assert found.record["frames"] == n_frames
    assert found.record["error"] == "held-out subjects, 12 in 5 folds"


def test_the_cost_is_that_of_the_mean_correlation(pairs: PairedSubjects) -> None:
    first, second = permuted()
    cross = [[[np.corrcoef(first.values[s][:, i], second.values[s][:, j])[0, 1] for j in range(6)] for i in range(6)] for s in first.values]
    cost = 1 - np.mean(cross, axis=0)
    mass = torch.full((1, 6), 1 / 6).double()
    plan = sinkhorn(torch.tensor(cost / cost.mean())[None], mass, mass, entropy=0.1, source_price=0.5).plans[0].numpy()
    found = transport_map(ONE, TWO, pairs, cost="functional", entropy=0.1, source_price=0.5)
    np.testing.assert_allclose(found.weights, (plan / plan.sum(axis=0)).T, atol=1e-4)


def test_frames_are_the_mean_of_plans_of_activity(pairs: PairedSubjects) -> None:
    frames = draw_frames(*permuted(), 70, seed=3)
    found = transport_map(ONE, TWO, cost="spatial", entropy=0.1, source_price="all", frames=frames, tolerance=1e-9)
    apart = ((ONE.centroids[:, None].astype(float) - TWO.centroids[None]) ** 2).sum(axis=2)
    total = np.zeros((6, 6))
    for row in range(70):
        masses = [torch.tensor(_activity(side[[row]])) for side in (frames.source, frames.target)]
        plan = sinkhorn(torch.tensor(apart / apart.mean())[None], *masses, entropy=0.1, tolerance=1e-9).plans[0].numpy()
        total += plan / plan.sum(axis=0)
    np.testing.assert_allclose(found.weights, total.T / 70, atol=1e-7)


def test_frames_are_time_points_of_both_atlases_aligned_at_the_ends() -> None:
    first, second = permuted(noise=0.0)
    shorter = RegionData(TWO, {s: x[2:] for s, x in second.values.items()}, Provenance("timeseries"))
    every = draw_frames(first, shorter, 10_000, subjects=["s3", "s0", "nobody"])
    assert len(every.source) == 38 + 41
    whole = first.values["s3"]
    np.testing.assert_allclose(every.source[:41], ((whole - whole.mean(axis=0)) / whole.std(axis=0))[2:], atol=1e-4)
    assert np.corrcoef(every.source[:, ORDER].ravel(), every.target.ravel())[0, 1] > 0.99
    drawn = draw_frames(first, shorter, 20, seed=1)
    assert len(drawn.target) == 20
    np.testing.assert_array_equal(drawn.source, draw_frames(first, shorter, 20, seed=1).source)
    assert not np.array_equal(drawn.source, draw_frames(first, shorter, 20, seed=2).source)


def test_activity_lies_above_the_lowest_region_and_is_none_where_there_is_no_region() -> None:
    mass = _activity(np.array([[-1.0, 3.0, 1.0, np.nan]], np.float32))
    assert mass[0, 3] == 0
    assert mass.sum() == pytest.approx(1)
    np.testing.assert_allclose(mass[0, :3], np.array([0.04, 4.04, 2.04]) / 6.12)


def test_a_region_no_training_subject_has_takes_no_part() -> None:
    lacking = []
    for data, region in zip(permuted(), (1, 0), strict=True):
        values = {s: np.where(np.arange(6) == region, np.nan, x) for s, x in data.values.items()}
        lacking.append(RegionData(data.atlas, values, data.provenance))
    for frames in (None, draw_frames(*lacking, 30)):
        found = transport_map(ONE, TWO, paired_subjects(*lacking), cost="functional", entropy=0.05, frames=frames)
        assert found.served.tolist() == [False] + [True] * 5
        assert (found.weights[:, 1] == 0).all()


def test_a_batch_of_atlases_gives_what_each_pair_gives(make_volume) -> None:
    atlases = [(ONE, TWO), (points("d", 11, seed=4), TWO), (make_volume(9, seed=1), make_volume(7, seed=2)), ([ONE, THREE], TWO)]
    for (source, target), found in zip(atlases, transport_maps(atlases, tolerance=1e-10), strict=True):
        alone = transport_map(source, target, tolerance=1e-10)
        np.testing.assert_allclose(found.weights, alone.weights, atol=1e-8)
        assert (found.source.name, found.target.name) == (alone.source.name, alone.target.name)
    assert transport_maps([]) == []


def test_several_sources_side_by_side_share_the_mass() -> None:
    found = transport_map([ONE, points("d", 3, seed=4)], TWO, source_price="all", entropy=0.1, tolerance=1e-9)
    assert found.source.hash == stack_atlases([ONE, points("d", 3, seed=4)]).hash
    np.testing.assert_allclose(found.weights[:, :6].sum() / 6, 0.5, atol=1e-8)


def test_several_sources_are_learned_from_their_series() -> None:
    """Each region of the third atlas is one of the first and one of the second together."""
    first, second = permuted()
    rng = np.random.default_rng(5)
    partner = np.argsort(ORDER)[[1, 2, 3, 4, 5, 0]]  # where the second atlas has the next region of the first
    mixed = {s: x + second.values[s][:, partner] + 0.3 * rng.standard_normal(x.shape) for s, x in first.values.items()}
    both = stack_series([first, second])
    learned = paired_subjects(both, RegionData(THREE, mixed, Provenance("timeseries")))
    found = transport_map([ONE, TWO], THREE, learned, cost="functional", entropy=0.03)
    for target in range(6):
        alike = {target, (target + 1) % 6, 6 + partner[target], 6 + np.argsort(ORDER)[target]}
        assert set(np.argsort(-found.weights[target])[:4]) == alike
    assert convert_series(found, both.values["s1"]).shape == (41, 6)


def test_a_map_is_saved_with_how_it_was_made(pairs: PairedSubjects, tmp_path: Path) -> None:
    found = transport_map(ONE, TWO, pairs, cost="functional", source_price="all")
    again = AtlasMap.load(found.save(tmp_path / "map"))
    np.testing.assert_array_equal(again.weights, found.weights)
    assert again.record == found.record
    assert again.record["source_price"] is None
    assert again.record["entropy"] == 0.08


def test_wrong_options_are_told() -> None:
    with pytest.raises(ConfigError, match=r"cost of transport to be one of spatial, functional; found 'temporal'"):
        transport_map(ONE, TWO, cost="temporal")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Expected an entropy above 0"):
        transport_map(ONE, TWO, entropy=0.0)
    with pytest.raises(ConfigError, match=r"Expected one frame or more, found 0"):
        draw_frames(*permuted(), 0)


def test_wrong_atlases_and_data_are_told(pairs: PairedSubjects) -> None:
    with pytest.raises(AtlasError, match=r"Expected 'a' and 'd' in one space, found 'MNI152' and 'fsaverage'"):
        transport_map(ONE, points("d", 4, space="fsaverage"))
    with pytest.raises(DataError, match=r"time series in both atlases for the functional cost, found none"):
        transport_map(ONE, TWO, cost="functional")
    matrices = PairedSubjects(ONE, TWO, pairs.subjects, pairs.source, pairs.target)
    with pytest.raises(DataError, match=r"time series in both atlases for the functional cost, found matrices only"):
        transport_map(ONE, TWO, matrices, cost="functional")
    with pytest.raises(AtlasError, match=r"Expected atlas 'b' with 6 regions"):
        transport_map(ONE, THREE, pairs, cost="functional")
    with pytest.raises(DataError, match=r"marginals are off by at most 1e-06 after 20 iterations"):
        transport_map(ONE, TWO, entropy=0.002, max_iterations=20, source_price="all")
    with pytest.raises(DataError, match=r"Expected frames \[F, 6\] and \[F, 6\], found \[3, 6\] and \[3, 5\]"):
        transport_map(ONE, TWO, frames=Frames(np.zeros((3, 6), np.float32), np.zeros((3, 5), np.float32)))
    first, second = permuted()
    with pytest.raises(DataError, match=r"Expected subjects with time series in both 'a' and 'b', found 0 with timeseries and timeseries"):
        draw_frames(first, second, 3, subjects=["nobody"])
    with pytest.raises(DataError, match=r"one scan of subject 's0' in both atlases, found 40 and 20 time points"):
        draw_frames(first, RegionData(TWO, {"s0": second.values["s0"][:20]}, Provenance("timeseries")), 3)
