"""Signals of a simulated scan against what they are made of."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from graphssl.datasets.simulated_scans import SimulatedSite, absent_regions, scanner_patterns, source_signals
from graphssl.datasets.sources import NETWORKS, Floats, SourceField, draw_sources
from graphssl.errors import DataError

LONG = SimulatedSite("lab", n_timepoints=4000, offset=0.0)


@pytest.fixture(scope="module")
def field() -> SourceField:
    return draw_sources(100, np.random.default_rng(0))


def signals(field: SourceField, site: SimulatedSite = LONG, motion: float = 0.0, root: Floats | None = None) -> Floats:
    rng = np.random.default_rng(1)
    pattern = scanner_patterns(field, 1, np.random.default_rng(2))[0]
    return np.asarray(source_signals(field, np.eye(len(NETWORKS)) if root is None else root, site, pattern, motion, rng), dtype=float)


def test_patterns_of_scanners_have_mean_square_one_together(field: SourceField) -> None:
    patterns = scanner_patterns(field, 3, np.random.default_rng(0))
    assert patterns.shape == (3, 2, len(field))
    np.testing.assert_allclose((patterns**2).sum(axis=1).mean(axis=1), 1.0)


def test_what_is_smooth_remembers_as_an_autoregression_does(field: SourceField) -> None:
    """Signals less their white noise: neighbouring volumes correlate by exp(-tr / 3 s)."""
    for tr in (0.8, 2.0):
        found = signals(field, replace(LONG, tr=tr))
        lagged = np.mean(found[1:] * found[:-1]) / np.mean(found[2:] * found[:-2])  # white noise is in neither
        assert lagged == pytest.approx(np.exp(tr / 3.0), rel=0.1)


def test_networks_scanner_and_motion_add_to_the_signal(field: SourceField) -> None:
    still = signals(field).var(axis=0).mean()
    offset = signals(field, replace(LONG, offset=2.0)).var(axis=0).mean()
    assert offset - still == pytest.approx(4.0, abs=1.0)
    assert signals(field, motion=0.5).var(axis=0).mean() > still + 1
    louder = signals(field, root=3 * np.eye(len(NETWORKS))).var(axis=0).mean()
    assert 8 < louder - still < 16  # nine times the variance of a network, times squared loadings of mean 1 and more


def test_two_regions_always_stay() -> None:
    rng = np.random.default_rng(0)
    assert all((~absent_regions(5, 1.0, rng)).sum() == 2 for _ in range(20))
    assert absent_regions(2000, 0.25, rng).mean() == pytest.approx(0.25, abs=0.03)
    assert not absent_regions(5, 0.0, rng).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_timepoints": 19}, "n_timepoints of at least 20 for site 'lab'"),
        ({"tr": 0.0}, "tr above 0 s"),
        ({"noise": -1.0}, "noise, motion and offset of at least 0"),
        ({"age_range": (40.0, 20.0)}, "age_range within 0 to 120 years"),
        ({"patient_share": 2.0}, r"patient_share in \[0, 1\]"),
    ],
)
def test_impossible_sites_are_refused(arguments: dict[str, object], message: str) -> None:
    make: Callable[..., SimulatedSite] = SimulatedSite
    with pytest.raises(DataError, match=message):
        make("lab", **arguments)
