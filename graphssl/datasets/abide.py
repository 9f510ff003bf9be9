"""ABIDE I as the Preprocessed Connectomes Project gives it: text files on disk, or a download through nilearn; packed arrays are in `abide_arrays`.

Sources: Di Martino et al., Molecular Psychiatry 2014 (ABIDE); Craddock et al., Frontiers in Neuroinformatics 2013 (the preprocessed connectomes);
http://preprocessed-connectomes-project.org/abide/. Licence, layout and traps: `datasets/abide.md`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from graphssl.data import Atlas, Cohort, Provenance
from graphssl.datasets.abide_lists import LISTS, RULE_COLUMNS, ListName
from graphssl.datasets.abide_table import Excluded, abide_cohort, read_table, typed_columns
from graphssl.datasets.arrays import read_labelled
from graphssl.datasets.folder import check_option
from graphssl.datasets.listing import Listing, list_files
from graphssl.datasets.regions import FileFormat, MissingRegions, read_regions
from graphssl.datasets.stand_ins import stand_in
from graphssl.errors import AtlasError, ChoiceError, ConfigError, DataError

PHENOTYPIC_FILE = "Phenotypic_V1_0b_preprocessed1.csv"
# Name of the derivative by name of the atlas.
FILE_TOKENS = {
    "aal116": "aal",
    "cc200": "cc200",
    "cc400": "cc400",
    "dosenbach160": "dosenbach160",
    "ez116": "ez",
    "ho111": "ho",
    "tt97": "tt",
}


def load_abide(
    root: str | os.PathLike[str],
    *,
    atlases: Sequence[Atlas],
    pipeline: str | Mapping[str, str] | None = None,
    strategy: str | Mapping[str, str] | None = None,
    subjects: ListName | None = None,
    phenotypic: str | os.PathLike[str] | None = None,
    target: str = "diagnosis",
    missing_regions: MissingRegions = "mask",
) -> Cohort:
    """Load ABIDE I from the text files of the Preprocessed Connectomes Project.

    Files are looked for at `<root>/<pipeline>/<strategy>/rois_<atlas>/<FILE_ID>_rois_<atlas>.1D`, also below `Outputs` or `ABIDE_pcp`, and without
    the folder `rois_<atlas>`, as nilearn's fetcher writes them, or without pipeline and strategy. Label ids of their header are checked against the
    atlas.

    Args:
        root: Folder of the files.
        atlases: Atlases named `aal116`, `cc200`, `cc400`, `dosenbach160`, `ez116`, `ho111` or `tt97`.
        pipeline: `cpac`, `ccs`, `dparsf` or `niak`; for all atlases, or by name of the atlas. May be left out where there is one only.
        strategy: `filt_global`, `filt_noglobal`, `nofilt_global` or `nofilt_noglobal`; likewise.
        subjects: A named list, `"abide1-1035"` or `"abide1-871"` (`graphssl.datasets.abide_lists`); everybody with a scan when left out.
        phenotypic: The project's table; looked for in the folder and the one above when left out.
        target: Column to predict, of those listed below.
        missing_regions: `"mask"` hides a region without signal in a subject, and lists it in `excluded`.

    Returns:
        Subjects with a file in at least one atlas, by their seven-digit id, with `diagnosis` (control, autism), `site`, `age` (years), `sex`, `fiq`
        (full-scale IQ), `eye_status` (open, closed) and `mean_fd` (mean framewise displacement, mm).

    Raises:
        ChoiceError: If there are several pipelines or strategies and none is named.
        DataError: If files or table are absent, or a file cannot be read or lacks a signal where regions are not to be masked.
        SchemaError: If the table lacks a column or holds unknown codes, or the target is no column.
        AtlasError: If an atlas has no such name or other labels than the files.
    """
    if subjects is not None:
        check_option("subjects", subjects, ListName)
    table, excluded = _read_phenotypic(_find_phenotypic(Path(root), phenotypic), subjects)
    return _load(Path(root), table, excluded, atlases, pipeline, strategy, target, missing_regions, subjects or "abide1")


def fetch_abide(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    atlases: Sequence[Atlas],
    n_subjects: int | None = None,
    pipeline: Literal["cpac", "ccs", "dparsf", "niak"] = "cpac",
    band_pass_filtering: bool = True,
    global_signal_regression: bool = True,
    quality_checked: bool = False,
    target: str = "diagnosis",
    verbose: int = 1,
) -> Cohort:
    """Download ABIDE I through `nilearn.datasets.fetch_abide_pcp` and load it; files that are there already are not fetched again.

    Args:
        data_dir: Folder of nilearn's data sets; its own default when left out.
        atlases: Atlases as for `load_abide`.
        n_subjects: Number of subjects; all when left out.
        pipeline: Processing pipeline.
        band_pass_filtering: Whether the series are band-pass filtered (0.01 to 0.1 Hz).
        global_signal_regression: Whether the global signal is regressed out.
        quality_checked: Whether to take only those that passed quality control by all raters.
        target: Column to predict; columns as for `load_abide`.
        verbose: Verbosity of the download.

    Raises:
        DataError: If the download fails, or as `load_abide`.
        AtlasError: If an atlas has no such name or other labels than the files.
    """
    from nilearn.datasets import fetch_abide_pcp, get_data_dirs

    tokens = [_token(atlas) for atlas in atlases]
    strategy = f"{'' if band_pass_filtering else 'no'}filt_{'' if global_signal_regression else 'no'}global"
    try:
        found = fetch_abide_pcp(
            data_dir=data_dir,
            n_subjects=n_subjects,
            pipeline=pipeline,
            band_pass_filtering=band_pass_filtering,
            global_signal_regression=global_signal_regression,
            derivatives=[f"rois_{token}" for token in tokens],
            quality_checked=quality_checked,
            verbose=verbose,
        )
    except OSError as error:
        raise DataError(
            f"Expected to download ABIDE I with nilearn, found no way ({error}). Try again, or get the files elsewhere and use load_abide."
        ) from error
    root = next(path for path in (Path(folder) / "ABIDE_pcp" for folder in get_data_dirs(data_dir)) if (path / PHENOTYPIC_FILE).is_file())
    table, excluded = _read_phenotypic(root / PHENOTYPIC_FILE)
    fetched = table["file_id"].isin(found.phenotypic["FILE_ID"])
    excluded += [("subject", str(subject), "not fetched") for subject in table.index[~fetched]]
    return _load(root, table[fetched], excluded, atlases, pipeline, strategy, target, "mask", "abide1")


def _load(
    root: Path,
    table: pd.DataFrame,
    excluded: Excluded,
    atlases: Sequence[Atlas],
    pipeline: str | Mapping[str, str] | None,
    strategy: str | Mapping[str, str] | None,
    target: str,
    missing_regions: MissingRegions,
    name: str,
) -> Cohort:
    check_option("missing_regions", missing_regions, MissingRegions)
    subject_of = {file_id: str(subject) for subject, file_id in table["file_id"].items()}
    regions = {}
    there = _places(list_files(root))
    for atlas in atlases:
        place, files = _find_files(root, there, _token(atlas), _of(pipeline, atlas, "pipeline"), _of(strategy, atlas, "strategy"))
        others = "a file, without a row in the table" if name == "abide1" else f"a file, not in the list {name}"
        excluded += [("subject", file.name, others) for file_id, file in files.items() if file_id not in subject_of]
        layout = FileFormat(atlas, Provenance("timeseries", pipeline=" ".join(place).strip(), source="abide"))
        matched = {subject: files[file_id] for file_id, subject in subject_of.items() if file_id in files}
        regions[atlas.name] = read_regions(matched, layout, missing_regions)
    return abide_cohort(name, table, regions, excluded, target)


def _of(value: str | Mapping[str, str] | None, atlas: Atlas, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if atlas.name not in value:
        raise ConfigError(f"Expected a {what} for atlas {atlas.name!r}, found one for {', '.join(value) or 'none'}. Add it.")
    return value[atlas.name]


def _token(atlas: Atlas) -> str:
    if atlas.name not in FILE_TOKENS:
        raise AtlasError(f"Expected an atlas of the Preprocessed Connectomes Project ({', '.join(FILE_TOKENS)}), found {atlas.name!r}.")
    return FILE_TOKENS[atlas.name]


# Text files on disk


def atlases_of_files(listing: Listing) -> list[Atlas]:
    """Stand-ins for the atlases of text files, with the label ids of their headers and no places."""
    found = []
    for token, by_place in _places(listing).items():
        path = next(iter(next(iter(by_place.values())).values()))
        array = read_labelled(path)
        found.append(stand_in(_NAMES.get(token, token), array.columns, array.values.shape[1]))
    return found


def _places(listing: Listing) -> dict[str, dict[tuple[str, str], dict[str, Path]]]:
    """File by FILE_ID, by pipeline and strategy (empty where no folder says so), by what the names call the atlas."""
    there: defaultdict[str, defaultdict[tuple[str, str], dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    for name in listing.names:
        found = _TEXT_FILE.search(name)
        if found is not None:
            place = (found["pipeline"] or "", found["strategy"] or "")
            there[found["token"]][place].setdefault(found["file_id"], listing.root / name)
    return {token: dict(by_place) for token, by_place in there.items()}


def _find_files(
    root: Path, there: Mapping[str, Mapping[tuple[str, str], dict[str, Path]]], token: str, pipeline: str | None, strategy: str | None
) -> tuple[tuple[str, str], dict[str, Path]]:
    """The place of the files of one atlas, and file by FILE_ID."""
    by_place = there.get(token, {})
    fitting = {place: files for place, files in by_place.items() if pipeline in (None, place[0]) and strategy in (None, place[1])}
    shown = sorted("/".join(filter(None, place)) or "one folder" for place in by_place)
    if len(fitting) > 1:
        raise ChoiceError(f"Expected one pipeline and strategy for rois_{token}, found {', '.join(shown)}. Name one with pipeline=… and strategy=…")
    if not fitting:
        places = [f"{root}/{pipeline or '<pipeline>'}/{strategy or '<strategy>'}{end}" for end in (f"/rois_{token}", "")]
        some = f"There are some in {', '.join(shown)}: name that pipeline and strategy." if shown else "Check the folder, or use fetch_abide."
        raise DataError(f"Expected files *_rois_{token}.1D in {places[0]} or, as nilearn writes them, in {places[1]}; found none. {some}")
    return next(iter(fitting.items()))


def _find_phenotypic(root: Path, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    # The table lies beside Outputs/<pipeline>/<strategy>/<derivative>, any of which may be the folder that was given.
    folders = (root, root / "ABIDE_pcp", *root.resolve().parents[:4])
    found = next((folder / PHENOTYPIC_FILE for folder in folders if (folder / PHENOTYPIC_FILE).is_file()), None)
    if found is None:
        raise DataError(f"Expected {PHENOTYPIC_FILE} in {root} or above it, found none. Pass its place as phenotypic=…")
    return found


def _read_phenotypic(path: Path, subjects: ListName | None = None) -> tuple[pd.DataFrame, Excluded]:
    """Subjects with a preprocessed scan, of a list where one is named, and those without."""
    records = read_table(path, list(dict.fromkeys([*_PHENOTYPIC_NAMES, *(RULE_COLUMNS if subjects is not None else ())])))
    has_scan = records["FILE_ID"] != "no_filename"
    excluded: Excluded = [("subject", str(subject), "no preprocessed scan (no_filename)") for subject in records.index[~has_scan]]
    chosen = has_scan if subjects is None else has_scan & LISTS[subjects].rule(records)
    excluded += [("subject", str(subject), f"not in the list {subjects}") for subject in records.index[has_scan & ~chosen]]
    return typed_columns(records.loc[chosen, list(_PHENOTYPIC_NAMES)].rename(columns=_PHENOTYPIC_NAMES)), excluded


_TEXT_FILE = re.compile(
    r"(?:^|/)(?:(?P<pipeline>cpac|ccs|dparsf|niak)/(?P<strategy>(?:no)?filt_(?:no)?global)/)?(?:rois_[^/]+/)?"
    r"(?P<file_id>[^/]+)_rois_(?P<token>[^/_]+)\.1D$"
)
_NAMES = {token: name for name, token in FILE_TOKENS.items()}
_PHENOTYPIC_NAMES = {
    "FILE_ID": "file_id",
    "SITE_ID": "site",
    "DX_GROUP": "diagnosis",
    "AGE_AT_SCAN": "age",
    "SEX": "sex",
    "FIQ": "fiq",
    "EYE_STATUS_AT_SCAN": "eye_status",
    "func_mean_fd": "mean_fd",
}
