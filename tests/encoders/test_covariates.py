"""Covariates as tokens: values against loops, attention without preference, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from graphssl.data import ColumnTokenizer
from graphssl.encoders.biases import AttentionBias
from graphssl.encoders.covariates import CovariateTokens, described_covariates, with_covariates
from graphssl.errors import ConfigError, DataError

COVARIATES = {"age": 3, "motion": 3, "sex": ("female", "male"), "eyes": ("both", "closed", "open")}


@pytest.fixture
def batch(make_batch, with_covariates):
    """Connectomes with covariates, some regions missing."""
    return with_covariates(make_batch(5, 6, missing={1: [2], 3: [0, 5]}, padding=1))


def test_a_covariate_tells_of_itself_and_of_no_other(batch):
    torch.manual_seed(0)
    layer = CovariateTokens(COVARIATES, 4, 7)
    tokens = layer(batch)
    assert tokens.shape == (5, 4, 4)
    changed = layer(replace(batch, covariates=replace(batch.covariates, pieces=batch.covariates.pieces + 1)))
    readable = batch.covariates.visible
    different = (changed != tokens).any(dim=-1)
    assert torch.equal(different[:, :2], readable[:, :2])
    assert not different[:, 2:].any()
    assert readable[:, :2].any()
    assert not readable.all()


def test_the_share_in_the_pooled_vector_is_a_sum_over_covariates(batch):
    torch.manual_seed(0)
    layer = CovariateTokens(COVARIATES, 4, 7)
    tokens = layer(batch)
    weights = layer.share.weight.reshape(7, 4, 4)
    expected = torch.stack([layer.share.bias + sum(weights[:, column] @ row[column] for column in range(4)) for row in tokens])
    torch.testing.assert_close(layer.pooled(tokens), expected)


@pytest.mark.parametrize("kinds", [("weight", "distance"), ()], ids=["bias", "mask"])
def test_attention_to_and_from_covariates_is_without_preference(batch, kinds):
    bias = AttentionBias(2, kinds)(batch)
    found = with_covariates(bias, batch.mask, 3)
    allowed, refused = (0.0, -math.inf) if kinds else (True, False)
    assert found.dtype == bias.dtype
    assert found.shape == (*bias.shape[:2], 10, 10)
    for row in range(5):
        for i in range(10):
            for j in range(10):
                if i < 7 and j < 7:
                    assert torch.equal(found[row, :, i, j], bias[row, :, i, j])
                else:
                    there = j >= 7 or bool(batch.mask[row, j])
                    assert (found[row, :, i, j] == (allowed if there else refused)).all()


def test_a_tokenizer_is_described_by_its_columns(make_cohort):
    assert described_covariates(None) is None
    assert described_covariates(ColumnTokenizer(["sex", "age"], n_pieces=5).fit(make_cohort())) == {"age": 5, "sex": ("female", "male")}


def test_connectomes_without_covariates_are_refused(make_batch):
    with pytest.raises(DataError, match=r"Expected the covariates age, motion, sex, eyes beside the connectomes, found none. Build with"):
        CovariateTokens(COVARIATES, 4, 7)(make_batch())


@pytest.mark.parametrize("other", [{"age": 3}, {**COVARIATES, "age": 2, "motion": 2}, {"sex": ("female", "male")}], ids=str)
def test_other_covariates_are_refused(batch, other):
    with pytest.raises(DataError, match=r"found 2 of 3 and 2. Make the encoder with for_builder"):
        CovariateTokens(other, 4, 7)(batch)


def test_numbers_of_different_pieces_are_refused():
    with pytest.raises(ConfigError, match=r"all numbers among the covariates to have as many pieces, found \[2, 3\]"):
        CovariateTokens({"age": 3, "motion": 2}, 4, 7)
