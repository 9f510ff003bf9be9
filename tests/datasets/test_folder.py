"""Files and subjects put together by name: what fits, what is left out, and what is refused rather than guessed."""

import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.datasets.folder import OnUnmatched, People, check_option, find_files, match_files, match_stems, unmatched_rows
from graphssl.errors import ConfigError, DataError, SchemaError


def matched(names, ids):
    found = match_files([Path(name) for name in names], ids)
    return {subject: path.name for subject, path in found.files.items()}


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("0050102.1D", "0050102"),
        ("Olin_0050102_rois_cc200.1D", "0050102"),
        ("Olin_0050102_rois_cc200.1D", "Olin_0050102"),
        ("CMU_a_0050642_rois_cc200.1D", "CMU_a_0050642"),
        ("ROICorrelation_FisherZ_S12.mat", "S12"),
        ("sub-01_task-rest_run-1_timeseries.tsv", "01"),
        ("sub-01_task-rest_run-1_timeseries.tsv", "sub-01"),
        ("01_timeseries.tsv", "sub-01"),
        ("sub-01_ses-2_timeseries.tsv", "sub-01_ses-2"),
        ("sub-CMU_a_0050642_relmat.tsv", "CMU_a_0050642"),
        ("Übung-7.npy", "Übung-7"),
        (unicodedata.normalize("NFD", "Übung-7_fc.npy"), "Übung-7"),
        ("Übung-7_fc.npy", unicodedata.normalize("NFD", "Übung-7")),
    ],
)
def test_an_id_is_found_in_its_file_name(name, subject):
    assert matched([name], [subject, "unrelated"]) == {subject: name}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("s0050102.1D", "0050102x"),  # a part of a token is no token
        ("sub-02_task-rest_run-1.tsv", "1"),  # a run is no subject
        ("S120.npy", "S12"),
        ("x_AB.npy", "ab"),
    ],
)
def test_an_id_is_not_found_in_another_name(name, other):
    found = match_files([Path(name), Path("good.npy")], [other, "good"])
    assert list(found.files) == ["good"]
    assert found.ids_without_file == (other,)
    assert [path.name for path in found.files_without_id] == [name]


def test_the_longest_id_counts():
    names = ["CMU_a_0050642_rois.1D", "CMU_a_rois.1D"]
    assert matched(names, ["a", "CMU_a_0050642"]) == {"a": names[1], "CMU_a_0050642": names[0]}


def test_files_come_in_the_order_of_the_ids():
    assert list(matched(["a.npy", "b.npy", "c.npy"], ["c", "a", "b"])) == ["c", "a", "b"]


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.from_regex(r"[A-Za-z0-9]{3,8}", fullmatch=True), min_size=1, max_size=8, unique=True))
def test_every_subject_finds_its_own_file(ids):
    for name in ("{}.npy", "sub-{}_task-rest.tsv", "x_{}_y.csv"):
        names = {subject: name.format(subject) for subject in ids if subject not in ("sub", "task", "rest")}
        if names:
            assert matched(names.values(), list(names)) == names


def test_a_file_that_fits_two_subjects():
    with pytest.raises(DataError, match="Expected one subject a file, found A01_B02.npy to fit 'A01' and 'B02'. Rename it"):
        matched(["A01_B02.npy"], ["A01", "B02"])


def test_a_subject_with_two_files():
    names = ["sub-01_run-1.tsv", "sub-01_run-2.tsv", "sub-02_run-1.tsv"]
    with pytest.raises(
        DataError, match=r"found 1 subjects with more, such as '01': sub-01_run-1\.tsv, sub-01_run-2\.tsv\. Choose files with a pattern"
    ):
        matched(names, ["01", "02"])
    with pytest.raises(DataError, match=r"such as 'a': a\.csv, a\.npy"):
        match_stems([Path("a.csv"), Path("a.npy"), Path("b.npy")])


def test_without_a_table_the_name_is_the_id():
    assert list(match_stems([Path("b.x.npy"), Path("a.npy")]).files) == ["b.x", "a"]


@pytest.mark.parametrize(
    ("subject", "name", "width"),
    [("50102", "Olin_0050102_rois_cc200.1D", 7), ("1", "sub-01_task-rest_run-1.tsv", 2), ("0050102", "50102.npy", 5), ("0", "000.npy", 3)],
)
def test_lost_zeros_are_named_not_guessed(subject, name, width):
    with pytest.raises(
        SchemaError, match=rf"found id '{subject}' in the table and '\d+' in {name}: one number with other leading zeros.*zfill\({width}\)"
    ):
        matched([name, "good.npy"], [subject, "good"])


def test_files_called_alike_are_known_by_their_folders():
    names = ["H01/fc.csv", "H02_baseline/fc.csv", "H03/fc.csv"]
    assert match_stems([Path(name) for name in names]).files["H02_baseline"] == Path(names[1])
    found = match_files([Path(name) for name in names], ["H02", "H01"])
    assert {subject: str(path) for subject, path in found.files.items()} == {"H02": names[1], "H01": names[0]}
    assert unmatched_rows(found) == [("subject", "H03/fc.csv", "a file, without a row in the table")]
    with pytest.raises(DataError, match=r"found 1 subjects with more, such as 'H01': a/H01\.csv, b/H01\.csv"):
        match_stems([Path("a/H01.csv"), Path("b/H01.csv"), Path("b/H02.csv")])


def test_nothing_fits():
    with pytest.raises(
        DataError, match=r"none among 2 files and 4 subjects: files such as 'x\.npy', 'y\.npy'; ids such as 'a', 'b', 'c' …\. Name the column"
    ):
        matched(["x.npy", "y.npy"], list("abcd"))


# Which files


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_with_known_endings(tmp_path):
    touch(tmp_path, "b.npy", "a.1D", "c.MAT", "participants.tsv", "README.txt", "a.json", ".hidden.npy", "below/d.npy", "covariates.csv")
    assert [path.name for path in find_files(tmp_path, leave_out=tmp_path / "covariates.csv")] == ["a.1D", "b.npy", "c.MAT"]


def test_pattern(tmp_path):
    touch(tmp_path, "sub-1/func/sub-1_timeseries.tsv", "sub-1/func/sub-1_timeseries.json", "sub-1/func/sub-1_relmat.tsv", "README.txt", "z.txt")
    assert [path.name for path in find_files(tmp_path, "**/*_timeseries.*")] == ["sub-1_timeseries.tsv"]
    assert [path.name for path in find_files(tmp_path, "z*")] == ["z.txt"]


def test_no_folder_and_no_files(tmp_path):
    with pytest.raises(DataError, match="Expected a folder at .*nowhere, found none"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"Expected files with one of the endings \.1D, .* found none\.$"):
        find_files(tmp_path)
    touch(tmp_path, "sub-1/func/sub-1_timeseries.tsv")
    with pytest.raises(
        DataError, match=r"found none\. There are some below it, such as sub-1/func/sub-1_timeseries\.tsv: pass pattern=\"\*\*/\*\.tsv\""
    ):
        find_files(tmp_path)
    with pytest.raises(DataError, match=r"Expected files that fit '\*\.npy' in"):
        find_files(tmp_path, "*.npy")
    for pattern in ("", "/data/*.npy"):
        with pytest.raises(ConfigError, match=f"Expected a pattern of names below the folder, .*found '{re.escape(pattern)}'. Leave the folder out"):
            find_files(tmp_path, pattern)


def test_options_are_checked():
    check_option("on_unmatched", "error", OnUnmatched)
    with pytest.raises(ConfigError, match="Expected on_unmatched to be one of 'error', 'exclude'; found 'ignore'"):
        check_option("on_unmatched", "ignore", OnUnmatched)


@pytest.mark.parametrize("mark", ["_ses-", "_"])
def test_sessions_in_the_names_of_files(mark):
    files = [Path(f"0012{mark}{session}_fc.csv") for session in ("baseline", "month12")]
    matches = match_files(files, ["0012_ses-baseline", "0012_ses-month12"])
    assert list(matches.files.values()) == files


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("deep/a.npy", r"There are some below it, such as deep/a\.npy: pass pattern=.\*\*/\*\.npy."),
        ("deep/a.txt", r"There are \.txt files: pass pattern="),
        ("sub-01/func/sub-01_bold.nii.gz", "There are images, such as sub-01/func/sub-01_bold.nii.gz: regions are taken from them by a pipeline"),
        ("notes.docx", r"found none\.$"),
        ("sub-1/func/sub-1_task-rest_desc-confounds_timeseries.tsv", r"found none\.$"),
    ],
)
def test_what_to_do_where_there_is_no_file_of_the_kind(tmp_path, name, hint):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=hint):
        find_files(tmp_path)


def test_a_column_with_a_role_has_to_be_there():
    table = pd.DataFrame({"participant_id": ["a", "b"], "Diagnosis": ["x", "y"]})
    for target, hint in (("diagnosis", "Did you mean 'Diagnosis'"), ("zzz", r"found Diagnosis\.$")):
        with pytest.raises(SchemaError, match=rf"Expected a column '{target}' in the table, found Diagnosis\..*{hint}|{hint}"):
            People(table, target=target).with_table(Path())


def test_ids_in_another_case_are_named():
    with pytest.raises(SchemaError, match=r"found id 'p001' in the table for sub-P001_fc\.npy: another use of capitals, as in 2 files"):
        match_files([Path("sub-P001_fc.npy"), Path("sub-P002_fc.npy")], ["p001", "p002"])
    assert matched(["a.npy", "A.npy"], ["a", "A"]) == {"a": "a.npy", "A": "A.npy"}
