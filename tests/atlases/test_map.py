import numpy as np
import pytest

from graphssl.atlases import AtlasMap, Correction, overlap_map, simulated_atlas
from graphssl.atlases.map import identity_map
from graphssl.data import Atlas
from graphssl.errors import AtlasError, CheckpointError


def some_map(seed=0, **changes):
    source, target = simulated_atlas(6), simulated_atlas(4)
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((4, 4))
    parts = {
        "weights": rng.standard_normal((4, 6)),
        "method": "made up",
        "coverage": np.array([1.0, 0.5, np.nan, 0.0]),
        "unexplained": root @ root.T,
        "source_covariance": np.eye(6),
        "standardized": True,
        "correction": Correction(np.eye(6), rng.standard_normal((2, 6, 6)), rng.standard_normal((2, 4, 4))),
        "edge_error": np.abs(root),
        "record": {"subjects": 3, "alignment": ""},
    }
    return AtlasMap(source, target, **{**parts, **changes})


def test_a_saved_map_comes_back(tmp_path):
    saved = some_map()
    found = AtlasMap.load(saved.save(tmp_path / "deep" / "map"))
    assert (tmp_path / "deep" / "map.safetensors").is_file()
    assert found.source.hash == saved.source.hash
    assert found.target.hash == saved.target.hash
    for name in ("weights", "unexplained", "source_covariance"):
        assert (getattr(found, name) == getattr(saved, name)).all()
    assert np.allclose(found.edge_error, saved.edge_error, atol=1e-6)
    assert np.allclose(found.correction.edges, saved.correction.edges, atol=1e-6)
    assert np.array_equal(found.coverage, saved.coverage, equal_nan=True)
    assert (found.method, found.standardized, found.record) == ("made up", True, {"subjects": 3, "alignment": ""})
    assert found.shares is None


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = some_map().save(tmp_path / "map.safetensors")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(CheckpointError, match=r"Expected an atlas map in .*map\.safetensors"):
        AtlasMap.load(path)


def test_weights_of_something_else_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"weights": np.ones((2, 2))}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="truncated file or another one"):
        AtlasMap.load(tmp_path / "other.safetensors")


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="found no file"):
        AtlasMap.load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.ones((6, 4))}, r"Expected weights of the shape \(4, 6\)"),
        ({"coverage": np.ones(3)}, r"Expected coverage of the shape \(4,\)"),
        ({"weights": np.full((4, 6), np.nan)}, "Expected finite weights"),
        ({"unexplained": np.full((4, 4), np.inf)}, "Expected finite unexplained"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(AtlasError, match=message):
        some_map(**changes)


def test_a_row_of_zeros_is_a_region_not_served():
    weights = np.ones((4, 6))
    weights[2] = 0
    found = some_map(weights=weights)
    assert found.served.tolist() == [True, True, False, True]
    assert "1 regions not served" in repr(found)
    assert np.isnan(found.region_error[2])
    error = found.edge_error
    assert found.region_error[0] == pytest.approx(np.sqrt((error[0, 1] ** 2 + error[0, 3] ** 2) / 2))


def test_nothing_known_of_the_error_is_nan():
    assert np.isnan(some_map(edge_error=None).region_error).all()


def test_chaining_is_the_product(make_volume):
    a, b, c = make_volume(20, seed=1, name="a"), make_volume(12, seed=2, name="b"), make_volume(6, seed=3, name="c")
    first, second = overlap_map(a, b), overlap_map(b, c)
    chained = first.then(second)
    assert np.allclose(chained.weights, second.weights @ first.weights)
    assert np.allclose(chained.shares, second.shares @ first.shares)
    assert (chained.source.name, chained.target.name) == ("a", "c")
    assert np.allclose(chained.coverage, 1)
    assert chained.record["through"] == "b"


def test_coverage_and_what_is_unexplained_go_through_a_chain():
    first = some_map(coverage=np.array([1.0, 0.5, 1.0, 0.0]))
    second = AtlasMap(first.target, simulated_atlas(2), np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]), "mean", np.array([1.0, 0.5]))
    chained = first.then(second)
    assert np.allclose(chained.coverage, [0.75, 0.25])
    assert np.allclose(chained.unexplained, second.weights @ first.unexplained @ second.weights.T)


def test_a_chain_that_does_not_meet_is_refused():
    with pytest.raises(AtlasError, match="Expected atlas 'simulated4'"):
        some_map().then(some_map())


def test_another_atlas_of_the_same_name_is_not_the_one_of_the_map():
    other = Atlas("simulated4", [1, 2, 3, 9], ("",) * 4, simulated_atlas(4).centroids, ("",) * 4)
    second = AtlasMap(other, simulated_atlas(2), np.ones((2, 4)), "mean", np.ones(2))
    with pytest.raises(AtlasError, match="hash"):
        some_map().then(second)


def test_the_identity_leaves_everything():
    found = identity_map(simulated_atlas(5))
    assert (found.weights == np.eye(5)).all()
    assert (found.region_error == 0).all()
