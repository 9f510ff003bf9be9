"""What one file holds: an array, and the names of its rows and columns where it carries any."""

from dataclasses import dataclass

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
