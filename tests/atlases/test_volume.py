"""Atlases from label volumes: the centre of mass of each label, whatever type the file has."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from nilearn.plotting import find_parcellation_cut_coords

from graphssl.atlases import atlas_from_table, atlas_from_volume
from graphssl.errors import AtlasError

# Oblique on purpose: a flipped and sheared grid shows a transposed affine.
AFFINE = np.array([[-3.0, 0.2, 0.0, 60.0], [0.1, 3.0, 0.0, -70.0], [0.0, 0.3, 2.5, -40.0], [0.0, 0.0, 0.0, 1.0]])


def blocks(labels: list[int]) -> npt.NDArray[np.int64]:
    """A volume in which each label is a small block."""
    volume = np.zeros((20, 22, 24), dtype=np.int64)
    for k, label in enumerate(labels):
        i, j = divmod(k, 4)
        volume[5 * i + 1 : 5 * i + 4, 5 * j + 1 : 5 * j + 3 + k % 2, 2 : 5 + 2 * k] = label
    return volume


def written(folder: Path, values: npt.NDArray[np.generic], name: str = "mine.nii.gz", affine: npt.NDArray[np.float64] = AFFINE) -> Path:
    path = folder / name
    image = nib.Nifti1Image(values, affine, dtype=values.dtype)
    nib.save(image, path)
    return path


def test_centroids_are_centres_of_mass_in_mm(tmp_path: Path) -> None:
    volume = blocks([4, 17, 300])
    atlas = atlas_from_volume(written(tmp_path, volume.astype(np.int16)))
    assert atlas.name == "mine"
    assert atlas.labels.tolist() == [4, 17, 300]
    for label, centroid in zip(atlas.labels, atlas.centroids, strict=True):
        slow = np.mean([(AFFINE @ [*voxel, 1])[:3] for voxel in np.argwhere(volume == label)], axis=0)
        np.testing.assert_allclose(centroid, slow, atol=1e-4)


def test_centroids_agree_with_nilearn(tmp_path: Path) -> None:
    # nilearn keeps one hemisphere and the largest component of a label and rounds to voxels; blocks of odd size on one side have none of these.
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-30, -30, -30]
    volume = np.zeros((20, 20, 20), dtype=np.int16)
    volume[2:5, 2:5, 2:5], volume[12:17, 7:10, 1:8], volume[14:17, 12:17, 9:12] = 3, 9, 700
    path = written(tmp_path, volume, affine=affine)
    coordinates, labels = find_parcellation_cut_coords(nib.load(path), return_label_names=True)
    atlas = atlas_from_volume(path)
    assert atlas.labels.tolist() == labels
    np.testing.assert_allclose(atlas.centroids, coordinates, atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_labels_above_127_do_not_wrap(tmp_path: Path, dtype: str) -> None:
    labels = [1, 128, 200, 255]
    assert atlas_from_volume(written(tmp_path, blocks(labels).astype(dtype))).labels.tolist() == labels


def test_labels_stored_with_a_scale_factor_are_whole_again(tmp_path: Path) -> None:
    path = tmp_path / "scaled.nii"
    image = nib.Nifti1Image(blocks([10, 2001, 9170]).astype(np.float64), AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, path)
    assert 0.1 < float(nib.load(path).dataobj.slope) < 0.5
    assert atlas_from_volume(path, name="aal").labels.tolist() == [10, 2001, 9170]


def test_probabilities_stored_with_a_scale_factor_are_not_taken_for_labels(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).uniform(0, 100, (9, 9, 9)), AFFINE)
    image.set_data_dtype(np.uint8)
    nib.save(image, tmp_path / "percent.nii")
    with pytest.raises(AtlasError, match="whole numbers as labels in .*percent.nii"):
        atlas_from_volume(tmp_path / "percent.nii")


def test_labels_that_wrapped_when_saved_are_refused(tmp_path: Path) -> None:
    wrapped = blocks([1, 200]).astype(np.uint8).view(np.int8)
    with pytest.raises(AtlasError, match=r"label ids from 1 up in .*mine.nii.gz, found \[-56\].*too narrow a type"):
        atlas_from_volume(written(tmp_path, wrapped))


def test_nan_outside_of_the_brain_is_background(tmp_path: Path) -> None:
    values = blocks([2, 5]).astype(np.float32)
    values[values == 0] = np.nan
    assert atlas_from_volume(written(tmp_path, values)).labels.tolist() == [2, 5]


def test_one_parcellation_of_a_four_dimensional_file(tmp_path: Path) -> None:
    both = np.stack([blocks([1, 2]), blocks([5, 6, 7])], axis=3).astype(np.int16)
    path = written(tmp_path, both)
    assert atlas_from_volume(path, index=1).labels.tolist() == [5, 6, 7]
    assert atlas_from_volume(written(tmp_path, both[..., :1], "one.nii")).labels.tolist() == [1, 2]
    assert atlas_from_volume(written(tmp_path, blocks([3]).astype(np.int16), "flat.nii"), index=0).labels.tolist() == [3]
    for index in (None, 2, -1):
        with pytest.raises(AtlasError, match=rf"one label volume in .*mine.nii.gz, found shape \(20, 22, 24, 2\) and index {index}"):
            atlas_from_volume(path, index=index)


@pytest.mark.parametrize(
    ("name", "text", "names", "networks"),
    [
        (
            "mine.json",
            json.dumps({"MetaData": {}, "rois": {"0": {"label": "empty"}, "4": {"label": "left"}, "9": {"label": None}}}),
            ("left", ""),
            ("", ""),
        ),
        ("mine.json", json.dumps({"4": "left", "9": "right", "10": "absent"}), ("left", "right"), ("", "")),
        ("mine.tsv", "index\tname\n0\tBackground\n9\tright\n4\tleft\n", ("left", "right"), ("", "")),
        ("mine.csv", "code,name,network\n9,right,Visual\n", ("", "right"), ("", "Visual")),
        # What BIDS keeps beside an image is no list of labels.
        ("mine.json", json.dumps({"RepetitionTime": 2.0, "Manufacturer": "x"}), ("", ""), ("", "")),
        ("mine.json", "[1, 2]", ("", ""), ("", "")),
        ("other.json", json.dumps({"4": "left"}), ("", ""), ("", "")),
    ],
)
def test_names_lie_beside_the_volume(tmp_path: Path, name: str, text: str, names: tuple[str, ...], networks: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text)
    atlas = atlas_from_volume(written(tmp_path, blocks([4, 9]).astype(np.int16)))
    assert atlas.names == names
    assert atlas.networks == networks


def test_names_may_lie_elsewhere(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("label,name\n4,left\n")
    assert atlas_from_volume(written(tmp_path, blocks([4]).astype(np.int16)), regions=table).names == ("left",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.json", '{"Name": "atlas"}', r"in .*labels.json, found no labels"),
        ("labels.json", "{", "JSON file with the names of labels at .*labels.json, found none or a damaged one"),
        ("labels.csv", "name\nleft\n", "column of label ids .* in .*labels.csv"),
    ],
)
def test_names_that_cannot_be_read_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AtlasError, match=message):
        atlas_from_volume(written(tmp_path, blocks([4]).astype(np.int16)), regions=tmp_path / name)
    with pytest.raises(AtlasError, match=r"at .*absent.json, found none"):
        atlas_from_volume(tmp_path / "mine.nii.gz", regions=tmp_path / "absent.json")


def test_volumes_that_are_no_parcellation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"an atlas volume at .*absent.nii, found none"):
        atlas_from_volume(tmp_path / "absent.nii")
    with pytest.raises(AtlasError, match=r"labelled voxels in .*zero.nii, found only background"):
        atlas_from_volume(written(tmp_path, np.zeros((3, 3, 3), np.int16), "zero.nii"))
    odd = blocks([1, 2]).astype(np.float32)
    odd[2, 2, 3] = 1.5
    with pytest.raises(AtlasError, match=r"whole numbers as labels in .*odd.nii, found 1.5 \(1 voxels are not whole\)"):
        atlas_from_volume(written(tmp_path, odd, "odd.nii"))
    with pytest.raises(AtlasError, match=r"whole numbers as labels in .*huge.nii, found inf|found 1.79"):
        atlas_from_volume(written(tmp_path, np.where(odd > 0, np.inf, 0).astype(np.float32), "huge.nii"))
    with pytest.raises(AtlasError, match=r"voxels of type complex64"):
        atlas_from_volume(written(tmp_path, odd.astype(np.complex64), "complex.nii"))
    with pytest.raises(AtlasError, match=r"one label volume in .*slice.nii, found shape \(20, 22\)"):
        atlas_from_volume(written(tmp_path, blocks([1])[:, :, 3].astype(np.int16), "slice.nii"))
    with pytest.raises(AtlasError, match=r"within ±150\) in .*far.nii"):
        atlas_from_volume(written(tmp_path, blocks([1]).astype(np.int16), "far.nii", AFFINE + np.eye(4, k=3) * 400))


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"])
def test_empty_and_damaged_files_are_refused(tmp_path: Path, content: bytes | str) -> None:
    path = written(tmp_path, np.random.default_rng(0).integers(0, 9, (30, 30, 30), dtype=np.int16))
    path.write_bytes(path.read_bytes()[:2000] if isinstance(content, str) else content)
    with pytest.raises(AtlasError, match=r"NIfTI label volume at .*mine.nii.gz, found an empty or damaged file"):
        atlas_from_volume(path)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["cc200", "aal116", "ho111"])
def test_centroids_of_the_real_volumes_are_those_of_the_tables(shared_data: Path, name: str) -> None:
    folder = shared_data / "brain" / "atlases"
    volume = atlas_from_volume(folder / "nifti_pcp_3mm" / f"{name}.nii.gz")
    table = atlas_from_table(folder / "coords" / f"pcp_{name}.csv").select(volume.labels)
    assert np.abs(volume.centroids - table.centroids).max() < 2.0


@pytest.mark.shared_data
def test_names_of_the_real_volumes_are_read(shared_data: Path) -> None:
    folder = shared_data / "brain" / "atlases" / "nifti_mni_2mm"
    assert atlas_from_volume(folder / "aal116.nii.gz").names[:2] == ("L_Precentral_gyrus", "R_Precentral_gyrus")
    assert len(atlas_from_volume(folder / "schaefer400.nii.gz")) == 400
