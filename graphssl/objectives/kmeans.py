"""Clusters of directions."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from graphssl.errors import DataError


def spherical_kmeans(vectors: Float[Tensor, "n D"], n_clusters: int, generator: torch.Generator, n_iterations: int = 10) -> Float[Tensor, "K D"]:
    """Centroids of length 1, such that cosines of vectors to the nearest are as large as k-means finds them (Dhillon & Modha, 2001).

    It starts from vectors that are drawn, and stops where nothing moves. A cluster that has lost all its vectors stays where it is.

    Args:
        vectors: Vectors of length 1.
        n_clusters: Number of centroids.
        generator: Source of the start, on the CPU.
        n_iterations: Rounds at most.

    Raises:
        DataError: If there are fewer vectors than clusters.
    """
    if len(vectors) < n_clusters:
        raise DataError(f"Expected at least {n_clusters} vectors for as many clusters, found {len(vectors)}. Ask for fewer clusters.")
    centroids = vectors[torch.randperm(len(vectors), generator=generator)[:n_clusters].to(vectors.device)]
    assigned = torch.full((len(vectors),), -1, device=vectors.device)
    for _ in range(n_iterations):
        nearest = (vectors @ centroids.T).argmax(dim=1)
        if torch.equal(nearest, assigned):
            break
        assigned = nearest
        sums = torch.zeros_like(centroids).index_add_(0, assigned, vectors)
        lengths = sums.norm(dim=1, keepdim=True)
        centroids = torch.where(lengths > 0, sums / lengths.clamp(min=torch.finfo(sums.dtype).tiny), centroids)
    return F.normalize(centroids, dim=1)
