"""What BIDS writes beside a table: `participants.json` with the units and the levels of the columns of `participants.tsv`.

Source: BIDS 1.10 on tabular files (https://bids-specification.readthedocs.io/en/stable/common-principles.html#tabular-files).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from graphssl.data import Schema
from graphssl.errors import DataError


@dataclass(frozen=True)
class ColumnNote:
    """What is said of a column.

    Args:
        unit: Unit of its numbers.
        levels: Word by code.
    """

    unit: str | None = None
    levels: Mapping[str, str] = field(default_factory=dict)


def read_data_dictionary(table: str | os.PathLike[str] | pd.DataFrame | None) -> dict[str, ColumnNote]:
    """Notes by column of the JSON file beside a table; none where there is no such file.

    Args:
        table: The file of the table; nothing is known of one that was read already.

    Raises:
        DataError: If the JSON file cannot be read.
    """
    if table is None or isinstance(table, pd.DataFrame):
        return {}
    path = Path(table).with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"Expected JSON in {path}, found a file that cannot be read ({error}). Mend or remove it.") from error
    notes = record.items() if isinstance(record, dict) else ()
    return {name: ColumnNote(_unit(note), _words(note.get("Levels"))) for name, note in notes if isinstance(note, dict)}


def with_units(schema: Schema, notes: Mapping[str, ColumnNote]) -> Schema:
    """The schema with the units of its continuous columns."""
    return Schema([replace(c, unit=notes[c.name].unit) if c.kind == "continuous" and c.name in notes else c for c in schema])


def _unit(note: Mapping[str, Any]) -> str | None:
    unit = note.get("Units")
    return unit if isinstance(unit, str) and unit.strip() else None


def _words(levels: Any) -> dict[str, str]:
    """Word by code: the description where all are short and differ, so that they can stand for the codes; else the code."""
    if not isinstance(levels, dict):
        return {}
    # A level may have a description and a link, instead of words alone.
    described = {code: entry.get("Description") if isinstance(entry, dict) else entry for code, entry in levels.items()}
    words = [word.strip() if isinstance(word, str) else "" for word in described.values()]
    serve = all(0 < len(word) <= _LONGEST_WORD for word in words) and len(set(words)) == len(words)
    return dict(zip(described, words if serve else described, strict=True))


_LONGEST_WORD = 24
