"""Colour spaces on whole batches of images: optical densities of stains, CIELAB and HSV, and back."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

ColourSpace = Literal["LAB", "HSV", "HED"]

# Optical density of haematoxylin, eosin and DAB in red, green and blue (Ruifrok & Johnston, 2001).
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
# sRGB to CIE XYZ, and the white of daylight (D65).
_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)
_LEVELS = 256.0
_EDGE = 6.0 / 29.0


def stain_matrix(like: Tensor) -> Float[Tensor, "3 3"]:
    """Optical density of each stain, rows of unit length."""
    rows = torch.tensor(_STAINS, device=like.device, dtype=like.dtype)
    return rows / rows.norm(dim=1, keepdim=True)


def to_space(images: Float[Tensor, "B 3 H W"], space: ColourSpace) -> Float[Tensor, "B 3 H W"]:
    """Red, green and blue in [0, 1] as lightness and two colours (LAB), hue, saturation and value in [0, 1] (HSV), or amounts of stains (HED)."""
    return {"LAB": _to_lab, "HSV": _to_hsv, "HED": _to_stains}[space](images)


def from_space(values: Float[Tensor, "B 3 H W"], space: ColourSpace) -> Float[Tensor, "B 3 H W"]:
    """The inverse of `to_space`; what no screen shows is cut off to [0, 1]."""
    return {"LAB": _from_lab, "HSV": _from_hsv, "HED": _from_stains}[space](values).clamp(0.0, 1.0)


def _to_stains(images: Tensor) -> Tensor:
    density = -((images * (_LEVELS - 1.0) + 1.0) / _LEVELS).log()
    return _mapped(density, stain_matrix(images).inverse().mT)


def _from_stains(amounts: Tensor) -> Tensor:
    density = _mapped(amounts, stain_matrix(amounts).mT)
    return ((-density).exp() * _LEVELS - 1.0) / (_LEVELS - 1.0)


def _to_lab(images: Tensor) -> Tensor:
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).clamp(min=0.0).pow(2.4), images / 12.92)
    xyz = _mapped(linear, torch.tensor(_XYZ).to(images)) / _white(images)
    f = torch.where(xyz > _EDGE**3, xyz.clamp(min=1e-12).pow(1.0 / 3.0), xyz / (3.0 * _EDGE**2) + 4.0 / 29.0)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], dim=1)


def _from_lab(lab: Tensor) -> Tensor:
    lightness, a, b = lab.unbind(dim=1)
    y = (lightness + 16.0) / 116.0
    f = torch.stack([y + a / 500.0, y, y - b / 200.0], dim=1)
    xyz = torch.where(f > _EDGE, f.pow(3), 3.0 * _EDGE**2 * (f - 4.0 / 29.0)) * _white(lab)
    linear = _mapped(xyz, torch.tensor(_XYZ).inverse().to(lab))
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=1e-12).pow(1.0 / 2.4) - 0.055, 12.92 * linear)


def _to_hsv(images: Tensor) -> Tensor:
    high, which = images.max(dim=1)
    range_ = high - images.amin(dim=1)
    safe = torch.where(range_ > 0, range_, 1.0)
    red, green, blue = images.unbind(dim=1)
    turns = torch.stack([(green - blue) / safe, (blue - red) / safe + 2.0, (red - green) / safe + 4.0], dim=1)
    hue = (turns.gather(1, which.unsqueeze(1)).squeeze(1) / 6.0) % 1.0
    return torch.stack([torch.where(range_ > 0, hue, 0.0), range_ / torch.where(high > 0, high, 1.0), high], dim=1)


def _from_hsv(hsv: Tensor) -> Tensor:
    hue, saturation, value = hsv[:, 0] % 1.0, hsv[:, 1].clamp(0.0, 1.0), hsv[:, 2].clamp(0.0, 1.0)
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (offset + hue * 6.0) % 6.0
        channels.append(value - value * saturation * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
    return torch.stack(channels, dim=1)


def _mapped(images: Tensor, matrix: Tensor) -> Tensor:
    """Channels through a matrix."""
    return torch.einsum("ij,bjhw->bihw", matrix, images)


def _white(like: Tensor) -> Tensor:
    return torch.tensor(_WHITE).to(like).view(1, 3, 1, 1)
