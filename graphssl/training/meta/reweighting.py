"""How much each source counts in a meta-step: equal, by its uncertainty, or by its agreement with the target."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.errors import ConfigError, DataError


class AbstractWeighting(nn.Module, ABC):
    """Losses of the sources in, what a meta-step minimises out. Call `prepare` once before training."""

    shares: Tensor

    def __init__(self) -> None:
        super().__init__()

    @property
    def needs_target(self) -> bool:
        """Whether it must see the target's subjects, without their labels."""
        return False

    def prepare(self, n_sources: int) -> "AbstractWeighting":
        """Make what depends on the number of sources; returns the weighting."""
        self.register_buffer("shares", torch.full((n_sources,), 1 / n_sources))
        return self

    @abstractmethod
    def forward(self, losses: Float[Tensor, "S"]) -> Float[Tensor, ""]:
        """The weighted loss of all sources.

        Raises:
            ConfigError: If `prepare` was not called for as many sources.
        """

    def weights(self) -> Float[Tensor, "S"]:
        """Weight of each source; they sum to one."""
        return self.shares

    def note_gradients(self, sources: Float[Tensor, "S P"], target: Float[Tensor, "P"]) -> None:
        """Take note of which way each source and the target pull."""
        return

    def __repr__(self) -> str:
        # Not torch's tree of modules: what is hashed into the fingerprint of a run is what it was made of.
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in inspect.signature(type(self)).parameters)
        return f"{type(self).__name__}({arguments})"

    def _check(self, losses: Float[Tensor, "S"]) -> None:
        found = len(self.shares) if hasattr(self, "shares") else 0
        if found != len(losses):
            raise ConfigError(f"Expected a weighting prepared for {len(losses)} sources, found one for {found}. Call prepare({len(losses)}) first.")


class EqualWeights(AbstractWeighting):
    """Every source counts alike: the control of the others."""

    def forward(self, losses: Float[Tensor, "S"]) -> Float[Tensor, ""]:
        """The mean of the losses.

        Raises:
            ConfigError: If `prepare` was not called for as many sources.
        """
        self._check(losses)
        return losses.mean()


class UncertaintyWeights(AbstractWeighting):
    """Sources count by a learned precision, `mean_s(exp(−v_s) L_s + v_s / 2)`.

    `v_s` is the logarithm of a variance (Kendall et al., CVPR 2018): what cannot be learned counts less. It belongs to the optimiser.
    """

    def prepare(self, n_sources: int) -> "UncertaintyWeights":
        """Make a variance of one for each source."""
        super().prepare(n_sources)
        self.log_variance = nn.Parameter(torch.zeros(n_sources))
        return self

    def forward(self, losses: Float[Tensor, "S"]) -> Float[Tensor, ""]:
        """Losses by precision, and what keeps the precision from vanishing.

        Raises:
            ConfigError: If `prepare` was not called for as many sources.
        """
        self._check(losses)
        return ((-self.log_variance).exp() * losses + self.log_variance / 2).mean()

    def weights(self) -> Float[Tensor, "S"]:
        """Precisions, made to sum to one."""
        return (-self.log_variance.detach()).softmax(dim=0)


class GradientAgreement(AbstractWeighting):
    """Sources count by how much their gradient points where the target's does, both without labels: `softmax(cos(g_s, g_target) / τ)`.

    Cosines are those of gradients of one objective that needs no labels, averaged over the steps, since those of a single step are noisy. After the
    cosine of an auxiliary task (Du et al., 2018), which is a cut at zero there.

    Args:
        temperature: `τ`; the smaller, the more the sources that agree outweigh the others.
        memory: Share of what was known that is kept at every step, from 0 to below 1.

    Raises:
        ConfigError: If the temperature is not positive, or the memory not in [0, 1).
    """

    cosines: Tensor
    n_noted: Tensor

    def __init__(self, temperature: float = 0.1, memory: float = 0.9) -> None:
        super().__init__()
        if temperature <= 0 or not 0 <= memory < 1:
            raise ConfigError(f"Expected a temperature above 0 and a memory in [0, 1), found {temperature} and {memory}.")
        self.temperature, self.memory = temperature, memory

    @property
    def needs_target(self) -> bool:
        """It does."""
        return True

    def prepare(self, n_sources: int) -> "GradientAgreement":
        """Begin with equal weights."""
        super().prepare(n_sources)
        self.register_buffer("cosines", torch.zeros(n_sources))
        self.register_buffer("n_noted", torch.zeros(()))
        return self

    def note_gradients(self, sources: Float[Tensor, "S P"], target: Float[Tensor, "P"]) -> None:
        """Average the cosines with those of before, and make weights of them."""
        self.cosines.mul_(self.memory).add_((1 - self.memory) * F.cosine_similarity(sources, target.unsqueeze(0), dim=1))
        self.n_noted.add_(1)
        unbiased = self.cosines / (1 - self.memory**self.n_noted)  # the average began at zero
        self.shares.copy_((unbiased / self.temperature).softmax(dim=0))

    def forward(self, losses: Float[Tensor, "S"]) -> Float[Tensor, ""]:
        """Losses by weight.

        Raises:
            ConfigError: If `prepare` was not called for as many sources.
        """
        self._check(losses)
        return (self.shares * losses).sum()


def flat_gradients(gradients: Sequence[dict[str, Tensor]]) -> Float[Tensor, "S P"]:
    """Gradients of several losses as rows of a matrix, tensors in the order of the first.

    Args:
        gradients: Gradients by name, of each loss.

    Raises:
        DataError: If there are none, or they are of different tensors.
    """
    if not gradients or any(set(one) != set(gradients[0]) for one in gradients):
        raise DataError("Expected gradients of the same tensors for each of one or more losses, found none or different ones.")
    return torch.stack([torch.cat([one[name].flatten() for name in gradients[0]]) for one in gradients])
