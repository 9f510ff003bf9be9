"""Atlases nilearn downloads: tiny files in the true layout, already where nilearn looks for them, so nothing is downloaded."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from graphssl.atlases import fetch_atlas, list_atlases
from graphssl.errors import AtlasError

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.0, 0, -10], [0, 0, 2.0, -10], [0, 0, 0, 1]])


def volume(labels: list[int]) -> npt.NDArray[np.int16]:
    values = np.zeros((12, 12, 12), dtype=np.int16)
    for k, label in enumerate(labels):
        values[2 * k : 2 * k + 2, 4:8, 4:8] = label
    return values


def save(path: Path, values: npt.NDArray[np.int16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, AFFINE), path)


def test_schaefer_regions_have_names_and_yeo_networks(tmp_path: Path) -> None:
    folder = tmp_path / "schaefer_2018"
    save(folder / "Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.nii.gz", volume([1, 2, 3]))
    rows = [
        "1\t7Networks_LH_Vis_1\t120\t18\t131\t0",
        "2\t7Networks_LH_SalVentAttn_ParOper_1\t196\t58\t251\t0",
        "3\t7Networks_RH_Cont_Par_1\t230\t148\t34\t0",
    ]
    (folder / "Schaefer2018_100Parcels_7Networks_order.txt").write_text("\n".join(rows) + "\n")
    atlas = fetch_atlas("schaefer100", tmp_path)
    assert atlas.name == "schaefer100"
    assert atlas.names[0] == "7Networks_LH_Vis_1"
    assert atlas.networks == ("Visual", "VentralAttention", "Frontoparietal")
    np.testing.assert_allclose(atlas.centroids[0], [9, 1, 1], atol=1e-5)


def test_aal_labels_are_those_of_the_volume(tmp_path: Path) -> None:
    folder = tmp_path / "aal_SPM12" / "aal" / "atlas"
    save(folder / "AAL.nii", volume([2001, 9170]))
    entries = "".join(f"<label><index>{label}</index><name>{name}</name></label>" for label, name in ((2001, "Precentral_L"), (9170, "Vermis_10")))
    (folder / "AAL.xml").write_text(f"<atlas><header></header><data>{entries}</data></atlas>")
    atlas = fetch_atlas("aal116", tmp_path)
    assert atlas.labels.tolist() == [2001, 9170]
    assert atlas.names == ("Precentral_L", "Vermis_10")


@pytest.mark.parametrize(
    ("name", "image", "labels"),
    [
        ("harvard_oxford_cortical", "HarvardOxford-cortl-maxprob-thr25-2mm.nii.gz", "HarvardOxford-Cortical-Lateralized.xml"),
        ("harvard_oxford_subcortical", "HarvardOxford-sub-maxprob-thr25-2mm.nii.gz", "HarvardOxford-Subcortical.xml"),
    ],
)
def test_harvard_oxford_names_count_from_zero_in_the_file(tmp_path: Path, name: str, image: str, labels: str) -> None:
    root = tmp_path / "fsl" / "data" / "atlases"
    save(root / "HarvardOxford" / image, volume([1, 2]))
    entries = "".join(f'<label index="{k}" x="1" y="1" z="1">{text}</label>' for k, text in enumerate(("Left Frontal Pole", "Right Frontal Pole")))
    (root / labels).write_text(f"<atlas><data>{entries}</data></atlas>")
    atlas = fetch_atlas(name, tmp_path)
    assert atlas.name == name
    assert atlas.labels.tolist() == [1, 2]
    assert atlas.names == ("Left Frontal Pole", "Right Frontal Pole")
    # nilearn turns the volume so that x grows with the index; the places in mm stay.
    np.testing.assert_allclose(atlas.centroids, [[9, 1, 1], [5, 1, 1]], atol=1e-5)


def test_craddock_parcellation_is_the_one_of_nearest_size(tmp_path: Path) -> None:
    stacked = np.stack([volume([1, 2, 3]), volume([1, 2, 3, 5, 9]), volume([4])], axis=3)
    save(tmp_path / "craddock_2012" / "tcorr05_mean_all.nii.gz", stacked)
    atlas = fetch_atlas("craddock200", tmp_path)
    assert atlas.name == "craddock200"
    assert atlas.labels.tolist() == [1, 2, 3, 5, 9]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AtlasError, match="atlases nilearn downloads .*schaefer100.* found 'power264'"):
        fetch_atlas("power264")


def test_every_listed_name_has_a_reader() -> None:
    from graphssl.atlases.download import _FETCHERS, FETCHED

    assert {name.rstrip("0123456789") for name in FETCHED} == set(_FETCHERS)
    assert set(FETCHED) < set(list_atlases(download=True))
