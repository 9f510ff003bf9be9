"""The table of participants: ids and codes keep their zeros, and what is wrong is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.datasets import read_participants
from graphssl.datasets.participants import drop_empty_columns, find_participants, is_longitudinal, roles_of
from graphssl.errors import DataError, SchemaError

TSV = "participant_id\tage\tsex\tscanner\tsite\tdiagnosis\nsub-01\t31.5\tM\t01\t1\t0\nsub-02\tn/a\tF\t02\t2\t1\nsub-03\t40\tn/a\t01\t2\tn/a\n"


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def test_bids_table(tmp_path):
    table = read_participants(write(tmp_path / "participants.tsv", TSV), roles={"site": "site", "diagnosis": "target"})
    assert table.index.tolist() == ["sub-01", "sub-02", "sub-03"]
    np.testing.assert_array_equal(table["age"], [31.5, np.nan, 40.0])
    assert table["sex"].tolist()[:2] == ["M", "F"]
    assert table["sex"].isna().tolist() == [False, False, True]
    assert table["scanner"].tolist() == ["01", "02", "01"], "a code with leading zeros is no number"
    assert table["site"].tolist() == ["1", "2", "2"]
    assert table["diagnosis"].tolist()[:2] == ["0", "1"], "classes are names, also where one is missing"
    assert table["diagnosis"].isna().tolist() == [False, False, True]


def test_columns_without_a_role_become_numbers_where_they_are(tmp_path):
    table = read_participants(write(tmp_path / "a.tsv", TSV))
    assert pd.api.types.is_numeric_dtype(table["site"])
    assert pd.api.types.is_numeric_dtype(table["diagnosis"])


@pytest.mark.parametrize(("ending", "mark"), [(".tsv", "\t"), (".tsv", ","), (".csv", ","), (".csv", ";"), (".csv", "\t")])
def test_delimiters(tmp_path, ending, mark):
    table = read_participants(write(tmp_path / f"a{ending}", TSV.replace("\t", mark)))
    assert table.shape == (3, 5)


def test_spreadsheet_quirks(tmp_path):
    text = 'participant_id , age\r\n 007 , 30 \r\n"008", 31\r\n'
    table = read_participants(write(tmp_path / "a.csv", text, encoding="utf-8-sig"))
    assert table.index.tolist() == ["007", "008"]
    assert table["age"].tolist() == [30, 31]


def test_decimal_commas_and_a_table_in_a_text_file(tmp_path):
    text = "participant_id;Alter;Ort;Code\na;20,5;Wien, West;1,2\nb;-3;Graz;x\nc;;Linz;y\n"
    for name in ("a.csv", "a.txt"):
        table = read_participants(write(tmp_path / name, text))
        np.testing.assert_array_equal(table["Alter"], [20.5, -3.0, np.nan])
        assert table["Ort"].tolist() == ["Wien, West", "Graz", "Linz"]
        assert table["Code"].tolist() == ["1,2", "x", "y"]
    quoted = read_participants(write(tmp_path / "b.csv", 'participant_id,age\na,"20,5"\nb,"31,25"\n'))
    assert quoted["age"].tolist() == ["20,5", "31,25"], "between commas it may be a thousand"


def test_parquet_and_a_table_that_was_read_already(tmp_path):
    made = pd.DataFrame({"id": ["0050102", "0050103"], "site": [3, 4], "dx": [1.0, np.nan], "score": [0.5, 1.5]})
    made.to_parquet(tmp_path / "a.parquet")
    roles = {"site": "site", "dx": "target", "score": "covariate"}
    for source in (tmp_path / "a.parquet", made, made.set_index("id")):
        table = read_participants(source, id_column="id", roles=roles)
        assert table.index.tolist() == ["0050102", "0050103"]
        assert table["site"].tolist() == ["3", "4"]
        assert table["dx"].tolist()[0] == "1"
        assert table["dx"].isna().tolist() == [False, True]
        assert table["score"].tolist() == [0.5, 1.5]
    assert made["site"].tolist() == [3, 4], "the caller's table is left as it was"


def test_a_target_of_many_numbers_stays_a_number(tmp_path):
    table = pd.DataFrame({"participant_id": list("abcdefghijkl"), "age": range(20, 32)})
    assert pd.api.types.is_numeric_dtype(read_participants(table, roles={"age": "target"})["age"])
    table["age"] += 0.5
    assert pd.api.types.is_numeric_dtype(read_participants(table.head(3), roles={"age": "target"})["age"])


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.from_regex(r"[0-9A-Za-z_]{1,8}", fullmatch=True), min_size=1, max_size=6, unique=True))
def test_ids_are_read_as_they_are_written(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("table") / "participants.csv"
    pd.DataFrame({"participant_id": ids, "age": 30}).to_csv(path, index=False)
    assert read_participants(path).index.tolist() == ids


def test_ids_that_are_numbers_have_lost_their_zeros(tmp_path):
    table = pd.DataFrame({"participant_id": [50102, 50103]})
    table.to_parquet(tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        with pytest.raises(SchemaError, match="Expected subject ids as strings, found int 50102: numbers lose their leading zeros"):
            read_participants(source)


def test_ids_repeated_or_empty(tmp_path):
    with pytest.raises(SchemaError, match=r"Expected each subject id once, found 1 repeated: \['a'\]\. Call the column that tells .* session_id"):
        read_participants(write(tmp_path / "a.csv", "participant_id,age\na,1\na,2\n"))
    with pytest.raises(SchemaError, match="Expected an id for every subject, found an empty one"):
        read_participants(write(tmp_path / "b.csv", "participant_id,age\na,1\n,2\n"))


def test_a_row_a_session(tmp_path):
    text = "participant_id\tsession_id\tage\nsub-01\tses-pre\t30\nsub-01\tpost\t31\nsub-02\tpre\t40\n"
    table = read_participants(write(tmp_path / "a.tsv", text))
    assert table.index.tolist() == ["sub-01_ses-pre", "sub-01_ses-post", "sub-02_ses-pre"]
    assert table["person"].tolist() == ["sub-01", "sub-01", "sub-02"]
    assert table["age"].tolist() == [30, 31, 40]
    assert is_longitudinal(table)
    again = read_participants(pd.read_csv(tmp_path / "a.tsv", sep="\t", dtype="str"))
    assert again.index.tolist() == table.index.tolist()


def test_one_session_of_everybody_is_an_ordinary_table(tmp_path):
    table = read_participants(write(tmp_path / "a.csv", "participant_id,session_id\na,1\nb,1\n"))
    assert table.index.tolist() == ["a", "b"]
    assert not is_longitudinal(table)
    assert not is_longitudinal(None)


def test_sessions_that_do_not_tell_rows_apart(tmp_path):
    with pytest.raises(SchemaError, match="Expected a session_id in every row, found none for 'a'. Fill it in"):
        read_participants(write(tmp_path / "a.csv", "participant_id,session_id\na,1\na,n/a\n"))
    with pytest.raises(SchemaError, match=r"Expected each subject id once, found 1 repeated: \['a_ses-1'\]"):
        read_participants(write(tmp_path / "b.csv", "participant_id,session_id\na,1\na,1\n"))
    with pytest.raises(SchemaError, match="Expected subject ids as strings, found int 7"):
        read_participants(pd.DataFrame({"participant_id": [7, 7], "session_id": ["1", "2"]}))


def test_id_column_absent_names_a_near_one(tmp_path):
    with pytest.raises(
        SchemaError, match=r"Expected the subject ids in column 'participant_id', found \['participants', 'age'\].*id_column=\"participants\""
    ):
        read_participants(write(tmp_path / "a.csv", "participants,age\na,1\n"))
    with pytest.raises(SchemaError, match='id_column="Study ID"'):
        read_participants(write(tmp_path / "b.csv", "idle,Study ID,age\n1,a,1\n1,b,2\n"))
    with pytest.raises(SchemaError, match="id_column=…"):
        read_participants(pd.DataFrame({"x": ["a"]}))


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(DataError, match=r"Expected a table of participants at .*a\.tsv, found no such file"):
        read_participants(tmp_path / "a.tsv")
    with pytest.raises(DataError, match=r"in a \.tsv, \.csv, \.txt or \.parquet file, found .*a\.xlsx\. Export or convert"):
        read_participants(write(tmp_path / "a.xlsx", "x"))
    for name in ("a.csv", "b.parquet"):
        (tmp_path / name).touch()
        with pytest.raises(DataError, match=f"Expected a table of participants in .*{name}, found a file that cannot be read"):
            read_participants(tmp_path / name)
    with pytest.raises(DataError, match="found a file that cannot be read .*utf-8.*Save it again as UTF-8"):
        read_participants(write(tmp_path / "c.csv", "participant_id,site\na,Zürich\n", encoding="latin-1"))
    with pytest.raises(DataError, match="Expected at least one subject"):
        read_participants(write(tmp_path / "d.csv", "participant_id,age\n"))


def test_rows_longer_than_the_header_are_refused(tmp_path):
    with pytest.raises(DataError, match="Expected as many cells in every row"):
        read_participants(write(tmp_path / "a.csv", "participant_id,age\na,1,2\nb,1,2\n"))


def test_two_columns_of_one_name(tmp_path):
    twice = pd.DataFrame([["a", 1, 2]], columns=["participant_id", "age", "age"])
    with pytest.raises(SchemaError, match=r"Expected another name for every column of the table, found \['age'\] repeated"):
        read_participants(twice)


def test_classes_and_sites_lose_the_fraction_that_a_missing_value_gave_them(tmp_path):
    (tmp_path / "a.json").write_text('{"dx": {"Levels": {"1": "ill", "2": "well"}}}')
    text = "participant_id\tdx\tsite\tward\na\t1.0\t3.0\t01\nb\t2\t4.0\t1\nc\t\t\\N\t.\n"
    table = read_participants(write(tmp_path / "a.tsv", text), roles={"dx": "target", "site": "site", "ward": "group"})
    assert table["dx"].dropna().tolist() == ["ill", "well"]
    assert table["site"].dropna().tolist() == ["3", "4"]
    assert table["ward"].dropna().tolist() == ["01", "1"]


def test_long_numbers_keep_every_digit(tmp_path):
    text = "participant_id,family\na,1152921504606846976\nb,1152921504606846977\nc,\n"
    table = read_participants(write(tmp_path / "a.csv", text))
    assert table["family"].dropna().tolist() == ["1152921504606846976", "1152921504606846977"], "a double would make them one family"


def test_roles():
    assert roles_of("dx", "centre", None, ["age", "sex"]) == {"dx": "target", "centre": "site", "age": "covariate", "sex": "covariate"}
    assert roles_of(None, None, "family", ()) == {"family": "group"}
    with pytest.raises(
        SchemaError, match="Expected one role a column, found 'dx' as target and as covariate. A target among the covariates would leak"
    ):
        roles_of("dx", None, None, ["age", "dx"])


def test_columns_nobody_has_a_value_in_are_listed():
    table = pd.DataFrame({"iq": [np.nan, np.nan], "age": [1.0, np.nan], "site": [None, None]})
    kept, excluded = drop_empty_columns(table, {"site": "site"})
    assert list(kept.columns) == ["age", "site"]
    assert excluded == [("column", "iq", "no subject has a value")]


def test_the_table_of_a_folder_is_found(tmp_path):
    assert find_participants(tmp_path) is None
    for name in ("participants.csv", "participants.tsv"):  # BIDS' own comes first
        write(tmp_path / name, TSV)
        assert find_participants(tmp_path) == tmp_path / name
