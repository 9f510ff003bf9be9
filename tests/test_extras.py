"""Optional packages: what is missing names the line that installs it."""

import math

import pytest

from graphssl.errors import GraphSSLError, InputError, MissingExtraError
from graphssl.extras import require


def test_a_package_that_is_there_is_imported():
    assert require("math", extra="dgl", purpose="count") is math


def test_a_package_that_is_not_names_its_install_line():
    with pytest.raises(
        MissingExtraError,
        match=r"^no_such_package is needed to draw and could not be imported \(.*\)\. Install it with: pip install 'graphssl\[docs\]'$",
    ):
        require("no_such_package", extra="docs", purpose="draw")


@pytest.mark.parametrize(
    "failure", ["raise OSError('libtorch.so: cannot open')", "raise RuntimeError('operator does not exist')", "import nothing_here"]
)
def test_a_package_that_fails_to_import(tmp_path, monkeypatch, failure):
    """A package built for another torch is there, and fails in its own ways."""
    (tmp_path / "broken_extra.py").write_text(failure)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="broken_extra is needed to try"):
        require("broken_extra", extra="dgl", purpose="try")


def test_it_is_an_import_error_and_not_the_callers_mistake():
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(MissingExtraError, GraphSSLError)
    assert not issubclass(MissingExtraError, InputError)
