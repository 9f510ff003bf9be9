"""Result records: one JSON line a number, from which every summary is computed."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from graphssl.errors import DataError


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
    """Write records as JSON lines, whole or not at all (written aside, then moved into place). NaN becomes `null`."""
    target = Path(path)
    aside = target.with_suffix(target.suffix + ".part")
    with aside.open("w", encoding="utf-8") as file:
        for result in results:
            record = asdict(result)
            if math.isnan(record["value"]):
                record["value"] = None
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(aside, target)


def read_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read records back as a table with one column a field.

    Raises:
        DataError: If the file is missing, or a line is not a record.
    """
    source = Path(path)
    if not source.is_file():
        raise DataError(f"Expected results at {source}, found no such file. Run `graphssl evaluate` first.")
    records = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            records.append({name: record[name] for name in FIELDS})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(
                f"Expected a result record with the fields {', '.join(FIELDS)} in {source}, line {number}; found {line[:80]!r} ({error}). "
                "The file is damaged: run the evaluation again."
            ) from error
    table = pd.DataFrame(records, columns=list(FIELDS))
    table["value"] = table["value"].astype(float)
    return table
