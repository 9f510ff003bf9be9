"""What predicted weights are worth to networks never seen: after 0, 1 and 5 epochs, against Kaiming's and those of the nearest trained network.

A hypernetwork learns on the training images of a data set; then, seed by seed, networks of the same family that it never met start from its weights
(with and without the classifier), from Kaiming's, or from those of the donor nearest to them: networks of the family, trained for five epochs from
Kaiming's on the same images. All see the same training images and labels, and the same minibatches. At epoch 0 statistics of batch normalisation are
those of the training images. Classification: BreastMNIST and PneumoniaMNIST (of its pneumonias as many as it has normal ones), official test images.
Segmentation: three slices a hippocampus volume, 40 volumes held out by seed.

    python benchmarks/studies/hyper_initializer.py --data ../shared/data/image --out hyper_initializer.csv
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from graphssl.data import ImageBatch
from graphssl.initializers import ArchitectureSampler, HyperInitializer, HyperNetwork, SampledNetwork, SampledNetworks, architecture_of
from graphssl.objectives.segmentation_loss import SegmentationLoss

FAMILY = ArchitectureSampler(stages=(2, 3), blocks=(1, 2), widths=(8, 16, 24))
EPOCHS = (0, 1, 5)
DONORS = 3


def main() -> None:
    """Run the study, write a row a network, method and epoch, and print the table."""
    options = _options()
    torch.set_num_threads(1)
    rows: list[dict] = []
    for seed in range(options.seeds):
        for name in options.sets:
            images = _hippocampus(Path(options.data), seed) if name == "hippocampus" else _medmnist(Path(options.data), name, seed)
            started = time.process_time()
            initializer = _learned(images, options.steps, seed)
            learned = time.process_time() - started
            donors = [_trained_donor(images, seed, k) for k in range(DONORS)]
            for k in range(options.networks):
                rows += [{"data": name, "seed": seed, "network": k, **row} for row in _one_network(images, initializer, donors, seed, k)]
            pd.DataFrame(rows).to_csv(options.out, index=False)
            print(f"{name}, seed {seed}: {learned:.0f} CPU-seconds to learn, {time.process_time() - started:.0f} in all", flush=True)
    print_table(pd.DataFrame(rows))


def print_table(rows: pd.DataFrame) -> None:
    """Means over networks and seeds, and how the predicted weights differ from the others, lowest to highest seed."""
    by_seed = rows.groupby(["data", "epoch", "method", "seed"])["score"].mean()
    print(by_seed.reset_index().pivot_table(index=["data", "epoch"], columns="method", values="score").round(3))
    for (data, epoch), of_epoch in by_seed.groupby(["data", "epoch"]):
        table = of_epoch.reset_index().pivot_table(index="seed", columns="method", values="score")
        for other in ("kaiming", "nearest"):
            found = table["predicted"] - table[other]
            print(f"{data}, {epoch} epochs: predicted - {other} {found.mean():+.3f} ({found.min():+.3f} to {found.max():+.3f})")


class _Images:
    """Training and test images of a data set, and how networks are scored on them."""

    def __init__(self, train: tuple, test: tuple, n_classes: int) -> None:
        mean, std = train[0].mean(), train[0].std()
        self.x, self.y = (train[0] - mean) / std, train[1]
        self.x_test, self.y_test = (test[0] - mean) / std, test[1]
        self.n_classes, self.has_masks = n_classes, train[1].ndim > 1
        self.overlap = SegmentationLoss({"ce": 1.0, "dice": 1.0})
        self.how = {"n_outputs": n_classes, "decoder": self.has_masks}

    def loss(self, network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        made = network(self.x[rows])
        return self.overlap(made, self.y[rows])[0] if self.has_masks else F.cross_entropy(made, self.y[rows])

    def score(self, network: nn.Module) -> float:
        """AUROC, or the Dice of the foreground classes over all test voxels."""
        network.eval()
        with torch.no_grad():
            made = torch.cat([network(part) for part in self.x_test.split(128)])
        network.train()
        if not self.has_masks:
            return float(roc_auc_score(self.y_test, made.softmax(dim=1)[:, 1]))
        found = made.argmax(dim=1)
        inside = [(found == k, self.y_test == k) for k in range(1, self.n_classes)]
        return float(np.mean([2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum())) for a, b in inside]))


def _learned(images: _Images, steps: int, seed: int) -> HyperInitializer:
    """A hypernetwork that learned from networks of the family."""
    torch.manual_seed(seed)
    hypernetwork, generator = HyperNetwork(), torch.Generator().manual_seed(seed)
    ids = tuple(map(str, range(len(images.x))))
    objective = SampledNetworks("masks" if images.has_masks else "labels", sampler=FAMILY, n_networks=2, n_classes=images.n_classes)
    if not images.has_masks:
        objective = objective.with_labels(dict(zip(ids, map(str, images.y.tolist()), strict=True)))
    optimizer = torch.optim.Adam(hypernetwork.parameters(), lr=3e-4, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        rows = torch.randint(len(images.x), (_batch_size(images),), generator=generator)
        batch = ImageBatch(tuple(ids[row] for row in rows), images.x[rows], masks=images.y[rows] if images.has_masks else None)
        optimizer.zero_grad()
        objective(hypernetwork, batch, generator).total.backward()
        nn.utils.clip_grad_norm_(hypernetwork.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return HyperInitializer(hypernetwork.eval())


def _one_network(images: _Images, initializer: HyperInitializer, donors: list, seed: int, k: int) -> list[dict]:
    blueprint = replace(FAMILY.draw(torch.Generator().manual_seed(10_000 + 100 * seed + k)), **images.how)
    rows = []
    for method in ("kaiming", "nearest", "predicted", "predicted_body"):
        network = _kaiming(blueprint, 100 * seed + k)
        if method == "nearest":
            _take(network, min(donors, key=lambda donor: _apart(donor, network)))
        elif method != "kaiming":
            initializer.initialize(network, leave_out=() if method == "predicted" else ("head.",))
        for epoch, score in _fitted(images, network, 100 * seed + k):
            rows.append({"method": method, "epoch": epoch, "score": score})
    return rows


def _fitted(images: _Images, network: SampledNetwork, seed: int) -> list[tuple[int, float]]:
    """Scores after the epochs that count."""
    generator = torch.Generator().manual_seed(seed)
    _take_statistics(images, network)
    optimizer, found = torch.optim.Adam(network.parameters(), lr=1e-3), [(0, images.score(network))]
    for epoch in range(1, max(EPOCHS) + 1):
        for rows in torch.randperm(len(images.x), generator=generator).split(_batch_size(images)):
            if len(rows) > 1:
                optimizer.zero_grad()
                images.loss(network, rows).backward()
                optimizer.step()
        if epoch in EPOCHS:
            found.append((epoch, images.score(network)))
    return found


def _take_statistics(images: _Images, network: SampledNetwork) -> None:
    network.train()
    with torch.no_grad():
        for rows in torch.arange(len(images.x)).split(64)[:8]:
            network(images.x[rows])


def _kaiming(blueprint, seed: int) -> SampledNetwork:
    torch.manual_seed(seed)
    network = SampledNetwork(blueprint)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


def _trained_donor(images: _Images, seed: int, k: int) -> SampledNetwork:
    network = _kaiming(replace(FAMILY.draw(torch.Generator().manual_seed(20_000 + 100 * seed + k)), **images.how), 50 + k)
    _fitted(images, network, 50 + k)
    return network


def _apart(one: SampledNetwork, other: SampledNetwork) -> float:
    """Operations of one that the other lacks, by kind and size, and the reverse."""
    counts = [
        pd.Series([(operation.kind, *(operation.weights[0].size if operation.weights else ())) for operation in architecture_of(network).operations])
        for network in (one, other)
    ]
    first, second = (each.map(str).value_counts() for each in counts)
    return float(first.sub(second, fill_value=0).abs().sum())


def _take(network: SampledNetwork, donor: SampledNetwork) -> None:
    """Weights of the same name and kernel size; channels are cut or repeated, and repeated ones share what they gave."""
    given = dict(donor.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name not in given or given[name].ndim != parameter.ndim or given[name].shape[2:] != parameter.shape[2:]:
                continue
            weight = given[name][torch.arange(parameter.shape[0]) % given[name].shape[0]]
            if parameter.ndim > 1:
                weight = weight[:, torch.arange(parameter.shape[1]) % weight.shape[1]] * min(1.0, given[name].shape[1] / parameter.shape[1])
            parameter.copy_(weight)


def _batch_size(images: _Images) -> int:
    return 16 if images.has_masks else 32


def _medmnist(data: Path, name: str, seed: int) -> _Images:
    with np.load(next((data / "medmnist").glob(f"{name}*.npz"))) as stored:
        parts = [(torch.from_numpy(stored[f"{part}_images"]).float()[:, None], stored[f"{part}_labels"].reshape(-1)) for part in ("train", "test")]
    (x, y), (x_test, y_test) = parts
    if name == "pneumoniamnist":
        order = np.random.default_rng(seed).permutation(len(y))
        kept = np.concatenate([order[y[order] == k][: (y == 0).sum()] for k in (0, 1)])
        x, y = x[kept], y[kept]
    return _Images((x, torch.from_numpy(y).long()), (x_test, torch.from_numpy(y_test).long()), 2)


def _hippocampus(data: Path, seed: int) -> _Images:
    paths = sorted((data / "msd_hippocampus" / "images").glob("*.nii*"))
    test = set(np.random.default_rng(seed).permutation(len(paths))[:40].tolist())
    found: dict[bool, list] = {True: [], False: []}
    for k, path in enumerate(paths):
        image, mask = (np.asarray(nib.load(place).dataobj, dtype=np.float32) for place in (path, data / "msd_hippocampus" / "labels" / path.name))
        image = (image - image.mean()) / image.std()
        for z in np.linspace(0.35, 0.65, 3) * image.shape[1]:
            found[k in test].append((_framed(image[:, int(z)]), _framed(mask[:, int(z)])))
    parts = [tuple(np.stack(each) for each in zip(*found[is_test], strict=True)) for is_test in (False, True)]
    return _Images(*((torch.from_numpy(x).float()[:, None], torch.from_numpy(y).long()) for x, y in parts), 3)


def _framed(plane: np.ndarray, side: int = 32) -> np.ndarray:
    """Cut or padded around the middle."""
    framed = np.zeros((side, side), dtype=plane.dtype)
    rows, columns = (min(side, n) for n in plane.shape)
    top, left = (plane.shape[0] - rows) // 2, (plane.shape[1] - columns) // 2
    into = (side - rows) // 2, (side - columns) // 2
    framed[into[0] : into[0] + rows, into[1] : into[1] + columns] = plane[top : top + rows, left : left + columns]
    return framed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with medmnist and msd_hippocampus")
    parser.add_argument("--out", default="hyper_initializer.csv")
    parser.add_argument("--sets", nargs="+", default=["breastmnist", "pneumoniamnist", "hippocampus"])
    parser.add_argument("--steps", type=int, default=200, help="steps of the hypernetwork")
    parser.add_argument("--networks", type=int, default=3, help="unseen networks a seed")
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
