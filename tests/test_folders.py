"""Folders and files are written whole or not at all, and what stood in their place is lost only to a whole one."""

import os

import pytest

from graphssl.errors import RunFolderError
from graphssl.folders import file_written_whole, ordinary, written_whole


def write(place, text="new"):
    with written_whole(place, marker="mark", what="a saved thing") as aside:
        (aside / "mark").write_text(text)


@pytest.mark.parametrize("before", [None, "empty", "earlier"])
def test_a_folder_takes_its_place(tmp_path, before):
    place = tmp_path / "deep" / "thing"
    if before is not None:
        place.mkdir(parents=True)
    if before == "earlier":
        (place / "mark").write_text("old")
        (place / "more").write_text("of the old one")
    write(place)
    assert [path.name for path in place.iterdir()] == ["mark"]
    assert (place / "mark").read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["thing"]


def test_an_error_leaves_what_stood_there_and_nothing_half(tmp_path):
    write(tmp_path / "thing", "old")
    with pytest.raises(TypeError, match="must be str"):
        write(tmp_path / "thing", 7)
    assert (tmp_path / "thing" / "mark").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_kill_between_the_moves_leaves_both_whole(tmp_path, monkeypatch):
    write(tmp_path / "thing", "old")
    moves = []

    def killed(source, target):
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "thing")
    assert (tmp_path / "thing.old" / "mark").read_text() == "old"
    assert (tmp_path / "thing.part" / "mark").read_text() == "new"
    write(tmp_path / "thing")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_other_files_are_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(RunFolderError, match="to be absent, empty or a saved thing; found other files"):
            write(place)
    assert (tmp_path / "thesis.txt").read_text() == "three years"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_takes_its_place(tmp_path, before):
    place = tmp_path / "deep" / "a.csv"
    if before is not None:
        place.parent.mkdir()
        place.write_text(before)
    with file_written_whole(place) as aside:
        aside.write_text("new")
        assert place.exists() == (before is not None)
    assert place.read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["a.csv"]


def fill_the_disk(path):
    path.write_text("half")
    raise OSError("disk full")


def test_an_error_leaves_the_file_that_stood_there(tmp_path):
    place = tmp_path / "a.csv"
    place.write_text("old")
    with pytest.raises(OSError, match="disk full"), file_written_whole(place) as aside:
        fill_the_disk(aside)
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_pipe_a_folder_and_nothing_are_no_ordinary_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert ordinary(tmp_path / "file") == tmp_path / "file"
    for name in ("pipe", "absent", "."):
        with pytest.raises(FileNotFoundError, match="no ordinary file"):
            ordinary(tmp_path / name)
