"""The house itself: importing stays light, public names resolve, every module can be imported."""

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import graphssl

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("pytorch_lightning", "lightning", "nilearn", "nibabel", "monai", "dgl", "torch_geometric", "matplotlib", "h5py", "einops", "pydicom", "av")
MODULES = sorted(module.name for module in pkgutil.walk_packages(graphssl.__path__, "graphssl."))


def modules_after(statement: str) -> set[str]:
    """Top-level packages in memory after a statement in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_graphssl_is_light():
    loaded = modules_after("import graphssl")
    assert not loaded & {*HEAVY, "torch", "pandas", "numpy", "sklearn"}


def test_only_training_and_what_stands_on_it_loads_lightning():
    """nilearn and the rest load inside the functions that use them; one interpreter imports all, since each start takes seconds."""
    light = ("data", "atlases", "datasets", "graphs", "views", "encoders", "objectives", "initializers", "statistics", "reports", "errors")
    loaded = modules_after("import graphssl\n" + "\n".join(f"graphssl.{name}" for name in light))
    assert "torch" in loaded
    assert not loaded & set(HEAVY)


def test_reports_and_statistics_need_no_torch():
    assert "torch" not in modules_after("import graphssl.reports, graphssl.statistics")


def test_public_names_are_sorted_and_unique():
    """Those in capitals first, as ruff has it."""
    assert list(graphssl.__all__) == sorted(set(graphssl.__all__), key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", graphssl.__all__)
def test_public_name_resolves(name):
    assert getattr(graphssl, name) is not None
    assert name in dir(graphssl)


def test_a_name_found_once_is_an_ordinary_attribute():
    assert graphssl.Cohort is graphssl.data.Cohort
    assert "Cohort" in vars(graphssl)


def test_unknown_name_lists_the_public_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Kohort'; its public names are .*Cohort"):
        graphssl.Kohort  # noqa: B018
    assert not hasattr(graphssl, "numpy_like_probe")


@pytest.mark.parametrize("name", MODULES)
def test_module_can_be_imported_and_lists_only_what_it_has(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} does not say what it is for"
    missing = [public for public in getattr(module, "__all__", ()) if not hasattr(module, public)]
    assert not missing


def test_every_module_has_its_test_file():
    """Tests mirror the package: what has a module has a test at the same path. Errors are tested where they are raised."""
    left_out = ("__init__.py", "errors.py")
    # Parts of one page or one command, tested through it: tests/reports/test_page.py, test_figures.py, test_summary.py; tests/test_cli.py.
    through = {"statistics/checks.py", *(f"reports/{name}.py" for name in ("brain", "canvas", "style", "tables"))}
    through |= {f"experiment/{name}.py" for name in ("demo", "smoke")}
    modules = [path.relative_to(ROOT / "graphssl") for path in (ROOT / "graphssl").rglob("*.py") if path.name not in left_out]
    lacking = [str(path) for path in modules if not (ROOT / "tests" / path.with_name(f"test_{path.name}")).is_file()]
    assert sorted(set(lacking) - through) == []


def test_version_is_the_one_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert graphssl.__version__ == project["version"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{project['version']}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_dependency_is_pinned_once_and_portably():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert not odd, "a pin names a path, a host or a local build"
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    assert len(pinned) == len(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;! ]", line)[0]).lower() for line in wanted}
    assert names - {"graphssl"} <= pinned  # the extra `all` names the others
