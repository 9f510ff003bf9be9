"""Atlases that come with nilearn as coordinates and need no network."""

from collections.abc import Callable

import numpy as np

from graphssl.data import Atlas
from graphssl.errors import AtlasError


def atlas_from_nilearn(name: str) -> Atlas:
    """An atlas that nilearn ships: `"dosenbach160"`, `"power264"` or `"seitzman300"`.

    Labels are the authors' own numbers of the regions, from one: Dosenbach et al. (2010), doi:10.1126/science.1194144; Power et al. (2011),
    doi:10.1016/j.neuron.2011.09.006; Seitzman et al. (2020), doi:10.1016/j.neuroimage.2019.116290. Networks are named as the authors did.

    Args:
        name: Name of the atlas.

    Raises:
        AtlasError: If nilearn ships none of that name.
    """
    if name not in _READERS:
        raise AtlasError(f"Expected one of the atlases that come with nilearn ({', '.join(SHIPPED)}), found {name!r}.")
    return _READERS[name]()


def _dosenbach() -> Atlas:
    from nilearn.datasets import fetch_coords_dosenbach_2010

    found = fetch_coords_dosenbach_2010(ordered_regions=False)
    # Names end in the number of the region ("vmPFC 1"), which makes them unique.
    labels = np.array([int(name.rsplit(" ", 1)[1]) for name in found.labels])
    centroids = found.rois[["x", "y", "z"]].to_numpy(dtype=np.float32)
    return Atlas("dosenbach160", labels, tuple(found.labels), centroids, tuple(found.networks))


def _power() -> Atlas:
    from nilearn.datasets import fetch_coords_power_2011

    rois = fetch_coords_power_2011().rois
    n_regions = len(rois)
    return Atlas("power264", rois["roi"].to_numpy(), ("",) * n_regions, rois[["x", "y", "z"]].to_numpy(dtype=np.float32), ("",) * n_regions)


def _seitzman() -> Atlas:
    from nilearn.datasets import fetch_coords_seitzman_2018

    found = fetch_coords_seitzman_2018(ordered_regions=False)
    labels = np.arange(1, len(found.rois) + 1)
    names = tuple(f"{region} {label}" for region, label in zip(found.regions, labels, strict=True))
    networks = tuple("" if network == "unassigned" else str(network) for network in found.networks)
    return Atlas("seitzman300", labels, names, found.rois[["x", "y", "z"]].to_numpy(dtype=np.float32), networks)


_READERS: dict[str, Callable[[], Atlas]] = {"dosenbach160": _dosenbach, "power264": _power, "seitzman300": _seitzman}
SHIPPED = tuple(_READERS)
