import nibabel as nib
import numpy as np
import pytest

from graphssl.atlases import LabelVolume, load_parcellation, simulated_atlas
from graphssl.atlases.parcellation import parcellation_of, regions_in
from graphssl.data import Atlas, Provenance, RegionData
from graphssl.errors import AtlasError


@pytest.fixture
def volume_file(tmp_path, make_volume):
    volume = make_volume(6)
    path = tmp_path / "atlases" / "six.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(volume.values.astype(np.int16), volume.affine), path)
    return path


def test_a_volume_is_read_with_its_voxels(volume_file):
    found = load_parcellation(volume_file)
    assert isinstance(found, LabelVolume)
    assert found.atlas.name == "six"
    assert load_parcellation(f"other={volume_file}").atlas.name == "other"
    assert load_parcellation(found) is found


def test_names_are_looked_for_in_the_folders_of_atlases(volume_file, monkeypatch):
    monkeypatch.setenv("GRAPHSSL_ATLASES", str(volume_file.parent.parent))
    found = load_parcellation("six")
    assert isinstance(found, LabelVolume)
    assert load_parcellation("mine=six").atlas.name == "mine"


def test_what_has_no_voxels_is_an_atlas():
    assert isinstance(load_parcellation("power264"), Atlas)
    assert load_parcellation(simulated_atlas(4)).name == "simulated4"


def test_a_parcellation_takes_the_regions_of_the_data(make_volume):
    volume = make_volume(6)
    data = Atlas("data", [30, 10], ("third", "first"), volume.atlas.centroids[[2, 0]] + 1, ("", ""))
    found = parcellation_of(volume, data)
    assert found.atlas is data
    assert ((found.places == 0) == (volume.values == 30)).all()
    assert parcellation_of(volume.atlas, data) is data


def test_regions_the_parcellation_lacks_are_named(make_volume):
    volume = make_volume(3)
    data = Atlas("data", [10, 99], ("", ""), volume.atlas.centroids[:2], ("", ""))
    with pytest.raises(AtlasError, match=r"found 1 labels it lacks: \[99\]"):
        parcellation_of(volume, data)


def test_the_same_labels_elsewhere_are_refused(make_volume):
    volume = make_volume(3)
    data = Atlas("data", [10, 20, 30], ("",) * 3, volume.atlas.centroids[[1, 2, 0]], ("",) * 3)
    with pytest.raises(AtlasError, match="the same labels stand for other regions"):
        parcellation_of(volume, data)


def test_data_are_found_by_name_or_by_labels(make_cohort, make_volume):
    cohort = make_cohort(n_regions=12)
    name, data = next(iter(cohort.regions.items()))
    assert regions_in(cohort, data.atlas) is data
    renamed = Atlas("renamed", data.atlas.labels, ("",) * 12, data.atlas.centroids, ("",) * 12)
    assert regions_in(cohort, renamed) is data
    assert regions_in(cohort, make_volume(5)) is None
    twice = {name: data, "copy": RegionData(renamed, data.values, Provenance("timeseries"))}
    from dataclasses import replace

    third = Atlas("third", data.atlas.labels, ("x",) * 12, data.atlas.centroids, ("",) * 12)
    assert regions_in(replace(cohort, regions=twice), third) is None
