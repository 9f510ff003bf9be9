"""Files for BrainNet Viewer are read back as what they were written from."""

import numpy as np
import pytest

from graphssl.atlases import load_atlas
from graphssl.data import Atlas
from graphssl.datasets import read_array, save_brainnet_viewer
from graphssl.errors import AtlasError, DataError

CENTROIDS = np.array([[-40.5, 10.25, 3.0], [40, 10, 3], [0, -60, 20]])
ATLAS = Atlas("three", np.array([4, 8, 9]), ("Left V1", "Right_V1", ""), CENTROIDS, ("Visual", "Default", ""))


def test_round_trip(tmp_path):
    matrix = np.array([[0, 0.123456789, -2], [0.123456789, 0, 3e-7], [-2, 3e-7, 0]])
    nodes, edges = save_brainnet_viewer(tmp_path / "figures" / "a.b", ATLAS, matrix, np.array([1, 2.5, 3]))
    assert (nodes.name, edges.name) == ("a.b.node", "a.b.edge")
    values, names = read_array(edges)
    np.testing.assert_allclose(values, matrix, rtol=1e-6)
    assert names is None
    found = load_atlas(nodes)
    np.testing.assert_allclose(found.centroids, CENTROIDS, rtol=1e-6)
    assert found.names == ("Left_V1", "Right_V1", "")
    assert [line.split("\t")[3:5] for line in nodes.read_text().splitlines()] == [["2", "1"], ["1", "2.5"], ["0", "3"]]


def test_nodes_alone(tmp_path):
    assert [path.name for path in save_brainnet_viewer(tmp_path / "a", ATLAS)] == ["a.node"]


def test_what_is_refused(tmp_path):
    with pytest.raises(AtlasError, match=r"Expected matrix of shape \(3, 3\) for the 3 regions of 'three', found \(2, 2\)"):
        save_brainnet_viewer(tmp_path / "a", ATLAS, np.eye(2))
    with pytest.raises(AtlasError, match=r"Expected sizes of shape \(3,\)"):
        save_brainnet_viewer(tmp_path / "a", ATLAS, None, np.ones(4))
    with pytest.raises(DataError, match="Expected finite matrix, found NaN or infinite ones. Set what is not to be drawn to zero"):
        save_brainnet_viewer(tmp_path / "a", ATLAS, np.full((3, 3), np.nan))
    assert not list(tmp_path.iterdir())
