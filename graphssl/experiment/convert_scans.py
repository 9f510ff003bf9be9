"""Scans to convert: what lies at a path, opened as a cohort, and one scan written as a file again."""

import inspect
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import MatrixKind, Provenance, RegionData
from graphssl.data.schema import Schema
from graphssl.datasets.array_writer import write_array
from graphssl.datasets.arrays import read_labelled
from graphssl.datasets.kinds import kind_of
from graphssl.datasets.layouts import Layout
from graphssl.datasets.regions import FileFormat, read_regions
from graphssl.errors import ConfigError, DataError
from graphssl.experiment.sources import Source, recognised


def is_saved_cohort(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a cohort folder."""
    return (Path(path) / "cohort.json").is_file()


def open_scans(source: Source, atlas: Atlas) -> Cohort:
    """Scans in one atlas at a path: a cohort folder, a folder of files in any layout that `graphssl build` knows, or one file.

    One file needs no table of participants, whatever layout its name is of. Regions without a signal are masked unless `missing_regions` says
    otherwise: the map knows how to do without them.

    Args:
        source: The path, and what its files do not say.
        atlas: Atlas of the regions.

    Raises:
        ConfigError: If an option does not apply.
        InputError: If the files cannot be read or are of another atlas.
    """
    layout = recognised(source)
    options = source.options
    if Path(source.path).is_file() and layout.name in ("timeseries", "matrices", "abide"):
        return _one_scan(source, layout, atlas)
    if options["missing_regions"] is None and "missing_regions" in inspect.signature(layout.adapter).parameters:
        options = {**options, "missing_regions": "mask"}
    return layout.load(source.path, [atlas], **options)


def write_scan(path: str | os.PathLike[str], data: RegionData) -> Path:
    """Write the one scan of region data to a file that is read back as what it is; Fisher z has infinity on the diagonal, by which it is known.

    Raises:
        ConfigError: If the ending is not one that is written.
    """
    (values,) = data.values.values()
    if data.provenance.fisher_z:
        values = values.copy()
        np.fill_diagonal(values, np.where(np.isnan(values.diagonal()), np.nan, np.inf))
    return write_array(path, values, data.atlas.labels)


_OF_ONE_FILE = ("kind", "fisher_z", "missing_regions", "variable", "header", "transpose", "log1p", "pipeline")


def _one_scan(source: Source, layout: Layout, atlas: Atlas) -> Cohort:
    strange = [field.name for field in fields(Source) if field.name not in _OF_ONE_FILE and source.options.get(field.name) is not None]
    if strange:
        raise ConfigError(f"Expected options that apply to one file, found {', '.join(strange)}. Leave them out.")
    path = Path(source.path)
    made: dict[str, Any] = {"pipeline": source.pipeline or "", "source": "file"}
    provenance = Provenance("timeseries", **made)
    if layout.name == "matrices":
        provenance = Provenance(*_kind(source, path), **made)
    file = FileFormat(atlas, provenance, source.variable, bool(source.transpose), source.header or "check", log1p=bool(source.log1p))
    data = read_regions({path.stem: path}, file, source.missing_regions or "mask")
    if not data.values:
        raise DataError(f"Expected a signal in some region of {atlas.name} in {path}, found none. Check the file.")
    return Cohort(path.stem, pd.DataFrame(index=pd.Index([path.stem], dtype="str")), Schema([]), {atlas.name: data})


def _kind(source: Source, path: Path) -> tuple[MatrixKind, bool]:
    """Kind of a matrix and whether it holds Fisher z: as it was said, else as its numbers tell."""
    if source.kind is not None:
        return source.kind, bool(source.fisher_z)
    return kind_of(read_labelled(path, variable=source.variable).values, source.fisher_z, path.name)
