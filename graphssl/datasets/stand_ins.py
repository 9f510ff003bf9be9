"""Stand-ins for atlases, with which files can be checked where no atlas is at hand."""

from collections.abc import Sequence

import numpy as np

from graphssl.data import Atlas
from graphssl.datasets.arrays import is_whole_number, read_labelled
from graphssl.datasets.scan_files import Choices, Scan, readable, selected

# What the stand-in for an atlas is called where files do not name theirs.
UNNAMED = "unnamed"


def unknown_atlases(scans: Sequence[Scan], choices: Choices) -> list[Atlas]:
    """Stand-ins for the atlases of the files, with the labels or names that the first file of each carries and no places.

    They serve to check files where no atlas is at hand; nothing can be trained on them.

    Raises:
        DataError: If a file cannot be read.
    """
    found: dict[str, Atlas] = {}
    scans = readable(scans, [])
    for scan in selected(scans, choices):
        if scan.atlas not in found:
            content = min((other.content for other in scans if other.atlas == scan.atlas), key=lambda content: content.rank)
            first = next(other for other in scans if other.atlas == scan.atlas and other.content == content)
            array = read_labelled(first.place, variable=content.variable)
            array = array.transposed if choices.transpose else array
            found[scan.atlas] = stand_in(scan.atlas or UNNAMED, array.columns, array.values.shape[1])
    return list(found.values())


def stand_in(name: str, columns: Sequence[str] | None, n_regions: int) -> Atlas:
    """An atlas without places for columns of a file: their label ids where they are whole numbers, else their names."""
    numbered = columns is not None and all(is_whole_number(column) and int(column) > 0 for column in columns) and len(set(columns)) == len(columns)
    labels = np.array([int(column) for column in columns or ()]) if numbered else np.arange(1, n_regions + 1)
    names = tuple(columns) if columns is not None and not numbered and len(columns) == n_regions else ("",) * n_regions
    return Atlas(name, labels, names, np.zeros((n_regions, 3), np.float32), ("",) * n_regions)
