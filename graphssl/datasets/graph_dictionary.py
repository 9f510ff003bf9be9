"""All subjects in one file: the dictionaries of arrays that BrainGB, BrainNetworkTransformer, PTGB and BrainGFM are trained from.

Keys as those projects write them: `timeseires` (sic) or `timeseries` [n, R, T], `corr` and `pcorr` [n, R, R], `label`, `site` (BrainGB, Cui et al.
2022, doi:10.1109/TMI.2022.3218745; BrainNetworkTransformer, Kan et al. 2022); `adj`, `feat`, `label` (PTGB, Yang et al. 2023); a list of `node_feat`
and `label` (BrainGFM). Labels of 0/1 and of -1/1 stay as they are written: which of them is the condition, no file says.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data import Atlas, Cohort, Column, Provenance, RegionData, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.data.regions import MatrixKind, ValueKind
from graphssl.data.regions import missing_regions as list_missing_regions
from graphssl.datasets.folder import check_option
from graphssl.datasets.kinds import is_fisher_z
from graphssl.datasets.labelled import Array
from graphssl.datasets.listing import Listing
from graphssl.datasets.pickled import is_pickled, read_pickled
from graphssl.datasets.regions import MissingRegions, check_observed, measured
from graphssl.datasets.stand_ins import UNNAMED, stand_in
from graphssl.errors import ChoiceError, DataError

Record = dict[str, npt.NDArray[Any]]


def load_graph_dictionary(
    path: str | os.PathLike[str],
    *,
    atlas: Atlas,
    variable: str | None = None,
    kind: MatrixKind | None = None,
    fisher_z: bool | None = None,
    pipeline: str = "",
    missing_regions: MissingRegions = "mask",
    name: str | None = None,
) -> Cohort:
    """Load a `.npy` file with a pickled dictionary (or list of dictionaries) of arrays, or the same arrays in a `.npz`.

    Only plain containers and numeric arrays are read; a file that names anything else is refused (`graphssl.datasets.pickled`). Subjects are numbered
    by their place in the file (`0000`, `0001`, …), since such files hold no ids.

    Args:
        path: The file, or a folder with one such file.
        atlas: The regions, in the order of the file.
        variable: Which array to read: `timeseries` where there are any, else `corr`, `adj` or `node_feat`, when left out.
        kind: Kind of the matrices; correlation for `corr`, partial correlation for `pcorr`, adjacency for `adj` when left out.
        fisher_z: Whether correlations were transformed by arctanh; told by the numbers when left out.
        pipeline: How the data were made, for the record.
        missing_regions: `"mask"` hides a region without signal in a subject, and lists it in `excluded`.
        name: Name of the cohort; that of the file when left out.

    Returns:
        A cohort with the target `label` and, where the file has them, the `site`.

    Raises:
        DataError: If the file is refused, damaged, or holds no such arrays.
        ChoiceError: If no array is known by its name, or its kind is not.
        AtlasError: If the atlas has another number of regions.
        ConfigError: If an option is none of those that exist.
    """
    check_option("missing_regions", missing_regions, MissingRegions)
    file = _file(Path(path))
    record = read_dictionary(file)
    chosen = _chosen(record, variable, file)
    arrays = _of_subjects(record[chosen.key], chosen.kind == "timeseries", file, chosen.key)
    provenance = _provenance(chosen, arrays, kind, fisher_z, pipeline)
    ids = [f"{row:04d}" for row in range(len(arrays))]
    data = RegionData(atlas, dict(zip(ids, arrays, strict=True)), provenance)
    data = replace(data, provenance=measured(provenance, data.values, data.observed, {subject: f"subject {subject}" for subject in ids}))
    if missing_regions == "error":
        check_observed(data.observed, atlas)
    table, columns = _columns(record, ids, file)
    seen = [subject for subject in ids if data.observed[subject].any()]
    excluded = [("subject", subject, f"no region of {atlas.name} has a signal") for subject in ids if subject not in seen]
    excluded += list_missing_regions(data, seen)
    excluded += [("file", key, f"{chosen.key} was read instead") for key in record if key in _ARRAYS and key != chosen.key]
    excluded_table = pd.DataFrame(excluded, columns=list(EXCLUDED_COLUMNS), dtype="str")
    return Cohort(name or file.stem, table.loc[seen], Schema(columns), {atlas.name: data.select(seen)}, excluded_table)


def read_dictionary(path: Path) -> Record:
    """Arrays by key of a pickled `.npy` or of a `.npz`.

    Raises:
        DataError: If the file is refused or damaged, or holds something else.
    """
    if path.suffix.lower() == ".npz":
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return dict(stored)
        except Exception as error:  # damaged bytes make the reader fail in any way
            raise DataError(f"Expected arrays in {path}, found a file that cannot be read ({error}). Save plain arrays with numpy.savez.") from error
    found = read_pickled(path)
    if isinstance(found, np.ndarray):
        found = found.tolist()
    if isinstance(found, list) and found and all(isinstance(entry, dict) for entry in found):
        found = {key: [entry.get(key) for entry in found] for key in found[0]}
    if not isinstance(found, dict) or not found:
        raise DataError(f"Expected a dictionary of arrays, or a list of dictionaries, in {path}, found {type(found).__name__}. Save one.")
    return {str(key): _array(value) for key, value in found.items()}


def is_dictionary(listing: Listing) -> bool:
    """Whether the array files of a path are of this kind: pickled, or archives with the labels of several subjects."""
    files = listing.ending(".npy", ".npz")
    if not files:
        return False
    path = listing.root / files[0]
    if path.suffix.lower() == ".npy":
        return is_pickled(path)
    return _has_labels(path)


def atlas_of_dictionary(listing: Listing, variable: str | None = None) -> Atlas:
    """A stand-in for the atlas of such a file, which says how many regions there are and no more.

    Raises:
        DataError: If the file is refused, damaged, or holds no such arrays.
        ChoiceError: If no array is known by its name.
    """
    file = _file(listing.path)
    record = read_dictionary(file)
    chosen = _chosen(record, variable, file)
    return stand_in(UNNAMED, None, _of_subjects(record[chosen.key], chosen.kind == "timeseries", file, chosen.key)[0].shape[1])


@dataclass(frozen=True)
class _Chosen:
    key: str
    kind: ValueKind | None


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.glob("*.np[yz]") if file.is_file()) if path.is_dir() else []
    if len(files) != 1:
        raise DataError(f"Expected one .npy or .npz file at {path}, found {', '.join(file.name for file in files) or 'none'}. Give one file.")
    return files[0]


def _has_labels(path: Path) -> bool:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return "label" in stored.files and stored["label"].size > 1
    except Exception:  # noqa: BLE001 - damaged bytes make the reader fail in any way; whoever reads the file says so
        return False


def _array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list) and value and all(isinstance(entry, np.ndarray) and entry.shape == value[0].shape for entry in value):
        return np.stack(value)
    if isinstance(value, list) and any(isinstance(entry, np.ndarray) for entry in value):
        ragged = np.empty(len(value), dtype=object)
        ragged[:] = value
        return ragged
    return np.asarray(value)


def _chosen(record: Record, variable: str | None, path: Path) -> _Chosen:
    if variable is not None and variable not in record:
        raise ChoiceError(f"Expected the array {variable!r} in {path}, found {', '.join(record)}. Name one of them with variable=…")
    key = variable or next((key for key in _ARRAYS if key in record), None)
    if key is None:
        raise ChoiceError(
            f"Expected one of the arrays {', '.join(_ARRAYS)} in {path}, found {', '.join(record)}. Name the one to read with variable=…, "
            "if it is [subjects, regions, regions]."
        )
    return _Chosen(key, _ARRAYS.get(key))


def _of_subjects(stacked: npt.NDArray[Any], are_series: bool, path: Path, key: str) -> list[Array]:
    """One array a subject; time points become rows, as everywhere else."""
    arrays = [np.asarray(array) for array in stacked] if stacked.ndim else []
    if not arrays or any(array.ndim != 2 or array.dtype.kind not in "biuf" for array in arrays):
        raise DataError(f"Expected {key!r} in {path} as [subjects, regions, …], found {stacked.dtype} of shape {stacked.shape}. See variable=…")
    return [np.ascontiguousarray(array.T if are_series else array, dtype=np.float32) for array in arrays]


def _provenance(chosen: _Chosen, arrays: list[Array], kind: MatrixKind | None, fisher_z: bool | None, pipeline: str) -> Provenance:
    if chosen.kind == "timeseries":
        return Provenance("timeseries", pipeline=pipeline, source="graph_dictionary")
    settled = kind or chosen.kind
    if settled is None:
        raise ChoiceError(f"Expected to know what {chosen.key!r} holds, found no kind. Say so with kind=…, such as correlation or adjacency.")
    is_correlation = settled in ("correlation", "partial correlation")
    # Of a thousand subjects some connection lies beyond 1 if it can.
    told = is_correlation and (any(map(is_fisher_z, arrays)) if fisher_z is None else fisher_z)
    return Provenance(settled, bool(told), pipeline, "graph_dictionary")


def _columns(record: Mapping[str, npt.NDArray[Any]], ids: list[str], path: Path) -> tuple[pd.DataFrame, list[Column]]:
    table = pd.DataFrame(index=pd.Index(ids, dtype="str"))
    columns = []
    for key, role in (("label", "target"), ("site", "site")):
        if key not in record:
            continue
        values = np.asarray(record[key]).reshape(len(record[key]), -1) if np.ndim(record[key]) else np.empty((0, 0))
        if values.shape != (len(ids), 1):
            raise DataError(f"Expected one {key} a subject in {path}, found shape {np.shape(record[key])} for {len(ids)} subjects. Mend the file.")
        words = [_word(value) for value in values[:, 0]]
        table[key] = pd.Series(words, index=table.index, dtype="str")
        categories = tuple(sorted(set(words)))
        kind = "binary" if role == "target" and len(categories) <= 2 else "categorical"
        columns.append(Column(key, kind, role, categories=categories))  # type: ignore[arg-type]
    return table, columns


def _word(value: Any) -> str:
    """A label or site as text; whole numbers without a fraction."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.removesuffix(".0")


# In the order of preference, with the kind where the name settles it.
_ARRAYS: dict[str, ValueKind | None] = {
    "timeseires": "timeseries",
    "timeseries": "timeseries",
    "time_series": "timeseries",
    "corr": "correlation",
    "pcorr": "partial correlation",
    "adj": "adjacency",
    "node_feat": "correlation",
    "connectivity": "correlation",
}
