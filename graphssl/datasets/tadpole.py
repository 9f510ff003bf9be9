"""TADPOLE: baseline visits of the Alzheimer's Disease Neuroimaging Initiative, for the diagnosis of the visit.

Source: Marinescu et al. 2018, arXiv:1805.03909 (columns of `TADPOLE_D1_D2.csv`). The data are given out by ADNI on application (https://adni.loni.usc.edu).
"""

import os
from pathlib import Path

import pandas as pd

from graphssl.data import Cohort, Column, Schema
from graphssl.data.cohort import EXCLUDED_COLUMNS
from graphssl.datasets.columns import as_declared, with_categories
from graphssl.datasets.table_files import columns_without, read_text_file
from graphssl.errors import DataError, SchemaError


def load_tadpole(source: str | os.PathLike[str], *, visit: str = "bl", name: str = "tadpole") -> Cohort:
    """Read one visit of everybody in TADPOLE's table: twelve features, three classes, the site.

    The target is the diagnosis at baseline (`DX_bl`) in three classes: cognitively normal (CN, SMC), mild impairment (EMCI, LMCI) and Alzheimer's
    disease (AD). CDRSB and MMSE nearly define it, so a score with them says little. -4 and blanks are missing.

    Args:
        source: `TADPOLE_D1_D2.csv`, or its folder.
        visit: Value of `VISCODE`.
        name: Name of the cohort.

    Raises:
        DataError: If the file is absent or cannot be read, or nobody has the visit.
        SchemaError: If a column is absent, a diagnosis is unknown, or somebody has the visit twice.
    """
    path = Path(source) / _FILE if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise DataError(f"Expected {_FILE} at {path}, found no such file. Ask ADNI for it, and give its path.")
    table = read_text_file(path)
    absent = [column for column in ("PTID", "VISCODE", "DX_bl", *(c.name for c in _COLUMNS)) if column not in table.columns]
    if absent:
        raise SchemaError(f"Expected the columns of TADPOLE in {path}, found none called {absent}. Give the original table.")
    chosen = table[table["VISCODE"].str.strip() == visit]
    if chosen.empty:
        raise DataError(f"Expected visits {visit!r} in {path}, found {sorted(table['VISCODE'].unique())[:8]}. Choose one of them.")
    chosen = chosen.set_index(pd.Index(chosen["PTID"].str.strip().tolist(), dtype="str"))
    diagnosis = chosen["DX_bl"].str.strip().replace("", None)
    unknown = sorted(set(diagnosis.dropna()) - set(_CLASSES))
    if unknown:
        raise SchemaError(f"Expected diagnoses among {', '.join(_CLASSES)} in DX_bl, found {unknown[:3]}. Give the original table.")
    values = chosen[[column.name for column in _COLUMNS]]
    values = values.mask(values.apply(lambda column: column.str.strip().isin(("", "-4", "-4.0"))))
    schema = Schema([Column("diagnosis", "categorical", "target", categories=("CN", "MCI", "AD")), *_COLUMNS])
    declared = as_declared(values.assign(diagnosis=diagnosis.map(_CLASSES)), schema)
    others = [("column", column, "not among the twelve features") for column in columns_without(list(table.columns), _used())]
    return Cohort(name, declared, with_categories(schema, declared), {}, pd.DataFrame(others, columns=list(EXCLUDED_COLUMNS), dtype="str"))


def _used() -> list[str]:
    return ["PTID", "VISCODE", "DX_bl", *(column.name for column in _COLUMNS)]


_FILE = "TADPOLE_D1_D2.csv"
_CLASSES = {"CN": "CN", "SMC": "CN", "EMCI": "MCI", "LMCI": "MCI", "AD": "AD"}
_COLUMNS = (
    Column("SITE", "categorical", "site"),
    Column("AGE", "continuous", "feature", "years", (0.0, 120.0)),
    Column("PTGENDER", "binary", "feature", categories=("Female", "Male")),
    Column("APOE4", "ordinal", "feature", categories=("0", "1", "2")),
    Column("CDRSB", "continuous", "feature", "points", (0.0, 18.0)),
    Column("ADAS11", "continuous", "feature", "points", (0.0, 70.0)),
    Column("MMSE", "continuous", "feature", "points", (0.0, 30.0)),
    Column("RAVLT_immediate", "continuous", "feature", "points", (0.0, 75.0)),
    Column("Hippocampus", "continuous", "feature", "mm^3"),
    Column("WholeBrain", "continuous", "feature", "mm^3"),
    Column("Entorhinal", "continuous", "feature", "mm^3"),
    Column("MidTemp", "continuous", "feature", "mm^3"),
    Column("FDG", "continuous", "feature", "ratio"),
)
