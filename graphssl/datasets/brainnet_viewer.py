"""BrainNet Viewer's pair of text files: `.node` (place, colour, size and name of every region) and `.edge` (the matrix).

Source: Xia, Wang and He, PLOS ONE 2013, doi:10.1371/journal.pone.0068910. `.edge` files are read by `read_array`, `.node` files by
`graphssl.atlases.load_atlas`.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graphssl.data import Atlas
from graphssl.errors import AtlasError, DataError
from graphssl.folders import file_written_whole


def save_brainnet_viewer(
    path: str | os.PathLike[str],
    atlas: Atlas,
    matrix: npt.NDArray[np.floating] | None = None,
    sizes: npt.NDArray[np.floating] | None = None,
) -> list[Path]:
    """Write the files that BrainNet Viewer draws.

    Args:
        path: Name of the files without ending: `figures/saliency` gives `figures/saliency.node` and `figures/saliency.edge`.
        atlas: Regions with their places; the network gives the colour (a number from 1, 0 where none is known).
        matrix: Weights of the edges `[R, R]`; no `.edge` file when left out.
        sizes: Size of every node `[R]`; ones when left out.

    Returns:
        The files written.

    Raises:
        AtlasError: If matrix or sizes have another number of regions.
        DataError: If a number is not finite, which BrainNet Viewer cannot draw.
    """
    n_regions = len(atlas)
    sizes = np.ones(n_regions) if sizes is None else np.asarray(sizes, dtype=float)
    given = {"sizes": (sizes, (n_regions,))} | ({} if matrix is None else {"matrix": (np.asarray(matrix, dtype=float), (n_regions, n_regions))})
    for what, (values, shape) in given.items():
        if values.shape != shape:
            raise AtlasError(f"Expected {what} of shape {shape} for the {n_regions} regions of {atlas.name!r}, found {values.shape}.")
        if not np.isfinite(values).all():
            raise DataError(f"Expected finite {what}, found NaN or infinite ones. Set what is not to be drawn to zero.")
    colours = {network: number for number, network in enumerate(atlas.network_names, start=1)}
    lines = [
        f"{x:.6g}\t{y:.6g}\t{z:.6g}\t{colours.get(network, 0)}\t{size:.6g}\t{'_'.join(name.split()) or '-'}"
        for (x, y, z), network, size, name in zip(atlas.centroids.tolist(), atlas.networks, sizes.tolist(), atlas.names, strict=True)
    ]
    stem = Path(path)
    written = [stem.with_name(stem.name + ".node")]
    with file_written_whole(written[0]) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if matrix is not None:
        written.append(stem.with_name(stem.name + ".edge"))
        with file_written_whole(written[1]) as aside:
            np.savetxt(aside, given["matrix"][0], fmt="%.9g", delimiter="\t")
    return written
