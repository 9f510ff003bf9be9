"""Text files of tables as spreadsheets and databases of many countries write them."""

import gzip

import pytest

from graphssl.data.text_files import check_names_differ, decoded, delimiter, header_of, read_text_table, with_points
from graphssl.errors import DataError, SchemaError

GERMAN = "Fall;Klinik;Größe\n1;Köln;1,5\n2;Ulm, West;2\n"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_change_nothing(tmp_path, encoding, end):
    path = write(tmp_path / "a.csv", GERMAN.replace("\n", end), encoding)
    table = read_text_table(path)
    assert table.to_dict("list") == {"Fall": ["1", "2"], "Klinik": ["Köln", "Ulm, West"], "Größe": ["1.5", "2"]}
    assert header_of(path) == list(table.columns)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_text_table(tmp_path / "a.csv.gz").equals(table)


def test_bytes_that_are_no_text():
    with pytest.raises(UnicodeDecodeError):
        decoded("Köln".encode("cp1252"))


def test_no_header_of_what_is_no_text(tmp_path):
    assert header_of(write(tmp_path / "a.csv", "Köln;x\n", "cp1252")) == []
    assert header_of(tmp_path / "absent.csv") == []
    assert header_of(write(tmp_path / "b.csv", "")) == []


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("id;BMI (kg, m)\n1;22,5\n2;23,5\n", ";"),
        ("id;BMI (kg, m);sex\n1;22,5;f\n2;23,5;m\n", ";"),
        ("id,codes\n1,a;b;c\n2,d\n", ","),
        ("id\tnote\n1\ta, b; c\n2\td\n", "\t"),
        ('id,"a;b;c"\n1,"x;y;z"\n', ","),
        ("id\n1\n2\n", ","),
        ("a,b,c\n1,2\n", ","),
        ("", ","),
    ],
)
def test_the_delimiter_cuts_all_rows_alike(text, mark):
    assert delimiter(text) == mark


def test_rows_that_are_short_or_long(tmp_path):
    with pytest.raises(DataError, match=r"Expected as many cells in every row .*fewer in 1, the first being row 2 below the header\. .*cut off"):
        read_text_table(write(tmp_path / "a.csv", "id,age,sex\na,1,f\nb,2\n"))
    with pytest.raises(DataError, match="Expected as many cells in every row .*found more in some. Put cells that hold ',' into quotation marks"):
        read_text_table(write(tmp_path / "b.csv", "id,age\na,1,2\nb,1,2\n"))
    with pytest.raises(DataError, match="found more in some"):
        read_text_table(write(tmp_path / "c.csv", "Export of 2026\nid,age\na,1\n"))
    whole = read_text_table(write(tmp_path / "d.csv", 'id,note,n\na,"two\nlines, one cell",\n\nb,,1\n'))
    assert whole["note"].tolist() == ["two\nlines, one cell", ""]


def test_what_spreadsheets_and_pandas_write_beside_a_table(tmp_path):
    """Numbers of rows are no feature: their order may tell the class."""
    for first in (0, 1):
        table = read_text_table(write(tmp_path / "a.csv", f",id,x\n{first},a,5\n{first + 1},b,7\n"))
        assert list(table.columns) == ["id", "x"]
    kept = read_text_table(write(tmp_path / "b.csv", ",x\nsub-1,5\nsub-2,7\n"))
    assert kept.iloc[:, 0].tolist() == ["sub-1", "sub-2"]
    for line in ("sep=;", '"sep=;"', "SEP=;"):
        assert list(read_text_table(write(tmp_path / "c.csv", f"{line}\nid;x\na;5\n")).columns) == ["id", "x"]


def test_two_columns_of_one_name(tmp_path):
    for header in ("id,age,age", "id,age,age "):
        with pytest.raises(SchemaError, match=r"Expected another name for every column of .*a\.csv, found \['age'\] repeated\. Rename them"):
            read_text_table(write(tmp_path / "a.csv", f"{header}\na,1,2\n"))
    check_names_differ(["id", "", ""], "columns without a name, which spreadsheets leave at the end")


def test_thousands_are_not_taken_for_decimals(tmp_path):
    """150,000 platelets are no 150."""
    with pytest.raises(
        DataError, match=r"Expected decimal commas that are plain .*three digits in \['platelets'\], which may stand between thousands"
    ):
        read_text_table(write(tmp_path / "a.tsv", "id\tplatelets\na\t150,000\nb\t1,200\nc\t90\n"))
    for cell in ("0,987", "12,5"):
        table = read_text_table(write(tmp_path / "b.tsv", f"id\tx\na\t1,234\nb\t{cell}\n"))
        assert table["x"].tolist() == ["1.234", cell.replace(",", ".")], "another cell shows that commas are decimal"
    beside = read_text_table(write(tmp_path / "c.csv", "id;x;y\na;1,234;0,5\nb;2,345;1,5\n"))
    assert beside["x"].tolist() == ["1.234", "2.345"], "another column shows it"
    with pytest.raises(DataError, match=r"Expected decimal commas in all of .*found them beside points before three digits in \['cells'\]"):
        read_text_table(write(tmp_path / "e.csv", "id;crp;cells\na;1,5;7.500\nb;2,25;12.300\n"))
    assert read_text_table(write(tmp_path / "f.csv", "id;crp;cells\na;1,5;7.5\nb;2,25;12.300\n"))["cells"].tolist() == ["7.5", "12.300"]
    assert read_text_table(write(tmp_path / "g.csv", "id;cells\na;7.500\n"))["cells"].tolist() == ["7.500"], "no comma is decimal there"
    mixed = read_text_table(write(tmp_path / "d.tsv", "id\tx\na\t1,234\nb\t999.5\n"))
    assert mixed["x"].tolist() == ["1,234", "999.5"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,5;-2,25;3", "1.5;-2.25;3"),
        ("0,5\t1,5e-3", "0.5\t1.5e-3"),
        ("a,b;1,2,3;x1,5", "a,b;1,2,3;x1,5"),
        ("1.5;2", "1.5;2"),
        ("", ""),
    ],
)
def test_decimal_commas_become_points(text, expected):
    assert with_points(text) == expected
