"""Time series of regions: a folder of one file a subject."""

import os
from collections.abc import Sequence

import pandas as pd

from graphssl.data import Atlas, Cohort, Provenance
from graphssl.datasets.folder import OnUnmatched, People, load_folder
from graphssl.datasets.regions import FileFormat, HeaderUse, MissingRegions


def load_timeseries(
    folder: str | os.PathLike[str],
    *,
    atlas: Atlas,
    participants: str | os.PathLike[str] | pd.DataFrame | None = None,
    id_column: str = "participant_id",
    target: str | None = None,
    site: str | None = None,
    group: str | None = None,
    covariates: Sequence[str] = (),
    pattern: str | None = None,
    missing_regions: MissingRegions = "error",
    on_unmatched: OnUnmatched = "exclude",
    pipeline: str = "",
    name: str | None = None,
    transpose: bool = False,
    variable: str | None = None,
    header: HeaderUse = "check",
) -> Cohort:
    """Load a folder of regional time series, one file a subject, with a table of participants.

    Files are `.1D`, `.tsv`, `.csv`, `.npy`, `.npz` or `.mat` with time points as rows and the regions of the atlas as columns. Where columns have
    names, these are label ids or region names of the atlas and are checked against it; columns in another order are put into that of the atlas.

    Args:
        folder: The folder, or one file.
        atlas: The regions of the columns. For files with some of its regions only, pass `atlas.select(labels)`.
        participants: Table of participants (`.tsv`, `.csv`, `.parquet` or a table); `participants.tsv` or `.csv` in the folder when left out. Without
            any, the name of a file without its ending is the subject id, and there are no columns.
        id_column: Column of the subject ids. A file belongs to the id that its name equals, that follows `sub-`, or the longest one it holds as a
            whole token.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family, or of the person where scans are repeated: its members stay on one side of a split.
        covariates: Columns that may explain the target without the brain, such as age, sex and head motion. All others have the role `feature`.
        pattern: Which files to read, such as `"**/*_timeseries.tsv"`; those with a known ending in the folder itself when left out.
        missing_regions: `"mask"` hides a region that is constant or wholly NaN in a subject, and lists it in `excluded`.
        on_unmatched: `"exclude"` leaves out and lists subjects without a file and files without a subject.
        pipeline: How the series were processed, for the record.
        name: Name of the cohort; that of the folder when left out.
        transpose: Whether the regions are rows.
        variable: Name of the array in `.npz` and `.mat` files; may be left out where there is one only.
        header: `"ignore"` takes the columns to be in the order of the atlas, whatever they are called.

    Returns:
        A cohort of the subjects that have a row and a file, in the order of the table.

    Raises:
        DataError: If no file fits a subject, two fit one, or files are empty, cut off, unreadable, differ in regions, hold text or lack a signal. The
            message counts all and names the first few.
        AtlasError: If the files are of another atlas.
        SchemaError: If the table does not fit, or its ids have lost leading zeros that the file names have.
        ConfigError: If an option is none of those that exist.
    """
    provenance = Provenance("timeseries", pipeline=pipeline, source="timeseries")
    people = People(participants, id_column, target, site, group, covariates, missing_regions, on_unmatched, name)
    return load_folder(folder, FileFormat(atlas, provenance, variable, transpose, header), people, pattern)
