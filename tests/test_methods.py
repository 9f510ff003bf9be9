"""The list of methods against what is there: configurations, pages, tests, sections of results, and the tables of the documentation."""

import re
from pathlib import Path
from typing import get_args

import pytest
from markdown import Markdown

from graphssl.errors import ConfigError
from graphssl.methods import METHODS, Family, Method, as_markdown, as_records, as_text, methods, outcomes_as_markdown, results_as_markdown

ROOT = Path(__file__).resolve().parents[1]
# What goes on with a method, or runs one that has a record on other data.
FURTHER = {"cspr_volumes.yaml", "hyper_initializer_resnet.yaml", "population_meta.yaml", "tables_meta.yaml", "segmentation_hippocampus.yaml"}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_configuration_and_page_of_a_record_exist(method):
    assert method.config is None or (ROOT / method.config).is_file()
    assert (ROOT / "docs" / method.page).is_file()
    assert "What is reconstruction" in (ROOT / "docs" / method.page).read_text(encoding="utf-8")
    assert method.family in get_args(Family)
    assert set(method.dimensions) <= {"2D", "3D", "clips", "graph", "population", "table", "time"}
    assert method.number is None or 1 <= method.number <= 20
    assert not [name for name, value in vars(method).items() if value in ("", ()) and name != "outcome"]
    assert (method.result is None) == (method.outcome == "")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_test_of_a_record_is_of_what_its_page_or_configuration_names(method):
    text = (ROOT / method.test).read_text(encoding="utf-8")
    assert re.search(r"^def test_", text, re.MULTILINE)
    told = "".join((ROOT / path).read_text(encoding="utf-8") for path in (f"docs/{method.page}", method.config))
    imported = re.findall(r"^from graphssl\S* import (.+)$", text, re.MULTILINE)
    names = {name for line in imported for name in re.split(r"\W+", line) if name}
    assert any(re.search(rf"\b{name}\b", told) for name in names) or Path(method.config).stem in text


def test_results_of_records_stand_in_the_page_of_results():
    page = Markdown(extensions=["toc"])
    page.convert((ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8"))
    anchors = {each["id"] for each in _flat(page.toc_tokens)}
    assert {method.result for method in METHODS if method.result} - anchors == set()
    assert len(anchors) > 40


def _flat(tokens):
    return [one for token in tokens for one in (token, *_flat(token["children"]))]


def test_every_number_of_the_list_has_configuration_page_and_test():
    numbers = {method.number for method in METHODS if method.config and method.page and method.test}
    assert numbers - {None} == set(range(1, 21))


def test_every_configuration_of_a_method_has_a_record():
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / "methods").glob("*.yaml") if path.name not in FURTHER}
    assert files - {method.config for method in METHODS} == set()
    assert {name for name in FURTHER if not (ROOT / "configs" / "methods" / name).is_file()} == set()


def test_names_are_there_once():
    names = [method.name for method in METHODS]
    assert len(names) == len(set(names))


def test_the_table_of_the_documentation_is_made_of_the_records():
    page = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")
    assert as_markdown(methods()) in page, "write as_markdown(methods()) into docs/reference/methods.md"
    assert results_as_markdown(methods()) in page, "write results_as_markdown(methods()) into docs/reference/methods.md"


@pytest.mark.parametrize("page", sorted({method.page for method in METHODS}))
def test_a_page_says_configuration_source_and_what_came_out(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert f"\n{outcomes_as_markdown(page)}\n" in text, f"write outcomes_as_markdown({page!r}) into docs/{page}, before its reference"
    assert re.search(r"^## (Reference|Source)", text, re.MULTILINE)


def test_numbered_ones_come_first_and_a_family_can_be_chosen():
    numbers = [method.number for method in methods()]
    numbered = [number for number in numbers if number is not None]
    assert numbers == sorted(numbered) + [None] * (len(numbers) - len(numbered))
    assert {method.family for method in methods("contrastive")} == {"contrastive"}
    assert sum(len(methods(family)) for family in get_args(Family)) == len(METHODS)
    with pytest.raises(ConfigError, match="Expected a family among predictive, .*; found 'magic'"):
        methods("magic")


def test_text_and_records_say_all():
    found = {"test": "tests/test_a.py", "result": "a-section", "outcome": "no better"}
    one = Method("A", "meta", ("2D", "graph"), "images", "B, 2020", "configs/a.yaml", "methods/a.md", "sizes", 3, **found)
    other = Method("Longer", "supervised", ("3D",), "masks", "C, 2021", "configs/b.yaml", "methods/b.md", "nothing", test="tests/test_b.py")
    assert as_text([one, other]).splitlines() == [
        "A       meta        2D graph  configs/a.yaml",
        "    needs images",
        "    from B, 2020",
        "    ours: sizes",
        "    found: no better",
        "Longer  supervised  3D        configs/b.yaml",
        "    needs masks",
        "    from C, 2021",
        "    ours: nothing",
        "    found: not measured yet",
    ]
    assert as_text([]) == ""
    assert as_records([one])[0]["dimensions"] == ["2D", "graph"]
    assert as_records([one])[0]["number"] == 3
    assert "| 3 | [A](../methods/a.md) | meta | 2D, graph | images | B, 2020 | `configs/a.yaml` | sizes |" in as_markdown([one])
    table = results_as_markdown([one, other])
    assert "| 3 | [A](../methods/a.md) | `configs/a.yaml` | `tests/test_a.py` | no better ([numbers](results.md#a-section)) |" in table
    assert "|  | [Longer](../methods/b.md) | `configs/b.yaml` | `tests/test_b.py` | not measured yet |" in table
