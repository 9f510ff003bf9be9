"""The reference is complete and its links hold: public names are documented, arguments described, pages reached, anchors there."""

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections import Counter
from html import unescape
from pathlib import Path

import pytest

import graphssl

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PACKAGES = sorted(m.name for m in pkgutil.walk_packages(graphssl.__path__, "graphssl.") if m.ispkg and m.name != "graphssl.experiment")
PACKAGES += ["graphssl.errors", "graphssl.estimators"]
# Arguments of scikit-learn's own signatures, and what Python hands over.
SELF_EXPLAINING = {"self", "cls", "args", "kwargs", "options"}


def names_of(package):
    module = importlib.import_module(package)
    own = [name for name, thing in vars(module).items() if inspect.isclass(thing) and thing.__module__ == package and name[0] != "_"]
    return getattr(module, "__all__", own)


def public_objects():
    for package in PACKAGES:
        for name in names_of(package):
            thing = getattr(importlib.import_module(package), name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{package}.{name}", thing


OBJECTS = dict(public_objects())


def parameters_of(thing):
    function = thing.__init__ if inspect.isclass(thing) else thing
    if function is object.__init__:
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in kinds]
    return [name for name in named if name not in SELF_EXPLAINING]


def documented(thing):
    """Names in the sections Args and Attributes of a docstring: its own, those of the classes above, and of an abstract class those below it."""
    classes = [above for above in thing.__mro__ if above.__module__.startswith("graphssl")] if inspect.isclass(thing) else [thing]
    classes += thing.__subclasses__() if inspect.isabstract(thing) else []
    text = "\n".join(part.__doc__ or "" for above in classes for part in (above, getattr(above, "__init__", above)) if part is not None)
    return set(re.findall(r"^\s*\*{0,2}(\w+)(?: \([^)]*\))?:\s", text, re.MULTILINE)) | {
        name for names in re.findall(r"^\s*((?:\w+, )+\w+):\s", text, re.MULTILINE) for name in names.split(", ")
    }


def test_there_are_names_to_look_at():
    assert len(OBJECTS) > 300


def test_every_public_name_says_what_it_is():
    assert [name for name, thing in OBJECTS.items() if not inspect.getdoc(thing)] == []


def test_every_argument_of_three_or_more_is_described():
    """One or two arguments may be said in the sentence; with more, each has its line with meaning, unit or shape."""
    lacking = {name: sorted(set(parameters_of(thing)) - documented(thing)) for name, thing in OBJECTS.items() if len(parameters_of(thing)) > 2}
    assert {name: missing for name, missing in lacking.items() if missing} == {}


def methods_of(thing):
    """Public methods that a class defines itself."""
    found = {name: getattr(thing, name, None) for name in vars(thing) if name[0] != "_"}
    return {name: method for name, method in found.items() if inspect.isfunction(method) or inspect.ismethod(method)}


def test_every_argument_of_a_public_method_of_three_or_more_is_described():
    """By the method, by the one that it overrides, or by its class where arguments are those of scikit-learn."""
    lacking = {}
    for name, thing in OBJECTS.items():
        for key, method in methods_of(thing).items() if inspect.isclass(thing) else ():
            wanted = set(parameters_of(method)) - {"X", "y", "groups"}
            if len(wanted) > 2:
                told = [getattr(above, key) for above in thing.__mro__ if getattr(above, key, None) is not None]
                lacking[f"{name}.{key}"] = sorted(wanted - set().union(*map(documented, told)))
    assert {name: missing for name, missing in lacking.items() if missing} == {}


ARRAY = re.compile(r"NDArray|_SupportsArray|ndarray")


def test_shapes_of_arrays_stand_beside_their_description():
    """Of what functions take as arrays, `[n, F]` or the like; mappings and numbers that may be arrays aside."""
    lacking = []
    for name, thing in OBJECTS.items():
        if not inspect.isfunction(thing):
            continue
        told = inspect.getdoc(thing) or ""
        for key, parameter in inspect.signature(thing).parameters.items():
            if ARRAY.search(str(parameter.annotation)) and not re.search("Callable|Mapping|dict|float", str(parameter.annotation)):
                line = re.search(rf"^\s*(?:\w+, )*{key}(?:, \w+)*: (.*(?:\n\s{{8,}}.*)*)", told, re.MULTILINE)
                if not re.search(r"\[[^\]]+\]", line.group(1) if line else told):
                    lacking.append(f"{name}: {key}")
    assert lacking == []


def test_encoders_and_objectives_name_their_source():
    """A year of publication, the library whose part it is, or that it is ours."""
    kinds = (graphssl.encoders.AbstractEncoder, graphssl.objectives.AbstractObjective)
    looked_at = {
        name: thing for name, thing in OBJECTS.items() if inspect.isclass(thing) and issubclass(thing, kinds) and not inspect.isabstract(thing)
    }
    lacking = [name for name, thing in looked_at.items() if not re.search(r"\b(19|20)\d\d\b|MONAI|\bours\b|^Abstract", inspect.getdoc(thing) or "")]
    assert len(looked_at) > 40
    assert [name for name in lacking if not name.endswith((".Supervised", ".AbstractImageEncoder"))] == []  # a head on labels has no source


def raised_in(thing):
    """Names of errors that the code of a function, or of a class's constructor, raises itself."""
    function = getattr(thing, "__post_init__", thing.__init__) if inspect.isclass(thing) else thing
    if getattr(function, "__module__", "").split(".")[0] != "graphssl" or not hasattr(function, "__code__"):
        return set()
    try:
        tree = ast.parse(inspect.cleandoc("if True:\n" + inspect.getsource(function)))
    except (OSError, SyntaxError, IndentationError):
        return set()
    raises = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in raises if isinstance(call.func, ast.Name)}


def test_errors_that_a_public_name_raises_itself_are_documented():
    """Of functions, constructors and public methods."""
    looked_at = dict(OBJECTS)
    for name, thing in OBJECTS.items():
        looked_at |= {f"{name}.{key}": method for key, method in methods_of(thing).items()} if inspect.isclass(thing) else {}
    lacking = {name: sorted(error for error in raised_in(thing) if error not in (inspect.getdoc(thing) or "")) for name, thing in looked_at.items()}
    assert {name: missing for name, missing in lacking.items() if missing} == {}


def test_every_package_has_a_page_of_the_reference():
    shown = set(re.findall(r"^::: ([\w.]+)", "\n".join(page.read_text() for page in (DOCS / "reference" / "api").glob("*.md")), re.MULTILINE))
    shown |= {name for name in PACKAGES if all(hasattr(importlib.import_module(name.rpartition(".")[0]), public) for public in names_of(name))}
    assert [name for name in PACKAGES if name not in shown] == []


def test_every_top_level_name_is_in_the_table():
    table = (DOCS / "reference" / "api" / "graphssl.md").read_text()
    modules = {name for name in graphssl.__all__ if inspect.ismodule(getattr(graphssl, name))}
    assert [name for name in graphssl.__all__ if f"`graphssl.{name}`" not in table and name not in modules and name != "__version__"] == []


def test_every_verb_is_on_the_page_of_the_command_line():
    from graphssl.cli import VERBS

    page = (DOCS / "reference" / "cli.md").read_text()
    assert [verb for verb in VERBS if f"| `{verb}` |" not in page] == []


# Names (of data sets, tools, methods with a page of their own, file formats and licences), and what everybody with a computer knows.
NAMES = "NT SwAV DINO BYOL MONAI MIMIC UNETR MAML USCL CC BY TADPOLE SCARF DAFT DVME TIP CSPR XCP NC PAC ABIDE BiT HCP DGL FiLM SLURM TIFF PNG NPZ"
NAMES += " JSON CPU GPU MB GB GiB NaN III MR CT SGD SA"


def test_abbreviations_of_several_pages_are_in_the_glossary():
    """Those in capitals that stand in the text of three pages or more, outside of code, links and lists of sources."""
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8")
    pages = Counter()
    for page in PAGES:
        text = re.sub(r"^```.*?^```|`[^`\n]+`|\]\([^)]*\)", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        pages.update(set(re.findall(r"\b[A-Z][a-z]?[A-Z]+\b", re.split(r"^## (?:Sources?|References?)$", text, flags=re.MULTILINE)[0])))
    lacking = {word for word, n in pages.items() if n > 2 and not re.search(rf"\b{word}\b", glossary)}
    assert lacking - set(NAMES.split()) == set()


def test_the_glossary_is_in_order_and_explains_each_word_once():
    for section in re.split(r"^## ", (DOCS / "glossary.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        words = [word.lower() for word in re.findall(r"^(\S[^\n]*)\n:   ", section, re.MULTILINE)]
        assert len(words) > 3
        assert words == sorted(set(words))


def test_every_layout_has_its_section():
    from graphssl.datasets.layouts import LAYOUTS

    page = (DOCS / "how-to" / "formats.md").read_text()
    sections = set(re.findall(r"^### `(\w+)`", page, re.MULTILINE))
    assert {layout.name for layout in LAYOUTS} | {"timeseries", "matrices"} == sections


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    navigation = set(re.findall(r":\s+([\w./-]+\.md)\s*$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert navigation == {page.relative_to(DOCS).as_posix() for page in PAGES}


def anchors_of(page):
    """Anchors as Markdown's table of contents makes them."""
    heads = re.findall(r"^#{1,6} (.+?)\s*$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    from markdown.extensions.toc import slugify

    return {slugify(re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", head), "-") for head in heads}


def resolves(name):
    """Whether there is such a module, or such a name in one; a function may be called as its module is."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for part in parts[k:]:
            thing = getattr(thing, part, None)
        return thing is not None
    return False


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "datasets" / "README.md"], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_links_of_a_page_lead_somewhere(page):
    """Files, anchors within pages, and names of the reference; the strict build checks the same from the other side."""
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:|data:", target):
            continue
        place, _, anchor = target.partition("#")
        other = page if not place else (page.parent / place)
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors_of(other)):
            broken.append(target)
    broken += [name for name in re.findall(r"\]\[(graphssl[\w.]+)\]", text) if not resolves(name)]
    assert broken == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as it is read."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_machine(site):
    """Every link and cross-reference, by MkDocs itself; the pages load nothing from elsewhere."""
    for page in site.rglob("*.html"):
        assert not re.findall(
            r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+rel=\"stylesheet\"[^>]+href=\"(?:https?:)?//", page.read_text()
        )


# Opens every page in a frame as wide as a desk's and a phone's window, and tells those that are wider, and images that are not there.
LOOK = """<!doctype html><body><script>
const found = [];
async function look(pages) {
  for (const width of [1280, 390]) for (const page of pages) {
    const frame = document.createElement('iframe');
    frame.style.width = width + 'px';
    frame.src = page;
    await new Promise(function (done) { frame.onload = done; document.body.appendChild(frame); });
    const inside = frame.contentDocument;
    if (inside.documentElement.scrollWidth > width) found.push([page, width, inside.documentElement.scrollWidth]);
    for (const image of inside.images) if (!image.naturalWidth) found.push([page, image.src]);
    frame.remove();
  }
  const out = document.createElement('pre');
  out.id = 'outcome';
  out.textContent = JSON.stringify(found);
  document.body.appendChild(out);
}
look(PAGES);
</script></body>"""


@pytest.mark.slow
def test_pages_are_no_wider_than_a_desk_or_a_phone(site, tmp_path):
    browser = os.environ.get("GRAPHSSL_TEST_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser on this machine; GRAPHSSL_TEST_BROWSER may name one")
    pages = sorted(page.relative_to(site).as_posix() for page in site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    (site / "look.html").write_text(LOOK.replace("PAGES", json.dumps(pages)), encoding="utf-8")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--disable-web-security"]
    words += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=600000", "--dump-dom", (site / "look.html").as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    outcome = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.DOTALL)
    assert outcome, done.stderr[-500:]
    assert json.loads(unescape(outcome[1])) == []
