"""One door to all atlases: names, files, pairs of both."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from graphssl.atlases import list_atlases, load_atlas, simulated_atlas
from graphssl.errors import AtlasError


def table(folder: Path, name: str = "mine.csv") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("label,x,y,z\n3,1,2,3\n")
    return path


def test_shipped_names_are_loaded() -> None:
    assert list_atlases() == ("dosenbach160", "power264", "seitzman300")
    for name in list_atlases():
        assert load_atlas(name).name == name


def test_a_simulated_atlas_is_made_by_name() -> None:
    np.testing.assert_array_equal(load_atlas("simulated12").centroids, simulated_atlas(12).centroids)
    assert load_atlas("simulated12-5").name == simulated_atlas(12, seed=5).name
    np.testing.assert_array_equal(load_atlas("simulated12-5").centroids, simulated_atlas(12, seed=5).centroids)


def test_an_atlas_is_returned_and_may_be_renamed() -> None:
    atlas = simulated_atlas(4)
    assert load_atlas(atlas) is atlas
    assert load_atlas(atlas, name="mine").name == "mine"
    assert load_atlas("power264", name="power").name == "power"


def test_files_are_loaded_by_their_ending(tmp_path: Path) -> None:
    volume = tmp_path / "blocks.NII.gz"
    values = np.zeros((4, 4, 4), dtype=np.int16)
    values[1, 1, 1] = 8
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "blocks.nii.gz")
    (tmp_path / "blocks.nii.gz").rename(volume)
    assert load_atlas(volume).labels.tolist() == [8]
    assert load_atlas(table(tmp_path)).name == "mine"
    assert load_atlas(str(table(tmp_path)), name="other").name == "other"


def test_a_name_and_a_path_in_one(tmp_path: Path) -> None:
    assert load_atlas(f"ours={table(tmp_path)}").name == "ours"
    assert load_atlas(f"ours={table(tmp_path)}", name="theirs").name == "theirs"
    assert load_atlas("ours=power264").name == "ours"
    # An equals sign in a folder's name is part of the path.
    assert load_atlas(table(tmp_path, "a=b/mine.csv")).name == "mine"


def test_unknown_names_get_the_nearest_known_one() -> None:
    with pytest.raises(AtlasError, match=r"found 'powr264'. Did you mean 'power264'\?"):
        load_atlas("powr264")
    with pytest.raises(AtlasError, match=r"found '§'. Names of files are looked for"):
        load_atlas("§")


def test_what_must_be_downloaded_is_not() -> None:
    with pytest.raises(AtlasError, match=r"found 'schaefer200', which has to be downloaded. Call graphssl.atlases.fetch_atlas\('schaefer200'\)"):
        load_atlas("schaefer200")


def test_missing_and_unknown_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"Expected an atlas file at .*absent.csv, found none"):
        load_atlas(tmp_path / "absent.csv")
    with pytest.raises(AtlasError, match=r"Expected an atlas as .csv, .tsv, .node, .nii, .nii.gz, found .*labels.gii"):
        load_atlas(tmp_path / "labels.gii")


def test_names_are_looked_for_in_folders_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "deep", "power264.csv")
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(tmp_path))
    assert load_atlas("power264").labels.tolist() == [3]
    assert load_atlas("power264").name == "power264"
    assert len(load_atlas("dosenbach160")) == 160


def test_two_files_of_one_name_are_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "one")
    table(tmp_path / "two")
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(tmp_path))
    with pytest.raises(AtlasError, match="They may be different parcellations of one name"):
        load_atlas("mine")
    monkeypatch.setenv("GRAPHSSL_ATLASES", f"{tmp_path / 'two'}:{tmp_path}")
    assert load_atlas("mine").labels.tolist() == [3]


def test_a_folder_of_atlases_that_is_absent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(tmp_path / "absent"))
    with pytest.raises(AtlasError, match="Expected folders of atlases in GRAPHSSL_ATLASES"):
        load_atlas("mine")
