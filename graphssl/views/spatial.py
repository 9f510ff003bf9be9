"""Random looks that move voxels: flips, turns, affine maps, crops, and crops made to a size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from graphssl.errors import ConfigError, DataError
from graphssl.views.image import AbstractSpatialView, How, between, check_range

# Along an axis, that a voxel of a smaller image is the mean of.
_MOST_PLACES = 4


@dataclass(frozen=True)
class Flip(AbstractSpatialView):
    """Mirror each axis with probability one half. Give only axes along which what is seen may be mirrored.

    Args:
        axes: Axes of space, counted from the end: -1 is left and right, -2 up and down of images, -3 foot and head of volumes.
        p: Share of the rows that are changed at all.

    Raises:
        ConfigError: If there is none, or one is no axis of space.
    """

    axes: Sequence[int] = (-1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "axes", tuple(self.axes))
        if not self.axes or not set(self.axes) <= {-1, -2, -3}:
            raise ConfigError(f"Expected axes to mirror among -1, -2 and -3, found {self.axes}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Bool[Tensor, "b axes"]]:
        """Which axes are mirrored."""
        return (torch.rand(n, len(self.axes), generator=generator) < 0.5,)

    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *S"]:
        """The mirrored values."""
        for axis in self.axes:
            _check_axis(axis, values)
        result, kinds = torch.empty_like(values), 2 ** torch.arange(len(self.axes), device=values.device)
        kind = (what[0] * kinds).sum(dim=1)
        for number in range(2 ** len(self.axes)):  # mirrored along some axes at once: each row is copied once
            rows = (kind == number).nonzero().flatten()
            axes = [axis for k, axis in enumerate(self.axes) if number >> k & 1]
            if len(rows):
                result.index_copy_(0, rows, values[rows].flip(axes) if axes else values[rows])
        return result


@dataclass(frozen=True)
class Rotate90(AbstractSpatialView):
    """Turn by 0, 90, 180 or 270 degrees in one plane.

    Args:
        plane: The two axes of space, counted from the end.
        p: Share of the rows that are changed at all.

    Raises:
        ConfigError: If they are not two axes of space.
    """

    plane: Sequence[int] = (-2, -1)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "plane", tuple(self.plane))
        if len(set(self.plane)) != 2 or not set(self.plane) <= {-1, -2, -3}:
            raise ConfigError(f"Expected two axes of a plane among -1, -2 and -3, found {self.plane}.")

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor]:
        """Quarter turns `[b]`."""
        return (torch.randint(0, 4, (n,), generator=generator),)

    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *S"]:
        """The turned values.

        Raises:
            DataError: If the plane is not square.
        """
        return rotate90(values, what[0], self.plane)


@dataclass(frozen=True)
class Affine(AbstractSpatialView):
    """Turn by a small angle, scale, shear and move, in one interpolation. Beyond the border the nearest voxel is repeated.

    Args:
        degrees: Largest angle, in every plane, or one of each plane of volumes: rows and columns, slices and columns, slices and rows.
        scale: Lowest and highest factor, 1 leaves the size; the same along all axes.
        shear: Largest shear: how far a row moves for each row it lies away from the centre.
        shift: Largest move, as a share of each axis.
        p: Share of the rows that are changed.

    Raises:
        ConfigError: If a range is out of order.
    """

    degrees: float | Sequence[float] = 10.0
    scale: Sequence[float] = (0.9, 1.1)
    shear: float = 0.0
    shift: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("scale", self.scale, 0.05, 20.0)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Angles `[b, planes]`, factors `[b]`, shears `[b, rank, rank]` and moves `[b, rank]` in shares of the axes.

        Raises:
            ConfigError: If there is another number of angles than of planes.
        """
        planes = list(combinations(range(rank), 2))
        largest = [float(self.degrees)] * len(planes) if isinstance(self.degrees, (int, float)) else [float(angle) for angle in self.degrees]
        if len(largest) != len(planes):
            raise ConfigError(f"Expected an angle for each of {len(planes)} planes of space, found {largest}.")
        angles = between(-1.0, 1.0, (n, len(planes)), generator) * torch.tensor(largest) * (math.pi / 180.0)
        factors = between(self.scale[0], self.scale[1], (n,), generator)
        shears = between(-self.shear, self.shear, (n, rank, rank), generator).triu(diagonal=1)
        return angles, factors, shears, between(-self.shift, self.shift, (n, rank), generator)

    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *S"]:
        """The values at their new places."""
        angles, factors, shears, shifts = what
        size = torch.tensor(values.shape[2:], device=values.device, dtype=torch.float32)
        return resample(values, affine_matrices(angles, factors, shears), shifts * size, values.shape[2:], how)


@dataclass(frozen=True)
class Crop(AbstractSpatialView):
    """Cut a patch of one size out of anywhere.

    Args:
        size: Voxels of the patch along each axis of space, or one number for all.

    Raises:
        ConfigError: If only a share of the rows is to be cut: all rows of a batch have one size.
    """

    size: int | Sequence[int] = 96

    def __post_init__(self) -> None:
        super().__post_init__()
        check_all_rows(self.p)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Float[Tensor, "b rank"]]:
        """Where the patch begins, as a share of the room there is."""
        return (torch.rand(n, rank, generator=generator),)

    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *T"]:
        """The patches.

        Raises:
            DataError: If images are smaller than the patch.
        """
        size = sizes(self.size, values.dim() - 2)
        room = room_for(values, size)
        return cut(values, torch.minimum((what[0] * (room + 1)).long(), room), size)


@dataclass(frozen=True)
class ResizedCrop(AbstractSpatialView):
    """Cut a box of random size and shape out of anywhere and interpolate it to one size, as the Inception networks did (Szegedy et al., CVPR 2015).

    Where images have a multiple of the result's voxels along an axis, each voxel is the mean of as many places, so that what is fine does not turn
    into what is coarse.

    Args:
        size: Voxels of the result along each axis of space, or one number for all.
        scale: Lowest and highest share of the area or volume that is cut out.
        ratio: Lowest and highest ratio of the box's height and width (and of depth and width), relative to those of the image.

    Raises:
        ConfigError: If a range is out of order, or only a share of the rows is to be cut.
    """

    size: int | Sequence[int] = 96
    scale: Sequence[float] = (0.2, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_all_rows(self.p)
        check_range("scale", self.scale, 1e-4, 1.0)
        check_range("ratio", self.ratio, 1e-2, 1e2)

    def draw_rows(self, n: int, rank: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Extent of the box `[b, rank]` and where it begins `[b, rank]`, in shares of the axes."""
        content = between(self.scale[0], self.scale[1], (n, 1), generator)
        shape = between(math.log(self.ratio[0]), math.log(self.ratio[1]), (n, rank), generator)
        shape[:, -1] = 0.0
        extent = (content ** (1.0 / rank) * (shape - shape.mean(dim=1, keepdim=True)).exp()).clamp(max=1.0)
        return extent, torch.rand(n, rank, generator=generator) * (1.0 - extent)

    def move(self, values: Float[Tensor, "b K *S"], what: tuple[Tensor, ...], how: How) -> Float[Tensor, "b K *T"]:
        """The boxes at one size."""
        extent, start = what
        shape = torch.tensor(values.shape[2:], device=values.device, dtype=torch.float32)
        size = sizes(self.size, values.dim() - 2)
        places = [1 if how == "nearest" else min(max(n // wanted, 1), _MOST_PLACES) for n, wanted in zip(values.shape[2:], size, strict=True)]
        fine = [wanted * n for wanted, n in zip(size, places, strict=True)]
        scale = extent * shape / torch.tensor(fine, device=values.device)
        found = resample(values, torch.diag_embed(scale), (start + extent / 2 - 0.5) * shape, fine, how)
        return found if max(places) == 1 else F.interpolate(found, size, mode="area")


def rotate90(values: Float[Tensor, "b K *S"], turns: Tensor, plane: Sequence[int] = (-2, -1)) -> Float[Tensor, "b K *S"]:
    """Each row turned by a number of quarter turns, from the first axis of the plane towards the second.

    Raises:
        DataError: If the plane is not square, or an axis is none of space.
    """
    for axis in plane:
        _check_axis(axis, values)
    if values.shape[plane[0]] != values.shape[plane[1]]:
        raise DataError(
            f"Expected a square plane to turn by 90 degrees, found {values.shape[plane[0]]} × {values.shape[plane[1]]} voxels. "
            "Give the builder a size that is the same along both axes, or turn in another plane."
        )
    result = torch.empty_like(values)
    for turn in range(4):
        rows = (turns % 4 == turn).nonzero().flatten()
        if len(rows):
            result.index_copy_(0, rows, values[rows].rot90(turn, tuple(plane)))
    return result


def room_for(values: Float[Tensor, "b K *S"], size: Sequence[int]) -> Tensor:
    """How far a patch can move along each axis, in voxels `[rank]`.

    Raises:
        DataError: If images are smaller than the patch.
    """
    room = [n - wanted for n, wanted in zip(values.shape[2:], size, strict=True)]
    if min(room) < 0:
        shape = " × ".join(map(str, values.shape[2:]))
        raise DataError(
            f"Expected images of at least {' × '.join(map(str, size))} voxels to cut a patch of that size, found {shape}. "
            "Take a smaller patch, or give the builder a larger size: it pads what is smaller."
        )
    return torch.tensor(room, device=values.device)


def cut(values: Float[Tensor, "b K *S"], start: Tensor, size: Sequence[int]) -> Float[Tensor, "b K *T"]:
    """A box of each row, all of one size, beginning at places `[b, rank]`."""
    rank = len(size)
    places: list[Tensor] = [torch.arange(len(values), device=values.device).view(-1, *(1,) * rank)]
    for axis, n in enumerate(size):
        along = torch.arange(n, device=values.device).view(1, *(-1 if k == axis else 1 for k in range(rank)))
        places.append(start[:, axis].view(-1, *(1,) * rank) + along)
    return values.movedim(1, -1)[tuple(places)].movedim(-1, 1)


def affine_matrices(angles: Tensor, factors: Tensor, shears: Tensor) -> Float[Tensor, "b rank rank"]:
    """Maps from places in the result to places in the image, in voxels from the centre: shear, then turn, then scale.

    Args:
        angles: Angle in each plane of two axes, in the order of the axes `[b, planes]`.
        factors: How much larger the result shows the image `[b]`.
        shears: What is added to the unit matrix `[b, rank, rank]`.
    """
    n, rank = len(factors), shears.shape[-1]
    matrix = torch.eye(rank, device=factors.device).expand(n, -1, -1) + shears
    for (i, j), angle in zip(combinations(range(rank), 2), angles.T, strict=True):
        turn = torch.eye(rank, device=factors.device).repeat(n, 1, 1)
        turn[:, i, i], turn[:, j, j] = angle.cos(), angle.cos()
        turn[:, i, j], turn[:, j, i] = -angle.sin(), angle.sin()
        matrix = turn @ matrix
    return matrix / factors.view(-1, 1, 1)


def resample(
    values: Float[Tensor, "b K *S"], matrices: Float[Tensor, "b rank rank"], shift: Float[Tensor, "b rank"], size: Sequence[int], how: How
) -> Float[Tensor, "b K *T"]:
    """Values at the places `matrix @ place + shift`, counted in voxels from the centres of result and image; the border is repeated beyond it.

    Args:
        values: Images.
        matrices: From voxels of the result to voxels of the image, axes in the order of the tensor.
        shift: In voxels of the image.
        size: Voxels of the result.
        how: Linear interpolation, or the nearest voxel.
    """
    device = values.device
    source = torch.tensor(values.shape[2:], device=device, dtype=torch.float32)
    result = torch.tensor(tuple(size), device=device, dtype=torch.float32)
    unit = matrices * result.view(1, 1, -1) / source.view(1, -1, 1)
    grid = _grid(unit, 2.0 * shift / source, size)
    return F.grid_sample(values, grid.to(values.dtype), mode="bilinear" if how == "linear" else "nearest", padding_mode="border", align_corners=False)


def sizes(size: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """A size along each axis of space.

    Raises:
        ConfigError: If there is another number of sizes.
    """
    given = (size,) * rank if isinstance(size, int) else tuple(size)
    if len(given) != rank:
        raise ConfigError(f"Expected a size along {rank} axes of space, found {given}.")
    return given


def check_all_rows(p: float) -> None:
    """Check that all rows are cut, since all rows of a batch have one size.

    Raises:
        ConfigError: If only a share of them is.
    """
    if p < 1.0:
        raise ConfigError(f"Expected every row to be cut to one size (p=1), found p={p}.")


def _grid(matrices: Tensor, shift: Tensor, size: Sequence[int]) -> Float[Tensor, "b *T rank"]:
    """Places as `grid_sample` takes them, from -1 to 1 along each axis and the last axis first: `affine_grid` by sums along axes, much faster.

    Args:
        matrices: From places in the result to places in the image, both from -1 to 1, axes in the order of the tensor.
        shift: Likewise.
        size: Voxels of the result.
    """
    n, rank = shift.shape
    grid = matrices.new_empty(n, *size, rank)
    for axis in range(rank):
        total = shift[:, axis].view(n, *(1,) * rank)
        for along, length in enumerate(size):
            places = (2.0 * torch.arange(length, device=shift.device) + 1.0) / length - 1.0
            part = (matrices[:, axis, along, None] * places).view(n, *(length if k == along else 1 for k in range(rank)))
            total = torch.add(total, part, out=grid[..., rank - 1 - axis]) if along == rank - 1 else total + part
    return grid


def _check_axis(axis: int, values: Tensor) -> None:
    if -axis > values.dim() - 2:
        raise DataError(f"Expected volumes for axis {axis}, found images of {values.dim() - 2} axes of space. Leave it out.")
