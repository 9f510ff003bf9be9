"""The audit of a run folder: silent over an honest one, and loud over each file that is not as it was."""

import json

import numpy as np
import pytest

from graphssl.cli import main
from graphssl.errors import DataError, RunFolderError
from graphssl.experiment.audit import audit_run
from graphssl.experiment.runs import held
from graphssl.seal import broken, files_of, seal

# What is fine


def test_an_honest_run_has_no_findings_and_is_not_touched(honest, capsys):
    before = {name: (honest / name).read_bytes() for name in files_of(honest)}
    assert main(["audit", str(honest), "--shuffle"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("0 findings, 0 of 17 not checked\n")
    assert "covariates has a mean AUROC of" in said
    assert {name: (honest / name).read_bytes() for name in files_of(honest)} == before


def test_as_json(honest, capsys):
    assert main(["audit", str(honest), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["n_findings"] == 0
    assert {check["status"] for check in record["checks"]} == {"fine"}


def test_the_report_may_be_written_anew(copy, findings):
    assert main(["report", str(copy), "--json"]) == 0
    assert findings(copy) == {}


def test_no_report_is_written_while_a_run_writes(copy, capsys):
    before = {name: (copy / name).read_bytes() for name in files_of(copy)}
    with held(copy):
        assert main(["report", str(copy)]) == 2
    assert "Expected no other process to write into" in capsys.readouterr().err
    assert {name: (copy / name).read_bytes() for name in files_of(copy)} == before


def test_no_folder_is_made_to_report_on(tmp_path):
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert list(tmp_path.iterdir()) == []


# What is not


def broken_or_damaged(folder):
    try:
        return broken(folder)
    except DataError:
        return True


def test_one_byte_of_any_file_is_found(honest):
    names = files_of(honest)
    assert len(names) > 20
    for name in (*names, "SHA256SUMS"):
        path = honest / name
        whole = path.read_bytes()
        for place in sorted({0, len(whole) // 2, len(whole) - 1}):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                assert broken_or_damaged(honest), (name, place)
            finally:
                path.write_bytes(whole)
    assert broken(honest) == []


def test_a_run_that_was_not_finished_is_not_sealed(copy, findings):
    (copy / "SHA256SUMS").unlink()
    assert "hashes of a finished run" in findings(copy)["files: as they were sealed"]


FOREIGN = {
    "another configuration": ("config.yaml", lambda content: content.replace(b"seed: 0", b"seed: 1"), "configuration: that of the run"),
    "a manifest that is none": ("manifest.json", lambda _: b"[1]", "manifest: whole"),
    "a pickle for weights": ("model/model.safetensors", lambda _: b"\x80\x04N.", "models: whole"),
    "a pickle for a checkpoint": ("checkpoints/pretrain/last.ckpt", lambda _: b"\x80\x04N.", "models: whole"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_was_put_in_place_and_sealed_anew_is_found(copy, findings, case):
    name, change, wanted = FOREIGN[case]
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    seal(copy)
    found = findings(copy)
    assert wanted in found
    assert "files: as they were sealed" not in found


def test_other_versions_are_said_and_are_no_finding(copy, edit):
    edit(copy / "manifest.json", lambda m: m["versions"].update(numpy="1.0"))
    seal(copy)
    (check,) = [check for check in audit_run(copy) if check.about.startswith("versions")]
    assert (check.status, "numpy 1.0 (here" in check.found) == ("not checked", True)


def test_no_run_folder(tmp_path, capsys):
    with pytest.raises(RunFolderError, match=r"run folder with manifest.json at .*, found none"):
        audit_run(tmp_path)
    assert main(["audit", str(tmp_path / "absent")]) == 2
    assert "Give the folder of a run" in capsys.readouterr().err


def test_the_text_marks_findings(copy, capsys):
    (copy / "extra").touch()
    assert main(["audit", str(copy)]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("BAD  files: as they were sealed")
    assert "extra was added" in text
    assert text.splitlines()[-1].startswith("1 finding, 0 of 16")
    assert np.all([len(line) < 400 for line in text.splitlines()])
