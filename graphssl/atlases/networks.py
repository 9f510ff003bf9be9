"""Networks for an atlas that names none, from one that does."""

from dataclasses import replace

import numpy as np

from graphssl.data import Atlas
from graphssl.errors import AtlasError


def nearest_network(atlas: Atlas, reference: Atlas, *, max_mm: float = 20.0) -> Atlas:
    """Give each region the network of the nearest region of a reference.

    Regions that have a network keep it; regions of the reference without one are passed over.

    Args:
        atlas: The atlas to fill in.
        reference: An atlas with networks, in the same space.
        max_mm: Farthest distance of centroids, mm; regions farther from all stay without.

    Raises:
        AtlasError: If the reference has no networks or lies in another space, or the distance is not positive.
    """
    if not reference.network_names:
        raise AtlasError(f"Expected networks in the reference atlas {reference.name!r}, found none. Take one that names them, such as 'seitzman300'.")
    if atlas.space != reference.space:
        raise AtlasError(f"Expected both atlases in one space, found {atlas.name!r} in {atlas.space} and {reference.name!r} in {reference.space}.")
    if not max_mm > 0:
        raise AtlasError(f"Expected a largest distance above 0 mm, found {max_mm}.")
    known = np.array([bool(network) for network in reference.networks])
    names = np.array(reference.networks)[known]
    apart = np.linalg.norm(atlas.centroids[:, None, :].astype(float) - reference.centroids[None, known, :], axis=2)
    nearest, distance = names[apart.argmin(axis=1)], apart.min(axis=1)
    filled = (own or (str(found) if near <= max_mm else "") for own, found, near in zip(atlas.networks, nearest, distance, strict=True))
    return replace(atlas, networks=tuple(filled))
