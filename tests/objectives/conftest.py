"""A few simulated scans, shared by the tests of this folder."""

import pytest

from graphssl.atlases import simulated_atlas
from graphssl.data import ConnectomeBatch
from graphssl.datasets.simulate import SimulatedSite, simulate
from graphssl.graphs import ConnectomeBuilder


@pytest.fixture(scope="session")
def scans_of_individuals() -> ConnectomeBatch:
    """Sixteen simulated scans with their time series; each subject differs from the others in how its networks are connected."""
    sites = [SimulatedSite("a", n_timepoints=200, noise=0.3)]
    cohort = simulate([simulated_atlas(20)], n_subjects=16, sites=sites, n_sources=100).cohort
    return ConnectomeBuilder().fit(cohort).transform(cohort, series=True)
