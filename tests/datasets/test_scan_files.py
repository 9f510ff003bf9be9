"""Choosing among the files of a pipeline: the same for everybody, and nothing is dropped in silence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphssl.data import Atlas
from graphssl.datasets.scan_files import Choices, Content, Scan, by_atlas, one_version, readable, scan_key, selected
from graphssl.errors import ChoiceError, ConfigError, DataError

MATRIX = Content("relmat.tsv", "correlation", False, rank=2)
SERIES = Content("timeseries.tsv", "timeseries", False, rank=0)


def scan(subject: str, content: Content = MATRIX, atlas: str = "", **entities: str) -> Scan:
    return Scan(Path(f"{subject}_{content.words}"), subject, content, atlas, entities)


def atlas_called(name: str) -> Atlas:
    return Atlas(name, np.arange(1, 3), ("a", "b"), np.zeros((2, 3)), ("", ""))


def test_options_are_checked():
    with pytest.raises(ConfigError, match="Expected select to name values as file names do, such as ses-1 or desc-simple; found 'first'"):
        Choices(select=["first"])
    with pytest.raises(ConfigError, match="Expected repeats to be one of 'choose', 'group'; found 'mean'"):
        Choices(repeats="mean")


def test_values_are_selected_as_names_have_them():
    scans = [scan("1", ses="pre", run="1"), scan("1", ses="post", run="01"), scan("2", ses="post")]
    assert selected(scans, Choices(["run-1"])) == scans[:2], "01 is 1"
    assert selected(scans, Choices(["ses-post", "run-none"])) == scans[2:]
    assert selected(scans, Choices()) == scans
    with pytest.raises(ChoiceError, match="Expected files with ses-later, found ses: post, pre. Select what is there"):
        selected(scans, Choices(["ses-later"]))
    with pytest.raises(ChoiceError, match="Expected files with acq-1, found acq: none"):
        selected(scans, Choices(["acq-1"]))


def test_a_variable_is_named_whole_or_by_its_end():
    scans = [scan("1", Content("mat", variable=f"aal_{weight}_connectivity")) for weight in ("count", "length")]
    for variable in ("count", "count_connectivity", "aal_count_connectivity"):
        assert selected(scans, Choices(variable=variable)) == scans[:1]
    with pytest.raises(ChoiceError, match="Expected the variable 'mean', found aal_count_connectivity, aal_length_connectivity"):
        selected(scans, Choices(variable="mean"))


@pytest.mark.parametrize("key", ["desc", "space", "res", "stat", "task"])
def test_versions_are_chosen_for_everybody(key):
    scans = [scan("1", **{key: "one"}), scan("2", **{key: "two"})]
    with pytest.raises(ChoiceError, match=f'Expected files of one {key}, found 2 of several: one, two. Choose with select=."{key}-one"'):
        one_version(scans, Choices(), [])
    assert one_version(scans[:1], Choices(), []) == scans[:1]


def test_tasks_may_stand_side_by_side_in_a_group():
    scans = [scan("1", task="rest"), scan("1", task="nback")]
    assert one_version(scans, Choices(repeats="group"), []) == scans


def test_the_first_content_that_serves_most_scans_is_read():
    series, matrices = [scan("1", SERIES), scan("2", SERIES)], [scan("1"), scan("2")]
    excluded = []
    assert one_version([*matrices, *series], Choices(), excluded) == series
    assert excluded == [("file", "relmat.tsv (2 files)", "timeseries.tsv was read instead")]
    assert one_version([*matrices, *series[:1]], Choices(), []) == matrices, "more scans"
    assert one_version([*matrices, *series], Choices(kind="correlation"), []) == matrices
    with pytest.raises(ChoiceError, match="Expected files with kind='covariance', found those with correlation, timeseries. Leave kind out"):
        one_version([*matrices, *series], Choices(kind="covariance"), [])


def test_what_is_no_scan_is_listed_with_its_reason():
    windows = [scan("1", Content("windows", no_scan="parts of a scan")), scan("2", Content("windows", no_scan="parts of a scan"))]
    excluded = []
    assert readable([scan("1"), *windows], excluded) == [scan("1")]
    assert excluded == [("file", "windows (2 files)", "parts of a scan")]
    with pytest.raises(DataError, match=r"Expected scans, found windows \(1 file\) only: parts of a scan"):
        readable(windows[:1], [])


def test_a_scan_is_a_file_or_a_page_of_one():
    assert scan("1").place == Path("1_relmat.tsv")
    page = replace(scan("1"), page=2).place
    assert (page.name, page.parent) == ("1_relmat.tsv (matrix 3)", Path())


def test_files_of_one_scan_have_one_key():
    assert scan_key(scan("1", ses="1", desc="a")) == scan_key(scan("1", SERIES, ses="1", desc="b"))
    assert scan_key(scan("1", ses="1")) != scan_key(scan("1", ses="2"))


def test_atlases_are_found_by_their_names():
    scans = [scan(subject, atlas=atlas) for subject in "12" for atlas in ("A", "4S-5", "B")]
    excluded = []
    found = by_atlas(scans, [atlas_called("a"), atlas_called("4s5")], excluded)
    assert [(atlas.name, {scan.atlas for scan in members}) for atlas, members in found] == [("a", {"A"}), ("4s5", {"4S-5"})]
    assert excluded == [("file", "atlas B (2 files)", "no atlas of that name was given")]
    with pytest.raises(
        ChoiceError, match=r"Expected files in the atlas 'mine', found the atlases A, 4S-5, B\. Name the atlas as they do \(--atlas 'A=FILE'"
    ):
        by_atlas(scans, [atlas_called("mine")], [])
    assert [len(members) for _, members in by_atlas(scans[:1], [atlas_called("mine")], [])] == [1], "one atlas may have any name"
