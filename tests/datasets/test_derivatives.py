"""Output of pipelines and toolboxes as a cohort; the layouts themselves are in test_layouts.py."""

import numpy as np
import pytest

from graphssl.data import Atlas
from graphssl.datasets import load_derivatives
from graphssl.datasets.derivatives import FINDERS, find_scans
from graphssl.datasets.listing import list_files
from graphssl.errors import ConfigError, DataError


def test_a_region_below_the_coverage_threshold_is_not_observed(write_layout, atlas):
    folder, _ = write_layout("xcpd")
    cohort = load_derivatives(folder, atlases=[atlas], target="diagnosis", site="site")
    assert cohort.ids == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert cohort.subjects["diagnosis"].tolist() == ["a", "b", "a", "b"]
    observed = cohort.regions[atlas.name].observed
    assert [int((~seen).sum()) for seen in observed.values()] == [0, 1, 0, 0]
    rows = cohort.excluded.to_numpy().tolist()
    assert ["region", "sub-02", "1 of 20 regions of simulated20 without signal: 4"] in rows
    assert ["file", "pearsoncorrelation relmat.tsv (4 files)", "timeseries.tsv was read instead"] in rows


def test_matrices_are_read_where_they_are_asked_for(write_layout, atlas):
    folder, _ = write_layout("xcpd")
    data = load_derivatives(folder, atlases=[atlas], kind="correlation").regions[atlas.name]
    assert (data.provenance.kind, data.provenance.diagonal, data.provenance.pipeline) == ("correlation", "one", "xcp_d 0.7.3")
    assert [int((~seen).sum()) for seen in data.observed.values()] == [0, 1, 0, 0]


def test_a_sidecar_at_the_root_tells_the_length(write_layout, atlas):
    folder, _ = write_layout("giga_connectome")
    data = load_derivatives(folder, atlases=[atlas], select=["desc-scrubbing5"]).regions[atlas.name]
    assert data.provenance.n_timepoints == (120, 120)


def test_nodes_of_a_graph_are_matched_by_name(write_layout, atlas):
    folder, _ = write_layout("graphml")
    turned = Atlas(atlas.name, atlas.labels[::-1], atlas.names[::-1], atlas.centroids[::-1], atlas.networks)
    one = load_derivatives(folder, atlases=[atlas], kind="streamline count").regions[atlas.name].values["sub-01"]
    other = load_derivatives(folder, atlases=[turned], kind="streamline count").regions[atlas.name].values["sub-01"]
    np.testing.assert_array_equal(one, other[::-1, ::-1])


def test_one_triangle_is_mirrored_and_counts_may_be_tamed(write_layout, atlas):
    folder, _ = write_layout("mrtrix")
    counts = load_derivatives(folder, atlases=[atlas], kind="streamline count").regions[atlas.name]
    tamed = load_derivatives(folder, atlases=[atlas], kind="streamline count", log1p=True).regions[atlas.name]
    for subject, matrix in counts.values.items():
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_allclose(tamed.values[subject], np.log1p(matrix), rtol=1e-6)
    assert tamed.provenance.kind == "log streamline count"


def test_layouts_by_name(write_layout, atlas, tmp_path):
    folder, _ = write_layout("dpabi")
    assert find_scans(list_files(folder))[0] == "dpabi"
    with pytest.raises(DataError, match="Expected files of the layout gretna in .*, found none among 20"):
        load_derivatives(folder, atlases=[atlas], layout="gretna")
    with pytest.raises(ConfigError, match=f"Expected a layout among {', '.join(FINDERS)}; found 'fsl'"):
        load_derivatives(folder, atlases=[atlas], layout="fsl")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="Expected files of one of the layouts bids, conn"):
        load_derivatives(tmp_path / "notes.txt", atlases=[atlas])
