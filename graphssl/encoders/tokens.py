"""Atlas-free tokens: a region is known by where it lies and by where in the brain it is connected, never by its row number."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.connectome import ConnectomeBatch

# Half axes and centre in mm of an ellipsoid around the brain in MNI152 space, cerebellum included.
_HALF_AXES_MM = (72.0, 90.0, 72.0)
_CENTRE_MM = (0.0, -17.0, 12.0)
_SPARSE = 1e-2


def spatial_lattice(spacing_mm: float) -> Float[Tensor, "K 3"]:
    """Points of a cubic lattice inside the MNI brain, symmetric about the midline.

    Args:
        spacing_mm: Distance of neighbouring points in mm; 20 gives 245 points, 24 gives 139.
    """
    axes = []
    for half, centre in zip(_HALF_AXES_MM, _CENTRE_MM, strict=True):
        steps = int(half // spacing_mm)
        axes.append(centre + spacing_mm * torch.arange(-steps, steps + 1, dtype=torch.float32))
    points = torch.cartesian_prod(*axes)
    inside = ((points - torch.tensor(_CENTRE_MM)) / torch.tensor(_HALF_AXES_MM)).square().sum(dim=1) <= 1
    return points[inside]


class SpatialBasis(nn.Module):
    """Gaussian neighbourhoods around fixed points of MNI space.

    Args:
        spacing_mm: Distance of neighbouring points in mm; their Gaussians have 0.4 of it as standard deviation, so that neighbours overlap at half
            of their height. Wider ones blur networks into each other.
    """

    points: Tensor

    def __init__(self, spacing_mm: float) -> None:
        super().__init__()
        self.scale_mm = 0.4 * spacing_mm
        self.register_buffer("points", spatial_lattice(spacing_mm), persistent=False)

    def __len__(self) -> int:
        return len(self.points)

    def forward(self, centroids: Float[Tensor, "B R 3"]) -> Float[Tensor, "B R K"]:
        """How much each region belongs to each neighbourhood, 1 at its centre."""
        squared = (centroids.unsqueeze(-2) - self.points).square().sum(dim=-1)
        return torch.exp(-squared / (2 * self.scale_mm**2))


class SpatialTokens(nn.Module):
    """Tokens `[B, R, D]` from connections and coordinates; the same weights serve every atlas.

    The row of connections of a region is averaged over each neighbourhood of a `SpatialBasis`, using visible connections only. A region with no
    visible connection gets a learned vector in place of that profile, so that hidden and missing look alike.

    Args:
        width: Width `D` of the tokens.
        spacing_mm: Spacing of the neighbourhoods in mm.
    """

    def __init__(self, width: int, spacing_mm: float = 20.0) -> None:
        super().__init__()
        self.basis = SpatialBasis(spacing_mm)
        self.profile = nn.Linear(len(self.basis), width)
        self.position = nn.Linear(len(self.basis), width)
        self.unseen = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B R D"]:
        """Tokens of a batch; those of padding are meaningless and masked later."""
        basis = self.basis(batch.centroids) * batch.mask.unsqueeze(-1)  # [B, R, K]
        visible = batch.visible.to(basis.dtype)
        total = torch.matmul(batch.weights, basis)  # [B, R, K]
        count = torch.matmul(visible, basis)
        profile = total / (count + _SPARSE)
        seen = batch.visible.any(dim=-1, keepdim=True)
        return torch.where(seen, self.profile(profile), self.unseen) + self.position(basis)
