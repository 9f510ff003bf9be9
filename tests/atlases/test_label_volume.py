import nibabel as nib
import numpy as np
import pytest

from graphssl.atlases import load_label_volume
from graphssl.atlases.label_volume import LabelVolume, atlas_of, check_same_space
from graphssl.data import Atlas
from graphssl.errors import AtlasError


def write(volume, path):
    nib.save(nib.Nifti1Image(volume.values.astype(np.int16), volume.affine), path)
    return path


def test_a_file_comes_back_with_its_voxels(tmp_path, make_volume):
    volume = make_volume(7)
    found = load_label_volume(write(volume, tmp_path / "seven.nii.gz"), name="seven")
    assert found.atlas.name == "seven"
    assert found.atlas.labels.tolist() == [10, 20, 30, 40, 50, 60, 70]
    assert (found.values == volume.values).all()
    assert found.voxel_mm3 == pytest.approx(216)
    assert found.n_voxels.tolist() == [int((volume.values == label).sum()) for label in found.atlas.labels]
    assert "7 regions" in repr(found)
    assert "6×6×6 mm" in repr(found)


def test_places_follow_the_order_of_the_atlas(make_volume):
    volume = make_volume(5).select([30, 10])
    assert set(np.unique(volume.places)) == {-1, 0, 1}
    assert ((volume.places == 0) == (volume.values == 30)).all()
    assert ((volume.places == 1) == (volume.values == 10)).all()


def test_a_sample_is_spread_over_each_region_and_the_same_every_time(make_volume):
    volume = make_volume(6)
    places, owner = volume.sample(9)
    again, _ = volume.sample(9)
    assert (places == again).all()
    assert np.bincount(owner).tolist() == [9] * 6
    assert (np.diff(owner) >= 0).all()
    centroids = np.stack([places[owner == k].mean(axis=0) for k in range(6)])
    assert np.linalg.norm(centroids - volume.atlas.centroids, axis=1).max() < 20


def test_a_region_without_a_voxel_is_refused(make_volume):
    volume = make_volume(4)
    atlas = Atlas("four", [10, 20, 30, 50], ("",) * 4, volume.atlas.centroids, ("",) * 4)
    with pytest.raises(AtlasError, match=r"found none of the labels \[50\]"):
        LabelVolume(atlas, volume.values, volume.affine)


def test_orientation_of_the_axes_is_no_other_space(make_volume):
    volume = make_volume(5)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = volume.values.shape[0] - 1
    check_same_space(volume, LabelVolume(volume.atlas, volume.values[::-1], volume.affine @ flipped))


def test_a_volume_without_origin_is_refused(make_volume):
    volume = make_volume(5)
    bare = LabelVolume(volume.atlas, volume.values, np.diag([6.0, 6, 6, 1]))
    with pytest.raises(AtlasError, match="Its affine has no origin"):
        check_same_space(volume, bare)


def test_another_space_is_refused_by_its_extent(make_volume):
    volume = make_volume(5)
    shift = volume.affine.copy()
    shift[:3, 3] += [0, 95, 0]
    with pytest.raises(AtlasError, match="in one space, found labels from"):
        check_same_space(volume, LabelVolume(volume.atlas, volume.values, shift))


def test_left_and_right_exchanged_are_told_by_names(make_volume):
    volume = make_volume(12)
    sides = np.where(volume.atlas.centroids[:, 0] < 0, "L", "R")

    def named(letters):
        atlas = Atlas("sides", volume.atlas.labels, tuple(f"part_{s}" for s in letters), volume.atlas.centroids, ("",) * 12)
        return LabelVolume(atlas, volume.values, volume.affine)

    check_same_space(volume, named(sides))
    with pytest.raises(AtlasError, match="named left at negative x"):
        check_same_space(volume, named(np.where(sides == "L", "R", "L")))


def test_the_regions_of_a_parcellation(make_volume):
    volume = make_volume(3)
    assert atlas_of(volume) is volume.atlas
    assert atlas_of(volume.atlas) is volume.atlas
