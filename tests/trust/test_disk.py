"""A disk that is full and a folder that cannot be written: one sentence, exit code 2, nothing that stood there is lost, and again all is done."""

import os
import random
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphssl.cli import main
from graphssl.data import Cohort
from graphssl.errors import StorageError
from graphssl.folders import file_written_whole
from graphssl.seal import broken


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


# Every verb


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last_said(folder):
    return Path(f"{folder}.log").read_text(encoding="utf-8").strip().rpartition("\n")[2]


def refused(folder, seen, before):
    """The sentence with which a command ended, after which all that it began with stands as it was and nothing is half written."""
    kept, found = files_in(before), files_in(seen)
    made_anew = ("SHA256SUMS", "report.html")  # whole, be it the old one or the new
    assert [name for name in kept if found.get(name) != kept[name] and not name.endswith(made_anew)] == []
    assert [name for name in found if ".part" in name or ".old" in name] == []
    return last_said(folder)


def filled_and_resumed(verbs, words, finished, made_by, name, seed, target):
    """The disk is full from a random act of writing on; with room again the same command ends as if nothing had happened."""
    before, after, n_acts = finished(name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(before, target)
    act = random.Random(f"full {name} {seed}").randint(1, n_acts)
    code = verbs.run(target, words, full=act)
    assert code in (0, 2), (act, last_said(target))  # nothing is made after the last act that makes something
    if code == 2:
        assert "found a full disk (No space left on device). What stood there" in refused(target, target, before), act
        assert name != "report" or broken(target / "finished") == [], act  # the page and its hash are of one mind
    assert verbs.run(target, words) == 0, (act, last_said(target))
    assert made_by(target) == made_by(after), act
    return code


def test_a_disk_that_is_full_from_some_moment_on(verbs, commands, finished, made_by, tmp_path):
    """One verb that writes a run and one that writes a folder."""
    codes = [filled_and_resumed(verbs, commands[name], finished, made_by, name, 0, tmp_path / "full") for name in ("pretrain", "build")]
    assert codes == [2, 2]


@pytest.mark.slow
def test_every_verb_on_a_disk_that_is_full_from_some_moment_on(verbs, commands, finished, made_by, tmp_path):
    """Six moments each."""
    full = tmp_path / "full"
    codes = [filled_and_resumed(verbs, commands[name], finished, made_by, name, seed, full) for name in commands for seed in range(6)]
    assert codes.count(2) > 0.8 * len(codes)


_ROOM = 64 * 2**20


def size_of(folder):
    """Bytes on a disk in memory: whole pages for files, nothing for folders."""
    return sum(4096 * -(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


def on_a_small_disk(verbs, words, finished, made_by, name, share, target):
    """A disk with room for a share of what the command writes, which is then made larger."""
    if not verbs.mounts:
        pytest.skip("no mounts of one's own on this machine")
    before, after, _ = finished(name)
    n_before, n_after = size_of(before), size_of(after)
    target.mkdir()
    verbs.mount(target, n_before + int(share * (n_after - n_before)) // 4096 * 4096)
    seen = verbs.seen(target)
    shutil.copytree(before, seen, dirs_exist_ok=True)
    code = verbs.run(target, words)
    assert code == 2, last_said(target)
    sentence = refused(target, seen, before)
    verbs.mount(target, _ROOM)
    assert verbs.run(target, words) == 0, last_said(target)
    assert made_by(seen) == made_by(after), name
    return sentence


def test_a_disk_that_fills_up_in_the_middle_of_a_file(verbs, commands, finished, made_by, tmp_path):
    sentence = on_a_small_disk(verbs, commands["finetune"], finished, made_by, "finetune", 0.5, tmp_path / "small")
    assert "found a full disk (No space left on device). What stood there and what was finished before are as they were. Free space" in sentence


@pytest.mark.slow
def test_every_verb_on_a_disk_that_fills_up(verbs, commands, finished, made_by, tmp_path):
    """With room for a tenth, a half and nearly all of what each writes."""
    for name, words in commands.items():
        for share in (0.1, 0.5, 0.9):
            target = tmp_path / f"{name.replace(' ', '-')}-{share}"
            assert "found a full disk" in on_a_small_disk(verbs, words, finished, made_by, name, share, target), (name, share)


def on_a_read_only_disk(verbs, words, finished, name, target):
    if not verbs.mounts:
        pytest.skip("no mounts of one's own on this machine")
    before, *_ = finished(name)
    target.mkdir()
    verbs.mount(target, _ROOM)
    shutil.copytree(before, verbs.seen(target), dirs_exist_ok=True)
    verbs.mount(target, _ROOM, "ro")
    assert verbs.run(target, words) == 2, last_said(target)
    assert files_in(verbs.seen(target)) == files_in(before)
    return last_said(target)


def test_a_disk_that_is_read_only(verbs, commands, finished, tmp_path):
    sentence = on_a_read_only_disk(verbs, commands["pretrain"], finished, "pretrain", tmp_path / "fixed")
    assert "found a read-only file system (Read-only file system). What stood there" in sentence
    assert "Make it writable or name another place" in sentence


@pytest.mark.slow
def test_every_verb_on_a_disk_that_is_read_only(verbs, commands, finished, tmp_path):
    for name, words in commands.items():
        assert "found a read-only file system" in on_a_read_only_disk(verbs, words, finished, name, tmp_path / name), name


# What is printed

PROGRAM = (sys.executable, "-c", "import sys; from graphssl.cli import main; sys.exit(main())")


def printed_to(path, *words):
    with open(path, "w") as out:
        return subprocess.run([*PROGRAM, *words], stdout=out, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_does_not_fit_is_said():
    done = printed_to("/dev/full", "methods")
    assert done.returncode == 2
    assert "Expected to write a file, found a full disk" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_whoever_reads_a_part_of_the_output_is_left_in_peace():
    with subprocess.Popen([*PROGRAM, "methods", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
