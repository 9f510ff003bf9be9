"""Files below a path in one pass."""

import os

import pytest

from graphssl.datasets.listing import links_to_nothing, list_files
from graphssl.errors import DataError


def test_files_are_named_relative_and_sorted(tmp_path):
    for name in ("b.npy", "a/c/d.TSV", "a/b.tsv", ".hidden", ".git/config"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = list_files(tmp_path)
    assert listing.names == ("a/b.tsv", "a/c/d.TSV", "b.npy")
    assert listing.ending(".tsv") == ["a/b.tsv", "a/c/d.TSV"]
    assert listing.here("b.npy".__eq__)
    assert not listing.here("b.tsv".__eq__)
    assert (listing.root, listing.is_file) == (tmp_path, False)


def test_one_file(tmp_path):
    (tmp_path / "a.npy").touch()
    (tmp_path / "b.npy").touch()
    listing = list_files(tmp_path / "a.npy")
    assert (listing.root, listing.names, listing.is_file) == (tmp_path, ("a.npy",), True)


def test_links_to_folders_are_followed_and_rings_end(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.npy").touch()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "sub-01").symlink_to(tmp_path / "data")
    assert list_files(tmp_path / "study").names == ("sub-01/a.npy",)
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert list_files(tmp_path / "study").names == ("sub-01/a.npy",)


def test_no_file_is_there_twice(tmp_path):
    """A link from a folder into itself would put one scan on both sides of a split."""
    (tmp_path / "z" / "deep").mkdir(parents=True)
    (tmp_path / "z" / "deep" / "a.npy").touch()
    for name, target in (("a-link", tmp_path / "z" / "deep"), ("z/ring", tmp_path), ("b-link", tmp_path / "z")):
        (tmp_path / name).symlink_to(target)
    assert list_files(tmp_path).names == ("z/deep/a.npy",)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "gone")
    (tmp_path / "study").mkdir()
    for name in ("first", "second"):
        (tmp_path / "study" / name).symlink_to(tmp_path / "z" / "deep")
    assert list_files(tmp_path / "study").names in (("first/a.npy",), ("second/a.npy",))


def test_nothing(tmp_path):
    with pytest.raises(DataError, match="Expected a folder or a file at .*none, found nothing. Check the path"):
        list_files(tmp_path / "none")
    with pytest.raises(DataError, match="Expected files in .*, found an empty folder"):
        list_files(tmp_path)


def test_links_whose_content_is_not_here(tmp_path):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "a.tsv").symlink_to("../.git/annex/objects/a.tsv")
    with pytest.raises(DataError, match=r"found 1 links that lead nowhere, such as sub-01/a\.tsv\. Fetch their content, with datalad get"):
        list_files(tmp_path)
    (tmp_path / "sub-01" / "b.tsv").touch()
    assert list_files(tmp_path).names == ("sub-01/b.tsv",)
    assert links_to_nothing(tmp_path) == ["sub-01/a.tsv"]


def test_links_to_themselves_and_pipes_are_no_files(tmp_path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "ring.csv").symlink_to("ring.csv")
    (tmp_path / "absent.csv").symlink_to("absent")
    os.mkfifo(tmp_path / "pipe.csv")
    assert list_files(tmp_path).names == ("a.csv",)
