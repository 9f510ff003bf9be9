"""A disk that is full and a folder that cannot be written: one sentence, exit code 2, and nothing that stood there is lost."""

import os
import resource
from contextlib import contextmanager

import pytest

from graphssl.cli import main
from graphssl.data import Cohort
from graphssl.errors import StorageError
from graphssl.folders import file_written_whole


@contextmanager
def full_disk(n_bytes):
    """No file can grow beyond so many bytes; the kernel then answers as for a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def place(make_cohort, tmp_path, monkeypatch):
    """A saved cohort and another that stands where the next is to be written."""
    monkeypatch.chdir(tmp_path)
    make_cohort(n_subjects=12).save("cohort")
    make_cohort(n_subjects=8, seed=1).save("built")
    return tmp_path


def test_a_full_disk_is_said_and_leaves_what_was_there(place, capfd):
    before = Cohort.load("built").hash
    with full_disk(2048):
        assert main(["build", "cohort", "--out", "built", "--quiet"]) == 2
    said = capfd.readouterr().err.strip()
    assert "Expected to write built, found a file larger than is allowed (File too large). What stood there" in said
    assert len(said.splitlines()) == 1
    assert sorted(path.name for path in place.iterdir()) == ["built", "cohort"]
    assert Cohort.load("built").hash == before


def test_a_folder_that_cannot_be_written_is_named(place, monkeypatch, capfd):
    """Permissions do not bind root, so the system call itself refuses."""
    true = os.mkdir

    def refuse(path, *arguments, **more):
        if str(path).endswith(".part"):
            raise PermissionError(13, "Permission denied", str(path))
        return true(path, *arguments, **more)

    before = Cohort.load("built").hash
    monkeypatch.setattr(os, "mkdir", refuse)
    assert main(["build", "cohort", "--out", "built", "--quiet"]) == 2
    assert "Expected to write built, found no permission (Permission denied). What stood there" in capfd.readouterr().err
    monkeypatch.undo()
    assert Cohort.load(place / "built").hash == before


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with (
        full_disk(100),
        pytest.raises(StorageError, match=r"a\.csv, found a file larger than is allowed \(File too large\)"),
        file_written_whole(tmp_path / "a.csv") as aside,
    ):
        aside.write_text("x" * 1000)
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
