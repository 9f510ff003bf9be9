"""Biases of attention between patients, against arithmetic by hand."""

import pytest
import torch
from torch.testing import assert_close

from graphssl.encoders.population_biases import PatientBias, Relations
from graphssl.errors import ConfigError


@pytest.fixture
def relations():
    """Two who ask three; one edge, and one whom no path leads to."""
    hops = torch.tensor([[[0, 1, -1], [2, 0, 3]]], dtype=torch.int8)
    return Relations(hops, torch.tensor([[0], [0], [1]]), torch.tensor([[0.5, 0.25]]), torch.tensor([[0, 3, 7]]))


def test_hops_have_a_value_each_and_no_path_has_one_too(relations):
    bias = PatientBias(4, ("hops",), 2, max_hops=4)(relations)
    assert bias.shape == (1, 4, 2, 3)
    assert bias[0, 0].abs().max() == 0, "the first head has no preference"
    assert_close(bias[0, 3], -2.0 * torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, 3.0]]))
    assert torch.isfinite(bias).all()


def test_similarity_counts_over_edges_and_heads_take_the_groups_by_turns(relations):
    bias = PatientBias(4, ("similarity",), 2, max_hops=4)(relations)[0]
    assert_close(bias[:, 0, 1], torch.tensor([1 * 0.5, 2 * 0.25, 3 * 0.5, 4 * 0.25]))
    bias[:, 0, 1] = 0
    assert not bias.any()


def test_in_links_count_of_whom_is_asked(relations):
    bias = PatientBias(8, ("in_links",), 2, max_hops=4)(relations)[0]
    assert_close(bias[1, 0], 0.5 * torch.log(torch.tensor([1.0, 4.0, 8.0])))
    assert torch.equal(bias[3], -bias[1])
    assert not bias[[0, 2, 4, 6]].any()


def test_biases_add_up_and_are_left_out_by_name(relations):
    parts = [PatientBias(4, (kind,), 2, max_hops=4)(relations) for kind in ("hops", "similarity", "in_links")]
    assert_close(PatientBias(4, ("in_links", "hops", "similarity"), 2, max_hops=4)(relations), sum(parts))
    assert not PatientBias(4, (), 2, max_hops=4)(relations).any()


def test_values_are_trained_when_asked_for(relations):
    assert list(PatientBias(4, ("hops", "similarity"), 2, max_hops=4).parameters()) == []
    bias = PatientBias(4, ("hops", "similarity"), 2, max_hops=4, learned=True)
    bias(relations).square().sum().backward()
    assert [name for name, _ in bias.named_parameters()] == ["by_hops", "by_group"]
    assert bias.by_hops.grad[[1, 2, 3, 5], 1:].all(), "the distances that are there, and no path"
    assert not bias.by_hops.grad[4].any()
    assert bias.by_group.grad.any()
    assert torch.equal(bias(relations), PatientBias(4, ("hops", "similarity"), 2, max_hops=4)(relations))


def test_an_unknown_relation_is_refused():
    with pytest.raises(ConfigError, match="Expected biases among hops, similarity, in_links"):
        PatientBias(4, ("degree",), 2, max_hops=4)
