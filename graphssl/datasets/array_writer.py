"""One array a file, written so that it is read back: the counterpart of `read_array`."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.errors import ConfigError
from graphssl.folders import file_written_whole

# What can be written; NumPy files carry no labels.
WRITTEN_ENDINGS = (".1D", ".tsv", ".csv", ".txt", ".npy")


def write_array(path: str | os.PathLike[str], values: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> Path:
    """Write a time series or a matrix with the label ids of its columns, whole or not at all.

    Text carries the labels as its first line, `.1D` as a comment (`#2001 #2002 …`, as AFNI writes), and `n/a` for NaN (`nan` in `.1D`). `.tsv` and
    `.1D` are delimited by tabs, `.csv` by commas, `.txt` by blanks.

    Args:
        path: The file; its ending says the format.
        values: The array `[rows, R]`.
        labels: Label ids of the columns `[R]`.

    Raises:
        ConfigError: If the ending is not one that is written.
    """
    target = Path(path)
    check_written_ending(target)
    ending = target.suffix.lower()
    numbers = np.asarray(values, dtype=np.float32)
    with file_written_whole(target) as aside:
        if ending == ".npy":
            with aside.open("wb") as file:
                np.save(file, numbers)
        else:
            names = [f"#{label}" if ending == ".1d" else str(label) for label in labels.tolist()]
            mark, absent = _MARKS[ending], "nan" if ending == ".1d" else "n/a"
            pd.DataFrame(numbers, columns=names).to_csv(aside, sep=mark, index=False, na_rep=absent, float_format="%.9g", lineterminator="\n")
    return target


def check_written_ending(path: Path) -> None:
    """Check that a file's ending is one that is written.

    Raises:
        ConfigError: If it is another one.
    """
    if path.suffix.lower() not in {ending.lower() for ending in WRITTEN_ENDINGS}:
        raise ConfigError(f"Expected a file to write with one of the endings {', '.join(WRITTEN_ENDINGS)}; found {path}. Name it so.")


_MARKS = {".1d": "\t", ".tsv": "\t", ".csv": ",", ".txt": " "}
