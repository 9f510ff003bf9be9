"""Views of volumes: ours on a whole batch against MONAI's random transforms, one volume after the other; and what loading costs a step.

Both draw for themselves, in the same ranges, and every volume is changed by every view, over a few minibatches. That both do the same is checked
with MONAI's transforms that are not random: they are given what ours drew (matrices, axes, powers, widths) and must make the same volumes; noise is
compared by its spread. The floor is a copy of the volumes. Then a ResNet-18 of a quarter of its width, whose steps are short, is trained on volumes
in compressed NIfTI files and on the same volumes in memory, for a first epoch, in which every file is opened, and for one more, in which prepared
volumes are at hand.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import monai.transforms as peer
import nibabel
import numpy as np
import torch
from measure.cases import Bare, Case, Peer, main
from measure.records import Agreement, Goal
from torch import Tensor

from graphssl.data import ImageBatch, ImageBuilder
from graphssl.datasets import load_images
from graphssl.encoders import ResNet
from graphssl.training.batches import Minibatches
from graphssl.views import AbstractView, Affine, Blur, Compose, Flip, Gamma, ImageNoise, Rotate90
from graphssl.views.spatial import affine_matrices

N_MINIBATCHES, N_ROWS = 4, 8
NAME = "MONAI, one at a time"
TOLERANCE = 5e-3
VIEWS: dict[str, AbstractView] = {
    "affine": Affine(15.0, scale=(0.9, 1.1), shift=0.05),
    "flip": Flip((-1, -2, -3)),
    "rotate90": Rotate90(),
    "gamma": Gamma((0.7, 1.5)),
    "blur": Blur((1.0, 1.5)),
    "noise": ImageNoise((0.1, 0.1)),
}


def volumes(n: int, size: int) -> ImageBatch:
    """Smooth volumes with a grain, as scans have them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(n, 1, 8, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (size,) * 3, mode="trilinear") + 0.1 * torch.randn(n, 1, size, size, size, generator=generator)
    return ImageBatch(tuple(f"s{k}" for k in range(n)), images)


def ours(names: Sequence[str], batch: ImageBatch) -> Callable[[], object]:
    view = Compose([VIEWS[name] for name in names])

    def work() -> None:
        for seed in range(N_MINIBATCHES):
            view(batch, torch.Generator().manual_seed(seed))

    return work


def monai(names: Sequence[str], batch: ImageBatch) -> Callable[[], object]:
    transform = peer.Compose([random_peer(name, batch.shape[2]) for name in names])

    def work() -> None:
        for _ in range(N_MINIBATCHES):
            torch.stack([transform(image).as_tensor() for image in batch.images])

    return work


def copies(batch: ImageBatch, device: str) -> Callable[[], object]:
    images = batch.images.to(device)

    def work() -> None:
        for _ in range(N_MINIBATCHES):
            images.clone()

    return work


def random_peer(name: str, size: int) -> Any:
    """MONAI's random transform of the same ranges, of every volume."""
    angle, shift = np.deg2rad(15.0), 0.05 * size
    known = {
        "affine": lambda: peer.RandAffine(1.0, (angle,) * 3, None, (shift,) * 3, ((-0.1, 0.1),) * 3, padding_mode="border"),
        "flip": lambda: peer.RandAxisFlip(1.0),
        "rotate90": lambda: peer.RandRotate90(1.0, spatial_axes=(1, 2)),
        "gamma": lambda: peer.RandAdjustContrast(1.0, (0.7, 1.5)),
        "blur": lambda: peer.RandGaussianSmooth(*((1.0, 1.5),) * 3, prob=1.0),
        "noise": lambda: peer.RandGaussianNoise(1.0, std=0.1, sample_std=False),
    }
    return known[name]()


def check(names: Sequence[str], batch: ImageBatch) -> dict[str, Agreement]:
    """Every view by itself, given the same draws."""
    return {NAME: Agreement("same draws, away from the border for the blur", max(difference(name, batch) for name in names), TOLERANCE)}


def difference(name: str, batch: ImageBatch) -> float:
    """Largest difference from a transform that is not random; of noise that of its spread from the one asked for."""
    view = VIEWS[name]
    drawn = view.draw(batch, torch.Generator().manual_seed(1))
    mine = view.apply(batch, drawn).images
    if name == "noise":
        spread = (mine - batch.images).flatten(start_dim=1).std(dim=1) / batch.images.flatten(start_dim=1).std(dim=1)
        return float((spread - 0.1).abs().max())
    theirs = torch.stack([fixed_peer(name, drawn.what, row, batch.shape[2:])(image).as_tensor() for row, image in enumerate(batch.images)])
    edge = 6 if name == "blur" else 0  # which the peer darkens
    inner = (..., *(slice(edge, n - edge) for n in batch.shape[2:]))
    return float((mine[inner] - theirs[inner]).abs().max())


def fixed_peer(name: str, what: tuple[Tensor, ...], row: int, size: tuple[int, ...]) -> Any:
    """MONAI's transform of one row with what ours drew."""
    if name == "affine":
        matrix = torch.eye(4)
        matrix[:3, :3] = affine_matrices(*(drawn[[row]] for drawn in what[:3]))[0]
        matrix[:3, 3] = what[3][row] * torch.tensor(size)
        return peer.Affine(affine=matrix, padding_mode="border", image_only=True)
    if name == "flip":
        return peer.Flip([axis + 3 for axis, mirrored in zip((-1, -2, -3), what[0][row].tolist(), strict=True) if mirrored])
    if name == "rotate90":
        return peer.Rotate90(int(what[0][row]), (1, 2))
    return peer.AdjustContrast(float(what[0][row])) if name == "gamma" else peer.GaussianSmooth(float(what[0][row]), approx="sampled")


# Loading


class Files(NamedTuple):
    """Volumes in compressed NIfTI files, and the same in memory."""

    folder: tempfile.TemporaryDirectory[str]
    prepared: ImageBatch


def files(n: int, size: int) -> Files:
    folder = tempfile.TemporaryDirectory()
    for row, image in enumerate(volumes(n, size).images):
        nibabel.save(nibabel.Nifti1Image((100 * image[0]).numpy().astype(np.int16), np.eye(4)), Path(folder.name) / f"{row}.nii.gz")
    return Files(folder, ImageBatch(tuple(f"{row}" for row in range(n)), from_files(folder.name)[list(range(n))].to("cpu").images))


def from_files(folder: str) -> ImageBatch:
    cohort = load_images(folder)
    return ImageBuilder(n_fitted=1).fit(cohort).transform(cohort)


def epoch_from_files(given: Files) -> Callable[[], object]:
    return epoch(from_files(given.folder.name))


def epoch_in_memory(given: Files) -> Callable[[], object]:
    return epoch(given.prepared)


def epoch(batch: ImageBatch) -> Callable[[], list[float]]:
    """Steps of all minibatches; gives their losses."""
    torch.manual_seed(0)
    encoder, view = ResNet(rank=3, width=16), Compose([view for name, view in VIEWS.items() if name != "rotate90"])
    optimiser = torch.optim.AdamW(encoder.parameters())

    def work() -> list[float]:
        generator, losses = torch.Generator().manual_seed(0), []
        for rows in Minibatches(batch.subject_ids, 8):
            part = batch[rows].to("cpu")
            loss = (encoder(view(part, generator)).pooled - encoder(view(part, generator)).pooled).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        return losses

    return work


def same_losses(given: Files) -> dict[str, Agreement]:
    mine, theirs = epoch_from_files(given)(), epoch_in_memory(given)()
    gap = max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / max(map(abs, theirs))
    return {"in memory": Agreement("losses of an epoch", gap, 1e-4)}


def views_case(names: Sequence[str], what: str, sizes: Sequence[int], n_rows: int = N_ROWS) -> Case:
    return Case(
        f"{what}, {n_rows} × {{}}³",
        sizes=sizes,
        smoke=(16, 20),
        inputs=partial(volumes, n_rows),
        ours=partial(ours, names),
        peers=[Peer(NAME, partial(monai, names), Goal(ratio=2) if len(names) > 1 else None)],
        check=partial(check, names),
        floor=Bare("copies", copies),
        unit="voxels an edge",
    )


def loading_case(what: str, *, warm: bool) -> Case:
    return Case(
        f"{what} of a narrow ResNet-18 from files, 16 × {{}}³",
        sizes=(48,),
        smoke=(16,),
        inputs=partial(files, 16),
        ours=epoch_from_files,
        peers=[Peer("in memory", epoch_in_memory)],
        check=same_losses,
        warm=warm,
    )


CASES = [
    views_case(list(VIEWS), "all six views", (24, 48, 96)),
    views_case(list(VIEWS), "all six views", (28,), n_rows=32),
    *(views_case([name], f"view `{name}`", (48,)) for name in VIEWS),
    loading_case("first epoch", warm=False),
    loading_case("next epoch", warm=True),
]

if __name__ == "__main__":
    main(__doc__, CASES)
