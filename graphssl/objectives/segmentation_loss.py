"""Losses of segmentation by name, as MONAI has them, and sums of them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.errors import ConfigError, DataError
from graphssl.extras import require

SEGMENTATION_LOSSES = ("ce", "dice", "jaccard", "tversky", "focal", "generalised_dice", "boundary", "hausdorff")


class SegmentationLoss(nn.Module):
    """A weighted sum of losses between class logits and masks, over the voxels whose class is known.

    - `"ce"`: cross-entropy;
    - `"dice"`, `"jaccard"`: one minus the overlap of each class, the background left out, over the whole batch;
    - `"tversky"`: Dice with 0.3 for voxels that are too many and 0.7 for those that lack (Salehi et al., 2017);
    - `"focal"`: cross-entropy that counts what is still wrong, with an exponent of 2 (Lin et al., ICCV 2017);
    - `"generalised_dice"`: Dice of all classes, weighted by the inverse square of their volume (Sudre et al., 2017);
    - `"boundary"`: probabilities times the distance from the boundary, negative inside (Kervadec et al., MIDL 2019); beside another loss, with a
      small weight;
    - `"hausdorff"`: squared errors times distances (Karimi & Salcudean, IEEE TMI 2020); slow, since distances of predictions change in every step.

    Args:
        weights: Weight by name.

    Raises:
        ConfigError: If there is no loss, a name is unknown, or a weight is not positive.
        MissingExtraError: If MONAI is not installed.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        strange = [name for name in weights if name not in SEGMENTATION_LOSSES]
        if strange or not weights or min(weights.values()) <= 0:
            raise ConfigError(f"Expected weights above 0 of losses among {', '.join(SEGMENTATION_LOSSES)}; found {dict(weights)}.")
        self.weights = dict(weights)
        self.losses = nn.ModuleDict({name: _of_monai(name) for name in self.weights if name != "ce"})

    def forward(self, logits: Float[Tensor, "B K *S"], masks: Int[Tensor, "B *S"]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, and its parts by name; masks of another size are taken at the nearest voxel.

        Raises:
            DataError: If a mask has a class that there are no logits for.
        """
        n_classes = logits.shape[1]
        if int(masks.max()) >= n_classes or int(masks.min()) < -1:
            raise DataError(
                f"Expected masks of the classes 0 to {n_classes - 1}, or -1 where unknown; found {int(masks.min())} to {int(masks.max())}. "
                "Give every class a number, or leave these images out."
            )
        masks = resized(masks, logits)
        known = masks >= 0
        logits_known, target = _certain_where_unknown(logits.float(), masks, known)
        parts = {}
        for name in self.weights:
            parts[name] = _cross_entropy(logits.float(), masks, known) if name == "ce" else self.losses[name](logits_known, target)
        return sum(weight * parts[name] for name, weight in self.weights.items()), parts  # type: ignore[return-value]


def resized(masks: Int[Tensor, "B *S"], like: Float[Tensor, "B K *T"]) -> Int[Tensor, "B *T"]:
    """Masks of another size, taken at the nearest voxel."""
    if masks.shape[1:] == like.shape[2:]:
        return masks.long()
    return F.interpolate(masks.unsqueeze(1).float(), size=like.shape[2:], mode="nearest-exact").squeeze(1).long()


def _certain_where_unknown(logits: Tensor, masks: Tensor, known: Bool[Tensor, "B *S"]) -> tuple[Tensor, Int[Tensor, "B 1 *S"]]:
    """Background in truth and prediction where the class is unknown: it adds nothing to overlaps of other classes, and has no gradient."""
    background = torch.full_like(logits, -50.0)
    background[:, 0] = 50.0
    return torch.where(known.unsqueeze(1), logits, background), masks.clamp(min=0).unsqueeze(1)


def _cross_entropy(logits: Tensor, masks: Tensor, known: Tensor) -> Tensor:
    return F.cross_entropy(logits, masks, ignore_index=-1, reduction="sum") / known.sum().clamp(min=1)


def _of_monai(name: str) -> nn.Module:
    losses = require("monai.losses", extra="imaging", purpose="compute losses of segmentation")
    overlap: dict[str, Any] = {"softmax": True, "to_onehot_y": True, "include_background": False}
    made: nn.Module = {
        "dice": lambda: losses.DiceLoss(**overlap, batch=True),
        "jaccard": lambda: losses.DiceLoss(**overlap, batch=True, jaccard=True),
        "tversky": lambda: losses.TverskyLoss(**overlap, batch=True, alpha=0.3, beta=0.7),
        "focal": lambda: losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=2.0),
        "generalised_dice": lambda: losses.GeneralizedDiceLoss(softmax=True, to_onehot_y=True, batch=True),
        "boundary": lambda: losses.BoundaryLoss(**overlap),
        "hausdorff": lambda: losses.HausdorffDTLoss(**overlap),
    }[name]()
    return made
