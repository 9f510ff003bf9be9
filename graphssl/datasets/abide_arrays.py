"""ABIDE I as packed arrays: one table and one bundle of time series an atlas. Sources as in `graphssl.datasets.abide`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from graphssl.data import Atlas, Cohort, Provenance, RegionData
from graphssl.datasets.abide_table import Excluded, abide_cohort, as_number, read_table, typed_columns
from graphssl.datasets.folder import check_option
from graphssl.datasets.listing import Listing
from graphssl.datasets.regions import MissingRegions, check_observed, measured
from graphssl.datasets.stand_ins import stand_in
from graphssl.errors import DataError

Subjects = Literal["pcp1035", "parisot871", "abide1-1035", "abide1-871", "all"]
SiteColumn = Literal["SITE_ID", "site17"]


def load_abide_arrays(
    root: str | os.PathLike[str],
    *,
    atlases: Sequence[Atlas],
    cohort: Subjects = "pcp1035",
    site_column: SiteColumn = "SITE_ID",
    target: str = "diagnosis",
    missing_regions: MissingRegions = "mask",
) -> Cohort:
    """Load ABIDE I from packed arrays: `subjects.csv` and one `timeseries_<atlas>_*.npz` an atlas.

    A bundle holds the z-scored series of all subjects one below the other as small integers times a `scale`, `offsets` that cut them, and in
    `region_label` the label ids of its columns; the rounding moves a correlation by at most about 0.005. A region of zeros has no signal there.

    Args:
        root: Folder of the files.
        atlases: Atlases whose name is that of a bundle; their regions are chosen by label.
        cohort: `"pcp1035"` or `"abide1-1035"` (of the 1,035 with official CC200 series), `"parisot871"` or `"abide1-871"` (of the 871 that passed
            quality control), or `"all"`.
        site_column: `"SITE_ID"`, or `"site17"` with the samples of one institution merged.
        target: Column to predict; columns as for `load_abide`.
        missing_regions: `"mask"` hides a region without signal in a subject, and lists it in `excluded`.

    Returns:
        Subjects by their seven-digit id, with the columns of `load_abide`.

    Raises:
        DataError: If a file is absent or damaged, or regions lack a signal and are not to be masked.
        SchemaError: If the table lacks a column or holds unknown codes, or the target is no column.
        AtlasError: If an atlas lacks labels of its bundle.
        ConfigError: If an option is none of those that exist.
    """
    check_option("cohort", cohort, Subjects)
    check_option("site_column", site_column, SiteColumn)
    check_option("missing_regions", missing_regions, MissingRegions)
    source = Path(root)
    flag = {"abide1-1035": "pcp1035", "abide1-871": "parisot871"}.get(cohort, cohort)
    records = read_table(source / "subjects.csv", [*_ARRAY_NAMES, site_column, *([flag] if cohort != "all" else [])])
    chosen = records if cohort == "all" else records[as_number(records[flag], flag) == 1]
    excluded: Excluded = [("subject", str(subject), f"not in the list {cohort}") for subject in records.index.difference(chosen.index, sort=False)]
    table = typed_columns(chosen.rename(columns={**_ARRAY_NAMES, site_column: "site"}))
    regions = {atlas.name: _read_bundle(source, atlas, table.index.tolist(), missing_regions) for atlas in atlases}
    return abide_cohort(f"abide1-{cohort.removeprefix('abide1-')}", table, regions, excluded, target)


def atlases_of_arrays(listing: Listing) -> list[Atlas]:
    """Stand-ins for the atlases of packed arrays, with their label ids and no places.

    Raises:
        DataError: If a bundle is damaged.
    """
    found = []
    for name in listing.names:
        if name.startswith("timeseries_") and name.endswith(".npz"):
            labels = _read_labels(listing.root / name)
            found.append(stand_in(name.split("_")[1], [str(label) for label in labels], len(labels)))
    return found


def _read_bundle(folder: Path, atlas: Atlas, subjects: Sequence[str], missing_regions: MissingRegions) -> RegionData:
    prefix = f"timeseries_{atlas.name}_"
    paths = sorted(path for path in folder.glob(f"{prefix}*.npz") if path.is_file())
    if len(paths) != 1:
        raise DataError(f"Expected one file {prefix}*.npz in {folder}, found {[path.name for path in paths] or 'none'}. Check the name of the atlas.")
    try:
        with paths[0].open("rb") as file, np.load(file, allow_pickle=False) as stored:
            series, offsets, scale = stored["series"], stored["offsets"], np.float32(stored["scale"])
            labels, ids = stored["region_label"], stored["subject_id"].tolist()
    except Exception as error:  # damaged bytes make a reader fail in any way
        raise DataError(f"Expected a bundle of time series in {paths[0]}, found a damaged file ({error}). Copy it again.") from error
    position = {subject: k for k, subject in enumerate(ids)}
    values = {s: series[offsets[k] : offsets[k + 1]] * scale for s in subjects if (k := position.get(s)) is not None}
    pipeline = paths[0].stem.removeprefix(prefix).replace("_", " ", 1)
    data = RegionData(atlas.select(labels), values, Provenance("timeseries", pipeline=pipeline, source="abide_arrays"))
    data = replace(data, provenance=measured(data.provenance, data.values, data.observed, {}))
    if missing_regions == "error":
        check_observed(data.observed, data.atlas)
    return data.select(subject for subject, observed in data.observed.items() if observed.any())


def _read_labels(path: Path) -> list[int]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return [int(label) for label in stored["region_label"]]
    except Exception as error:  # damaged bytes make a reader fail in any way
        raise DataError(f"Expected a bundle of time series in {path}, found a damaged file ({error}). Copy it again.") from error


_ARRAY_NAMES = {"DX_GROUP": "diagnosis", "age": "age", "sex": "sex", "fiq": "fiq", "eye_status": "eye_status", "func_mean_fd": "mean_fd"}
