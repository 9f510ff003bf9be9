import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graphssl.errors import RunFolderError
from graphssl.reports import print_summary, report_summary
from graphssl.reports.evaluated_task import read_evaluated
from graphssl.reports.run_folder import read_run

Make = Callable[[], Any]


def printed(folder: Path, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(folder, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_summary_is_json_and_holds_the_numbers(rich_run: Path) -> None:
    summary = json.loads(json.dumps(report_summary(rich_run), allow_nan=False))
    evaluated = read_evaluated(read_run(rich_run))
    assert (summary["name"], summary["task"], summary["metric"], summary["report"]) == ("fake", "diagnosis", "auroc", None)
    assert len(summary["results"]) == (8 + 3) * 5
    ours = next(row for row in summary["results"] if (row["method"], row["label_fraction"], row["metric"]) == ("pretrained", 1.0, "auroc"))
    score = evaluated.score("pretrained", 1.0)
    assert score is not None
    assert (ours["mean"], ours["low"], ours["n_test"]) == (score.mean, score.low, 166)
    assert {(row["label_fraction"], row["kind"]) for row in summary["differences"]} == {
        (f, k) for f in (1.0, 0.25) for k in ("best_baseline", "scratch")
    }
    assert {caution["kind"] for caution in summary["cautions"]} >= {"site_readable", "excluded_subjects"}
    assert summary["verdict"].endswith(".")


def test_no_number_is_null(fake_run: Make) -> None:
    folder = fake_run().method("pretrained", {"a": 0.7}).method("scratch", {"a": 0.6}).write()
    (folder / "report.html").write_text("page")
    summary = json.loads(json.dumps(report_summary(folder), allow_nan=False))
    assert summary["results"][0]["sd"] is None
    assert summary["differences"][0]["low"] is None
    assert summary["report"] == str(folder / "report.html")
    only_baselines = report_summary(fake_run().method("ridge_tangent", {"a": 0.7}).write())
    assert only_baselines["differences"] == []


def test_the_terminal_shows_methods_scores_and_differences(rich_run: Path) -> None:
    text, evaluated = printed(rich_run, 160), read_evaluated(read_run(rich_run))
    for method in evaluated.methods(1.0):
        score = evaluated.score(method, 1.0)
        assert score is not None
        row = next(line for line in text.splitlines() if line.strip().startswith(f"{method} "))
        assert f"{score.mean:.3f}" in row
        assert f"{score.low:.3f} to {score.high:.3f}" in row
    found = evaluated.compare("pretrained", evaluated.best_baseline(1.0), 1.0)
    assert found is not None
    assert f"+{found.difference:.3f}" in text
    assert "ECE" in text
    assert "25% of the labels" in text
    assert "The site can be read from the embedding." in " ".join(text.split())


def test_a_narrow_terminal_shows_two_metrics_and_cuts_no_number(rich_run: Path) -> None:
    text, evaluated = printed(rich_run, 80), read_evaluated(read_run(rich_run))
    assert "ECE" not in text
    assert "…" not in text
    assert "bal. acc." in text
    for method in evaluated.methods(1.0):
        score = evaluated.score(method, 1.0)
        assert score is not None
        assert f"{score.low:.3f} to {score.high:.3f}" in text


def test_names_are_no_markup(fake_run: Make) -> None:
    run = (
        fake_run()
        .method("pretrained", {"a": 0.7})
        .method("ridge[bold]x[/bold]", {"a": 0.6})
        .method("ridge[bold]x[/bold]", {"a": 0.6}, metric="brier")
    )
    assert "ridge[bold]x[/bold]" in printed(run.write(), 160)


def test_metrics_a_method_lacks_are_dashes(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.7}).method("scratch", {"a": 0.6}).method("scratch", {"a": 0.2}, metric="brier")
    row = next(line for line in printed(run.write(), 160).splitlines() if line.strip().startswith("pretrained"))
    assert "–" in row


def test_no_run(tmp_path: Path) -> None:
    for call in (report_summary, lambda folder: print_summary(folder, Console(file=io.StringIO()))):
        with pytest.raises(RunFolderError, match="graphssl evaluate"):
            call(tmp_path)
