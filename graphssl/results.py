"""Result records: one JSON line a number, from which every summary is computed."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from graphssl.errors import DataError
from graphssl.folders import file_written_whole


@dataclass(frozen=True)
class Result:
    """One measured number.

    Attributes:
        cohort: Name of the cohort.
        task: What was predicted, such as the target column.
        protocol: How subjects were split, such as `"leave_one_site_out"`.
        method: What was fitted, such as `"pretrained"` or `"logistic_correlation"`.
        split: Name of the fold, such as the site left out.
        seed: Seed of the draw and of the fit.
        label_fraction: Share of the training labels that was used, in (0, 1].
        metric: Name of the metric, such as `"auroc"`.
        value: The number; NaN where the metric is not defined (a fold with one class).
        n_train: Labelled training subjects.
        n_test: Scored subjects.
        seconds: Wall time of the fit.
    """

    cohort: str
    task: str
    protocol: str
    method: str
    split: str
    seed: int
    label_fraction: float
    metric: str
    value: float
    n_train: int
    n_test: int
    seconds: float


FIELDS = tuple(field.name for field in fields(Result))


def write_results(path: str | os.PathLike[str], results: Iterable[Result]) -> None:
    """Write records as JSON lines, whole or not at all. NaN becomes `null`.

    Raises:
        DataError: If a value is infinite; nothing is written.
    """
    with file_written_whole(path) as aside:
        aside.write_text("".join(map(_line, results)), encoding="utf-8")


def read_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read records back as a table with one column a field.

    Raises:
        DataError: If the file is missing, or a line is not a record.
    """
    source = Path(path)
    if not source.is_file():
        raise DataError(f"Expected results at {source}, found no such file. Run `graphssl evaluate` first.")
    records = []
    try:
        text = source.read_text(encoding="utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected result records as text in {source}, found other bytes ({error}). Run the evaluation again.") from error
    # Only "\n" ends a record: a name may hold what Unicode calls a line break.
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            record = json.loads(line)
            value = math.nan if record["value"] is None else float(record["value"])
            records.append({name: record[name] for name in FIELDS} | {"value": value})
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"Expected a result record with the fields {', '.join(FIELDS)} in {source}, line {number}; found {line[:80]!r} ({error}). "
                "The file is damaged: run the evaluation again."
            ) from error
    table = pd.DataFrame(records, columns=list(FIELDS))
    table["value"] = table["value"].astype(float)
    return table


def _line(result: Result) -> str:
    record = asdict(result)
    if math.isinf(result.value):
        raise DataError(f"Expected a finite {result.metric} or NaN, found {result.value} for {result.method} in split {result.split!r}.")
    if math.isnan(result.value):
        record["value"] = None
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
