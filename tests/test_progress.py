"""Bars of long loops: only where asked for, on a terminal, after a while, one at a time, and never changing what is gone through."""

import sys
import threading
import time

import numpy as np
import pytest

from graphssl.progress import progress_shown, tracked


@pytest.fixture
def terminal(monkeypatch):
    """What rich takes for a terminal that understands it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_items_come_through_whether_or_not_a_bar_is_drawn(terminal, capsys):
    assert list(tracked(range(5), "Reading")) == list(range(5))
    assert capsys.readouterr().err == ""
    with progress_shown():
        assert list(tracked((k for k in range(5)), "Reading", total=5, after=0)) == list(range(5))
        assert list(tracked([], "Reading", after=0)) == []


def test_a_bar_shows_label_count_and_time_left(terminal, capsys):
    with progress_shown():
        list(tracked(range(3), "Reading scans", after=0))
    said = capsys.readouterr()
    assert "Reading scans" in said.err
    assert "%" in said.err
    assert ":" in said.err
    assert said.out == ""


def test_items_that_stand_for_several_advance_by_as_many(terminal, capsys):
    with progress_shown():
        for item in tracked([3, 1], "Computing", 4, size=int, after=0):
            time.sleep(0.5 * (item == 1))  # the bar is drawn ten times a second
    assert "75%" in capsys.readouterr().err


def test_quick_loops_log_files_and_quiet_runs_show_nothing(terminal, monkeypatch, capsys):
    with progress_shown():
        list(tracked(range(3), "Reading"))  # faster than a second
    with progress_shown(False):
        list(tracked(range(3), "Reading", after=0))
    monkeypatch.setenv("FORCE_COLOR", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    with progress_shown():
        list(tracked(range(3), "Reading", after=0))
    assert capsys.readouterr().err == ""


def test_a_bar_appears_while_the_first_item_takes_long(terminal, capsys):
    with progress_shown():
        through = tracked(iter(lambda: time.sleep(0.3), 1), "Fitting again", 4, after=0.05)
        next(through)
        assert "Fitting again" in capsys.readouterr().err
        through.close()
        list(tracked(range(3), "Reading", after=60))  # gone before its time
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert "Reading" not in capsys.readouterr().err


def test_loops_within_show_no_bar_of_their_own(terminal, capsys):
    with progress_shown():
        for _ in tracked(range(3), "Outer", after=0):
            list(tracked(range(3), "Inner", after=0))
        list(tracked(range(2), "Next", after=0))
    said = capsys.readouterr().err
    assert "Outer" in said
    assert "Next" in said
    assert "Inner" not in said


def test_an_error_within_ends_the_bar_and_comes_through(terminal, capsys):
    def broken():
        yield 1
        raise ValueError("no such file")

    with progress_shown():
        with pytest.raises(ValueError, match="no such file"):
            list(tracked(broken(), "Reading", after=0))
        list(tracked(range(2), "Next", after=0))
    assert "Next" in capsys.readouterr().err


@pytest.fixture
def labels(monkeypatch):
    """Labels of the bars that would be drawn, whatever time their loops take."""
    from graphssl import progress

    said = []

    def noted(items, label, total=None, *, size=None, after=1.0):
        said.append(label)
        through = list(items)
        assert total in (None, sum(1 if size is None else size(item) for item in through))
        return iter(through)

    for module in [module for name, module in sys.modules.items() if name.startswith("graphssl.") and hasattr(module, "tracked")]:
        monkeypatch.setattr(module, "tracked", noted)
    assert progress.tracked is noted
    return said


def test_long_parts_of_verbs_are_tracked(labels, make_cohort, tmp_path):
    """What reads, computes, converts, probes and compares is a loop with a bar, and the count of its total is right."""
    from graphssl.atlases import AtlasMap, convert_matrices, simulated_atlas
    from graphssl.evaluation.audits import site_probe
    from graphssl.graphs import ConnectomeBuilder
    from graphssl.seal import broken, seal

    cohort = make_cohort(n_subjects=8)
    ConnectomeBuilder().fit_transform(cohort)
    site_probe({"noise": np.random.default_rng(0).standard_normal((8, 3))}, cohort.sites.tolist(), cohort="c")
    (tmp_path / "a").write_text("1")
    seal(tmp_path)
    assert broken(tmp_path) == []
    atlas = simulated_atlas(6)
    convert_matrices(AtlasMap(atlas, atlas, np.eye(6), "made up", np.ones(6)), np.stack([np.eye(6)] * 5))
    assert labels == ["Computing connectivity", "Reading the site from features", "Comparing files with their hashes", "Converting matrices"]


def test_a_verb_shows_progress_unless_it_is_told_to_be_quiet(terminal, monkeypatch, capsys):
    from graphssl import cli

    def slow(words):
        """go through something"""
        list(tracked(range(3), "Going", after=0))

    monkeypatch.setitem(cli.VERBS, "slow", (slow, "go"))
    assert cli.main(["slow"]) == cli.DONE
    assert "Going" in capsys.readouterr().err
    assert cli.main(["slow", "--quiet"]) == cli.DONE
    assert capsys.readouterr().err == ""
