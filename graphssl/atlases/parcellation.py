"""A parcellation as it is at hand: with voxels where there is a volume, else as an atlas of centroids."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from graphssl.atlases.label_volume import LabelVolume, Parcellation, atlas_of, load_label_volume
from graphssl.atlases.load import find_atlas_file, load_atlas, named_path
from graphssl.atlases.volume import VOLUME_SUFFIXES
from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import RegionData
from graphssl.errors import AtlasError


def load_parcellation(source: str | os.PathLike[str] | Parcellation) -> Parcellation:
    """Load an atlas with its voxels where it has any; nothing is downloaded.

    Args:
        source: A name, a file or `"NAME=PATH"` as for [`load_atlas`][graphssl.atlases.load_atlas], or an atlas or volume, which is returned. A
            name is first looked for among the files of the folders in the environment variable `GRAPHSSL_ATLASES`.

    Raises:
        AtlasError: If the name is unknown, or the file cannot be read as an atlas.
    """
    if isinstance(source, LabelVolume | Atlas):
        return source
    given, text = named_path(os.fspath(source))
    path = Path(text) if Path(text).is_file() else find_atlas_file(text)
    if path is None or not path.name.lower().endswith(VOLUME_SUFFIXES):
        return load_atlas(source)
    return load_label_volume(path, name=given or (None if Path(text).is_file() else text))


def parcellation_of(parcellation: Parcellation, atlas: Atlas) -> Parcellation:
    """A parcellation with just the regions of data, in their order and under their names.

    Args:
        parcellation: The parcellation, which may have more regions.
        atlas: Regions of the data.

    Raises:
        AtlasError: If a region of the data is not in the parcellation, or lies elsewhere in it.
    """
    held = atlas_of(parcellation)
    unknown = sorted(set(atlas.labels.tolist()) - set(held.labels.tolist()))
    if unknown:
        raise AtlasError(
            f"Expected the regions of the data ({atlas.name!r}, {len(atlas)} regions) in the atlas {held.name!r} ({len(held)} regions), "
            f"found {len(unknown)} labels it lacks: {unknown[:5]}. Give the atlas the data were made with."
        )
    chosen = parcellation.select(atlas.labels)
    apart = float(np.median(np.linalg.norm(atlas_of(chosen).centroids - atlas.centroids, axis=1)))
    if apart > _SAME_PLACE_MM:
        raise AtlasError(
            f"Expected the regions of {atlas.name!r} where the atlas {held.name!r} has them, found them {apart:.0f} mm apart (median): "
            "the same labels stand for other regions. Give the atlas the data were made with."
        )
    return replace(chosen, atlas=atlas) if isinstance(chosen, LabelVolume) else atlas


def regions_in(cohort: Cohort, parcellation: Parcellation) -> RegionData | None:
    """The data of a cohort in a parcellation: those of its name, or of its labels; None where there are none."""
    atlas = atlas_of(parcellation)
    if atlas.name in cohort.regions:
        return cohort.regions[atlas.name]
    return _of_labels(cohort.regions, atlas)


_SAME_PLACE_MM = 10.0


def _of_labels(regions: Mapping[str, RegionData], atlas: Atlas) -> RegionData | None:
    fitting = [data for data in regions.values() if data.atlas.labels.tolist() == atlas.labels.tolist()]
    return fitting[0] if len(fitting) == 1 else None
