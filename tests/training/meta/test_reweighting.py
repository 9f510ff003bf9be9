"""Weights of sources: closed forms, and what they are for: a source that is noise counts less, one that agrees with the target more."""

import math

import pytest
import torch

from graphssl.errors import ConfigError, DataError
from graphssl.training.meta.reweighting import EqualWeights, GradientAgreement, UncertaintyWeights, flat_gradients


def test_equal_weights_are_the_mean():
    weighting = EqualWeights().prepare(3)
    assert weighting(torch.tensor([1.0, 2.0, 6.0])).item() == 3.0
    assert weighting.weights().tolist() == pytest.approx([1 / 3] * 3)
    assert not weighting.needs_target


def test_uncertainty_finds_the_variance_of_each_source():
    """At the minimum of exp(−v) L + v / 2 the variance is 2 L."""
    weighting, losses = UncertaintyWeights().prepare(2), torch.tensor([0.25, 1.0])
    optimizer = torch.optim.LBFGS(weighting.parameters(), max_iter=50)
    optimizer.step(lambda: (optimizer.zero_grad(), value := weighting(losses), value.backward())[1])
    assert weighting.log_variance.tolist() == pytest.approx([math.log(0.5), math.log(2.0)], abs=1e-3)
    assert weighting.weights().tolist() == pytest.approx([0.8, 0.2], abs=1e-3)


def test_agreement_is_a_softmax_of_cosines():
    weighting = GradientAgreement(temperature=0.5, memory=0.0).prepare(3)
    sources = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    weighting.note_gradients(sources, torch.tensor([5.0, 0.0]))
    expected = torch.tensor([1.0, 0.0, -1.0]).div(0.5).softmax(dim=0)
    torch.testing.assert_close(weighting.weights(), expected)
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    weighting(losses).backward()
    torch.testing.assert_close(losses.grad, expected)
    assert weighting.needs_target


def test_agreement_averages_over_steps():
    weighting = GradientAgreement(temperature=1.0, memory=0.5).prepare(1)
    for sign in (1.0, 1.0, -1.0):
        weighting.note_gradients(torch.tensor([[sign]]), torch.tensor([1.0]))
    # 0.5 (−1) + 0.25 (1) + 0.125 (1), over the sum of these weights
    assert weighting.cosines.item() / (1 - 0.5**3) == pytest.approx(-0.125 / 0.875)


def test_state_is_in_checkpoints():
    noted = GradientAgreement().prepare(2)
    noted.note_gradients(torch.eye(2), torch.tensor([1.0, 0.0]))
    other = GradientAgreement().prepare(2)
    other.load_state_dict(noted.state_dict())
    torch.testing.assert_close(other.weights(), noted.weights())
    assert repr(noted) == "GradientAgreement(temperature=0.1, memory=0.9)"


def test_gradients_become_rows_in_one_order():
    first = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]])}
    second = {"b": torch.tensor([[6.0]]), "a": torch.tensor([4.0, 5.0])}
    assert flat_gradients([first, second]).tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    with pytest.raises(DataError, match="gradients of the same tensors"):
        flat_gradients([first, {"a": torch.zeros(2)}])


@pytest.mark.parametrize("weighting", [EqualWeights(), UncertaintyWeights(), GradientAgreement()], ids=lambda one: type(one).__name__)
def test_another_number_of_sources_is_refused(weighting):
    with pytest.raises(ConfigError, match=r"prepared for 2 sources, found one for 0\. Call prepare\(2\) first"):
        weighting(torch.ones(2))
    with pytest.raises(ConfigError, match=r"prepared for 2 sources, found one for 3"):
        weighting.prepare(3)(torch.ones(2))


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match=r"temperature above 0 and a memory in \[0, 1\), found 0 and 0\.9"):
        GradientAgreement(temperature=0)
    with pytest.raises(ConfigError, match="found 0.1 and 1"):
        GradientAgreement(memory=1)
