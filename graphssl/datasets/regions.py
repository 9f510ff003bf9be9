"""Region data from one file a subject: every file is read and checked before anything is said."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from graphssl.data import Atlas, Provenance, RegionData
from graphssl.data.regions import HOLLOW_KINDS, STRUCTURAL_KINDS
from graphssl.datasets.arrays import is_whole_number, read_labelled
from graphssl.datasets.labelled import Array, LabelledArray, Names, Page, Place
from graphssl.datasets.matlab import read_matlab_pages
from graphssl.errors import AtlasError, ConfigError, DataError, InputError
from graphssl.progress import tracked

MissingRegions = Literal["error", "mask"]
HeaderUse = Literal["check", "ignore"]


@dataclass(frozen=True, eq=False)
class FileFormat:
    """What files of one atlas hold, and how they are laid out.

    Args:
        atlas: The regions.
        provenance: What the values are.
        variable: Name of the array in `.npz` and `.mat` files.
        transpose: Whether the regions of a time series are rows.
        header: Whether names of columns are checked against the atlas, or ignored and the columns taken to be in its order.
        partial: Whether named columns may lack some regions of the atlas, which are then not observed.
        log1p: Whether counts of streamlines are turned into log(1 + count).

    Raises:
        ConfigError: If a logarithm is to be taken of something else than counts.
    """

    atlas: Atlas
    provenance: Provenance
    variable: str | None = None
    transpose: bool = False
    header: HeaderUse = "check"
    partial: bool = False
    log1p: bool = False
    # Hundreds of files share one header; its order is worked out once.
    _orders: dict[Names, npt.NDArray[np.intp] | None] = field(default_factory=dict, repr=False)
    # A file with the matrices of hundreds of subjects is read once.
    _pages: dict[Path, list[LabelledArray]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.log1p and self.provenance.kind != "streamline count":
            raise ConfigError(
                f"Expected counts of streamlines to take log(1 + count) of, found the kind {self.provenance.kind!r}. "
                "Leave log1p out, or say kind='streamline count'."
            )

    @property
    def result(self) -> Provenance:
        """Of what `read` gives."""
        return replace(self.provenance, kind="log streamline count") if self.log1p else self.provenance

    def read(self, path: Place) -> Array:
        """Read a file into the order of the atlas: time series `[T, R]` or a matrix `[R, R]`.

        Raises:
            DataError: If the file cannot be read, or its regions are rows.
            AtlasError: If its columns have names that are not those of the atlas.
        """
        return self.arrange(self.load(path))

    def load(self, path: Place) -> LabelledArray:
        """Read a file as it is, with regions as columns.

        Raises:
            DataError: If the file cannot be read.
        """
        found = self._page(path) if isinstance(path, Page) else read_labelled(path, variable=self.variable)
        return found.transposed if self.transpose else found

    def arrange(self, found: LabelledArray) -> Array:
        """What was loaded, in the order of the atlas.

        Raises:
            DataError: If regions are rows, or rows and columns of a matrix differ.
            AtlasError: If columns have names that are not those of the atlas.
        """
        order = self._order(found.columns)
        if self.provenance.kind == "timeseries":
            self._check_orientation(found)
            return found.values if order is None else _taken(found.values, order, axis=1)
        if found.rows is not None and found.columns is not None and found.rows != found.columns:
            raise DataError("Expected the rows of the matrix in the order of its columns, found other names or another order. Write it again.")
        values = _mirrored(found.values) if self.provenance.kind in STRUCTURAL_KINDS else found.values
        values = values if order is None else _taken(_taken(values, order, axis=1), order, axis=0)
        return np.log1p(values) if self.log1p else values

    def _page(self, page: Page) -> LabelledArray:
        if page.file not in self._pages:
            self._pages[page.file] = read_matlab_pages(page.file, self.variable)
        return self._pages[page.file][page.number]

    def _check_orientation(self, found: LabelledArray) -> None:
        n_regions = len(self.atlas)
        if found.values.shape[1] != n_regions and found.values.shape[0] == n_regions:
            remedy = "Pass transpose=False." if self.transpose else "Pass transpose=True if the regions are rows in every file."
            raise DataError(
                f"Expected time points as rows and the {n_regions} regions of atlas {self.atlas.name!r} as columns, "
                f"found shape {found.values.shape}. {remedy}"
            )

    def _order(self, columns: Names | None) -> npt.NDArray[np.intp] | None:
        """Position in the file of each region of the atlas, or None where the file has its order."""
        if columns is None or self.header == "ignore":
            return None
        if columns not in self._orders:
            self._orders[columns] = _order_in_file(columns, self.atlas, self.partial)
        return self._orders[columns]


def read_regions(files: Mapping[str, Place], layout: FileFormat, missing_regions: MissingRegions = "error") -> RegionData:
    """Read one file a subject, with the problems of all files in one message.

    Columns with names are matched to the atlas by label id, or by region name; regions in another order are put into that of the atlas.

    Args:
        files: File by subject id.
        layout: What the files hold.
        missing_regions: Whether a region that is constant or wholly NaN in a subject is an error, or is to be masked.

    Returns:
        Region data of the subjects with a signal in at least one region; the provenance tells their diagonal and their number of time points.

    Raises:
        AtlasError: If no file fits the atlas.
        DataError: If some files cannot be read or do not fit, regions lack a signal and are not to be masked, or files differ in what can hide a
            mixture: some name their regions and some do not, or some correlations have ones and some more, as a Fisher z has, on the diagonal.
    """
    layout = replace(layout, partial=missing_regions == "mask", _orders={}, _pages={})
    values: dict[str, Array] = {}
    observed: dict[str, npt.NDArray[np.bool_]] = {}
    problems: list[tuple[Place, InputError]] = []
    named: dict[bool, str] = {}
    for subject, path in tracked(files.items(), "Reading scans"):
        try:
            found = layout.load(path)
            data = RegionData(layout.atlas, {subject: layout.arrange(found)}, layout.result)
        except InputError as error:
            problems.append((path, error))
        else:
            values[subject], observed[subject] = data.values[subject], data.observed[subject]
            named.setdefault(found.columns is not None, path.name)
    if problems:
        raise _gathered(problems, len(files))
    if len(named) > 1 and layout.header == "check":
        raise DataError(
            f"Expected regions named in every file or in none, found names in {named[True]} and none in {named[False]}: their order may differ. "
            'Write them alike, or pass header="ignore" if all are in the order of the atlas.'
        )
    provenance = measured(layout.result, values, observed, {subject: path.name for subject, path in files.items()})
    if missing_regions == "error":
        check_observed(observed, layout.atlas)
    seen = {subject: regions for subject, regions in observed.items() if regions.any()}
    return RegionData(layout.atlas, {subject: values[subject] for subject in seen}, provenance, seen)


def check_observed(observed: Mapping[str, npt.NDArray[np.bool_]], atlas: Atlas) -> None:
    """Check that every region has a signal in every subject.

    Args:
        observed: Which regions have a signal `[R]`, by subject id.
        atlas: The regions.

    Raises:
        DataError: If some have none; names subjects and labels.
    """
    lacking = {subject: atlas.labels[~seen].tolist() for subject, seen in observed.items() if not seen.all()}
    if lacking:
        shown = "; ".join(f"{subject!r} in labels {_some(labels)}" for subject, labels in list(lacking.items())[:_SHOWN])
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise DataError(
            f"Expected a signal in every region of {atlas.name}, found constant or NaN regions in {len(lacking)} of {len(observed)} subjects: "
            f'{shown}{more}. Pass missing_regions="mask" to mask those regions in those subjects, or leave the subjects out.'
        )


def measured(
    provenance: Provenance, values: Mapping[str, Array], observed: Mapping[str, npt.NDArray[np.bool_]], names: Mapping[str, str]
) -> Provenance:
    """The provenance with what the values themselves tell: the number of time points, or what stands on the diagonal.

    Args:
        provenance: What is known of the values.
        values: Time series or matrices by subject.
        observed: Which regions have a signal.
        names: What to call each subject's file.

    Raises:
        DataError: If some correlations have ones and some more, as a Fisher z has, on the diagonal.
    """
    if provenance.kind == "timeseries":
        lengths = [len(series) for series in values.values()]
        return replace(provenance, n_timepoints=(min(lengths), max(lengths))) if lengths else provenance
    by_diagonal: dict[str, str] = {}
    for subject, matrix in values.items():
        by_diagonal.setdefault(_diagonal(matrix.diagonal()[observed[subject]]), subject)
    is_z = (s for s, matrix in values.items() if (matrix.diagonal()[observed[s]] > _ABOVE_ONE).all() and observed[s].any())
    z = next(is_z, None) if provenance.kind in HOLLOW_KINDS and "one" in by_diagonal else None
    if z is not None:
        there = "infinity" if np.isinf(values[z].diagonal()[observed[z]]).all() else "more"
        raise DataError(
            f"Expected correlations or Fisher z in all files, found ones on the diagonal of {names[by_diagonal['one']]} (correlations) and {there} "
            f"on that of {names[z]} (Fisher z). Read them apart, or transform one of them."
        )
    return replace(provenance, diagonal=", ".join(sorted(by_diagonal.keys() - {""})))


def without_signal(data: RegionData, subjects: Collection[str]) -> list[tuple[str, str, str]]:
    """Those of the subjects that were read and have a signal in no region, as rows of a cohort's list of things left out."""
    return [("subject", subject, f"no region of {data.atlas.name} has a signal") for subject in subjects if subject not in data.values]


def _diagonal(values: Array) -> str:
    known = {"one": np.isclose(values, 1.0, atol=1e-3), "zero": values == 0, "nan": np.isnan(values), "infinite": np.isinf(values)}
    return next((name for name, fits in known.items() if fits.all()), "values") if values.size else ""


def _taken(values: Array, order: npt.NDArray[np.intp], axis: int) -> Array:
    """Columns or rows by position in the file; NaN where it lacks the region."""
    taken = np.take(values, np.maximum(order, 0), axis=axis)
    np.moveaxis(taken, axis, 0)[order < 0] = np.nan
    return taken


def _mirrored(matrix: Array) -> Array:
    """A matrix with both triangles; tractography tools often write one of them only."""
    upper, lower = np.triu(matrix, 1), np.tril(matrix, -1)
    if upper.any() == lower.any() or matrix.shape[0] != matrix.shape[1]:  # one that is not square is refused where shapes are checked
        return matrix
    return matrix + (upper.T if upper.any() else lower.T)


def _order_in_file(columns: Names, atlas: Atlas, partial: bool) -> npt.NDArray[np.intp] | None:
    found: list[Any] = list(columns)
    expected: list[Any] = list(atlas.display_names)
    what = "region names"
    if all(map(is_whole_number, columns)):
        found, expected, what = [int(name) for name in columns], atlas.labels.tolist(), "labels"
        if found == list(range(len(found))) and 0 not in expected:
            return None  # pandas numbers unnamed columns from 0, which is no label
    if found == expected:
        return None
    if what == "region names" and not set(found) <= set(expected):
        found, expected = _plain_names(found, expected)
    if not _is_part(found, expected, partial):
        _check_names(found, expected, what, atlas)
    position = {name: index for index, name in enumerate(found)}
    return np.asarray([position.get(name, -1) for name in expected], dtype=np.intp)


def _plain_names(found: list[str], expected: list[str]) -> tuple[list[str], list[str]]:
    """Both in one spelling (`7Networks_LH_Vis_1` and `LH-Vis-1` are one), where that loses no difference and helps."""
    mine, theirs = ([_NETWORK_PREFIX.sub("", re.sub(r"[\W_]+", "_", name).casefold().strip("_")) for name in names] for names in (found, expected))
    unique = len(set(mine)) == len(mine) and len(set(theirs)) == len(theirs)
    return (mine, theirs) if unique and len(set(mine) & set(theirs)) > len(set(found) & set(expected)) else (found, expected)


def _is_part(found: list[Any], expected: list[Any], partial: bool) -> bool:
    """Whether a file merely lacks some regions, such as those a scan does not cover; with fewer than nine of ten it would be another atlas."""
    enough = 9 * len(expected) <= 10 * len(found) < 10 * len(expected)
    return partial and enough and len(set(found)) == len(found) and len(set(expected)) == len(expected) and set(found) <= set(expected)


def _check_names(found: list[Any], expected: list[Any], what: str, atlas: Atlas) -> None:
    only_file = [name for name in found if name not in expected]
    only_atlas = [name for name in expected if name not in found]
    repeated = list(dict.fromkeys(name for names in (found, expected) for name in names if names.count(name) > 1))
    if not (only_file or only_atlas or repeated):
        return
    remedy = "Give the atlas the data were made with."
    if only_atlas and not only_file:
        remedy = "If the data have these regions only, pass atlas.select(labels of the file)."
    elif what == "region names":
        remedy += ' If the columns are in its order under other names, pass header="ignore".'
    again = f"; repeated: {_some(repeated)}" if repeated else ""
    raise AtlasError(
        f"Expected columns with the {len(expected)} {what} of atlas {atlas.name!r}, found {len(found)} columns; "
        f"only in the file: {_some(only_file)}; only in the atlas: {_some(only_atlas)}{again}. {remedy}"
    )


def _gathered(problems: list[tuple[Place, InputError]], n_files: int) -> InputError:
    """One error for all files: of the atlas where no file fits it, else of the data."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    are_alike = len(problems) > 1 and len({path.name for path, _ in problems}) == 1  # `H01/fc.csv`: known by their folders
    for path, error in problems:
        # What several files have in common is said once, without the name of each.
        reason = re.sub(rf" for subject '[^']*'| in {re.escape(str(path))}", "", str(error))
        by_reason[reason].append(f"{path.parent.name}/{path.name}" if are_alike else path.name)
    shown = " | ".join(f"{_some(names, _SHOWN)}: {reason}" for reason, names in list(by_reason.items())[:_SHOWN])
    n_more = sum(len(names) for names in list(by_reason.values())[_SHOWN:])
    more = f" | and {n_more} more" if n_more else ""
    no_file_fits = len(problems) == n_files and all(isinstance(error, AtlasError) for _, error in problems)
    kind = AtlasError if no_file_fits else DataError
    whole, part = "file" if n_files == 1 else f"{n_files} files", "does" if len(problems) == 1 else "do"
    return kind(f"Expected the {whole} in {problems[0][0].parent} to fit, found {len(problems)} that {part} not. {shown}{more}")


def _some(values: list[Any], n_shown: int = 8) -> str:
    return ", ".join(map(str, values[:n_shown])) + (f" and {len(values) - n_shown} more" if len(values) > n_shown else "") if values else "none"


_SHOWN = 3
# What stands on the diagonal of a Fisher z that was cut off before its infinity.
_ABOVE_ONE = 1.01
_NETWORK_PREFIX = re.compile(r"^(7|17)networks_")
