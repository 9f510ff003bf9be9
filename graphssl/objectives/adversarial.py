"""Take from the pooled vector what tells the site."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.two_views import check_positive


class SiteAdversary(AbstractObjective):
    """Make the best linear head fail to tell the site from the pooled vector.

    Domain-adversarial training (Ganin et al., JMLR 2016) with the adversary in closed form (Sadeghi et al., ICCV 2019): at every step the head is the
    ridge regression of the sites on the pooled vectors, solved anew, and the loss is the share of the sites that it explains. Where a head is at its
    best, the gradient of this share is the reversed gradient of the head's error (the envelope theorem), as Ganin et al. have it; but a head that is
    trained step by step lags behind, and an encoder escapes by writing the site in another way.

    Made to stand in a [`WeightedSum`][graphssl.objectives.WeightedSum] beside another objective. The head is solved on the minibatch together with
    the vectors of those before it, since a head solved on a minibatch alone would explain anything; in evaluation the minibatch stands alone. Sites
    are looked up by subject id, so that a batch never carries them; where none are given, pre-training takes those of its cohort.

    Args:
        sites: Site by subject id.
        ridge: Penalty of the head as a share of the mean variance of the pooled vector.
        memory: Rows of earlier minibatches that are remembered; more than the pooled vector is wide.

    Raises:
        ConfigError: If a number is not positive.
        DataError: If there are fewer than two sites.
    """

    remembered: Tensor
    remembered_sites: Tensor

    def __init__(self, sites: dict[str, str] | None = None, ridge: float = 0.1, memory: int = 256) -> None:
        super().__init__()
        check_positive(ridge=ridge, memory=memory)
        self.sites, self.ridge, self.memory = None if sites is None else dict(sites), ridge, memory
        self.site_names = sorted(set((self.sites or {}).values()))
        if self.sites is not None and len(self.site_names) < 2:
            raise DataError(f"Expected at least two sites to tell apart, found {self.site_names}. Leave the objective out.")
        self._latest: tuple[Tensor, Tensor] | None = None

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
        """Make an empty memory for the encoder's pooled width.

        Raises:
            ConfigError: If it was not told the sites.
        """
        if self.sites is None:
            raise ConfigError("Expected a SiteAdversary that knows the sites, found one without. Give sites, or call for_cohort(cohort) first.")
        self.register_buffer("remembered", torch.zeros(self.memory, encoder.pooled_width))
        self.register_buffer("remembered_sites", torch.full((self.memory,), -1))
        return self

    def forward(self, encoder: AbstractEncoder, batch: ConnectomeBatch, generator: torch.Generator) -> Loss:
        """How much of the sites the best head explains.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If the site of a subject is not known.
        """
        self.check_prepared("remembered")
        sites = torch.tensor([self.site_names.index(site) for site in _sites_of(batch, self.sites or {})], device=batch.device)
        pooled = encoder(batch).pooled.float()
        if not self.training:
            return _noted(explained_sites(pooled, sites, self.ridge))
        self._latest = pooled.detach(), sites  # remembered after the step, so that the same step gives the same loss
        known = self.remembered_sites >= 0
        # The gradient that all rows would give, as far as the minibatch tells: a weight means the same with any memory.
        pooled = pooled + int(known.sum()) / len(pooled) * (pooled - pooled.detach())
        return _noted(explained_sites(torch.cat([self.remembered[known], pooled]), torch.cat([self.remembered_sites[known], sites]), self.ridge))

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Remember the minibatch of the step, and forget the oldest rows."""
        if self._latest is not None:
            pooled, sites = self._latest
            self.remembered.copy_(torch.cat([self.remembered, pooled])[-self.memory :])
            self.remembered_sites.copy_(torch.cat([self.remembered_sites, sites])[-self.memory :])
            self._latest = None


def explained_sites(vectors: Float[Tensor, "n P"], sites: Int[Tensor, "n"], ridge: float = 0.1) -> Float[Tensor, ""]:
    """Share of the differences between sites that the ridge regression of the sites on the vectors explains, from 0 to 1; each site counts alike.

    Without a penalty it is the mean of the squared canonical correlations of vectors and sites. As the penalty is in units of the vectors' variance,
    longer or shorter vectors hide nothing. Where all rows are of one site it is 0.

    Args:
        vectors: One vector a row.
        sites: A number a site, by row.
        ridge: Penalty as a share of the mean variance of the vectors.
    """
    member = F.one_hot(sites.unique(return_inverse=True)[1]).to(vectors.dtype)  # [n, S]
    share = member.mean(dim=0)
    target = (member - share) / share.sqrt()
    centred = vectors - vectors.mean(dim=0)
    covariance = centred.T @ centred / len(vectors)  # [P, P]
    shared = centred.T @ target / len(vectors)  # [P, S]
    penalty = ridge * covariance.diagonal().mean() + torch.finfo(vectors.dtype).eps ** 2  # vectors that are all alike explain nothing
    head = torch.linalg.solve(covariance + penalty * torch.eye(len(covariance), device=vectors.device, dtype=vectors.dtype), shared)
    return (shared * head).sum() / max(1, member.shape[1] - 1)


def _noted(share: Tensor) -> Loss:
    return Loss(share, {"site_explained": share.detach()})


def _sites_of(batch: ConnectomeBatch, sites: Mapping[str, str]) -> list[str]:
    absent = [subject for subject in dict.fromkeys(batch.subject_ids) if subject not in sites]
    if absent:
        raise DataError(f"Expected a site for every subject of the batch, found none for {absent[:5]}.")
    return [sites[subject] for subject in batch.subject_ids]
