"""The list of methods against what is there: configurations, pages, and the table of the documentation."""

from pathlib import Path
from typing import get_args

import pytest

from graphssl.errors import ConfigError
from graphssl.methods import METHODS, Family, Method, as_markdown, as_records, as_text, methods

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
    assert not [name for name, value in vars(method).items() if value in ("", ())]


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


def test_numbered_ones_come_first_and_a_family_can_be_chosen():
    numbers = [method.number for method in methods()]
    numbered = [number for number in numbers if number is not None]
    assert numbers == sorted(numbered) + [None] * (len(numbers) - len(numbered))
    assert {method.family for method in methods("contrastive")} == {"contrastive"}
    assert sum(len(methods(family)) for family in get_args(Family)) == len(METHODS)
    with pytest.raises(ConfigError, match="Expected a family among predictive, .*; found 'magic'"):
        methods("magic")


def test_text_and_records_say_all():
    one = Method("A", "meta", ("2D", "graph"), "images", "B, 2020", "configs/a.yaml", "methods/a.md", "sizes", 3)
    other = Method("Longer", "supervised", ("3D",), "masks", "C, 2021", "configs/b.yaml", "methods/b.md", "nothing")
    python = Method("P", "meta", ("3D",), "all", "D, 2022", None, "methods/c.md", "all")
    assert as_text([one, other]).splitlines() == [
        "A       meta        2D graph  configs/a.yaml",
        "    needs images",
        "    from B, 2020",
        "    ours: sizes",
        "Longer  supervised  3D        configs/b.yaml",
        "    needs masks",
        "    from C, 2021",
        "    ours: nothing",
    ]
    assert as_text([]) == ""
    assert as_text([python]).splitlines()[0] == "P  meta  3D  from Python"
    assert "| D, 2022 | from Python | all |" in as_markdown([python])
    assert as_records([one])[0]["dimensions"] == ["2D", "graph"]
    assert as_records([one])[0]["number"] == 3
    assert "| 3 | [A](../methods/a.md) | meta | 2D, graph | images | B, 2020 | `configs/a.yaml` | sizes |" in as_markdown([one])
