"""What can be read of images without an encoder: small pixels, and statistics of their intensities."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.errors import ConfigError, DataError
from graphssl.training.model import by_subject

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SIDES = {2: 28, 3: 14}
_FRAMES = 4
_ROWS_AT_ONCE = 256


class ImageFeatures(TransformerMixin, BaseEstimator):
    """Numbers of a subject's images, the mean over them, for a classifier of scikit-learn.

    Images are resized to 28 × 28, volumes to 14 × 14 × 14, clips to four frames of 28 × 28.

    Args:
        kind: `"pixels"` for the values of the small images; `"intensities"` for mean, spread, quantiles and mean change along each axis,
            by channel.

    Attributes:
        builder_: How images are prepared, fitted on training subjects.

    Raises:
        ConfigError: If the kind is unknown.
    """

    def __init__(self, kind: Literal["pixels", "intensities"] = "pixels") -> None:
        self.kind = kind

    def fit(self, X: Cohort, y: object = None) -> "ImageFeatures":
        """Learn intensities from training subjects.

        Raises:
            ConfigError: If the kind is unknown.
            DataError: If the cohort has not images of one kind.
        """
        if self.kind not in ("pixels", "intensities"):
            raise ConfigError(f"Expected the kind 'pixels' or 'intensities', found {self.kind!r}.")
        if len(X.images) != 1:
            raise DataError(f"Expected a cohort with images of one kind, found {list(X.images) or 'none'}. Leave baselines of images out.")
        (data,) = X.images.values()
        side = _SIDES[data.rank]
        size = (_FRAMES, side, side) if data.clip else (side,) * data.rank
        self.builder_ = ImageBuilder(size=size, framing="resize").fit(X)
        return self

    def transform(self, X: Cohort) -> npt.NDArray[Any]:
        """Features `[n, F]`, a row a subject."""
        batch = self.builder_.transform(X)
        chunks = torch.arange(len(batch)).split(_ROWS_AT_ONCE)
        rows = torch.cat([self._features(batch[rows].images) for rows in chunks])
        return np.asarray(by_subject(rows, batch.subject_ids, X.ids))

    def _features(self, images: Float[Tensor, "B C *S"]) -> Float[Tensor, "B F"]:
        if self.kind == "pixels":
            return images.flatten(start_dim=1)
        values = images.flatten(start_dim=2)
        changes = [images.diff(dim=axis).abs().flatten(start_dim=2).mean(dim=2) for axis in range(2, images.ndim)]
        quantiles = values.quantile(torch.tensor(_QUANTILES), dim=2).permute(1, 0, 2)  # [B, Q, C]
        return torch.cat([values.mean(dim=2), values.std(dim=2), quantiles.flatten(start_dim=1), *changes], dim=1)
