"""What the tests of image encoders share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from graphssl.data import ImageBatch


@pytest.fixture(scope="session")
def make_images() -> Callable[..., ImageBatch]:
    """Factory of random images: `make_images(3, 1, 16, 16, seed=0)` has the shape `[3, 1, 16, 16]`."""

    def make(*shape: int, seed: int = 0) -> ImageBatch:
        return ImageBatch(tuple(f"s{k}" for k in range(shape[0])), torch.randn(shape, generator=torch.Generator().manual_seed(seed)))

    return make


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """The module with every weight random, in evaluation mode: a fresh residual block, whose last norm is zero, would hide what it computes."""

    def randomise(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weight in [*module.named_parameters(), *module.named_buffers()]:
                if not weight.is_floating_point():
                    continue
                noise = torch.randn(weight.shape, generator=generator)
                weight.copy_(noise.abs() + 0.5 if "var" in name else weight + 0.3 * noise)
        return module.eval()

    return randomise
