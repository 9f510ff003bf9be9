"""Two modalities of a patient belong together."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from graphssl.objectives.cross_modal import AbstractCrossModal, Targets
from graphssl.objectives.two_views import check_positive
from graphssl.views.base import AbstractView


class CrossModalContrast(AbstractCrossModal):
    """Find a patient's image among those of the minibatch by the table, and the table by the image; so for any two modalities.

    MMCL (Hager, Menten & Rueckert, CVPR 2023), with the loss of CLIP (Radford et al., ICML 2021): tables are corrupted as in SCARF, images seen
    through a view. Afterwards one modality alone knows what the other would tell. Of two modalities only patients who have both take part.

    Args:
        modalities: Names of the modalities to compare, two at least; all of the encoder when left out.
        views: A look at some modalities before they are embedded, by name.
        corruption: Share of the columns of tables that is given values of other patients; 0 leaves them as they are.
        temperature: Temperature of the softmax; lower looks at the hardest others.
        width: Width of the projected vectors.
        hidden: Width of the inner layer of the projectors.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(
        self,
        modalities: Sequence[str] | None = None,
        views: Mapping[str, AbstractView] | None = None,
        corruption: float = 0.3,
        temperature: float = 0.1,
        width: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__(modalities, views, corruption, width, hidden)
        check_positive(temperature=temperature)
        self.temperature = temperature

    def scale(self) -> float:
        """One over the temperature."""
        return 1 / self.temperature

    def targets(self, batch: Any, first: Int[Tensor, "A"], second: Int[Tensor, "B"]) -> Targets:
        """Everybody is alone with oneself."""
        own = torch.eye(len(first), device=first.device)
        return own, own
