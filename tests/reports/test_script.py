"""The report in a real browser: a click sorts a table, words filter it, marks tell their numbers, and nothing is asked of any other machine."""

import json
import os
import re
import shutil
import subprocess
from html import unescape

import pytest

from graphssl.reports import write_report
from graphssl.reports.markup import document, strip, table, tag
from graphssl.reports.script import SCRIPT

BROWSERS = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    """A browser (`GRAPHSSL_TEST_BROWSER`, or Chromium on the path), or a skip that says why."""
    found = os.environ.get("GRAPHSSL_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on this machine ({', '.join(BROWSERS)}); GRAPHSSL_TEST_BROWSER may name one")
    return found


@pytest.fixture
def run_in(browser, tmp_path):
    """What a piece of JavaScript returns on a page, after the page's own script has run; errors of either are returned too."""

    def run(page, code):
        driver = "<script>addEventListener('load', function () {"  # when images are there too
        driver += f"var said; try {{ said = (function () {{ {code} }})(); }} catch (error) {{ said = 'failed: ' + error; }}"
        driver += "var out = document.createElement('pre'); out.id = 'outcome'; out.textContent = JSON.stringify(said);"
        driver += "document.body.appendChild(out); });</script>"
        path = tmp_path / "page.html"
        path.write_text(page.replace("</body>", f"{driver}</body>"), encoding="utf-8")
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        found = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, f"the browser gave no page: {done.stderr[-500:]}"
        return json.loads(unescape(found[1]))

    return run


ROWS = [
    ["b10", "0.712 (0.65 to 0.77)", "x"],
    ["b2", "−0.02", "y"],
    ["a", "–", "x z"],
    ["c", "1 200", "y"],
    ["d", "3e-05", "x"],
    ["e", "0.5", "y"],
    ["f", "10", "x"],
]
FIRST = "Array.from(document.querySelectorAll('tbody tr')).map(function (row) { return row.cells[0].textContent; })"


@pytest.fixture(scope="module")
def page():
    return document("a page", tag("header"), [table(["Name", "Value", "Note", ""], [[*row, ""] for row in ROWS], caption="k")], tag("footer"))


def test_the_script_stands_in_every_page_and_loads_nothing(page):
    assert page.count("<script") == 1
    assert not re.search(r"https?:|import\s*\(|fetch|XMLHttp|innerHTML|eval", SCRIPT)


def test_a_click_sorts_numbers_as_numbers_and_words_as_words(page, run_in):
    numbers = run_in(page, f"var h = document.querySelectorAll('th')[1]; h.click(); return [{FIRST}, h.getAttribute('aria-sort')];")
    assert numbers == [["b2", "d", "e", "b10", "f", "c", "a"], "ascending"]
    again = run_in(page, f"var h = document.querySelectorAll('th')[1]; h.click(); h.click(); return [{FIRST}, h.getAttribute('aria-sort')];")
    assert again == [["c", "f", "b10", "e", "d", "b2", "a"], "descending"]  # what is absent stays below
    assert run_in(page, f"document.querySelectorAll('th')[0].click(); return {FIRST};") == ["a", "b2", "b10", "c", "d", "e", "f"]


def test_keys_sort_too_and_a_column_without_a_name_does_not(page, run_in):
    code = "var h = document.querySelectorAll('thead th'); h[0].dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}));"
    assert run_in(page, f"{code} return [{FIRST}[0], h[0].tabIndex, h[3].tabIndex];") == ["a", 0, -1]


def test_words_filter_long_tables_and_say_how_many_are_left(page, run_in):
    type_ = "var i = document.querySelector('input'); i.value = 'X z'; i.dispatchEvent(new Event('input'));"
    shown = "Array.from(document.querySelectorAll('tbody tr')).filter(function (row) { return row.offsetParent; }).length"
    assert run_in(page, f"{type_} return [{shown}, document.querySelector('[role=status]').textContent];") == [1, "1 of 7"]
    clear = "i.value = ''; i.dispatchEvent(new Event('input'));"
    assert run_in(page, f"{type_} {clear} return [{shown}, document.querySelector('[role=status]').textContent];") == [7, ""]
    short = document("short", tag("header"), [table(["Name"], [["a"], ["b"]])], tag("footer"))
    assert run_in(short, "return document.querySelectorAll('input').length;") == 0


def test_a_mark_tells_its_numbers_where_the_pointer_is():
    assert "<title>0.500, 95% interval 0.250 to 0.750; the thin line is 0.500</title>" in strip(0.5, 0.25, 0.75, (0.0, 1.0), 0.5)
    assert "<title>0.500</title>" in strip(0.5, float("nan"), float("nan"), (0.0, 1.0), float("nan"))


def test_the_report_of_a_run_sorts_and_asks_nothing_of_other_machines(fake_run, run_in):
    folder = fake_run().predicted({"pretrained": 1.6, "scratch": 0.9, "logistic_correlation": 1.1, "majority": None}).write()
    report = write_report(folder).read_text(encoding="utf-8")
    code = (
        "var t = document.querySelector('#results table'), h = t.tHead.rows[0].cells[1]; h.click();"
        "var v = Array.from(t.tBodies[0].rows).map(function (row) { return parseFloat(row.cells[1].textContent); });"
        "var asked = performance.getEntriesByType('resource').map(function (e) { return e.name; });"
        "asked = asked.filter(function (name) { return name.indexOf('data:'); });"
        "return [v, asked];"
    )
    values, asked = run_in(report, code)
    assert len(values) == 4
    assert values == sorted(values)
    assert asked == []


def test_marks_of_figures_lie_on_their_dots_and_take_the_pointer(rich_run, run_in, tmp_path):
    """Under the pointer in the middle of a mark is the mark, with its numbers, and there the figure shows the colour of its method."""
    report = write_report(shutil.copytree(rich_run, tmp_path / "run")).read_text(encoding="utf-8")
    code = (
        "var box = Array.from(document.querySelectorAll('.picture')).find(function (one) { return one.firstChild.alt.indexOf('Forest') === 0; });"
        "box.scrollIntoView({behavior: 'instant', block: 'center'});"
        "var image = box.firstChild, canvas = document.createElement('canvas'), scale = image.naturalWidth / image.width;"
        "canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;"
        "var drawn = canvas.getContext('2d'); drawn.drawImage(image, 0, 0);"
        "return Array.from(box.querySelectorAll('circle')).map(function (mark) {"
        "  var at = mark.getBoundingClientRect(), x = (at.left + at.right) / 2, y = (at.top + at.bottom) / 2, from = image.getBoundingClientRect();"
        "  var under = document.elementFromPoint(x, y), pixel = drawn.getImageData((x - from.left) * scale, (y - from.top) * scale, 1, 1).data;"
        "  return [under === mark, mark.querySelector('title').textContent, Array.from(pixel).slice(0, 3)];"
        "});"
    )
    found = run_in(report, code)
    ours = [(told, colour) for under, told, colour in found if under and ", Pre-trained encoder: " in told]
    assert len(ours) == len({told for told, _ in ours}) >= 3
    assert all(re.fullmatch(r".+, Pre-trained encoder: \d\.\d{3}, 95% interval \d\.\d{3} to \d\.\d{3}", told) for told, _ in ours)
    assert all(max(abs(a - b) for a, b in zip(colour, (0x0B, 0x5C, 0xAD), strict=True)) < 30 for _, colour in ours)


WIDTH_OF_PAPER = 680  # of A4 or Letter between margins of 15 mm, at 96 dots an inch


def test_tables_fit_the_page_on_a_desk_and_the_paper_when_printed(rich_run, run_in, tmp_path):
    """On screen what is wider scrolls, on paper it would be cut off; what is folded away is printed too."""
    report = write_report(shutil.copytree(rich_run, tmp_path / "run")).read_text(encoding="utf-8")
    wide = "Array.from(document.querySelectorAll('.wide')).map(function (box) { return box.scrollWidth - box.clientWidth; })"
    assert max(run_in(report.replace("<main", '<main style="width:1080px"', 1), f"return {wide};")) <= 0
    printed = report.replace("@media print", "@media all").replace("<body>", f'<body style="width:{WIDTH_OF_PAPER}px">', 1)
    code = (
        "document.querySelectorAll('details').forEach(function (one) { one.open = true; });"
        "return Array.from(document.querySelectorAll('table, img, pre')).map(function (one) {"
        "  return [one.tagName, one.getBoundingClientRect().right, one.textContent.slice(0, 80)];"
        "});"
    )
    assert [what for what in run_in(printed, code) if what[1] > WIDTH_OF_PAPER] == []


def test_the_page_is_read_without_a_script(page):
    """Sorting and filtering are on top: the tables stand in the page itself."""
    bare = page.replace(f"<script>{SCRIPT}</script>", "")
    assert all(row[0] in bare for row in ROWS)
    assert "input" not in bare.partition("<body>")[2]
