"""Learning rates that fall from layer to layer, towards the input."""

import re

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError

# A layer is a numbered member of what encoders call their blocks or layers: `blocks.3`, `layer2.0`, `encoder.1.blocks.0`.
_LAYER = re.compile(r"^.*?(?:blocks|layers?\d*)\.\d+(?:\.(?:blocks|layers?\d*)\.\d+)*(?=\.)")


def layer_scales(encoder: AbstractEncoder, decay: float) -> dict[str, float]:
    """Learning rate of each of an encoder's parameters as a share of that of the head, by name.

    What follows the last layer has the full rate, each layer below `decay` times the rate of the one above, and what comes before the first layer the
    lowest of all (layer-wise learning-rate decay; Clark et al., ICLR 2020; Bao et al., ICLR 2022). Layers count in the order in which the encoder
    makes them. An encoder without layers has one rate, `decay`.

    Args:
        encoder: The encoder.
        decay: Share, in (0, 1].

    Raises:
        ConfigError: If the share is out of range.
    """
    if not 0 < decay <= 1:
        raise ConfigError(f"Expected layer_decay in (0, 1], found {decay}.")
    layers = {name: _LAYER.match(name) for name, _ in encoder.named_parameters()}
    order = {layer: place for place, layer in enumerate(dict.fromkeys(found.group() for found in layers.values() if found), start=1)}
    top, depth, scales = len(order) + 1, 0, {}
    for name, found in layers.items():
        depth = order[found.group()] if found else depth
        between = top if 0 < depth == len(order) and not found else depth
        scales[name] = decay ** (top - between)
    return scales
