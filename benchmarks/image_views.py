"""Views of volumes: ours on a whole batch against MONAI's random transforms, one volume after the other; and what loading costs a step.

Both draw for themselves, in the same ranges, and every volume is changed by every view. That both do the same is checked beforehand: MONAI's
transforms that are not random are given what ours drew (matrices, axes, powers, widths) and must make the same volumes; noise is compared by its
spread. Each measurement runs in a process of its own, over a few minibatches: its CPU seconds (one thread) and the memory it took on top are counted
there. The median of the repeats counts. Then volumes are trained on from compressed NIfTI files, and the share of decoding and preparing in the time
of a step is printed, for the first epoch, in which every file is opened, and for the next, in which prepared volumes are at hand.

With `--json` the last line is the record of all views one after another, with one record a view in `parts`.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before numpy and torch are loaded

import monai.transforms as peer
import nibabel
import numpy as np
import torch
from measure.forked import measure
from measure.records import record, report
from torch import Tensor

from graphssl.data import ImageBatch, ImageBuilder
from graphssl.datasets import load_images
from graphssl.encoders import ResNet
from graphssl.training.batches import Minibatches
from graphssl.views import AbstractView, Affine, Blur, Compose, Flip, Gamma, ImageNoise, Rotate90
from graphssl.views.spatial import affine_matrices

PEER = "MONAI, one at a time"
_MINIBATCHES = 4
VIEWS: dict[str, AbstractView] = {
    "affine": Affine(15.0, scale=(0.9, 1.1), shift=0.05),
    "flip": Flip((-1, -2, -3)),
    "rotate90": Rotate90(),
    "gamma": Gamma((0.7, 1.5)),
    "blur": Blur((1.0, 1.5)),
    "noise": ImageNoise((0.1, 0.1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=16)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch = volumes(arguments.volumes, arguments.size)
    equal = {name: same(name, view, batch) for name, view in VIEWS.items()}
    peers = {name: random_peer(name, arguments.size) for name in VIEWS}
    parts = [compare(name, view, peers[name], batch, arguments.repeats, equal[name]) for name, view in VIEWS.items()]
    everything = Compose(list(VIEWS.values())), peer.Compose(list(peers.values()))
    total = compare("image_views", *everything, batch, arguments.repeats, all(equal.values()))
    for part in (*parts, total):
        report(part)
    for epoch, share in enumerate(loading_share(arguments.volumes, arguments.size), start=1):
        print(f"loading in epoch {epoch}: {share:.1%} of a step")
    if arguments.json:
        print(json.dumps({**total, "parts": parts}))


def volumes(n: int, size: int) -> ImageBatch:
    """Smooth volumes with a grain, as scans have them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(n, 1, 8, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (size,) * 3, mode="trilinear") + 0.1 * torch.randn(n, 1, size, size, size, generator=generator)
    return ImageBatch(tuple(f"s{k}" for k in range(n)), images)


def compare(name: str, view: AbstractView, theirs: Any, batch: ImageBatch, repeats: int, equal: bool) -> dict[str, object]:
    """Ours and the peer in alternation, each over a few minibatches."""

    def ours() -> None:
        for seed in range(_MINIBATCHES):
            view(batch, torch.Generator().manual_seed(seed))

    def one_by_one() -> None:
        for _ in range(_MINIBATCHES):
            torch.stack([theirs(image).as_tensor() for image in batch.images])

    costs: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for _ in range(repeats):
        for side, function in zip(costs, (ours, one_by_one), strict=True):
            _, seconds, mib = measure(function)
            side.append((seconds, mib))
    return record(name, PEER, *costs, equal)


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


def same(name: str, view: AbstractView, batch: ImageBatch) -> bool:
    """Whether both make the same volumes of the same draws; away from the border for the blur, which the peer darkens there."""
    drawn = view.draw(batch, torch.Generator().manual_seed(1))
    mine = view.apply(batch, drawn).images
    if name == "noise":
        spread = (mine - batch.images).flatten(start_dim=1).std(dim=1) / batch.images.flatten(start_dim=1).std(dim=1)
        return bool(((spread - 0.1).abs() < 0.005).all())
    theirs = torch.stack([fixed_peer(name, drawn.what, row, batch.shape[2:])(image).as_tensor() for row, image in enumerate(batch.images)])
    edge = 6 if name == "blur" else 0
    inner = (..., *(slice(edge, n - edge) for n in batch.shape[2:]))
    return bool(torch.allclose(mine[inner], theirs[inner], atol=2e-3))


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


def loading_share(n: int, size: int) -> list[float]:
    """Share of decoding and preparing in the time of a training step, epoch by epoch."""
    with tempfile.TemporaryDirectory() as folder:
        for row, image in enumerate(volumes(n, size).images):
            nibabel.save(nibabel.Nifti1Image((100 * image[0]).numpy().astype(np.int16), np.eye(4)), Path(folder) / f"{row}.nii.gz")
        cohort = load_images(folder)
        batch = ImageBuilder(n_fitted=1).fit(cohort).transform(cohort)
        encoder, view = ResNet(rank=3), Compose([view for name, view in VIEWS.items() if name != "rotate90"])
        optimiser = torch.optim.AdamW(encoder.parameters())
        return [_epoch(batch, encoder, view, optimiser, epoch) for epoch in range(2)]


def _epoch(batch: ImageBatch, encoder: ResNet, view: AbstractView, optimiser: torch.optim.Optimizer, epoch: int) -> float:
    loading = working = 0.0
    order, generator = Minibatches(batch.subject_ids, 8), torch.Generator().manual_seed(epoch)
    order.set_epoch(epoch)
    for rows in order:
        start = time.perf_counter()
        part = batch[rows].to("cpu")
        loaded = time.perf_counter()
        loss = (encoder(view(part, generator)).pooled - encoder(view(part, generator)).pooled).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loading, working = loading + loaded - start, working + time.perf_counter() - loaded
    return loading / (loading + working)


if __name__ == "__main__":
    main()
