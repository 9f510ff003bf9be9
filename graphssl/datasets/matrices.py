"""Connectivity matrices: a folder of one file a subject."""

import os
from collections.abc import Sequence

import pandas as pd

from graphssl.data import Atlas, Cohort, Provenance
from graphssl.data.regions import MatrixKind
from graphssl.datasets.folder import OnUnmatched, People, load_folder
from graphssl.datasets.regions import FileFormat, HeaderUse, MissingRegions


def load_matrices(
    folder: str | os.PathLike[str],
    *,
    atlas: Atlas,
    kind: MatrixKind = "correlation",
    fisher_z: bool = False,
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
    variable: str | None = None,
    header: HeaderUse = "check",
    log1p: bool = False,
) -> Cohort:
    """Load a folder of symmetric connectivity matrices, one file a subject, with a table of participants.

    Files and table are as for `load_timeseries`. A matrix may have a header and a column of row names, as XCP-D writes (`Node`). The diagonal of a
    correlation says nothing and may be anything (one, zero, NaN, or the infinity of a Fisher z); a whole row and column of NaN or zeros is a region
    without signal. Streamline counts and other graphs may be written as one triangle; it is mirrored.

    Args:
        folder: The folder, or one file.
        atlas: The regions of rows and columns. For files with some of its regions only, pass `atlas.select(labels)`.
        kind: What the entries are: nilearn's words, `"streamline count"`, `"log streamline count"`, or `"adjacency"` (weights of any other graph).
        fisher_z: Whether correlations were transformed by arctanh.
        participants: Table of participants; `participants.tsv` or `.csv` in the folder when left out.
        id_column: Column of the subject ids.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family, or of the person where scans are repeated.
        covariates: Columns that may explain the target without the brain. All others have the role `feature`.
        pattern: Which files to read, such as `"**/*_relmat.tsv"`; those with a known ending in the folder itself when left out.
        missing_regions: `"mask"` hides a region without signal in a subject, and lists it in `excluded`.
        on_unmatched: `"exclude"` leaves out and lists subjects without a file and files without a subject.
        pipeline: How the matrices were made, for the record.
        name: Name of the cohort; that of the folder when left out.
        variable: Name of the array in `.npz` and `.mat` files; may be left out where there is one only.
        header: `"ignore"` takes rows and columns to be in the order of the atlas, whatever they are called.
        log1p: Whether to turn streamline counts into log(1 + count), which tames their long tail.

    Returns:
        A cohort of the subjects that have a row and a file, in the order of the table.

    Raises:
        DataError: As `load_timeseries`; or if a matrix is not symmetric, or holds Fisher z and is declared as correlation.
        AtlasError: If the files are of another atlas.
        SchemaError: If the table does not fit, or its ids have lost leading zeros that the file names have.
        ConfigError: If an option is none of those that exist, or a logarithm is to be taken of something else than counts.
    """
    provenance = Provenance(kind, fisher_z, pipeline, "matrices")
    people = People(participants, id_column, target, site, group, covariates, missing_regions, on_unmatched, name)
    return load_folder(folder, FileFormat(atlas, provenance, variable, header=header, log1p=log1p), people, pattern)
