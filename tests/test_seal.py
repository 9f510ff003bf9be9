"""The seal of a run folder, beside what `sha256sum` says."""

import os
import shutil
import subprocess

import pytest

from graphssl.errors import DataError
from graphssl.seal import SEAL, broken, file_hash, files_of, read_seal, seal, seal_replaced, unseal


@pytest.fixture
def folder(tmp_path):
    """A folder of four files, one of them below, and what was never finished."""
    place = tmp_path / "run"
    (place / "units").mkdir(parents=True)
    for name in ("manifest.json", "a b.csv", "units/é.json", "empty"):
        (place / name).write_text("" if name == "empty" else name, encoding="utf-8")
    (place / "report.html.part").write_text("half")
    (place / ".lock").touch()
    return place


def test_the_seal_is_what_sha256sum_checks(folder):
    seal(folder)
    assert broken(folder) == []
    assert sorted(read_seal(folder)) == files_of(folder) == ["a b.csv", "empty", "manifest.json", "units/é.json"]
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--strict", "-c", SEAL], cwd=folder, check=True, capture_output=True)


def test_what_changed_is_gone_or_was_added_is_named(folder):
    seal(folder)
    (folder / "manifest.json").write_text("manifest.jsoN")
    (folder / "empty").unlink()
    (folder / "units" / "more.json").write_text("{}")
    assert broken(folder) == ["manifest.json was changed", "empty is gone", "units/more.json was added"]


def test_a_link_is_not_the_file_that_it_points_to(folder):
    seal(folder)
    (folder / "manifest.json").rename(folder.parent / "elsewhere.json")
    os.symlink(folder.parent / "elsewhere.json", folder / "manifest.json")
    assert broken(folder) == ["manifest.json was changed"]
    os.symlink(folder.parent, folder / "more")
    assert "more was added" in broken(folder)


def test_files_written_anew_are_sealed_anew_and_others_are_not(folder):
    seal(folder)
    (folder / "manifest.json").write_text("tampered")
    (folder / "units" / "é.json").write_text("new")
    (folder / "units" / "more.json").write_text("new")
    seal(folder, ["units"])
    assert broken(folder) == ["manifest.json was changed"]
    (folder / "units" / "more.json").unlink()
    seal(folder, ["units/more.json"])
    assert "units/more.json" not in read_seal(folder)


def test_a_file_is_sealed_before_it_takes_its_place(folder, tmp_path):
    (tmp_path / "page").write_text("new")
    seal_replaced(folder, "report.html", tmp_path / "page")
    assert not (folder / SEAL).exists()
    seal(folder)
    seal_replaced(folder, "empty", tmp_path / "page")
    assert broken(folder) == ["empty was changed"]
    (tmp_path / "page").replace(folder / "empty")
    assert broken(folder) == []


def test_a_folder_without_a_seal_gets_none_for_a_part(folder):
    seal(folder, ["manifest.json"])
    assert not (folder / SEAL).exists()
    with pytest.raises(DataError, match=r"hashes of a finished run in .*SHA256SUMS, found none that can be read"):
        broken(folder)
    seal(folder)
    unseal(folder)
    unseal(folder)
    assert not (folder / SEAL).exists()


@pytest.mark.parametrize(
    "text", ["abc  manifest.json\n", f"{'0' * 64} manifest.json\n", f"{'x' * 64}  a\n", f"{'0' * 64}  a\n" * 2, f"{'0' * 64}  a"]
)
def test_a_damaged_seal_is_refused(folder, text):
    (folder / SEAL).write_text(text)
    with pytest.raises(DataError, match="a hash, two blanks and a name in each line"):
        read_seal(folder)


def test_a_seal_that_is_no_text_is_refused(folder):
    (folder / SEAL).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="none that can be read"):
        broken(folder)


def test_the_hash_of_a_file(folder):
    assert file_hash(folder / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
