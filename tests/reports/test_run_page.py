"""The page around a run, whatever the run holds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from graphssl.reports import run_page as module
from graphssl.reports.markup import Html, tag
from graphssl.reports.run_page import reproduce, run_page


@dataclass(frozen=True)
class Run:
    folder: Path = Path("runs/demo")
    manifest: dict[str, Any] = field(default_factory=dict)
    configuration: str | None = None


def test_sections_stand_in_order_and_are_linked_to_behind_the_headline() -> None:
    sections = [("one", "First", [tag("p", "a"), tag("p", "b")]), ("two", "Second", iter([tag("p", "c")]))]
    page = run_page(Run(manifest={"created": "2026-01-02T03:04"}), "It is <so>", sections, "How.", [tag("div", "lead")])
    places = [
        page.index(part)
        for part in (
            "<title>demo: graphssl report</title>",
            "graphssl report · demo · 2026-01-02 03:04",
            "<h1>It is &lt;so&gt;</h1>",
            "<div>lead</div>",
            '<a href="#one">First</a>',
            '<a href="#two">Second</a>',
            '<section id="one"><h2>First</h2>',
            "<p>a</p><p>b</p>",
            "<p>c</p>",
            "How. Research software; not a medical device.",
        )
    ]
    assert places == sorted(places)
    assert "graphssl report · named</p>" in run_page(Run(manifest={"name": "named"}), "", [], "")


def test_what_it_takes_to_make_a_run_again() -> None:
    manifest = {"command": "graphssl evaluate --config <a>", "versions": {"torch": "2.6"}, "git_commit": "abc"}
    told = "".join(reproduce(Run(manifest=manifest, configuration="name: demo")))
    for part in ("makes the same numbers", "graphssl evaluate --config &lt;a&gt;", "torch", "2.6", "<code>abc</code>", "name: demo"):
        assert part in told


def test_what_was_not_recorded_is_said() -> None:
    told = Html("".join(reproduce(Run())))
    assert "The command was not recorded." in told
    assert "Versions were not recorded." in told
    assert "The configuration was not kept (config.yaml)." in told
    assert "same numbers" not in told
    assert "Versions were not recorded." in "".join(reproduce(Run(manifest={"versions": "2.6"})))


def test_sections_are_drawn_one_by_one_with_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(module, "tracked", lambda sections, label: told.append((label, len(sections))) or sections)
    run_page(Run(), "", [("one", "First", [tag("p", "a")]), ("two", "Second", [])], "")
    assert told == [("Drawing the report", 2)]
