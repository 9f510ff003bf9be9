"""The page around what a run folder holds: headline, links to its sections, and what it takes to make the run again."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from graphssl.progress import tracked
from graphssl.reports.markup import Html, document, facts, folded, paragraph, section, tag, text

Section = tuple[str, str, Iterable[Html]]


class Recorded(Protocol):
    """A run folder in memory, whatever it holds beside."""

    @property
    def folder(self) -> Path:
        """Where it is."""

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`."""

    @property
    def configuration(self) -> str | None:
        """Text of `config.yaml`; None where it was not kept."""


def run_page(run: Recorded, verdict: str, sections: Sequence[Section], foot: str, lead: Iterable[Html] = ()) -> str:
    """The page of a run as text.

    Args:
        run: The run.
        verdict: The headline.
        sections: Anchor, title and content of each section.
        foot: How the numbers were computed.
        lead: What stands between the headline and the links to the sections.
    """
    name, created = run.manifest.get("name") or run.folder.name, str(run.manifest.get("created", "")).replace("T", " ")
    kicker = paragraph(" · ".join(part for part in ("graphssl report", str(name), created) if part), "kicker")
    links = tag("nav", *(tag("a", title, href=f"#{anchor}") for anchor, title, _ in sections), aria_label="Sections")
    body = (section(title, anchor, *content) for anchor, title, content in tracked(sections, "Drawing the report"))
    told = tag("footer", paragraph(f"{foot} Research software; not a medical device."))
    return document(f"{name}: graphssl report", tag("header", kicker, tag("h1", verdict), *lead, links), body, told)


def reproduce(run: Recorded) -> Iterator[Html]:
    """Command, versions and configuration of a run.

    Args:
        run: The run.
    """
    command, versions = run.manifest.get("command"), run.manifest.get("versions")
    if command:
        yield paragraph("With the same data and versions this command makes the same numbers (bit for bit on a CPU with one thread):")
    yield tag("pre", tag("code", command or "The command was not recorded."))
    yield facts(versions.items()) if isinstance(versions, dict) and versions else paragraph("Versions were not recorded.", "soft")
    if run.manifest.get("git_commit"):
        yield paragraph(Html(f"Commit <code>{text(run.manifest['git_commit'])}</code>."))
    if run.configuration is None:
        yield paragraph("The configuration was not kept (config.yaml).", "soft")
    else:
        yield folded("Configuration (config.yaml)", tag("pre", tag("code", run.configuration)))
