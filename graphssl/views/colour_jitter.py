"""Random looks at images in colour: another hue and another saturation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.errors import ConfigError
from graphssl.views.colour import from_space, to_space
from graphssl.views.image import AbstractIntensityView, between, check_range
from graphssl.views.stain import check_unit_colour


@dataclass(frozen=True)
class ColourJitter(AbstractIntensityView):
    """Turn the hue and scale the saturation of each image; beside `IntensityJitter` the colour jitter of SimCLR (Chen et al., ICML 2020).

    For images in [0, 1]. Where colour is what a finding is told by, as in stains and skin, keep it small.

    Args:
        hue: Largest turn of the hue, in turns of the circle of colours; 0.1 is SimCLR's.
        saturation: Lowest and highest factor of the saturation.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If the turn is not within half a circle, or the range is out of order.
    """

    hue: float = 0.1
    saturation: Sequence[float] = (0.6, 1.4)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("saturation", self.saturation, 0.0)
        if not 0.0 <= self.hue <= 0.5:
            raise ConfigError(f"Expected a turn of the hue in [0, 0.5], found {self.hue}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Turns `[b]` and factors `[b]`."""
        return between(-self.hue, self.hue, (n,), generator), between(self.saturation[0], self.saturation[1], (n,), generator)

    def recolour(self, images: Float[Tensor, "b 3 H W"], what: tuple[Tensor, ...]) -> Float[Tensor, "b 3 H W"]:
        """The images in other colours.

        Raises:
            DataError: If they are not in colour, or not in [0, 1].
        """
        check_unit_colour(images)
        hue, saturation, value = to_space(images, "HSV").unbind(dim=1)
        turn, factor = (tensor.view(-1, 1, 1) for tensor in what)
        return from_space(torch.stack([hue + turn, saturation * factor, value], dim=1), "HSV")
