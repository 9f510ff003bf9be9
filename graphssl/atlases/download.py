"""Atlases that nilearn downloads on request. Nothing else in graphssl reaches for the network to get an atlas."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphssl.atlases.volume import atlas_from_volume, label_centroids
from graphssl.data import Atlas
from graphssl.errors import AtlasError

FETCHED = (
    *(f"schaefer{n}" for n in range(100, 1001, 100)),
    "aal116",
    "harvard_oxford_cortical",
    "harvard_oxford_subcortical",
    "craddock200",
    "craddock400",
)


def fetch_atlas(name: str, data_dir: str | os.PathLike[str] | None = None) -> Atlas:
    """Download an atlas through nilearn, unless it is already in `data_dir`.

    Args:
        name: One of `schaefer100` to `schaefer1000` (seven networks; Schaefer et al. 2018, MIT licence), `aal116` (Tzourio-Mazoyer et al. 2002, for
            SPM12), `harvard_oxford_cortical` (left and right apart) and `harvard_oxford_subcortical` (FSL, maximum probability above 25 %, 2 mm), and
            `craddock200` and `craddock400` (Craddock et al. 2012, mean temporal correlation, the parcellation whose number of regions is nearest).
            Each keeps its own terms of use.
        data_dir: Where nilearn keeps its data; `~/nilearn_data` when left out.

    Raises:
        AtlasError: If the name is not one of these.
    """
    if name not in FETCHED:
        raise AtlasError(f"Expected one of the atlases nilearn downloads ({', '.join(FETCHED)}), found {name!r}. load_atlas() reads those at hand.")
    family = name.rstrip("0123456789")
    atlas = _FETCHERS[family](name, None if data_dir is None else str(data_dir))
    return replace(atlas, name=name)


# How the labels of Schaefer et al. abbreviate the seven networks of Yeo et al. (2011).
_YEO_NETWORKS = {
    "Vis": "Visual",
    "SomMot": "Somatomotor",
    "DorsAttn": "DorsalAttention",
    "SalVentAttn": "VentralAttention",
    "Limbic": "Limbic",
    "Cont": "Frontoparietal",
    "Default": "Default",
}


def _schaefer(name: str, data_dir: str | None) -> Atlas:
    from nilearn.datasets import fetch_atlas_schaefer_2018

    found = fetch_atlas_schaefer_2018(n_rois=int(name.removeprefix("schaefer")), resolution_mm=2, data_dir=data_dir, verbose=0)
    atlas = _named(atlas_from_volume(found.maps), found.lut)
    # A label reads "7Networks_LH_Vis_1" or "7Networks_RH_Default_PFCv_2".
    networks = tuple(_YEO_NETWORKS.get(parts[2], "") if len(parts := region.split("_")) > 2 else "" for region in atlas.names)
    return replace(atlas, networks=networks)


def _aal(name: str, data_dir: str | None) -> Atlas:
    from nilearn.datasets import fetch_atlas_aal

    found = fetch_atlas_aal(version="SPM12", data_dir=data_dir, verbose=0)
    return _named(atlas_from_volume(found.maps), found.lut)


def _harvard_oxford(name: str, data_dir: str | None) -> Atlas:
    from nilearn.datasets import fetch_atlas_harvard_oxford

    cortical = name.endswith("_cortical")
    which = "cort-maxprob-thr25-2mm" if cortical else "sub-maxprob-thr25-2mm"
    found = fetch_atlas_harvard_oxford(which, symmetric_split=cortical, data_dir=data_dir, verbose=0)
    labels, centroids = label_centroids(np.asarray(found.maps.dataobj), found.maps.affine, Path(found.filename))
    blank = ("",) * len(labels)
    return _named(Atlas(name, labels, blank, centroids.astype(np.float32), blank), found.lut)


def _craddock(name: str, data_dir: str | None) -> Atlas:
    import nibabel as nib
    from nilearn.datasets import fetch_atlas_craddock_2012

    found = fetch_atlas_craddock_2012(homogeneity="temporal", grp_mean=True, data_dir=data_dir, verbose=0)
    maps = np.asarray(nib.load(found.maps).dataobj)  # type: ignore[attr-defined]
    n_regions = [len(np.unique(maps[..., k])) - 1 for k in range(maps.shape[3])]
    return atlas_from_volume(found.maps, index=int(np.abs(np.array(n_regions) - int(name.removeprefix("craddock"))).argmin()))


def _named(atlas: Atlas, lookup: Any) -> Atlas:
    """The atlas with the names of nilearn's look-up table (columns `index` and `name`)."""
    by_label = dict(zip(lookup["index"].astype(int), lookup["name"].astype(str), strict=True))
    return replace(atlas, names=tuple(by_label.get(label, "") for label in atlas.labels.tolist()))


_FETCHERS: dict[str, Callable[[str, str | None], Atlas]] = {
    "schaefer": _schaefer,
    "aal": _aal,
    "harvard_oxford_cortical": _harvard_oxford,
    "harvard_oxford_subcortical": _harvard_oxford,
    "craddock": _craddock,
}
