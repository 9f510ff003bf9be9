"""The two baselines of the atlas transformation: zero padding, and a projection trained with what follows."""

from dataclasses import replace

import pytest
import torch

from graphssl.atlases import LinearProjection, ZeroPadding
from graphssl.data import ConnectomeBatch
from graphssl.errors import AtlasError, ConfigError


@pytest.fixture
def batch(make_batch) -> ConnectomeBatch:
    """Six rows of an atlas of ten regions and four of one of seven."""
    small = replace(make_batch(4, 7, seed=1, padding=3), atlas=("a.small",) * 4)
    return ConnectomeBatch.cat([make_batch(6, 10, missing={1: [2]}), small])


@pytest.mark.parametrize("n_features", [10, 16])
def test_zero_padding_keeps_every_connection(batch: ConnectomeBatch, n_features: int) -> None:
    found = ZeroPadding(n_features)(batch)
    assert found.shape == (10, 10, n_features)
    torch.testing.assert_close(found[:, :, :10], batch.weights)
    assert (found[:, :, 10:] == 0).all()


def test_zero_padding_counts_regions_and_not_padding(batch: ConnectomeBatch) -> None:
    assert ZeroPadding(7)(batch[[6, 7]]).shape[2] == 7
    with pytest.raises(AtlasError, match=r"atlases of at most 7 regions, found one of 10. Raise the width"):
        ZeroPadding(7)(batch)


def test_a_projection_multiplies_by_the_matrix_of_the_atlas(batch: ConnectomeBatch) -> None:
    module = LinearProjection({"toy": 10, "a.small": 7, "unused": 3}, 4)
    found = module(batch)
    assert found.shape == (10, 10, 4)
    for row in range(10):
        weight = module.projections[0 if row < 6 else 1].weight
        torch.testing.assert_close(found[row], batch.weights[row, :, : weight.shape[1]] @ weight.T)
    assert (found[~batch.mask] == 0).all()


def test_a_projection_is_trained_for_the_atlases_of_the_batch(batch: ConnectomeBatch) -> None:
    module = LinearProjection({"toy": 10, "a.small": 7}, 4)
    module(batch[[6, 7]]).square().sum().backward()
    assert module.projections[0].weight.grad is None
    assert float(module.projections[1].weight.grad.abs().sum()) > 0


def test_wrong_atlases_are_told(batch: ConnectomeBatch) -> None:
    with pytest.raises(AtlasError, match=r"one of the atlases toy; found 'a.small'"):
        LinearProjection({"toy": 10}, 4)(batch)
    with pytest.raises(AtlasError, match=r"Expected 'toy' to have 8 regions, found more"):
        LinearProjection({"toy": 8, "a.small": 7}, 4)(batch)


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ConfigError, match=r"Expected a width of 1 or more, found 0"):
        ZeroPadding(0)
    with pytest.raises(ConfigError, match=r"number of regions of one atlas or more, found {}"):
        LinearProjection({}, 4)
