"""Files of tables: text, Parquet and shards, in small types; what is broken is named and nothing else touched."""

import gzip
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graphssl.datasets.table_files import exact, read_shards, read_table_files, stacked, tight
from graphssl.errors import DataError, SchemaError


def frame(start=0, n=5):
    rows = np.arange(start, start + n)
    return pd.DataFrame({"id": rows + 2**40, "word": np.where(rows % 2, "odd", "even"), "x": rows / 4, "group": [2.0**24 + 1, *[np.nan] * (n - 1)]})


def write_shards(folder, sizes=(5, 3)):
    folder.mkdir(exist_ok=True)
    for number, n in enumerate(sizes):
        pq.write_table(pa.Table.from_pandas(frame(10 * number, n), preserve_index=False), folder / f"part-{number}.parquet", row_group_size=2)
    return folder


def test_shards_are_one_table_in_small_types(tmp_path):
    found = read_table_files(write_shards(tmp_path / "shards"))
    expected = pd.concat([frame(0, 5), frame(10, 3)], ignore_index=True)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {"id": "int64", "word": "category", "x": "float32", "group": "float64"}
    for name in expected.columns:
        assert found[name].astype(expected[name].dtype).equals(expected[name]), name
    assert read_table_files(tmp_path / "shards", without=["word", "x"]).columns.tolist() == ["id", "group"]
    one = read_table_files(tmp_path / "shards" / "part-1.parquet")
    assert len(one) == 3


def test_a_truncated_shard_is_named_and_the_others_are_untouched(tmp_path):
    folder = write_shards(tmp_path / "shards", (5, 3, 4))
    broken = folder / "part-1.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match=r"found 1 of 3 that cannot be read: part-1\.parquet .*Copy or make them again; the others were not touched"):
        read_table_files(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_damage_inside_a_shard_is_named(tmp_path):
    path = write_shards(tmp_path / "shards", (400,)) / "part-0.parquet"
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"Expected a whole Parquet file in .*part-0\.parquet, found a damaged one"):
        read_table_files(path)


def test_shards_of_different_columns(tmp_path):
    folder = write_shards(tmp_path / "shards")
    frame().drop(columns="x").to_parquet(folder / "part-2.parquet")
    with pytest.raises(SchemaError, match=r"Expected the columns of part-0\.parquet in part-2\.parquet, found only in one of them: \['x'\]"):
        read_table_files(folder)
    with pytest.raises(DataError, match="Expected whole Parquet files, found none"):
        read_shards([])


def test_no_rows(tmp_path):
    frame().iloc[:0].to_parquet(tmp_path / "none.parquet")
    assert read_table_files(tmp_path / "none.parquet").shape == (0, 4)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_text(tmp_path, mark):
    text = f"id{mark}word{mark}x\n007{mark}a b{mark}0.5\n010{mark}{mark}n/a\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.csv", "b.csv.gz"):
        found = read_table_files(tmp_path / name)
        assert found["id"].tolist() == ["007", "010"]
        np.testing.assert_array_equal(found["x"], [0.5, np.nan])
    assert read_table_files(tmp_path / "a.csv", as_text=["x"])["x"].tolist() == ["0.5", "n/a"]
    assert len(read_table_files(tmp_path / "a.csv", n_rows=1)) == 1


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(DataError, match="Expected a table at .*found no such file. Check the path"):
        read_table_files(tmp_path / "a.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"Expected a table in a \.parquet, .*Export or convert it"):
        read_table_files(tmp_path / "a.xlsx")
    for name, content in (("a.csv", b"a,b\n\xff\xfe,1\n"), ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-12])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="found a file that cannot be read .*Save it again as UTF-8"):
            read_table_files(tmp_path / name)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SchemaError, match=r"Expected the columns to leave out in the table, found none called \['c'\]"):
        read_table_files(tmp_path / "a.csv", without=["c"])


def test_small_types_hold_the_same_values():
    table = pd.DataFrame({"small": [1, 200], "flag": [True, False], "when": pd.to_datetime(["2130-01-01", None]), "word": ["a", None]})
    found = tight(table)
    assert [str(dtype) for dtype in found.dtypes] == ["int16", "bool", "datetime64[us]", "category"] or found["when"].equals(table["when"])
    assert found["small"].tolist() == [1, 200]
    assert found["word"].isna().tolist() == [False, True]
    assert stacked([found, found])["word"].dtype == "category"


def test_a_pipe_is_no_shard(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "0.parquet")
    os.mkfifo(tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"1 of 2 that cannot be read: 1\.parquet \(no ordinary file\)"):
        read_table_files(tmp_path)


def test_parts_of_other_columns_are_not_stacked():
    with pytest.raises(SchemaError, match=r"same columns in all parts of a table, found only in some: \['b', 'c'\]"):
        stacked([pd.DataFrame({"a": [1], "b": [1]}), pd.DataFrame({"a": [1], "c": [1]})])


def test_decimals_are_numbers_and_ids_keep_every_digit(tmp_path):
    large = [2**60, 2**60 + 1, None]
    made = pa.table({"cost": [Decimal("1.25"), None, Decimal("-3.50")], "family": large, "n": [1, 2, None], "whole": [2**60, 2**60 + 1, 3]})
    found = exact(made)
    np.testing.assert_array_equal(found["cost"], [1.25, np.nan, -3.5])
    assert found["family"].dropna().tolist() == [str(2**60), str(2**60 + 1)], "a double would make them one"
    np.testing.assert_array_equal(found["n"], [1, 2, np.nan])
    assert found["whole"].tolist() == [2**60, 2**60 + 1, 3]
    numeric = pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "numeric", "PostgreSQL"), pa.array(["1.5", None]))
    assert exact(pa.record_batch({"x": numeric}))["x"].tolist()[0] == "1.5"
    pq.write_table(made, tmp_path / "a.parquet")
    assert read_table_files(tmp_path / "a.parquet")["family"].nunique() == 2


def test_cells_of_several_values_and_columns_of_one_name(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "x": [[1, 2]], "y": [{"a": 1}], "z": [b"\0"]}), tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match=r"Expected one value in each cell, found list<.*> in column 'x' and others: \['y', 'z'\]\. Leave them out"):
        read_table_files(tmp_path / "a.parquet")
    assert read_table_files(tmp_path / "a.parquet", without=["x", "y", "z"]).columns.tolist() == ["id"]
    assert read_shards([tmp_path / "a.parquet"]).shape == (1, 4), "tables of records may hold what nobody reads"
    pq.write_table(pa.table([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["id", "x", "x"]), tmp_path / "b.parquet")
    with pytest.raises(SchemaError, match=r"Expected another name for every column of the table, found \['x'\] repeated"):
        read_table_files(tmp_path / "b.parquet")


def test_infinite_numbers_stay_what_they_are():
    assert tight(pd.DataFrame({"x": [np.inf, 1.5, -np.inf]}))["x"].tolist() == [np.inf, 1.5, -np.inf]
