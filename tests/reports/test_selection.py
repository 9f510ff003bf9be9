"""What was chosen of a pool, as a section of the report and a page: its numbers are those of the files."""

import json

import numpy as np
import pandas as pd
import pytest

from graphssl.errors import DataError, RunFolderError
from graphssl.reports import write_report, write_selection_page
from graphssl.reports.selection import read_selection, selection_content, similarity_figure


def make_selection(run, **changes):
    """The files as a run writes them."""
    place = run / "selection"
    place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    chosen = np.arange(60) < 12
    table = pd.DataFrame(
        {
            "subject_id": [f"<a>/{k:03d}" for k in range(60)],
            "similarity": 0.3 + 0.4 * chosen + 0.1 * rng.random(60),
            "nearest": "target-0",
            "rank": [*range(1, 13), *[None] * 48],
            "votes": [*[2] * 12, *[None] * 48],
            "chosen": chosen,
            "source": np.where(np.arange(60) < 20, "<a>", "b"),
        }
    )
    table.to_csv(place / "subjects.csv", index=False)
    rows = {"n": [12, 12, 60], "similarity": [0.75, 0.42, 0.43], "low": 0.3, "high": 0.8, "frechet": [0.125, 0.9, 0.8], "mmd": [0.01, 0.2, None]}
    pd.DataFrame(rows, index=pd.Index(["chosen", "random", "pool"], name="subjects")).to_csv(place / "distances.csv")
    pd.DataFrame({"what": "subject", "id": ["x"] * 30, "reason": "protected: the same id as x"}).to_csv(place / "excluded.csv", index=False)
    told = {
        "pool": "<a>+b",
        "target": "clinic",
        "n_pool": 90,
        "n_target": 20,
        "n_chosen": 12,
        "with_target": True,
        "columns": ["source"],
        "model": "b",
    }
    settings = {"budget": 12, "k": 10, "rule": "rounds", "balance": None, "seed": 0}
    (place / "summary.json").write_text(json.dumps({**told, "settings": settings, **changes}))
    return run


def test_the_page_holds_the_numbers_of_the_files(tmp_path):
    page = write_selection_page(make_selection(tmp_path / "run")).read_text(encoding="utf-8")
    for expected in ("12 of 90 subjects of &lt;a&gt;+b chosen for clinic", "0.125", "with 20 subjects of the target", "the first neighbours of all"):
        assert expected in page
    assert "<a>" not in page.replace("<a ", "")
    assert "30 subjects of the pool could not be chosen; selection/excluded.csv says who" in page
    assert "the same id as x" not in page  # nobody is named


def test_shares_by_source_and_the_figure_say_what_was_chosen(tmp_path):
    found = read_selection(make_selection(tmp_path))
    html = "".join(selection_content(found))
    assert '<th scope="row">&lt;a&gt;</th><td class="n">12</td><td class="n">100%</td><td class="n">20</td><td class="n">33%</td>' in html
    assert "0.75 of the chosen" in similarity_figure(found).alt
    assert similarity_figure(found).png.startswith(b"\x89PNG")


def test_controls_and_balance_are_named(tmp_path):
    settings = {"budget": 12, "k": 10, "rule": "random", "balance": "source", "seed": 0}
    html = "".join(selection_content(read_selection(make_selection(tmp_path, settings=settings, with_target=False))))
    assert "at random; source in turn" in html
    assert "of the target<" not in html.split("Pool")[0]


def test_the_report_of_an_evaluation_has_the_section_only_where_something_was_chosen(fake_run):
    folder = fake_run().predicted({"pretrained": 1.6, "scratch": 0.9, "majority": None}, seeds=(0,)).write()
    assert "What was chosen of the pool" not in write_report(folder).read_text(encoding="utf-8")
    make_selection(folder)
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.index("What was chosen of the pool") < page.index("What was left out</h2>")
    assert "for each split, subjects were chosen by its training subjects alone" in page


def test_what_is_absent_or_damaged_is_named(tmp_path):
    assert read_selection(tmp_path) is None
    with pytest.raises(RunFolderError, match="a run that chose subjects of a pool"):
        write_selection_page(tmp_path)
    make_selection(tmp_path)
    (tmp_path / "selection" / "summary.json").write_text("{")
    with pytest.raises(DataError, match="whole files in .*selection"):
        read_selection(tmp_path)
    make_selection(tmp_path)
    (tmp_path / "selection" / "distances.csv").unlink()
    with pytest.raises(DataError, match="absent or damaged"):
        write_selection_page(tmp_path)
