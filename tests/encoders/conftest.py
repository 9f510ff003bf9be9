"""What the tests of encoders share."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from graphssl.atlases import simulated_atlas
from graphssl.data import ConnectomeBatch
from graphssl.datasets import simulate
from graphssl.graphs import ConnectomeBuilder


@pytest.fixture(scope="session")
def regions_taken() -> Callable[..., ConnectomeBatch]:
    """The batch with its regions in another order, or some left out: `regions_taken(batch, index)`."""

    def take(batch: ConnectomeBatch, index: Sequence[int] | Tensor) -> ConnectomeBatch:
        index = torch.as_tensor(index)
        return replace(
            batch,
            weights=batch.weights[:, index][:, :, index],
            visible=batch.visible[:, index][:, :, index],
            mask=batch.mask[:, index],
            centroids=batch.centroids[:, index],
            networks=batch.networks[:, index],
        )

    return take


@pytest.fixture(scope="session")
def simulated() -> ConnectomeBatch:
    """Connectomes of twelve simulated subjects in an atlas with networks."""
    cohort = simulate([simulated_atlas(20)], n_subjects=12, sites=2, n_sources=100).cohort
    return ConnectomeBuilder().fit_transform(cohort)


@pytest.fixture(scope="session")
def in_networks() -> Callable[..., ConnectomeBatch]:
    """The batch with its regions in three networks by turns, every fifth in none."""

    def assign(batch: ConnectomeBatch) -> ConnectomeBatch:
        position = torch.arange(batch.mask.shape[1])
        networks = torch.where(position % 5 == 4, -1, position % 3)
        return replace(batch, networks=networks.expand(len(batch), -1), network_names=("default", "visual", "motor"))

    return assign
