"""What pretext tasks and learned pair weights are worth on small real images: a linear probe on pre-trained and on random weights.

    python benchmarks/studies/image_pretext.py --data ../shared/data/image [--studies breast lung] [--seeds 0 1 2] [--json]

Breast ultrasound (BreastMNIST, official split): texture contrast, restoration, relative position, jigsaw, masked patches. Lung ultrasound (44 clips,
by patient, three folds): contrast of frames of a clip with and without learned weights. Everything is pre-trained on the training subjects of a split
without labels; each row is compared with random weights of the same encoder on the same split, draws and seed. Printed are rows of a Markdown table a
study: AUROC with a tenth of the training labels (mean of three draws) and with all, of random weights too, the lowest and highest difference over the
seeds, and the pre-training loss on validation subjects in the first, middle and last epoch. Nothing is tuned. About ten minutes on a free core.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from graphssl.data import Cohort, Column, ImageBuilder, Split
from graphssl.data.splits import k_fold, label_fraction, published
from graphssl.datasets import load_images
from graphssl.encoders import AbstractImageEncoder, FrameEncoder, ResNet, TextureEncoder, VisionTransformer
from graphssl.objectives import BYOL, AbstractObjective, InpaintRotateContrast, Jigsaw, MaskedPatches, NTXent, RelativePosition, Restoration
from graphssl.training import Model, TrainingSettings, finetune, pretrain, untrained
from graphssl.training.meta import MetaContrast
from graphssl.views import Compose, Flip, FramePair, IntensityJitter, ResizedCrop, texture_preserving

N_DRAWS, FEW = 3, 0.1


class Variant(NamedTuple):
    """An encoder, and what pre-trains it."""

    encoder: Callable[[], AbstractImageEncoder]
    objective: Callable[[], AbstractObjective]


class Study(NamedTuple):
    """Variants on one cohort, each split as the study says."""

    cohort: Callable[[Path], Cohort]
    splits: Callable[[Cohort, int], list[Split]]
    target: str
    classes: tuple[str, str]
    builder: Callable[[], ImageBuilder]
    n_epochs: int
    batch_size: int
    few: bool
    variants: dict[str, Variant]


def breast(data: Path) -> Cohort:
    return load_images(data / "medmnist" / "breastmnist_flatlabels.npz", labels=("malignant", "benign"))


def adrenal(data: Path) -> Cohort:
    return load_images(data / "medmnist" / "adrenalmnist3d.npz", labels=("normal", "hyperplasia"))


def lung(data: Path) -> Cohort:
    cohort = load_images(data / "lung_ultrasound_ccby" / "lus_ccby_clips_24x96x96.npz")
    regular = pd.Series(np.where(cohort.subjects["label"] == "regular", "regular", "other"), index=cohort.subjects.index, dtype="str")
    return cohort.with_column(Column("findings", "categorical", "target", categories=("other", "regular")), regular)


def official(cohort: Cohort, seed: int) -> list[Split]:
    return [published(cohort.ids, cohort.subjects["split"].tolist(), name="official")]


def by_patient(cohort: Cohort, seed: int) -> list[Split]:
    return k_fold(cohort.ids, cohort.subjects["findings"].tolist(), groups=cohort.groups.tolist(), n_splits=3, seed=seed)


def small(in_channels: int = 1) -> ResNet:
    return ResNet(in_channels=in_channels, width=16, blocks=(1, 1, 1), stem="small")


def patches() -> VisionTransformer:
    return VisionTransformer(patch_size=4, width=64, depth=3, heads=4, n_maps=1)


def frames() -> FrameEncoder:
    return FrameEncoder(width=16, blocks=(1, 1, 1), stem="small")


def volumes() -> ResNet:
    return ResNet(rank=3, width=8, blocks=(1, 1, 1), stem="small", norm="group")


VOLUMES = Compose((ResizedCrop(20, scale=(0.4, 1.0)), Flip(axes=(-1, -2, -3), p=0.5), IntensityJitter()))
FRAMES = Compose((ResizedCrop(32, scale=(0.7, 1.0)), Flip(), IntensityJitter()))

STUDIES = {
    "breast": Study(
        breast,
        official,
        "label",
        ("benign", "malignant"),
        lambda: ImageBuilder(size=28),
        25,
        64,
        True,
        {
            "texture contrast": Variant(lambda: TextureEncoder(width=16, blocks=(1, 1), n_channels=16), lambda: NTXent(texture_preserving(24))),
            "`Restoration`": Variant(small, lambda: Restoration(view=Flip())),
            "`RelativePosition`": Variant(small, lambda: RelativePosition(jitter=2)),
            "`Jigsaw`, 2 × 2": Variant(small, lambda: Jigsaw((2, 2), n_orders=24)),
            "`MaskedPatches`": Variant(patches, lambda: MaskedPatches(width=48)),
        },
    ),
    "adrenal": Study(
        adrenal,
        official,
        "label",
        ("normal", "hyperplasia"),
        lambda: ImageBuilder(size=24, scale="unit"),
        4,
        32,
        True,
        {
            "`InpaintRotateContrast`": Variant(volumes, InpaintRotateContrast),
            "`Restoration`": Variant(volumes, Restoration),
            "`BYOL` on volumes": Variant(volumes, lambda: BYOL(VOLUMES)),
        },
    ),
    "lung": Study(
        lung,
        by_patient,
        "findings",
        ("regular", "other"),
        lambda: ImageBuilder(size=(8, 32, 32)),
        40,
        16,
        False,
        {
            "`NTXent` of mixed frames": Variant(frames, lambda: NTXent(FramePair(then=FRAMES), temperature=0.5)),
            "`MetaContrast` of mixed frames": Variant(frames, lambda: MetaContrast(FramePair(then=FRAMES), width=64, hidden=128)),
        },
    ),
}


class Scored(NamedTuple):
    """AUROC with few labels and with all, and the loss over the pre-training."""

    few: float
    everything: float
    losses: tuple[float, ...]


def started(study: Study, variant: Variant, train: Cohort, seed: int, *, random: bool) -> Model:
    if random:
        return untrained(train, encoder=variant.encoder(), builder=study.builder(), seed=seed)
    settings = TrainingSettings(study.n_epochs, study.batch_size, learning_rate=2e-3, patience=study.n_epochs, accelerator="cpu")
    return pretrain(train, objective=variant.objective(), encoder=variant.encoder(), builder=study.builder(), settings=settings, seed=seed)


def scored(study: Study, variant: Variant, cohort: Cohort, seed: int, *, random: bool) -> Scored:
    """Probabilities of all test subjects, together over the splits."""
    losses, found = [], []
    for split in study.splits(cohort, seed):
        train, test = cohort.select(split.train), cohort.select(split.test)
        model = started(study, variant, train, seed, random=random)
        if not random:
            losses.append(model.history["validation_loss"].iloc[[0, len(model.history) // 2, -1]].tolist())
        labels = train.subjects[study.target].tolist()
        draws = [train.select(label_fraction(train.ids, labels, FEW, seed=N_DRAWS * seed + draw)) for draw in range(N_DRAWS)] if study.few else []
        probed = [finetune(model, part, target=study.target, classes=study.classes, mode="probe", seed=seed) for part in (*draws, train)]
        truth = test.subjects[study.target].to_numpy() == study.classes[1]
        found.append(np.column_stack([truth, *(each.predict_proba(test)[:, 1] for each in probed)]))
    table = np.concatenate(found)
    aurocs = [float(roc_auc_score(table[:, 0], column)) for column in table[:, 1:].T]
    few = float(np.mean(aurocs[:-1])) if study.few else float("nan")
    return Scored(few, aurocs[-1], tuple(np.mean(losses, axis=0).tolist()) if losses else ())


def measured(study: Study, data: Path, seeds: list[int]) -> dict[str, list[tuple[Scored, Scored]]]:
    cohort = study.cohort(data)
    found: dict[str, list[tuple[Scored, Scored]]] = {name: [] for name in study.variants}
    for seed in seeds:
        for name, variant in study.variants.items():
            found[name].append((scored(study, variant, cohort, seed, random=False), scored(study, variant, cohort, seed, random=True)))
            print(f"seed {seed}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def row(name: str, pairs: list[tuple[Scored, Scored]], few: bool) -> str:
    cells = []
    for field in ("few", "everything") if few else ("everything",):
        ours, random = (np.array([getattr(each, field) for each in side]) for side in zip(*pairs, strict=True))
        gaps = ours - random
        cells.append(f"{ours.mean():.3f} | {random.mean():.3f} | {gaps.min():+.3f} to {gaps.max():+.3f}")
    losses = np.mean([ours.losses for ours, _ in pairs], axis=0)
    return f"| {name} | {' | '.join(cells)} | {', '.join(f'{loss:.2f}' for loss in losses)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="print every number of every seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.studies:
        found = measured(STUDIES[name], options.data, options.seeds)
        rows = "\n".join(row(variant, pairs, STUDIES[name].few) for variant, pairs in found.items())
        print(json.dumps({"study": name, "seeds": options.seeds, "scores": found}) if options.json else f"{name}\n\n{rows}\n", flush=True)


if __name__ == "__main__":
    main()
