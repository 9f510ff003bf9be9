"""What it is worth to choose the images to pre-train on: those nearest to the target against as many at random and all, by share of the pool.

    python benchmarks/studies/selection.py --data ../shared/data/image [--steps 75] [--seeds 0 1 2] [--shares 0.05 0.1 0.25] [--json]

The pool is mixed: training images of BreastMNIST and PneumoniaMNIST and slices of other organs (left atrium, chest CT, hippocampus), gray,
28² voxels. The targets are the two MedMNIST sets: a few training images of each (`--n-target`, drawn by the seed and taken out of the pool)
and their official test images. For each seed a retriever f0 (small residual network, NT-Xent) is trained on a tenth of the pool, drawn at
random; it sees no image of a target. The same network is then pre-trained on what was chosen with the target's training images, for the
same number of optimiser steps whatever was chosen, and a logistic regression on its frozen vectors is fitted on the labelled training
images of the target and scored on the test images (AUROC). Also pre-trained: on all of the pool, and on the target's own training images
alone; beside them random weights. Nothing is tuned. About ten minutes on a free core.

Printed is a Markdown table a target: by share, AUROC of the nearest, of random ones, and their paired difference over the seeds (mean, lowest
and highest), which share of the chosen is of the target's own modality, and how far they are from it (similarity, Fréchet distance).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data import Cohort, ImageBuilder, ImageData, pooled
from graphssl.data.image_files import read_picture
from graphssl.datasets import load_images
from graphssl.encoders import ResNet
from graphssl.objectives import NTXent
from graphssl.training import Model, Pool, Selection, SelectionSettings, TrainingSettings, pretrain, untrained
from graphssl.views import Blur, Compose, Flip, IntensityJitter, ResizedCrop

SIZE, BATCH = 28, 64
TARGETS = {"breast": ("malignant", "benign"), "pneumonia": ("normal", "pneumonia")}
FILES = {"breast": "breastmnist_flatlabels.npz", "pneumonia": "pneumoniamnist_train388n3494p.npz"}


class Run(NamedTuple):
    """One pre-training and what it scored."""

    target: str
    seed: int
    share: float
    rule: str
    n_pretrained: int
    own: float
    auroc: float
    similarity: float
    frechet: float
    seconds: float


def main() -> None:
    """Run everything and print a table a target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.25])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--steps", type=int, default=75, help="optimiser steps of every pre-training")
    parser.add_argument("--n-target", type=int, default=100, help="training images of the target")
    parser.add_argument("--n-pool", type=int, default=None, help="at most as many images of each source in the pool")
    parser.add_argument("--json", action="store_true", help="print a line a run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        runs = study(arguments, Path(folder))
    for name in arguments.targets:
        print(table(name, [run for run in runs if run.target == name]))


def study(arguments: argparse.Namespace, folder: Path) -> list[Run]:
    """Everything, seed by seed."""
    sources, tests = read(arguments.data, folder)
    runs = []
    for seed in arguments.seeds:
        drawn = {name: draw(sources[name], arguments.n_target, seed) for name in TARGETS}
        rest = {name: cohort if name not in drawn else without(cohort, drawn[name]) for name, cohort in sources.items()}
        if arguments.n_pool is not None:
            rest = {name: thinned(cohort, arguments.n_pool, seed) for name, cohort in rest.items()}
        pool = pooled(rest)
        subset = thinned(pool, len(pool) // 10, seed)
        retriever = trained(subset, arguments.steps, seed)
        for name in arguments.targets:
            for run in of_target(name, pool, drawn[name], tests[name], retriever, seed, arguments):
                runs.append(run)
                if arguments.json:
                    print(json.dumps(run._asdict()), flush=True)
                else:
                    print(f"{name} seed {seed} {run.rule} {run.share:g}: {run.auroc:.3f} in {run.seconds:.0f} s", file=sys.stderr, flush=True)
    return runs


def of_target(name: str, pool: Cohort, target: Cohort, test: Cohort, retriever: Model, seed: int, arguments: argparse.Namespace) -> list[Run]:
    """All pre-trainings for one target and seed."""
    prepared = Pool(pool, retriever, protected=test, leaks="exclude")
    everything = prepared.select(target, SelectionSettings(1, rule="all"))
    chosen = {}
    for share in arguments.shares:
        nearest = prepared.select(target, SelectionSettings(share))
        chosen |= {(share, "nearest"): nearest, (share, "random"): nearest.random(seed)}
    chosen[1.0, "all"] = everything
    runs = [scored(name, seed, share, rule, found, target, test, arguments) for (share, rule), found in chosen.items()]
    return [*runs, *(scored(name, seed, 0.0, rule, None, target, test, arguments) for rule in ("target alone", "random weights"))]


def scored(
    name: str, seed: int, share: float, rule: str, found: Selection | None, target: Cohort, test: Cohort, arguments: argparse.Namespace
) -> Run:
    """Pre-train on the chosen images and those of the target, and score the frozen vectors."""
    start = time.process_time()
    cohort = target if found is None else found.with_target()
    model = untrained(cohort, encoder=encoder(), builder=builder(), seed=seed) if rule == "random weights" else trained(cohort, arguments.steps, seed)
    value = auroc(model, target, test)
    told = {"own": float("nan"), "similarity": float("nan"), "frechet": float("nan")}
    if found is not None:
        report = found.report(seed).loc["chosen"]
        own = float((found.cohort.subjects["source"] == name).mean())
        told = {"own": own, "similarity": float(report["similarity"]), "frechet": float(report["frechet"])}
    return Run(name, seed, share, rule, len(cohort), auroc=value, seconds=time.process_time() - start, **told)


def encoder() -> ResNet:
    return ResNet(width=16, blocks=(1, 1, 1), stem="small")


def builder() -> ImageBuilder:
    return ImageBuilder(size=SIZE, channels=1, scale="image")


def trained(cohort: Cohort, steps: int, seed: int) -> Model:
    """NT-Xent for as many optimiser steps, whatever the number of images; the last epoch counts."""
    n_train = len(cohort) - round(len(cohort) / 10)
    epochs = max(1, round(steps / max(1, -(-n_train // BATCH))))
    settings = TrainingSettings(max_epochs=epochs, patience=epochs + 1, batch_size=BATCH, learning_rate=2e-3, accelerator="cpu")
    view = Compose([ResizedCrop(SIZE, (0.3, 1.0)), Flip(), IntensityJitter(), Blur(p=0.3)])
    return pretrain(cohort, objective=NTXent(view, width=64, hidden=128), encoder=encoder(), builder=builder(), settings=settings, seed=seed)


def auroc(model: Model, target: Cohort, test: Cohort) -> float:
    """Of a logistic regression on frozen vectors, with the penalty chosen by cross-validation of the target's training images."""
    vectors, y = model.embed(target).to_numpy(), target.target().to_numpy()
    probe = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(Cs=np.logspace(-4, 1, 6), cv=3, scoring="roc_auc", l1_ratios=(0,), max_iter=2000, use_legacy_attributes=False),
    ).fit(vectors, y == max(set(y)))
    return float(roc_auc_score(test.target().to_numpy() == max(set(y)), probe.decision_function(model.embed(test).to_numpy())))


def read(data: Path, folder: Path) -> tuple[dict[str, Cohort], dict[str, Cohort]]:
    """Training images of every source by name, and the official test images of the targets."""
    sources, tests = {}, {}
    for name, classes in TARGETS.items():
        whole = load_images(data / "medmnist" / FILES[name], labels=classes)
        part = whole.subjects["split"].astype(str)
        sources[name], tests[name] = whole.select(part == "train"), whole.select(part == "test")
    sources["atrium"] = load_images(data / "msd_heart_slices" / "train", name="atrium")
    sources["chest CT"] = load_images(data / "luna16_slices", name="chest CT")
    sources["hippocampus"] = slices(load_images(data / "msd_hippocampus" / "images", damaged="exclude").images["volume"], folder, "hippocampus")
    return sources, tests


def slices(volumes: ImageData, folder: Path, name: str) -> Cohort:
    """Three slices of each volume, at a third, a half and two thirds of its depth, padded to one size."""
    found = []
    for path, part in zip(volumes.table["path"], volumes.table["part"], strict=True):
        volume = read_picture(volumes.place(path), part, 3).pixels[0].astype(np.float32)
        for depth in (len(volume) // 3, len(volume) // 2, 2 * len(volume) // 3):
            plane = volume[depth]
            gray = (255 * (plane - plane.min()) / max(1e-6, float(np.ptp(plane)))).astype(np.uint8)
            side = [(0, 64 - n) for n in gray.shape]
            found.append(np.pad(gray, side))
    np.savez_compressed(folder / f"{name}.npz", images=np.stack(found))
    return load_images(folder / f"{name}.npz", name=name)


def draw(cohort: Cohort, n: int, seed: int) -> Cohort:
    """Training images of a target, as many of each class."""
    rng, labels = np.random.default_rng(seed), cohort.target()
    ids = [subject for value in sorted(set(labels)) for subject in rng.choice(labels.index[labels == value], n // 2, replace=False)]
    return cohort.select(ids)


def without(cohort: Cohort, others: Cohort) -> Cohort:
    return cohort.select(~cohort.subjects.index.isin(others.ids))


def thinned(cohort: Cohort, n: int, seed: int) -> Cohort:
    """At most as many subjects, at random."""
    return cohort if len(cohort) <= n else cohort.select(np.random.default_rng(seed).choice(cohort.ids, n, replace=False))


def table(name: str, runs: list[Run]) -> str:
    """Rows by share of the pool, with paired differences over the seeds."""
    frame = pd.DataFrame(runs)
    by = frame.pivot_table(index=["share", "rule"], columns="seed", values="auroc")
    lines = [f"\n{name}: AUROC on test images, {len(by.columns)} seeds", ""]
    lines += ["| share of the pool | images | nearest | random | difference (lowest, highest) | own modality | similarity | Fréchet distance |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for share in sorted({share for share, rule in by.index if rule == "nearest"}):
        near, drawn = by.loc[share, "nearest"], by.loc[share, "random"]
        gap = near - drawn
        told = frame[frame["share"] == share].groupby("rule")[["n_pretrained", "own", "similarity", "frechet"]].mean()
        pairs = (f"{told.loc['nearest', c]:.2f} / {told.loc['random', c]:.2f}" for c in ("own", "similarity", "frechet"))
        lines.append(
            f"| {share:.0%} | {told.loc['nearest', 'n_pretrained']:.0f} | {spread(near)} | {spread(drawn)} "
            f"| {gap.mean():+.3f} ({gap.min():+.3f}, {gap.max():+.3f}) | {' | '.join(pairs)} |"
        )
    for share, rule in ((1.0, "all"), (0.0, "target alone"), (0.0, "random weights")):
        n = frame.loc[frame["rule"] == rule, "n_pretrained"].mean()
        lines.append(f"| {rule} | {n:.0f} | {spread(by.loc[share, rule])} | | | | | |")
    return "\n".join(lines)


def spread(values: "pd.Series[float]") -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=min(1, len(values) - 1)):.3f}"


if __name__ == "__main__":
    main()
