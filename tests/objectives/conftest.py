"""A tiny encoder and a few simulated scans, shared by the tests of this folder."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphssl.atlases import simulated_atlas
from graphssl.data import ConnectomeBatch
from graphssl.datasets.simulate import SimulatedSite, simulate
from graphssl.encoders import GraphTransformer
from graphssl.graphs import ConnectomeBuilder


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., GraphTransformer]:
    """Factory of tiny encoders, always with the same weights: `make_encoder(width=8, …)`."""

    def make(**changes: Any) -> GraphTransformer:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return GraphTransformer(**{"width": 8, "depth": 1, "heads": 2, "spacing_mm": 40.0, **changes})

    return make


@pytest.fixture(scope="session")
def scans_of_individuals() -> ConnectomeBatch:
    """Sixteen simulated scans with their time series; each subject differs from the others in how its networks are connected."""
    sites = [SimulatedSite("a", n_timepoints=200, noise=0.3)]
    cohort = simulate([simulated_atlas(20)], n_subjects=16, sites=sites, n_sources=100).cohort
    return ConnectomeBuilder().fit(cohort).transform(cohort, series=True)
