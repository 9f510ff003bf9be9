"""What one file holds: an array, and the names of its rows and columns where it carries any; and where in a file an array is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelledArray:
    """What one file holds.

    Args:
        values: The numbers `[rows, columns]`; empty cells and "n/a" are NaN.
        columns: Names of the columns as written, or None where the file names none.
        rows: Names of the rows, likewise.
    """

    values: Array
    columns: Names | None = None
    rows: Names | None = None

    @property
    def transposed(self) -> "LabelledArray":
        """Rows as columns."""
        return LabelledArray(np.ascontiguousarray(self.values.T), self.rows, self.columns)


@dataclass(frozen=True)
class Page:
    """One of the matrices that a file holds for several subjects; it has what readers ask of a path.

    Args:
        file: The file.
        number: Place of the matrix, from 0.
    """

    file: Path
    number: int

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.file.name} (matrix {self.number + 1})"

    @property
    def parent(self) -> Path:
        """The folder of the file."""
        return self.file.parent


# Where the array of one subject is.
Place = Path | Page
