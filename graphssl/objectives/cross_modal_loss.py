"""Contrast of two modalities: who belongs to whom, where more than one may belong to somebody."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def cosines(first: Float[Tensor, "A D"], second: Float[Tensor, "B D"]) -> Float[Tensor, "A B"]:
    """Cosine of every vector to every other one, in single precision at least."""
    left, right = (F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1) for vectors in (first, second))
    return left @ right.T


def soft_contrast(logits: Float[Tensor, "A B"], forth: Float[Tensor, "A B"], back: Float[Tensor, "B A"]) -> Float[Tensor, ""]:
    """Mean of the cross-entropies of finding the second from the first and the first from the second.

    With the identity as targets it is that of CLIP (Radford et al., ICML 2021); with shares of several, that of MedCLIP (Wang et al., EMNLP 2022).

    Args:
        logits: Scaled cosines of the first to the second.
        forth: Share that each of the second has in each of the first; rows sum to 1.
        back: Share that each of the first has in each of the second; rows sum to 1.
    """
    return (F.cross_entropy(logits, forth) + F.cross_entropy(logits.T, back)) / 2


def found_share(logits: Float[Tensor, "A B"], forth: Float[Tensor, "A B"]) -> Float[Tensor, ""]:
    """How often the most alike of the second is one with the largest share."""
    chosen = forth.gather(1, logits.detach().argmax(dim=1, keepdim=True)).squeeze(1)
    return (chosen >= forth.amax(dim=1)).float().mean()
