"""Named lists of ABIDE: the rules, what the hash covers, and the flags of the real table."""

import hashlib

import pandas as pd
import pytest

from graphssl.datasets.abide_lists import LISTS, hash_ids

ROWS = pd.DataFrame(
    {
        "FILE_ID": ["a", "b", "no_filename", "d", "e"],
        "qc_rater_1": ["OK", "maybe", "OK", "OK", "OK"],
        "qc_anat_rater_2": ["maybe", "OK", "OK", "OK", "fail"],
        "qc_func_rater_2": ["OK"] * 5,
        "qc_anat_rater_3": ["OK", "OK", "OK", None, "OK"],
        "qc_func_rater_3": ["OK"] * 5,
    },
    index=list("vwxyz"),
    dtype="str",
)


def test_rules():
    assert LISTS["abide1-1035"].rule(ROWS).tolist() == [True, True, False, True, True]
    assert LISTS["abide1-871"].rule(ROWS).tolist() == [True, False, False, False, False]


def test_the_hash_is_of_the_sorted_ids_alone():
    assert hash_ids(["b", "a"]) == hash_ids(("a", "b")) == hashlib.sha256(b"a\nb").hexdigest()[:12]
    assert hash_ids(["a"]) != hash_ids(["a", "b"]) != hash_ids(["ab"])


def test_description():
    entry = LISTS["abide1-871"]
    assert entry.describe(["a", "b"]) == f"abide1-871: 2 of 871 subjects (hash {hash_ids(['a', 'b'])}; of the whole list 48707430ab5b)"


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "flag", "n_there"), [("abide1-1035", "pcp1035", 809), ("abide1-871", "parisot871", 671)])
def test_the_rules_give_the_flags_of_fifteen_sites(shared_data, name, flag, n_there):
    folder = shared_data / "brain" / "abide1"
    table = pd.read_csv(folder / "Phenotypic_V1_0b_preprocessed1.csv", dtype="str", encoding_errors="replace")
    table = table.set_index(table["SUB_ID"].str.zfill(7))
    flags = pd.read_csv(folder / "subjects.csv", dtype="str").set_index("SUB_ID")[flag] == "1"
    found = LISTS[name].rule(table)
    assert found.loc[flags.index].tolist() == flags.tolist()
    assert (int(flags.sum()), int(found.sum())) == (n_there, n_there)
