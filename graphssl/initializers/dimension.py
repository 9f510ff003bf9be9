"""From two dimensions to three: images as small volumes, and kernels of images as kernels of volumes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.images.resnet import ResNet
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.views.base import AbstractView

DimensionMode = Literal["channel_as_depth", "repeat", "multi_view"]
Inflation = Literal["mean", "centre", "acs"]


@dataclass(frozen=True)
class VariableDimension(AbstractView):
    """An image as a volume of one channel, so that 2D images train a 3D network (Zhang et al., 2022, arXiv 2201.01426).

    - `"channel_as_depth"`: the colour channels become slices, in a random order for each image, so that no slice has a meaning of its own;
    - `"repeat"`: the one channel of a gray image is every slice;
    - `"multi_view"`: every slice of a gray image has another contrast, in a random order; for lack of colours, and no part of the publication.

    Pre-train with `ResNet(rank=3, depth_stride=False)`, in which the few slices live to the end.

    Args:
        mode: What the slices are.
        n_slices: Slices of the volume, for `"repeat"` and `"multi_view"`.
        gamma: Largest change of contrast of `"multi_view"`: exponents lie evenly on the logarithmic scale from its inverse to it.

    Raises:
        ConfigError: If the mode is unknown, or slices or gamma are too few or small.
    """

    mode: DimensionMode = "channel_as_depth"
    n_slices: int = 3
    gamma: float = 2.0

    def __post_init__(self) -> None:
        if self.mode not in ("channel_as_depth", "repeat", "multi_view"):
            raise ConfigError(f"Expected the mode 'channel_as_depth', 'repeat' or 'multi_view', found {self.mode!r}.")
        if self.n_slices < 1 or self.gamma < 1:
            raise ConfigError(f"Expected n_slices ≥ 1 and gamma ≥ 1, found {self.n_slices} and {self.gamma}.")

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Tensor:
        """The order of slices of each image `[B, D]`."""
        n_rows, n_channels = batch.shape[:2]
        n_slices = n_channels if self.mode == "channel_as_depth" else self.n_slices
        return torch.rand(n_rows, n_slices, generator=generator).argsort(dim=1)

    def apply(self, batch: ImageBatch, draw: Tensor) -> ImageBatch:
        """The images as volumes.

        Raises:
            DataError: If they are no images, or have several channels where slices are made of one.
        """
        images = batch.images
        if images.ndim != 4 or (self.mode != "channel_as_depth" and images.shape[1] != 1):
            channels = "C" if self.mode == "channel_as_depth" else "1"
            raise DataError(f"Expected images [B, {channels}, H, W] for the mode {self.mode!r}, found {list(images.shape)}. Take another mode.")
        slices = self._slices(images)
        order = draw.to(images.device)[:, :, None, None].expand_as(slices)
        n = slices.shape[1]
        masks = batch.masks_later(lambda masks: masks.unsqueeze(1).expand(-1, n, -1, -1))
        visible = None if batch.visible is None else batch.visible.unsqueeze(1).expand(-1, n, -1, -1)
        return batch.changed(images=slices.gather(1, order).unsqueeze(1), masks=masks, visible=visible)

    def _slices(self, images: Tensor) -> Float[Tensor, "B D H W"]:
        if self.mode == "channel_as_depth":
            return images
        slices = images.expand(-1, self.n_slices, -1, -1)
        if self.mode == "repeat":
            return slices
        exponents = self.gamma ** torch.linspace(-1, 1, self.n_slices, device=images.device) if self.n_slices > 1 else images.new_ones(1)
        low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
        spread = (high - low).clamp(min=1e-6)
        return ((slices - low) / spread).clamp(0, 1) ** exponents[:, None, None] * spread + low


def inflated(network: ResNet, how: Inflation = "mean", in_channels: int | None = None) -> ResNet:
    """A 3D network of the size and with the weights of a 2D one.

    Args:
        network: The 2D network; it is left as it is.
        how: What each kernel becomes, see `inflated_kernel`.
        in_channels: Channels of the volumes; those of the images when left out.

    Raises:
        ConfigError: If it is 3D already, or the variant is unknown.
        CheckpointError: If the channels cannot be made of those there are.
    """
    if network.rank != 2:
        raise ConfigError("Expected a network of rank 2 to inflate, found one of rank 3. Load its weights as they are.")
    volumes = ResNet(**{**network.arguments(), "rank": 3, "in_channels": in_channels or network.in_channels})
    initialise_from_2d(volumes, network.state_dict(), how)
    return volumes.train(network.training)


def initialise_from_2d(
    network: nn.Module, weights: Mapping[str, Tensor], how: Inflation = "mean", leave_out: tuple[str, ...] = ("fc.", "head.")
) -> None:
    """Load the weights of a 2D network into a 3D one, in place: all of them, or none and an error.

    Weights are found by name. Kernels of images become kernels of volumes, and the channels of the first one are made those of the network.

    Args:
        network: The network; also one of rank 2, for images of other channels.
        weights: The weights, such as those of torchvision for a `ResNet`.
        how: What each kernel becomes, see `inflated_kernel`.
        leave_out: Beginnings of the names that are not for an encoder: the classifier.

    Raises:
        CheckpointError: If weights are missing or left over, or do not fit in size or channels.
        ConfigError: If the variant is unknown.
    """
    given = {name: weight for name, weight in weights.items() if not name.startswith(leave_out)}
    wanted = network.state_dict()
    missing, strange = [name for name in wanted if name not in given], [name for name in given if name not in wanted]
    if missing or strange:
        raise CheckpointError(
            f"Expected weights of every part of {type(network).__name__} and of no other, found none of {missing[:3]} and, in excess, {strange[:3]}. "
            "Take a checkpoint of the same kind and size, or name what is no part of the encoder in leave_out."
        )
    first = next((name for name, weight in wanted.items() if weight.ndim > 2), None)
    fitting = {name: _fitted(name, given[name], target, how, is_first=name == first) for name, target in wanted.items()}
    network.load_state_dict(fitting)


def inflated_kernel(kernel: Float[Tensor, "O I H W"], depth: int, how: Inflation = "mean") -> Float[Tensor, "O I D H W"]:
    """A kernel of images as one of volumes.

    - `"mean"`: the same in every slice, divided by their number: a volume whose slices are all the same gives what the image did (I3D,
      Carreira & Zisserman, CVPR 2017);
    - `"centre"`: in the middle slice alone, so that each slice of a volume gives what it did as an image;
    - `"acs"`: a third of the output channels look at axial planes, a third at coronal and a third at sagittal ones (Yang et al., IEEE JBHI 2021).

    Args:
        kernel: The kernel.
        depth: Its voxels along depth.
        how: The variant.

    Raises:
        ConfigError: If the variant is unknown.
        CheckpointError: If planes are to lie along three axes and the kernel is no cube.
    """
    if how not in ("mean", "centre", "acs"):
        raise ConfigError(f"Expected the inflation 'mean', 'centre' or 'acs', found {how!r}.")
    if how == "mean":
        return kernel.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    volume = kernel.new_zeros(*kernel.shape[:2], depth, *kernel.shape[2:])
    if how == "centre":
        volume[:, :, depth // 2] = kernel
        return volume
    if not depth == kernel.shape[2] == kernel.shape[3]:
        raise CheckpointError(
            f"Expected kernels as deep as high and wide for 'acs', found {depth} × {list(kernel.shape[2:])}. Take 'mean' or 'centre'."
        )
    middle = depth // 2
    axial, coronal, sagittal = torch.arange(len(kernel), device=kernel.device).tensor_split(3)
    volume[axial, :, middle] = kernel[axial]
    volume[coronal, :, :, middle] = kernel[coronal]
    volume[sagittal, :, :, :, middle] = kernel[sagittal]
    return volume


def with_channels(kernel: Float[Tensor, "O I *K"], in_channels: int) -> Float[Tensor, "O C *K"]:
    """The first kernel for images of other channels: a gray image gives what it gave as a colour image of three alike, and the reverse.

    Args:
        kernel: The kernel.
        in_channels: Channels that it is to take.

    Raises:
        CheckpointError: If neither has one channel and they differ.
    """
    found = kernel.shape[1]
    if found == in_channels:
        return kernel
    if in_channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    if found == 1:
        return kernel.expand(-1, in_channels, *kernel.shape[2:]) / in_channels
    raise CheckpointError(
        f"Expected a first kernel of {in_channels} channels, or of one to spread over them, found {found}. "
        "Make the network for that number of channels, or for one."
    )


def _fitted(name: str, weight: Tensor, target: Tensor, how: Inflation, *, is_first: bool) -> Tensor:
    if is_first:
        weight = with_channels(weight, target.shape[1])
    if weight.ndim == 4 and target.ndim == 5:
        weight = inflated_kernel(weight, target.shape[2], how)
    if weight.shape != target.shape:
        raise CheckpointError(f"Expected {name} of shape {list(target.shape)}, found {list(weight.shape)}. Take a checkpoint of the same size.")
    return weight
