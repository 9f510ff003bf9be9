"""The package as users get it: metadata and contents of wheel and source distribution, built from this tree."""

import ast
import email
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("dgl", "imaging", "knn", "postgres", "all", "dev", "docs")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and a source distribution, by the build backend itself: no network, no environment."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import os, sys; from hatchling import build; print(build.build_wheel(sys.argv[1]), build.build_sdist(sys.argv[1]), sep='\\n')"
    # Files with one date make archives that are the same byte for byte.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    wheel, sdist = done.stdout.split()[-2:]
    return folder / wheel, folder / sdist


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        return email.message_from_bytes(wheel.read(name))


def test_metadata_say_what_it_is(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata["Name"], metadata["Version"]) == ("graphssl", project["version"])
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier")
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(classifiers)
    assert "Typing :: Typed" in classifiers
    assert not any(line.startswith("License ::") for line in classifiers), "the licence is an expression; a classifier beside it is refused"
    assert metadata.get_payload().startswith("# graphssl\n")


def test_classifiers_are_known_to_the_index(metadata):
    from trove_classifiers import classifiers

    assert set(metadata.get_all("Classifier")) <= classifiers


def test_extras_are_named_and_all_is_every_feature(metadata):
    from packaging.requirements import Requirement

    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)
    needs = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    of = {
        extra: {need.name for need in needs if need.marker and need.marker.evaluate({"extra": extra, "python_version": "3.11"})} for extra in EXTRAS
    }
    assert of["all"] == of["dgl"] | of["imaging"] | of["knn"] | of["postgres"]
    assert "dgl" in of["dgl"]


def test_every_package_that_is_imported_is_asked_for(metadata):
    """By name, always or by an extra: nothing rests on what another package happens to bring."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = {canonicalize_name(Requirement(line).name) for line in metadata.get_all("Requires-Dist")}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "graphssl").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules = {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, "graphssl"}
    of = packages_distributions()
    assert {"torch", "yaml", "joblib", "sklearn"} <= modules
    assert [module for module in sorted(modules) if not wanted & set(map(canonicalize_name, of.get(module, [])))] == []


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "graphssl = graphssl.cli:main" in entry_points
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "graphssl").rglob("*") if path.suffix in (".py", ".yaml") or path.name == "py.typed"}
    configurations = {f"graphssl/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert modules | configurations <= names
    strange = [name for name in names - modules - configurations if ".dist-info/" not in name]
    assert strange == []


def test_the_source_distribution_builds_tests_and_documents(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "Makefile", "constraints.txt", "LICENSE", "README.md", "CHANGELOG.md", "mkdocs.yml"} <= names
    assert {"graphssl/py.typed", "tests/conftest.py", "docs/index.md", "configs/methods/cspr.yaml", "datasets/README.md"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "site", ".git/")) or name.endswith(".pyc")]


def test_sizes_are_those_of_code(built):
    """No data, no weights: what is shipped stays small."""
    wheel, sdist = (path.stat().st_size / 2**20 for path in built)
    assert wheel < 2
    assert sdist < 10


def test_building_twice_gives_the_same_wheel(built, tmp_path):
    code = "import sys; from hatchling import build; build.build_wheel(sys.argv[1])"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, check=True, env=environment)
    assert next(tmp_path.glob("*.whl")).read_bytes() == built[0].read_bytes()


def test_the_wheel_alone_tells_usage_version_and_what_is_missing(built, tmp_path):
    """Unpacked outside of the tree, without any dependency: what needs none works, and what needs one says so instead of a traceback of imports."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(site)

    def run(code):
        return subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=False)

    found = run("import graphssl; print(graphssl.__version__, graphssl.__file__)")
    assert found.returncode == 0, found.stderr
    assert str(tmp_path) in found.stdout
    usage = run("from graphssl.cli import main; raise SystemExit(main(['--help']))")
    assert (usage.returncode, "graphssl demo --smoke" in usage.stdout) == (0, True)
    asked = run(
        "from graphssl.errors import MissingExtraError\nfrom graphssl.extras import require\n"
        "for extra, module in (('dgl', 'dgl'), ('imaging', 'monai'), ('knn', 'faiss'), ('postgres', 'adbc_driver_postgresql')):\n"
        "    try:\n        require(module, extra=extra, purpose='test')\n"
        "    except MissingExtraError as error:\n        print(error)\n"
    )
    assert asked.returncode == 0, asked.stderr
    assert [line.rpartition(": ")[2] for line in asked.stdout.splitlines()] == [f"pip install 'graphssl[{extra}]'" for extra in EXTRAS[:4]]


# What each extra is for, in a line of Python run outside of the tree.
PURPOSES = {
    "dgl": (
        "from graphssl.atlases import simulated_atlas; from graphssl.datasets import simulate; from graphssl.graphs import ConnectomeBuilder;"
        "from graphssl.graphs.interop import to_dgl; cohort = simulate([simulated_atlas(24)], n_subjects=4, sites=2, seed=0).cohort;"
        "graphs = to_dgl(ConnectomeBuilder().fit(cohort).transform(cohort)); assert graphs[0].num_nodes() == 24"
    ),
    "imaging": (
        "from graphssl.cli import main; import av, einops, PIL, pydicom;"
        "assert main(['pretrain', '--config', 'configs/objectives/image_ntxent.yaml', '--smoke', '--quiet']) == 0;"
        "from graphssl.encoders import SwinTransformer; SwinTransformer(2, 32)"
    ),
    "knn": (
        "import numpy as np; from graphssl.graphs.approximate import InvertedLists;"
        "vectors = np.random.default_rng(0).standard_normal((200, 4));"
        "assert InvertedLists('distance', vectors).search(vectors[:5], 1).shape == (5, 1)"
    ),
    "postgres": (
        "from graphssl.datasets import load_omop; from graphssl.errors import DataError\n"
        "try:\n    load_omop('postgresql://nobody@127.0.0.1:1/none')\nexcept DataError as error:\n    print(error)\nelse:\n    raise SystemExit(1)"
    ),
    "all": (
        "import av, einops, faiss, monai, PIL, pydicom, adbc_driver_postgresql; from graphssl.cli import main;"
        "assert main(['demo', '--smoke', '--quiet']) == 0"
    ),
    "dev": "import hatchling, hypothesis, mypy, ot, pytest, pytest_cov, pytest_socket, importlinter",
    "docs": "import mkdocs, material, mkdocstrings, mkdocstrings_handlers.python",
}


def installed(python_of, folder, source, *, above=None):
    """Python of a new environment with a source and its requirements, installed by pip; what stands in the environment above is there already."""
    subprocess.run([python_of, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    if above is not None:
        (next((folder / "lib").glob("python*/site-packages")) / "above.pth").write_text(str(next((above / "lib").glob("python*/site-packages"))))
    words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", source]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return python


def outside(folder, *words):
    """What words say that are run in an empty folder, with nothing of the tree or of the surroundings."""
    folder.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def bare(built, tmp_path_factory):
    """An environment with the wheel and what it always needs. Needs an index of packages, and a gigabyte and a half."""
    folder = tmp_path_factory.mktemp("bare")
    installed(sys.executable, folder / "env", built[0])
    return folder / "env"


@pytest.mark.slow
def test_the_wheel_without_extras_runs_the_demo_outside_of_the_tree(bare, tmp_path):
    said = outside(tmp_path / "out", bare / "bin" / "graphssl", "demo", "--smoke", "--quiet", "--json")
    assert "report" in said
    assert list((tmp_path / "out" / "runs").rglob("report.html"))
    assert str(bare) in outside(tmp_path / "out", bare / "bin" / "python", "-c", "import graphssl; print(graphssl.__file__)")
    assert "lacks" in outside(tmp_path / "out", bare / "bin" / "graphssl", "info")


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_alone_does_what_it_is_for(built, bare, tmp_path, extra):
    if extra == "dgl" and sys.version_info >= (3, 12):
        pytest.skip("DGL has no wheels for this Python: the extra is empty")
    python = installed(sys.executable, tmp_path / "env", f"{built[0]}[{extra}]", above=bare)
    outside(tmp_path / "out", python, "-c", PURPOSES[extra])
    if extra not in ("dev", "docs", "all"):
        told = "from graphssl.cli import main; main(['info'])"
        (line,) = [line for line in outside(tmp_path / "out", python, "-c", told).splitlines() if line.split()[:2] == ["Extra", extra]]
        assert line.endswith("installed")


@pytest.mark.slow
def test_the_source_distribution_installs_the_same_package(built, bare, tmp_path):
    """Built anew by pip from the source distribution, in an environment of its own."""
    python = installed(sys.executable, tmp_path / "env", built[1], above=bare)
    where = "import graphssl, pathlib; print(pathlib.Path(graphssl.__file__).parent)"
    package = Path(outside(tmp_path / "out", python, "-c", where).strip())
    assert tmp_path / "env" in package.parents
    with zipfile.ZipFile(built[0]) as wheel:
        for name in wheel.namelist():
            assert ".dist-info/" in name or (package.parent / name).read_bytes() == wheel.read(name), name
    assert outside(tmp_path / "out", python, "-c", "from graphssl.cli import main; raise SystemExit(main(['methods']))")
