"""Atlases from tables: which column is what, and which rows are no regions."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import atlas_from_table
from graphssl.atlases.table import read_region_table
from graphssl.errors import AtlasError


def written(folder: Path, text: str, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_code_is_preferred_to_the_row_number(tmp_path: Path) -> None:
    text = "index,code,name,x,y,z,hemi,yeo7\n0,2001,Precentral_L,-38.4,-7.6,52.7,L,Somatomotor\n1,9170,Vermis_10,0.4,-46,-32,M,none\n"
    atlas = atlas_from_table(written(tmp_path, text))
    assert atlas.name == "mine"
    assert atlas.labels.tolist() == [2001, 9170]
    assert atlas.names == ("Precentral_L", "Vermis_10")
    assert atlas.networks == ("Somatomotor", "")
    np.testing.assert_allclose(atlas.centroids, [[-38.4, -7.6, 52.7], [0.4, -46, -32]], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "labels", "names", "networks"),
    [
        # The centroids the authors of Schaefer 2018 publish.
        (
            "a.csv",
            "ROI Label,ROI Name,R,A,S\n1,7Networks_LH_Vis_1,-24,-53,-9\n2,7Networks_LH_Vis_2,-26,-77,-14\n",
            [1, 2],
            ("7Networks_LH_Vis_1", "7Networks_LH_Vis_2"),
            ("", ""),
        ),
        # Look-up tables of BIDS count the background.
        ("a.tsv", "index\tname\tx\ty\tz\n0\tBackground\tn/a\tn/a\tn/a\n4\tleft\t-1\t2\t3\n", [4], ("left",), ("",)),
        # A column `label` of words holds names.
        ("a.csv", "label,id,x,y,z,network\nV1,7,1,2,3,Visual\nM1,3,4,5,6,nan\n", [7, 3], ("V1", "M1"), ("Visual", "")),
        ("a.csv", "ROI,X,Y,Z\n1,-25,-98,-12\n2,27,-97,-13\n", [1, 2], ("", ""), ("", "")),
        ("a.csv", "number,x,y,z,name,network\n5,6,64,3,vmPFC,default\n", [5], ("vmPFC",), ("default",)),
        # Rows counted from zero.
        ("a.csv", "index,x,y,z\n0,-24.95,1.22,1.28\n1,-43,-9,-2\n", [1, 2], ("", ""), ("", "")),
        ("a.csv", "\ufefflabel,region,mni_x,mni_y,mni_z\n10.0,Thalamus,-9.8,-19.6,8.9\n", [10], ("Thalamus",), ("",)),
        ("a.node", "#two nodes\n-38.65\t-5.68\t50.94\t4\t3\tPreCG.L\n\n0 -46 -32 1.0 1.0 -\n", [1, 2], ("PreCG.L", ""), ("", "")),
        ("a.node", "1 2 3 4 5\n", [1], ("",), ("",)),
        ("a.csv", "label;name;x;y;z\n4;links, vorn;-1,5;2;3,25\n", [4], ("links, vorn",), ("",)),
        ("a.csv", "label\tname\tx\ty\tz\n4\tleft\t-1\t2\t3\n", [4], ("left",), ("",)),
    ],
)
def test_layouts_of_the_field_are_read(
    tmp_path: Path, name: str, text: str, labels: list[int], names: tuple[str, ...], networks: tuple[str, ...]
) -> None:
    atlas = atlas_from_table(written(tmp_path, text, name), name="other")
    assert atlas.name == "other"
    assert atlas.labels.tolist() == labels
    assert atlas.names == names
    assert atlas.networks == networks


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20, unique=True), st.integers(0, 100))
def test_labels_and_places_survive_a_round_trip(tmp_path_factory: pytest.TempPathFactory, labels: list[int], seed: int) -> None:
    places = np.random.default_rng(seed).uniform(-70, 70, (len(labels), 3)).round(2)
    rows = [f"{label},{x},{y},{z}" for label, (x, y, z) in zip(labels, places.tolist(), strict=True)]
    path = written(tmp_path_factory.mktemp("atlas"), "\n".join(["label,x,y,z", *rows]))
    atlas = atlas_from_table(path)
    assert atlas.labels.tolist() == labels
    np.testing.assert_allclose(atlas.centroids, places, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "Expected regions in .*a.csv, found an empty file"),
        ("a.node", "", "Expected regions in .*a.node, found an empty file"),
        ("a.csv", "\n\n", "Expected a table of regions in .*a.csv, found something else"),
        ("a.csv", "label,x,y,z\n", "Expected a column of label ids .*a.csv, found the columns .* and 0 rows"),
        ("a.csv", "label,name,x,y,z\n0,Background,0,0,0\n", "Expected regions in .*a.csv, found none"),
        ("a.node", "# nothing\n", "Expected regions in .*a.node, found only comments"),
        ("a.csv", "name,x,y,z\nV1,1,2,3\n", r"column of label ids .*code, label.* in .*a.csv, found the columns \['name', 'x', 'y', 'z'\]"),
        ("a.csv", "label,name\n1,V1\n", "Expected the columns x, y and z .* in .*a.csv, found none"),
        ("a.csv", "label,x,y,z\n1,1,2,3\n1,4,5,6\n", r"each label id once in .*a.csv, found \[1\] repeated"),
        ("a.csv", "label,x,y,z\n1,1,2,3\n2.5,4,5,6\n", "whole numbers as label ids in column 'label' of .*a.csv, found '2.5' in row 2"),
        ("a.csv", "label,x,y,z\n1,1,2,3\n,4,5,6\n", "whole numbers as label ids .*, found '' in row 2"),
        ("a.csv", "label,x,y,z\n1,1,2,3\nV1,4,5,6\n", "Expected numbers in column 'label' of .*a.csv, found 'V1'"),
        ("a.csv", "label,x,y,z\n-3,1,2,3\n", r"label ids from 1 up in .*a.csv, found \[-3\]"),
        ("a.csv", "code,x,y,z\n0,1,2,3\n", r"label ids from 1 up in .*a.csv, found \[0\]"),
        ("a.csv", "index,x,y,z\n0,1,2,3\n-1,1,2,3\n", r"label ids from 1 up in .*a.csv, found \[0\]"),
        ("a.csv", "label,x,y,z\n1,1,,3\n", r"coordinates of every region in .*a.csv, found none for labels \[1\]"),
        ("a.csv", "label,x,y,z\n1,1,left,3\n", "Expected numbers in column 'y' of .*a.csv, found 'left'"),
        ("a.csv", "label,x,y,z\n7,1,400,3\n", r"within ±150\) in .*a.csv, found \[1.0, 400.0, 3.0\] for label 7"),
        ("a.csv", "label,x,y\n1,1,2,3\n2,3,4,5\n", "as many cells in every row of .*a.csv as in its header"),
        ("a.csv", "label,x,y,z\n1,1,2,3\n2,3,4,5,6,7\n", "Expected as many cells in every row of .*a.csv as in its header"),
        ("a.node", "1 2 3\n", "x, y, z, colour, size and name in each row of .*a.node, found '1 2 3'"),
        ("a.node", "1 2 left 4 5 V1\n", "Expected numbers .* of .*a.node, found 'left'"),
    ],
)
def test_files_that_are_no_atlas_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(AtlasError, match=message):
        atlas_from_table(written(tmp_path, text, name))


@pytest.mark.parametrize("name", ["absent.csv", "absent.tsv", "absent.node"])
def test_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AtlasError, match=f"Expected an atlas file at .*{name}, found none"):
        atlas_from_table(tmp_path / name)


@pytest.mark.parametrize(("name", "message"), [("a.csv", "Expected a table of regions"), ("a.node", "Expected a BrainNet Viewer node file")])
def test_binary_files_are_refused(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(bytes([0xFF, 0x80, 0xFE, 0x00]) * 20)
    with pytest.raises(AtlasError, match=message):
        atlas_from_table(path)


def test_a_table_without_coordinates_still_names_labels(tmp_path: Path) -> None:
    table = read_region_table(written(tmp_path, "index\tname\n0\tBackground\n17\tAmygdala\n", "a.tsv"))
    assert table[["label", "name"]].to_numpy().tolist() == [[0, "Background"], [17, "Amygdala"]]
    assert "x" not in table


@pytest.mark.shared_data
def test_every_table_of_the_real_atlases_is_read(shared_data: Path) -> None:
    paths = sorted((shared_data / "brain" / "atlases" / "coords").iterdir())
    assert len(paths) > 15
    for path in paths:
        atlas = atlas_from_table(path)
        n_rows = sum(not line.startswith("#") for line in path.read_text().splitlines() if line.strip()) - (path.suffix == ".csv")
        assert len(atlas) == n_rows, path
        assert "none" not in atlas.network_names
