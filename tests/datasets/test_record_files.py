"""Tables by the names of their files."""

import pandas as pd
import pytest

from graphssl.datasets.listing import list_files
from graphssl.datasets.record_files import FileTables, table_name
from graphssl.errors import DataError, SchemaError


def test_text_and_shards(tmp_path):
    (tmp_path / "PERSON.csv").write_text("Person_ID,Sex\n007,f\n")
    (tmp_path / "labs").mkdir()
    for number in range(2):
        pd.DataFrame({"ID": [number], "Value": [2.5]}).to_parquet(tmp_path / "labs" / f"{number}.parquet", index=False)
    tables = FileTables(list_files(tmp_path))
    assert tables.read("person", ["sex", "person_id"]).to_dict("list") == {"sex": ["f"], "person_id": ["007"]}
    assert tables.read("labs", ["id"])["id"].tolist() == [0, 1]
    assert tables.read("visits", ["id"]) is None
    with pytest.raises(SchemaError, match=r"Expected the columns \['age'\] in .*PERSON\.csv, found \['person_id', 'sex'\]. Correct the mapping"):
        tables.read("person", ["age"])


@pytest.mark.parametrize("other", ["VITALS.csv.gz", "site-b/vitals.csv", "site-b/vitals/0.parquet", "vitals.parquet"])
def test_a_table_of_two_files_is_not_read_by_half(tmp_path, other):
    (tmp_path / "vitals.csv").write_text("id,x\na,1\n")
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_bytes(b"")
    with pytest.raises(DataError, match="Expected one file of the table 'vitals' in .*, found 2: .*Leave one of them, or put their rows together"):
        FileTables(list_files(tmp_path)).read("vitals", ["id"])


def test_names():
    assert [table_name(name) for name in ("A/LABS.csv.gz", "labs/part-0.parquet", "labs.parquet")] == ["labs"] * 3
