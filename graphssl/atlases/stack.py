"""Several atlases side by side, as one: the source of a map that takes from all of them."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from graphssl.atlases.paired import common_length
from graphssl.data.atlas import Atlas
from graphssl.data.regions import Provenance, RegionData
from graphssl.errors import AtlasError, DataError


def stack_atlases(atlases: Sequence[Atlas]) -> Atlas:
    """One atlas with the regions of all, in their order; they may overlap.

    Labels are counted anew from 1, and names begin with that of the atlas.

    Raises:
        AtlasError: If there is none, two have one name, or they lie in different spaces.
    """
    names = [atlas.name for atlas in atlases]
    spaces = sorted({atlas.space for atlas in atlases})
    if not atlases or len(set(names)) < len(names) or len(spaces) > 1:
        raise AtlasError(
            f"Expected one or more atlases of different names in one space, found {names} in {spaces}. "
            "Give each atlas once, all with coordinates of the same space."
        )
    return Atlas(
        "+".join(names),
        np.arange(1, sum(map(len, atlases)) + 1),
        tuple(f"{atlas.name} {name}" for atlas in atlases for name in atlas.display_names),
        np.concatenate([atlas.centroids for atlas in atlases]),
        tuple(network for atlas in atlases for network in atlas.networks),
        spaces[0],
    )


def stack_series(data: Sequence[RegionData]) -> RegionData:
    """Time series of the subjects who have all atlases, side by side, in the atlas that [`stack_atlases`][graphssl.atlases.stack_atlases] makes.

    Where a scan is longer by a few time points in one atlas it is cut at its start, since pipelines drop volumes there.

    Raises:
        AtlasError: As for `stack_atlases`.
        DataError: If some are no time series, no subject has all atlases, or the lengths of a subject's scans differ by more than a tenth.
    """
    atlas = stack_atlases([part.atlas for part in data])
    kinds = {part.atlas.name: part.provenance.kind for part in data}
    if set(kinds.values()) != {"timeseries"}:
        raise DataError(
            f"Expected time series in every atlas, found {kinds}: matrices do not say how regions of two atlases go together. Give the series."
        )
    common = [subject for subject in data[0].values if all(subject in part.values for part in data)]
    if not common:
        raise DataError(f"Expected subjects with time series in all of {list(kinds)}, found none. Give fewer atlases.")
    values = {subject: np.concatenate(_cut([part.values[subject] for part in data], subject), axis=1) for subject in common}
    provenance = reduce(Provenance.joined, [part.provenance for part in data])
    return RegionData(atlas, values, provenance, {s: np.concatenate([part.observed[s] for part in data]) for s in common})


def _cut(series: list[np.ndarray], subject: str) -> list[np.ndarray]:
    length = reduce(lambda shortest, one: common_length(shortest, len(one), subject), series, len(series[0]))
    return [one[len(one) - length :] for one in series]
