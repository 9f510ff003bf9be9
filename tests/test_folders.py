"""Folders and files are written whole or not at all, and what stood in their place is lost only to a whole one."""

import errno
import functools
import os
import signal
import stat

import pytest

from graphssl.errors import RunFolderError, StorageError
from graphssl.folders import file_written_whole, ordinary, written_whole


def in_child(function):
    """The number of a process that does this and nothing else."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
    moves, rename = [], os.replace

    def killed(source, target):
        moves.append(target)
        if len(moves) == 3:  # to the place, which is taken; that away; to the place
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        assert exit_code(in_child(lambda: write(tmp_path / "thing"))) == -signal.SIGKILL
    assert {path.suffix: (path / "mark").read_text() for path in tmp_path.iterdir()} == {".old": "old", ".part": "new"}
    write(tmp_path / "thing", "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_an_error_between_the_moves_puts_back_what_stood_there(tmp_path, monkeypatch):
    write(tmp_path / "thing", "old")
    rename = os.replace

    def full(source, target):
        if str(source).endswith(".part") and not (tmp_path / "thing").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"write .*thing, found a full disk \(No space left on device\)\. What stood there .* Free space there"):
        write(tmp_path / "thing")
    assert (tmp_path / "thing" / "mark").read_text() == "old"
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


def write_half(path, error):
    path.write_text("half")
    raise error


def test_an_error_leaves_the_file_that_stood_there(tmp_path):
    place = tmp_path / "a.csv"
    place.write_text("old")
    with pytest.raises(OSError, match="no column"), file_written_whole(place) as aside:
        write_half(aside, OSError("no column"))
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_full_disk_that_a_library_hides_in_words_is_one(tmp_path):
    """The library may have taken its half of a file away, so that there is room again."""
    told = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(StorageError, match=r"a\.csv, found a full disk"), file_written_whole(tmp_path / "a.csv"):
        raise told
    with pytest.raises(RuntimeError, match="os error 2"), file_written_whole(tmp_path / "a.csv"):
        raise RuntimeError("No such file or directory (os error 2)")


def test_what_a_link_points_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    write(tmp_path / "thing", "old")
    for name in ("a.csv", "thing"):
        (tmp_path / f"link to {name}").symlink_to(tmp_path / name)
    with file_written_whole(tmp_path / "link to a.csv") as aside:
        aside.write_text("new")
    write(tmp_path / "link to thing")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "thing" / "mark").read_text() == "new"
    assert all((tmp_path / f"link to {name}").is_symlink() for name in ("a.csv", "thing"))


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(RunFolderError, match="to be absent or a file, found something else"), file_written_whole(tmp_path / name):
            pass
    with pytest.raises(RunFolderError, match="found other files"):
        write(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


# Several processes


def test_processes_that_write_the_same_file_and_folder_do_not_disturb_each_other(tmp_path):
    """Four processes, each thirty times: what stands there at the end is whole, and of one of them."""

    def often(me):
        for _ in range(30):
            with file_written_whole(tmp_path / "a.csv") as aside:
                aside.write_text(me * 1000)
            write(tmp_path / "thing", me * 1000)

    children = [in_child(functools.partial(often, str(k))) for k in range(4)]
    assert [exit_code(child) for child in children] == [0] * 4
    for path in (tmp_path / "a.csv", tmp_path / "thing" / "mark"):
        assert path.read_text() in {str(k) * 1000 for k in range(4)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "thing"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):

    def killed():
        with file_written_whole(tmp_path / "a.csv") as aside:
            aside.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    with file_written_whole(tmp_path / "a.csv") as living:
        living.write_text("half")
        assert exit_code(in_child(killed)) == -signal.SIGKILL
        (tmp_path / "a.csv.x.part").touch()
        assert len(list(tmp_path.iterdir())) == 3
        with file_written_whole(tmp_path / "a.csv") as aside:
            aside.write_text("whole")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.csv", "a.csv.x.part", living.name])


def test_a_pipe_a_folder_and_nothing_are_no_ordinary_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert ordinary(tmp_path / "file") == tmp_path / "file"
    for name in ("pipe", "absent", "."):
        with pytest.raises(FileNotFoundError, match="no ordinary file"):
            ordinary(tmp_path / name)
