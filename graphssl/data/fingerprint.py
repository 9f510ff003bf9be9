"""A digest of a table's values, whatever dtypes hold them."""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd


def fingerprint(table: pd.DataFrame) -> bytes:
    """SHA-256 over ids, names of columns and values, all in their order.

    The same values have the same digest in every process and in every dtype that pandas may give them on the way through a file: numbers and booleans
    count as numbers, categories as what they name, times as moments to the microsecond, anything else as text, and every kind of missing value as
    missing. Columns are taken as whole arrays, a million rows of fifty columns in a few seconds.

    Args:
        table: Any table, one row an id.
    """
    digest = hashlib.sha256(json.dumps([[str(name) for name in table.index], [str(name) for name in table.columns]]).encode())
    for place in range(table.shape[1]):
        for part in _parts(table.iloc[:, place]):
            digest.update(part)
    return digest.digest()


def _parts(column: "pd.Series[Any]") -> tuple[bytes, ...]:
    """What a column is made of: the kind of its values, and these as bytes."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if column.dtype == object:
        column = column.convert_dtypes()
    if column.isna().all():
        return (b"missing",)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if not pd.api.types.is_integer_dtype(column) or np.abs(numbers[column.notna()]).max() < _LARGEST_WHOLE:
            return b"numbers", np.where(np.isnan(numbers), np.nan, numbers + 0.0).tobytes()  # one NaN, one zero
    if pd.api.types.is_datetime64_any_dtype(column):
        moments = column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column
        return b"times", moments.to_numpy(dtype="datetime64[us]").tobytes()
    codes, values = pd.factorize(column)
    return b"text", json.dumps([str(value) for value in values]).encode(), codes.astype(np.int64).tobytes()


# From here on neighbouring whole numbers may be the same in double precision.
_LARGEST_WHOLE = 2**53
