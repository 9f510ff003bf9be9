"""The audit reads no configuration that would run foreign code."""

import yaml

from graphssl.experiment.audit import audit_run
from graphssl.experiment.runs import run_hash


def test_code_that_a_configuration_names_is_not_run(copy, edit, tmp_path, monkeypatch):
    """A folder that somebody sent may name any function as an adapter, and any module as a class."""
    (tmp_path / "hostile.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for change in (
        {"cohort": {"adapter": "os.system", "arguments": {"command": f"touch {tmp_path / 'ran'}"}}},
        {"encoder": {"class_path": "hostile.Encoder"}},
    ):
        text = yaml.safe_dump({**config, **change})
        (copy / "config.yaml").write_text(text)
        edit(copy / "manifest.json", lambda m, text=text: m.update(run_hash=run_hash(text)))
        (check,) = [check for check in audit_run(copy) if check.about == "data: those of the run"]
        assert check.status == "not checked"
        assert "names code outside of graphssl" in check.found
    assert not (tmp_path / "ran").exists()
