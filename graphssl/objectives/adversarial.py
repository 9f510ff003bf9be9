"""Take from the pooled vector what tells the site."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.two_views import check_positive


class SiteAdversary(AbstractObjective):
    """A head learns to tell the site from the pooled vector, and the encoder learns to make it fail.

    Domain-adversarial training with reversed gradients (Ganin et al., JMLR 2016). Made to stand in a [`WeightedSum`][graphssl.objectives.WeightedSum]
    beside another objective. Sites are looked up by subject id, so that a batch never carries them; where none are given, pre-training takes those of
    its cohort.

    The value of the loss is zero, whatever its gradient: a head that fails may mean a well hidden site or a poor head, so the epoch is chosen by the
    objectives beside it. `site_error` and `site_accuracy` are noted.

    Args:
        sites: Site by subject id.
        strength: Largest factor of the reversed gradient.
        warm_up: Whether the factor rises from zero as `2 / (1 + exp(-10 · progress)) - 1` (Ganin et al., section 5.2.2), or is constant.
        hidden: Width of the head's inner layer.

    Raises:
        ConfigError: If a number is not positive.
        DataError: If there are fewer than two sites.
    """

    progress: Tensor

    def __init__(self, sites: dict[str, str] | None = None, strength: float = 1.0, warm_up: bool = True, hidden: int = 64) -> None:
        super().__init__()
        check_positive(strength=strength, hidden=hidden)
        self.sites, self.strength, self.warm_up, self.hidden = None if sites is None else dict(sites), strength, warm_up, hidden
        self.site_names = sorted(set((self.sites or {}).values()))
        if self.sites is not None and len(self.site_names) < 2:
            raise DataError(f"Expected at least two sites to tell apart, found {self.site_names}. Leave the objective out.")
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def for_cohort(self, cohort: Cohort) -> "SiteAdversary":
        """The objective with the sites of the cohort, unless it was given some.

        Raises:
            DataError: If the cohort has no column of sites, or one site only.
        """
        if self.sites is not None:
            return self
        if cohort.sites is None:
            raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site', found none. Leave the objective out.")
        return SiteAdversary(**{**self.arguments(), "sites": {str(subject): str(site) for subject, site in cohort.sites.items()}})

    def prepare(self, encoder: AbstractEncoder) -> "SiteAdversary":
        """Make the head for the encoder's pooled width.

        Raises:
            ConfigError: If it was not told the sites.
        """
        if self.sites is None:
            raise ConfigError("Expected a SiteAdversary that knows the sites, found one without. Give sites, or call for_cohort(cohort) first.")
        self.head = nn.Sequential(
            nn.LayerNorm(encoder.pooled_width), nn.Linear(encoder.pooled_width, self.hidden), nn.GELU(), nn.Linear(self.hidden, len(self.site_names))
        )
        return self

    @property
    def factor(self) -> float:
        """Factor of the reversed gradient at this point of the training."""
        return self.strength * ganin_ramp(float(self.progress)) if self.warm_up else self.strength

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """The gradient of the head's cross-entropy, reversed on its way into the encoder.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If the site of a subject is not known.
        """
        self.check_prepared("head")
        target = torch.tensor([self.site_names.index(site) for site in _sites_of(batch, self.sites or {})], device=batch.device)
        logits = self.head(reverse_gradient(encoder(batch).pooled, self.factor))
        error = F.cross_entropy(logits, target)
        accuracy = (logits.detach().argmax(dim=1) == target).float().mean()
        return Loss(error - error.detach(), {"site_error": error.detach(), "site_accuracy": accuracy})

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Note how far the training is, which sets the factor."""
        self.progress.fill_(progress)


def reverse_gradient(values: Float[Tensor, "*shape"], factor: float) -> Float[Tensor, "*shape"]:
    """The values as they are, with a gradient times `-factor` (Ganin et al., equations 14 and 15)."""
    reversed_values: Tensor = _Reversed.apply(values, factor)
    return reversed_values


def ganin_ramp(progress: float) -> float:
    """Rise from 0 to nearly 1 over the training (Ganin et al., section 5.2.2)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def _sites_of(batch: ConnectomeBatch, sites: Mapping[str, str]) -> list[str]:
    absent = [subject for subject in dict.fromkeys(batch.subject_ids) if subject not in sites]
    if absent:
        raise DataError(f"Expected a site for every subject of the batch, found none for {absent[:5]}.")
    return [sites[subject] for subject in batch.subject_ids]
