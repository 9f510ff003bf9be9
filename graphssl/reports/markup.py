"""Small pieces of HTML. Text goes in plain and comes out escaped; `Html` marks what already is markup."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from graphssl.reports.script import SCRIPT
from graphssl.reports.style import CSS


class Html(str):
    """Markup that is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Mark:
    """A place of a figure that tells something to the pointer; all places are shares of the figure, from its upper left corner.

    Attributes:
        told: What it tells.
        x: Its left edge, or the middle of a point.
        y: Its upper edge, or the middle of a point.
        width: Its width; zero for a point.
        height: Its height; zero for a point.
    """

    told: str
    x: float
    y: float
    width: float = 0.0
    height: float = 0.0


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        png: The image.
        alt: What it shows, for readers who do not see it.
        caption: What to read from it.
        width: Width on the page in CSS pixels.
        marks: What tells its numbers on hover.
    """

    png: bytes
    alt: str
    caption: str
    width: int = 960
    marks: tuple[Mark, ...] = ()


def text(value: object) -> Html:
    """Any value as escaped text."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """An element; a trailing underscore of an attribute is dropped (`class_`), inner ones become hyphens (`aria_label`)."""
    shown = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return Html(f"<{name}{shown}>{''.join(text(part) for part in content)}</{name}>")


def document(title: str, top: Html, body: Iterable[Html], foot: Html) -> str:
    """A whole page, which opens offline: header, sections and footer."""
    sections = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{top}\n<main>\n{sections}\n</main>\n{foot}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def paragraph(content: object, class_: str = "") -> Html:
    """A paragraph."""
    return tag("p", content, class_=class_) if class_ else tag("p", content)


def section(title: str, anchor: str, *content: object) -> Html:
    """A section with a heading that can be linked to."""
    return tag("section", tag("h2", title), "\n", *content, id=anchor)


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str = "",
    numeric: Sequence[int] = (),
    strong: Sequence[int] = (),
) -> Html:
    """A table.

    Args:
        head: Names of the columns.
        rows: Cells by row; the first cell names the row.
        caption: What the table shows.
        numeric: Positions of the columns that are set flush right.
        strong: Positions of the rows to set off.
    """
    classes = ['class="n"' if k in numeric else "" for k in range(len(head))]
    top = "".join(f'<th scope="col" {c}>{text(cell)}</th>' for c, cell in zip(classes, head, strict=True))
    body = []
    for index, row in enumerate(rows):
        first, *others = (text(cell) for cell in row)
        cells = "".join(f"<td {c}>{cell}</td>" for c, cell in zip(classes[1:], others, strict=True))
        body.append(f'<tr{" class=strong" if index in strong else ""}><th scope="row">{first}</th>{cells}</tr>')
    said = tag("caption", caption) if caption else ""
    return Html(f'<div class="wide"><table>{said}<thead><tr>{top}</tr></thead><tbody>\n' + "\n".join(body) + "\n</tbody></table></div>")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names with their values."""
    return tag("dl", *(Html(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>") for name, value in pairs))


def folded(title: str, *content: object) -> Html:
    """Content that opens on a click, and always in print."""
    return tag("details", tag("summary", title), *content)


def figure(picture: Picture) -> Html:
    """An image held in the page itself, with its caption; over it lie its marks, which are not seen until the pointer is there."""
    data = base64.b64encode(picture.png).decode("ascii")
    # On a narrow screen it shrinks as far as its words can be read, and scrolls from there on.
    size = f"width:{picture.width}px;min-width:{round(0.6 * picture.width)}px"
    image = Html(f'<img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}" style="{size}">')
    if picture.marks:
        marks = Html(f'<svg class="marks" aria-hidden="true">{"".join(map(_field, picture.marks))}</svg>')
        image = tag("div", image, marks, class_="picture", style=size)
    return tag("figure", image, tag("figcaption", picture.caption))


def pictures(*found: Picture | None) -> Iterator[Html]:
    """Pictures with their captions; those that could not be drawn are passed over."""
    yield from (figure(picture) for picture in found if picture is not None)


def strip(mean: float, low: float, high: float, bounds: tuple[float, float], reference: float) -> Html:
    """A mean with its interval on a small scale, beside its numbers in a table.

    The thin line is a reference such as chance. Its numbers show on hover.
    """
    start, end = bounds

    def place(value: float) -> str:
        return f"{2 + 96 * min(max((value - start) / (end - start), 0.0), 1.0):.1f}"

    marks = []
    if start <= reference <= end:
        marks.append(f'<line class="ref" x1="{place(reference)}" x2="{place(reference)}" y1="0" y2="16"/>')
    if low == low and high == high:
        marks.append(f'<line class="ci" x1="{place(low)}" x2="{place(high)}" y1="8" y2="8"/>')
    if mean == mean:
        marks.append(f'<circle cx="{place(mean)}" cy="8" r="3.6"/>')
    told = f"{mean:.3f}" + (f", 95% interval {low:.3f} to {high:.3f}" if low == low and high == high else "")
    told += f"; the thin line is {reference:.3f}" if start <= reference <= end else ""
    # Marks are thin: a field of the whole size takes the pointer.
    hover = f'<title>{told}</title><rect width="100" height="16" fill="none" pointer-events="all"/>'
    return Html(f'<svg class="strip" viewBox="0 0 100 16" width="100" height="16" aria-hidden="true">{hover}{"".join(marks)}</svg>')


def _field(mark: Mark) -> str:
    """What takes the pointer at a mark; the browser itself shows the title."""
    told = f"<title>{escape(mark.told)}</title>"
    if not mark.width:
        return f'<circle cx="{mark.x:.2%}" cy="{mark.y:.2%}" r="7">{told}</circle>'
    return f'<rect x="{mark.x:.2%}" y="{mark.y:.2%}" width="{mark.width:.2%}" height="{mark.height:.2%}">{told}</rect>'
