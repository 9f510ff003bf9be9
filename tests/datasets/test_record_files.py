"""Tables by the names of their files."""

import pandas as pd
import pytest

from graphssl.datasets.listing import list_files
from graphssl.datasets.record_files import FileTables, table_name
from graphssl.errors import SchemaError


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


def test_names():
    assert [table_name(name) for name in ("A/LABS.csv.gz", "labs/part-0.parquet", "labs.parquet")] == ["labs"] * 3
