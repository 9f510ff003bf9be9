"""Region data as pipelines and toolboxes leave them: BIDS derivatives, CONN, DPABI, GRETNA, CIFTI files, graphs and others."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import pandas as pd

from graphssl.data import Atlas, Cohort
from graphssl.data.regions import MatrixKind
from graphssl.datasets import conventions
from graphssl.datasets.bids import find_bids, with_participants
from graphssl.datasets.conn import find_conn
from graphssl.datasets.conventions import find_by
from graphssl.datasets.folder import OnUnmatched, People
from graphssl.datasets.listing import Listing, list_files
from graphssl.datasets.regions import HeaderUse, MissingRegions
from graphssl.datasets.scan_files import Choices, Repeats, Scan
from graphssl.datasets.scan_rows import load_scans
from graphssl.errors import ConfigError, DataError


def load_derivatives(
    root: str | os.PathLike[str],
    *,
    atlases: Sequence[Atlas],
    layout: str | None = None,
    select: Sequence[str] = (),
    repeats: Repeats = "choose",
    kind: MatrixKind | None = None,
    fisher_z: bool | None = None,
    variable: str | None = None,
    log1p: bool = False,
    transpose: bool = False,
    header: HeaderUse = "check",
    participants: str | os.PathLike[str] | pd.DataFrame | None = None,
    id_column: str = "participant_id",
    target: str | None = None,
    site: str | None = None,
    group: str | None = None,
    covariates: Sequence[str] = (),
    missing_regions: MissingRegions = "mask",
    on_unmatched: OnUnmatched = "exclude",
    name: str | None = None,
) -> Cohort:
    """Load time series or matrices of regions from the output of a pipeline or toolbox.

    BIDS derivatives (XCP-D, giga_connectome, C-PAC, QSIRecon): `*_timeseries`, `*_relmat`, `*_conmat`, `*_correlations` and `*_connectome` as text,
    `.ptseries.nii`, `.pconn.nii`, and `*_connectivity.mat`. The pipeline and its version come from `dataset_description.json`, sidecars are inherited
    from the folders above, and the table of participants is looked for in the folder and, for `derivatives/<pipeline>`, in the data set above.
    The other layouts are those of `LAYOUTS`. Where time series and matrices of the same scans are there, the time series are read, and what was not
    read is listed in `excluded`.

    Args:
        root: The folder, or one file.
        atlases: Atlases to read, named as in the files, in upper or lower case; one atlas may have any name where files have one.
        layout: Name of the layout; recognised when left out.
        select: Values that names must have, such as `["ses-1", "desc-simple"]`; `"run-none"` takes those without a run.
        repeats: `"group"` keeps all scans of a subject, each as a row, with the column `person` in the role `group`.
        kind: Kind of the matrices where names leave it open.
        fisher_z: Whether correlations were transformed by arctanh, where names leave it open.
        variable: Which matrix of a `.mat` file: its name, or the part after the atlas, such as `"sift_radius2_count"`.
        log1p: Whether to turn streamline counts into log(1 + count).
        transpose: Whether the regions of time series are rows.
        header: `"ignore"` takes columns to be in the order of the atlas, whatever they are called.
        participants: Table of participants; looked for as said above when left out.
        id_column: Column of the subject ids.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family.
        covariates: Columns that may explain the target without the brain. All others have the role `feature`.
        missing_regions: `"mask"` hides a region that is NaN (below a coverage threshold) or constant in a subject, and lists it in `excluded`.
        on_unmatched: `"exclude"` leaves out and lists subjects without a file and files without a subject.
        name: Name of the cohort; that of the folder when left out.

    Raises:
        ChoiceError: If several sessions, runs, measures, denoisings or matrices are there of which one has to be named.
        DataError: If no such file is there, or files cannot be read.
        AtlasError: If files are of another atlas.
        SchemaError: If the table of participants does not fit.
        ConfigError: If an option does not fit what the files hold.
    """
    people = People(participants, id_column, target, site, group, tuple(covariates), missing_regions, on_unmatched, name)
    choices = Choices(tuple(select), repeats, kind, fisher_z, variable, header, transpose, log1p)
    listing = list_files(root)
    found, scans = find_scans(listing, layout)
    return load_scans(listing.path, scans, atlases=atlases, choices=choices, people=with_participants(people, listing), source=found)


def find_scans(listing: Listing, layout: str | None = None) -> tuple[str, list[Scan]]:
    """Name of the layout and its files; the first layout that has any counts.

    Args:
        listing: The files.
        layout: Name of the layout; any when left out.

    Raises:
        ConfigError: If there is no such layout.
        DataError: If there are no such files.
    """
    if layout is not None and layout not in FINDERS:
        raise ConfigError(f"Expected a layout among {', '.join(FINDERS)}; found {layout!r}.")
    for name in FINDERS if layout is None else [layout]:
        scans = list(FINDERS[name](listing))
        if scans:
            return name, scans
    raise DataError(
        f"Expected files of {'one of the layouts ' + ', '.join(FINDERS) if layout is None else f'the layout {layout}'} in {listing.path}, found none "
        f"among {len(listing.names)}, such as {', '.join(listing.names[:3])}. See the page on reading your own data."
    )


# In the order in which they are tried.
FINDERS: Mapping[str, Callable[[Listing], Iterator[Scan]]] = MappingProxyType(
    {
        "bids": find_bids,
        "conn": find_conn,
        "dpabi": partial(find_by, conventions.DPABI),
        "gretna": partial(find_by, conventions.GRETNA),
        "population_gcn": partial(find_by, conventions.POPULATION_GCN),
        "cifti": partial(find_by, conventions.HCP),
        "mrtrix": partial(find_by, conventions.MRTRIX),
        "graphs": partial(find_by, conventions.GRAPHS),
        "brainnet_viewer": partial(find_by, conventions.BRAINNET_VIEWER),
    }
)
