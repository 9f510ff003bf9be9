"""What a report reads from a run folder."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.errors import DataError, RunFolderError
from graphssl.folders import file_written_whole
from graphssl.results import read_results
from graphssl.seal import seal_replaced
from graphssl.statistics.predictions import probability_columns

Array = npt.NDArray[np.float64]
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Connectome:
    """The mean connectome and what the model looked at, from `explain/connectome.npz`.

    Attributes:
        atlas: Name of the atlas; `""` where it was not recorded.
        labels: Label ids `[R]`.
        centroids: Centroids in MNI mm `[R, 3]`.
        mean: Mean connection weights `[R, R]`.
        regions: Saliency of each region `[R]`.
        edges: Saliency of each connection `[R, R]`.
    """

    atlas: str
    labels: npt.NDArray[np.int64]
    centroids: Array
    mean: Array
    regions: Array
    edges: Array


@dataclass(frozen=True, eq=False)
class EvaluationRun:
    """A run folder in memory; parts that are absent are `None`.

    Attributes:
        folder: Where it is.
        manifest: `manifest.json`.
        results: `results.jsonl`.
        configuration: Text of `config.yaml`.
        predictions: `predictions.parquet`.
        history: `history.csv`.
        excluded: `excluded.csv`.
        connectome: `explain/connectome.npz`.
        regions: `explain/regions.csv`.
        edges: `explain/edges.csv`.
        network_pairs: `explain/network_pairs.csv`.
        explanation: `explain/summary.json`: how far the explanation can be believed.
        tuning: `tuning.csv`: what tuned methods chose on inner folds.
        truth: `explain/truth.json`: pairs of networks a simulated disease acts on, under `"affected"`.
    """

    folder: Path
    manifest: dict[str, Any]
    results: pd.DataFrame
    configuration: str | None
    predictions: pd.DataFrame | None
    history: pd.DataFrame | None
    excluded: pd.DataFrame | None
    connectome: Connectome | None
    regions: pd.DataFrame | None
    edges: pd.DataFrame | None
    network_pairs: pd.DataFrame | None
    explanation: dict[str, Any] | None
    tuning: pd.DataFrame | None
    truth: dict[str, Any] | None

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.manifest.get("name") or self.folder.name)

    def part(self, name: str) -> dict[str, Any]:
        """A section of the manifest; empty where it was not recorded."""
        value = self.manifest.get(name)
        return value if isinstance(value, dict) else {}


def write_page(run_folder: Path, page: str, name: str = "report.html") -> Path:
    """Write a page into a run folder, whole or not at all, and take its hash anew where the folder is sealed.

    Args:
        run_folder: The run folder.
        page: The page.
        name: Its file, relative to the folder.

    Returns:
        Path of the page.
    """
    with file_written_whole(run_folder / name) as aside:
        aside.write_text(page, encoding="utf-8")
        seal_replaced(run_folder, name, aside)
    return run_folder / name


def read_run(folder: str | os.PathLike[str]) -> EvaluationRun:
    """Read a run folder.

    Args:
        folder: The run folder; `manifest.json` and `results.jsonl` must be there, the rest may be absent.

    Raises:
        RunFolderError: If the folder or its manifest is absent.
        DataError: If there are no results, or a file is there and damaged.
    """
    path = Path(folder)
    check_files(path, ("manifest.json",), "the folder that `graphssl evaluate` wrote, such as runs/demo")
    manifest = read_mapping(path / "manifest.json")
    results = read_results(path / "results.jsonl")
    if results.empty:
        raise DataError(f"Expected results in {path / 'results.jsonl'}, found an empty file. Run `graphssl evaluate` again.")
    explain = path / "explain"
    return EvaluationRun(
        folder=path,
        manifest=manifest,
        results=results,
        configuration=read_optional(path / "config.yaml", read_text),
        predictions=read_optional(path / "predictions.parquet", _predictions),
        history=read_optional(path / "history.csv", lambda file: _table(file, ("stage", "epoch", "train_loss"))),
        excluded=read_optional(path / "excluded.csv", lambda file: _table(file, ("what", "id", "reason"), dtype="str")),
        connectome=read_optional(explain / "connectome.npz", read_connectome),
        regions=read_optional(explain / "regions.csv", lambda file: _table(file, ("label", "name", "network", "saliency", "rank"))),
        edges=read_optional(explain / "edges.csv", lambda file: _table(file, ("name_a", "name_b", "effect", "saliency", "rank"))),
        network_pairs=read_optional(explain / "network_pairs.csv", lambda file: _table(file, ("network_a", "network_b", "saliency", "rank"))),
        explanation=read_optional(explain / "summary.json", read_mapping),
        tuning=read_optional(path / "tuning.csv", lambda file: _table(file, ("method", "split", "parameter", "value"), dtype="str")),
        truth=read_optional(explain / "truth.json", read_mapping),
    )


def check_files(folder: Path, needed: Iterable[str], wanted: str) -> None:
    """Check that a run folder is one of its kind.

    Args:
        folder: The folder.
        needed: Files that must be there.
        wanted: What to give instead.

    Raises:
        RunFolderError: If there is no folder, or it lacks one of the files.
    """
    if not folder.is_dir():
        raise RunFolderError(f"Expected a run folder at {folder}, found none. Give {wanted}.")
    for name in needed:
        if not (folder / name).is_file():
            raise RunFolderError(f"Expected {name} in the run folder {folder}, found none. Give {wanted}.")


@contextmanager
def whole(file: Path) -> Iterator[None]:
    """Read a file, and say which one it is where it is damaged.

    Raises:
        DataError: If it is.
    """
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, RecursionError) as error:
        raise DataError(f"Expected {file} whole, found a damaged file ({error}). Run the step that wrote it again, or delete it.") from error


def read_optional(file: Path, read: Callable[[Path], _T]) -> _T | None:
    """What is read of a file; None where there is none.

    Raises:
        DataError: If it is damaged.
    """
    if not file.is_file():
        return None
    with whole(file):
        return read(file)


def read_mapping(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: If it is damaged, or holds something else.
    """
    with whole(file):
        record = json.loads(read_text(file))
    if not isinstance(record, dict):
        raise DataError(f"Expected a JSON object in {file}, found {type(record).__name__}. Run the step that wrote it again.")
    return record


def read_text(file: Path) -> str:
    """The text of a file."""
    return file.read_text(encoding="utf-8")


def _table(file: Path, columns: tuple[str, ...], dtype: str | None = None) -> pd.DataFrame:
    # "NA" is a name that regions and networks may have; only empty cells are missing.
    table = pd.read_csv(file, dtype=dtype, keep_default_na=False, na_values=[""])
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise DataError(f"Expected the columns {', '.join(columns)} in {file}, found {list(table.columns)}. Run the step that wrote it again.")
    return table


def _predictions(file: Path) -> pd.DataFrame:
    table = pd.read_parquet(file)
    probability_columns(table)
    return table


def read_connectome(file: Path) -> Connectome:
    """Read `explain/connectome.npz`.

    Raises:
        DataError: If arrays do not fit one another.
    """
    # numpy leaves a damaged file open unless it was opened here.
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    labels = np.asarray(found["labels"], dtype=np.int64)
    n = len(labels)
    shapes = {"mean_connectome": (n, n), "centroids": (n, 3), "region_saliency": (n,), "edge_saliency": (n, n)}
    wrong = {name: found[name].shape for name, shape in shapes.items() if found[name].shape != shape}
    if wrong:
        raise DataError(f"Expected arrays of {n} regions in {file}, found {wrong}. Run the step that wrote it again.")
    mean, centroids, regions, edges = (np.asarray(found[name], dtype=np.float64) for name in shapes)
    return Connectome(str(found.get("atlas", "")), labels, centroids, mean, regions, edges)
