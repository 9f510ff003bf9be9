"""Named lists of ABIDE I subjects: a rule on the project's table, and a hash, so that two people mean the same subjects."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd

ListName = Literal["abide1-1035", "abide1-871"]

# What the rules read in Phenotypic_V1_0b_preprocessed1.csv.
RULE_COLUMNS = ("FILE_ID", "qc_rater_1", "qc_anat_rater_2", "qc_func_rater_2", "qc_anat_rater_3", "qc_func_rater_3")


@dataclass(frozen=True)
class NamedList:
    """A list that is common in the literature.

    Args:
        name: Its name.
        n_subjects: Number of subjects in the whole project.
        hash: Hash of their ids, see `hash_ids`.
        rule: Gives a mask of the subjects from the project's table, read as text.
        what: The rule in words, with its source.
    """

    name: ListName
    n_subjects: int
    hash: str
    rule: Callable[[pd.DataFrame], "pd.Series[bool]"]
    what: str

    def describe(self, ids: Iterable[str]) -> str:
        """How the subjects at hand relate to the whole list, in a few words."""
        found = list(ids)
        if hash_ids(found) == self.hash:
            return f"{self.name}: all {self.n_subjects} subjects (hash {self.hash})"
        return f"{self.name}: {len(found)} of {self.n_subjects} subjects (hash {hash_ids(found)}; of the whole list {self.hash})"


def hash_ids(ids: Iterable[str]) -> str:
    """Twelve hex digits of the SHA-256 of the sorted ids, one a line: of who is in a list, and of nothing else.

    Args:
        ids: Seven-digit subject ids as text (`0050642`).
    """
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:12]


def _has_scan(table: pd.DataFrame) -> "pd.Series[bool]":
    return table["FILE_ID"] != "no_filename"


def _passed(table: pd.DataFrame) -> "pd.Series[bool]":
    strict = (table[["qc_rater_1", "qc_anat_rater_3", "qc_func_rater_3"]] == "OK").all(axis=1)
    lenient = table[["qc_anat_rater_2", "qc_func_rater_2"]].isin(["OK", "maybe"]).all(axis=1)
    return _has_scan(table) & strict & lenient


LISTS: dict[str, NamedList] = {
    entry.name: entry
    for entry in (
        NamedList("abide1-1035", 1035, "f9822f0e15ca", _has_scan, "subjects with a preprocessed scan (FILE_ID is not no_filename)"),
        NamedList(
            "abide1-871",
            871,
            "48707430ab5b",
            _passed,
            "of these, those whom all raters passed: rater 1 and 3 OK, rater 2 OK or maybe (Abraham et al. 2017, "
            "doi:10.1016/j.neuroimage.2016.10.045; the rule of nilearn's quality_checked)",
        ),
    )
}
assert set(LISTS) == set(get_args(ListName))
