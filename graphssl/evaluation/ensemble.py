"""Several methods that predict together, from the predictions each has made alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from graphssl.errors import ConfigError
from graphssl.results import Result
from graphssl.statistics.metrics import score_all

_CELL = ["split", "seed", "label_fraction"]
_LEAST = 1e-6


def check_members(ensembles: Mapping[str, Sequence[str]], methods: Sequence[str]) -> None:
    """Check that ensembles have two members or more, which are methods, and names of their own.

    Raises:
        ConfigError: If one does not.
    """
    for name, members in ensembles.items():
        absent = sorted(set(members) - set(methods))
        if absent or len(set(members)) < 2:
            raise ConfigError(f"Expected two or more of {', '.join(methods)} in the ensemble {name!r}, found {list(members)}.")
        if name in methods:
            raise ConfigError(f"Expected an ensemble with a name of its own, found {name!r}, which is a method. Name it otherwise.")


def ensemble(name: str, members: Sequence[str], results: Sequence[Result], predictions: pd.DataFrame) -> tuple[list[Result], pd.DataFrame]:
    """Score the mean of the members' log-probabilities, each member counting alike, so that nothing is fitted or chosen.

    A member that draws nothing at random was fitted for one seed only; it stands beside every seed of the others.

    Args:
        name: Name of the ensemble in results and predictions.
        members: Names of two or more methods.
        results: Records of the members among others.
        predictions: Their predictions, one row a subject, method, split, seed and label fraction, as `evaluate` gives them.

    Returns:
        The ensemble's records and predictions.
    """
    columns = [str(column) for column in predictions if str(column).startswith("p_")]
    tables = {member: predictions[predictions["method"] == member] for member in members}
    cells = pd.concat([table[_CELL] for table in tables.values()]).drop_duplicates()
    records: list[Result] = []
    combined: list[pd.DataFrame] = []
    for split, seed, fraction in cells.itertuples(index=False):
        parts = [_part(table, split, seed, fraction) for table in tables.values()]
        if any(part.empty for part in parts):
            continue
        rows: pd.DataFrame = parts[0].assign(method=name, seed=seed)
        aligned = [part.set_index("subject_id").loc[rows["subject_id"], columns].to_numpy() for part in parts]
        logarithms = np.mean([np.log(np.clip(values, _LEAST, 1.0)) for values in aligned], axis=0)
        shares = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
        rows[columns] = shares / shares.sum(axis=1, keepdims=True)
        combined.append(rows)
        records += _records(name, rows, columns, [record for record in results if record.method in members and _is_of(record, split, fraction)])
    return records, pd.concat(combined, ignore_index=True) if combined else predictions.head(0)


def _part(table: pd.DataFrame, split: str, seed: int, fraction: float) -> pd.DataFrame:
    """A member's rows of a split and fraction: those of the seed, or those of its only one."""
    rows = table[(table["split"] == split) & (table["label_fraction"] == fraction)]
    own = rows[rows["seed"] == seed]
    return own if len(own) or len(set(rows["seed"])) > 1 else rows


def _is_of(record: Result, split: str, fraction: float) -> bool:
    return record.split == split and record.label_fraction == fraction


def _records(name: str, rows: pd.DataFrame, columns: list[str], members: list[Result]) -> list[Result]:
    first, seed = members[0], int(rows["seed"].iloc[0])
    probability = rows[columns].to_numpy()
    scores = score_all(rows["y_true"].to_numpy(), probability[:, 1] if len(columns) == 2 else probability)
    seconds = sum({record.method: record.seconds for record in members}.values())
    where = (first.cohort, first.task, first.protocol, name, first.split, seed, first.label_fraction)
    return [Result(*where, metric, value, first.n_train, len(rows), seconds) for metric, value in scores.items()]
