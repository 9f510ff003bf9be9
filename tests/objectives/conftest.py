"""A few simulated scans and images, shared by the tests of this folder."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort, ColumnTokenizer, ConnectomeBatch, ImageBatch, MultimodalBatch, Schema
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.encoders import AbstractEncoder, ResNet, TableTransformer
from graphssl.encoders.fusion import AbstractFusion, Concatenation
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.graphs import ConnectomeBuilder
from graphssl.objectives import AbstractObjective
from graphssl.views import AbstractView, MultiCrop


@pytest.fixture(scope="session")
def scans_of_individuals() -> ConnectomeBatch:
    """Sixteen simulated scans with their time series; each subject differs from the others in how its networks are connected."""
    sites = [SimulatedSite("a", n_timepoints=200, noise=0.3)]
    cohort = simulate([simulated_atlas(20)], n_subjects=16, sites=sites, n_sources=100).cohort
    return ConnectomeBuilder().fit(cohort).transform(cohort, series=True)


@pytest.fixture(scope="session")
def make_images() -> Callable[..., ImageBatch]:
    """Factory of random images: `make_images(3, 1, 16, 16, seed=0)` has the shape `[3, 1, 16, 16]`."""

    def make(*shape: int, seed: int = 0, clip: bool = False) -> ImageBatch:
        images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return ImageBatch(tuple(f"s{k}" for k in range(shape[0])), images, clip=clip)

    return make


@pytest.fixture(scope="session")
def make_resnet() -> Callable[..., ResNet]:
    """Factory of a small residual network for images of one channel."""

    def make(rank: int = 2, **changes: Any) -> ResNet:
        torch.manual_seed(0)
        return ResNet(**{"rank": rank, "width": 4, "blocks": (1, 1), "stem": "small", **changes})

    return make


@pytest.fixture(scope="session")
def two_modalities() -> Callable[..., tuple[Cohort, MultimodalBatch]]:
    """Factory of patients with an image and a table that the same two hidden numbers drive; some may lack either."""

    def make(n: int = 12, seed: int = 0, no_image: Sequence[int] = (), no_table: Sequence[int] = ()) -> tuple[Cohort, MultimodalBatch]:
        rng = np.random.default_rng(seed)
        hidden, ids = rng.standard_normal((n, 2)), [f"p{k}" for k in range(n)]
        table: dict[str, Any] = {f"lab{k}": (1 - k) * hidden[:, k % 2] + 0.2 * rng.standard_normal(n) for k in (0, 2, 3)}
        table |= {"noise": rng.standard_normal(n), "ward": np.where(hidden[:, 1] > 0, "icu", "floor"), "ill": np.where(hidden[:, 0] > 0, "yes", "no")}
        frame = pd.DataFrame(table, index=ids)
        cohort = Cohort("patients", frame, Schema.infer(frame, {"ill": "target"}))
        images = torch.from_numpy(hidden[:, :, None, None] + 0.3 * rng.standard_normal((n, 2, 6, 6))).float()
        with_image, with_table = ([k for k in range(n) if k not in lacking] for lacking in (no_image, no_table))
        rows = ColumnTokenizer(n_pieces=4).fit(cohort).transform(cohort)
        parts = {"image": ImageBatch(tuple(ids[k] for k in with_image), images[with_image]), "table": rows[with_table]}
        return cohort, MultimodalBatch.of(parts, ids)

    return make


@pytest.fixture(scope="session")
def make_multimodal() -> Callable[..., MultimodalEncoder]:
    """Factory of a small encoder of what `two_modalities` makes."""

    def make(fusion: AbstractFusion | None = None, **changes: Any) -> MultimodalEncoder:
        torch.manual_seed(0)
        image = ResNet(in_channels=2, width=4, blocks=(1, 1), stem="small")
        categories = {"ward": ("floor", "icu")}
        table = TableTransformer(16, 1, 2, 0.0, ["lab0", "lab2", "lab3", "noise"], categories, n_pieces=4)
        arguments: dict[str, Any] = {"dropout_modality": 0.0, **changes}
        return MultimodalEncoder({"image": image, "table": table}, fusion or Concatenation(16, dropout=0.0), **arguments)

    return make


@pytest.fixture(scope="session")
def train() -> Callable[..., list[float]]:
    """Factory of a short training on one batch: the loss at every step."""

    def run(
        objective: AbstractObjective, encoder: AbstractEncoder, batch: Any, n_steps: int = 30, rate: float = 3e-3, redraw: bool = True
    ) -> list[float]:
        optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=rate)
        losses = []
        for step in range(n_steps):
            loss = objective(encoder, batch, torch.Generator().manual_seed(step if redraw else 0))
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            objective.after_step(encoder, (step + 1) / n_steps)
            losses.append(loss.total.item())
        return losses

    return run


class Noise(AbstractView):
    """Images with noise on them, or a corner of them."""

    def __init__(self, scale: float = 0.1, size: int | None = None) -> None:
        self.scale, self.size = scale, size

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> torch.Tensor:
        """Noise of every voxel."""
        return self.scale * torch.randn(batch.shape, generator=generator)

    def apply(self, batch: ImageBatch, draw: torch.Tensor) -> ImageBatch:
        """Add it."""
        noisy = (batch.images + draw)[..., : self.size, : self.size]
        return ImageBatch(batch.subject_ids, noisy, clip=batch.clip)


@pytest.fixture(scope="session")
def crops() -> Callable[..., AbstractView]:
    """Factory of views of images that give two noisy ones and corners of them: `crops(n_small=2)`."""
    return lambda n_small=2: MultiCrop(Noise(), Noise(size=4), n_small=n_small)


@pytest.fixture(scope="session")
def noise() -> Callable[..., AbstractView]:
    """Factory of views of images: `noise(scale=0.1, size=None)`, a corner of so many voxels where a size is given."""
    return Noise


@pytest.fixture(scope="session")
def make_patients() -> Callable[..., ImageBatch]:
    """Factory of random images, one a patient: `make_patients(n=6, rank=2, size=8, seed=0)`; volumes have six slices."""

    def make(n: int = 6, rank: int = 2, size: int = 8, seed: int = 0) -> ImageBatch:
        shape = (n, 1, *((6,) if rank == 3 else ()), size, size)
        return ImageBatch(tuple(f"patient-{k}" for k in range(n)), torch.randn(shape, generator=torch.Generator().manual_seed(seed)))

    return make
