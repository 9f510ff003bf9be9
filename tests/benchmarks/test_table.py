"""The table of a page, and the records it is made from."""

import json

import pytest
from measure.records import Agreement, Floor, Goal, absent, growth, record
from measure.table import BEGIN, COLUMNS, END, NAMES, PAGE, RECORDS, cells, load, placed, save, text_of

WHERE = {"version": "0.1.0", "commit": "abc", "date": "2026-01-01", "machine": "a machine", "load": 3, "packages": {"torch": "2.0"}}


def full():
    grown = growth("patients", [10, 1000], [(1.0, 5.0), (100.0, 5.0)], [(1.0, 0.0), (1.0, 0.0)])
    floor = Floor("products", [(0.5, 0.0)])
    equal = Agreement("losses", 2e-7, 1e-5)
    return record("work on 1,000 patients", "peer", [(1.0, 1500.0)] * 2, [(2.0, 3.0)] * 2, equal, goal=Goal(ratio=3), growth=grown, floor=floor)


def test_a_row_says_everything_that_was_found():
    assert dict(zip(COLUMNS, cells("file", full()), strict=True)) == {
        "benchmark": "`file`",
        "what": "work on 1,000 patients",
        "peer": "peer",
        "ratio": "**2** (2–2)",
        "goal": "≥ 3×: **missed**",
        "MiB, ours": "1,500",
        "MiB, peer's": "3",
        "time grows": "1 / 0",
        "memory grows": "0 / –",
        "sizes": "10, 1,000 patients",
        "ours ÷ CPU floor": "2 (products)",
        "ours ÷ GPU floor": "no GPU was at hand",
        "same result": "yes: losses, 2e-07",
    }


def test_rows_of_ours_alone_and_of_what_could_not_be_compared_are_as_wide():
    alone = cells("file", record("work", "", [(1.0, 2.0)], (), None, goal=Goal(seconds=2)))
    assert (alone[3], alone[4]) == ("–", "≤ 2 s: met")
    missing = cells("file", absent("work", "peer", "the peer was not at hand"))
    assert missing[3] == "the peer was not at hand"
    assert len(alone) == len(missing) == len(COLUMNS)


def test_the_page_keeps_what_stands_around_the_table(tmp_path):
    records, page = tmp_path / "records.json", tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    assert load(records) == {}
    for _ in range(2):
        save({**load(records), "file": {**WHERE, "records": [full()]}}, records, page)
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\n| benchmark |")
    assert "`file`: 2026-01-01, graphssl 0.1.0 at abc, on a machine, with 3 processes at work; torch 2.0.\n" in text
    assert f"Not in the table yet: {', '.join(f'`{name}`' for name in NAMES)}.\n" in text
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    assert text.count("| `file` |") == 1
    assert json.loads(records.read_text())["file"]["records"][0]["ratio"] == 2.0


def test_files_that_ran_alike_share_a_line_that_says_how_busy_the_machine_was():
    runs = {"one": {**WHERE, "records": []}, "two": {**WHERE, "load": 11, "records": []}, "other": {**WHERE, "commit": "def", "records": []}}
    first, second = (line for line in text_of(runs).splitlines() if line.startswith("`"))
    assert first.startswith("`one`, `two`: 2026-01-01, graphssl 0.1.0 at abc, on a machine, with 3 to 11 processes at work")
    assert second.startswith("`other`: 2026-01-01, graphssl 0.1.0 at def")


@pytest.mark.parametrize("page", ["nothing", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_a_place_for_the_table_is_refused(page):
    with pytest.raises(ValueError, match="once each, found"):
        placed(page, "text")


def test_the_table_of_the_documentation_is_made_of_the_saved_records():
    assert text_of(load(RECORDS)) in PAGE.read_text()
