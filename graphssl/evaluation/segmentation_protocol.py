"""What pre-training is worth for segmentation: the same folds, seeds and masks for every method."""

import itertools
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.splits import Split, k_fold, published
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.segmentation import evaluate_segmentation, scores_by_image
from graphssl.objectives.base import AbstractObjective
from graphssl.results import FIELDS, Result, read_results, write_results
from graphssl.training.fit import TrainingSettings
from graphssl.training.model import Model
from graphssl.training.pretrain import pretrain, untrained
from graphssl.training.segment import (
    SEGMENTATION,
    SEGMENTATION_TRAINING,
    SegmentationSettings,
    finetune_segmentation,
    masked_rows,
    subjects_with_masks,
    with_classes,
)

SEGMENTATION_METHODS = ("pretrained", "scratch", "pretrained_probe", "scratch_probe", "mean_mask")
TASK = "segmentation"
_PRETRAINING = TrainingSettings()


@dataclass(frozen=True)
class SegmentationStudy:
    """What is trained on every fold.

    Args:
        encoder: The encoder; every fold and seed gets new weights.
        objective: What pre-training learns.
        builder: How images are made; fitted on training subjects.
        segmentation: What is learned from the masks.
        pretraining: How long and how fast pre-training goes.
        finetuning: How long and how fast fine-tuning goes.
        window: Voxels of a window that slides over test images; the whole image when left out.
    """

    encoder: AbstractEncoder
    objective: AbstractObjective
    builder: AbstractBuilder | None = None
    segmentation: SegmentationSettings = SEGMENTATION
    pretraining: TrainingSettings = _PRETRAINING
    finetuning: TrainingSettings = SEGMENTATION_TRAINING
    window: tuple[int, ...] | None = None


def run_segmentation(
    study: SegmentationStudy,
    cohort: Cohort,
    *,
    methods: Sequence[str] = ("pretrained", "scratch", "mean_mask"),
    protocol: str = "k_fold",
    seeds: Sequence[int] = (0,),
    label_fractions: Sequence[float] = (1.0,),
    n_splits: int = 5,
    folder: str | os.PathLike[str] | None = None,
) -> tuple[list[Result], list[Split]]:
    """Pre-train on the training subjects of each fold, fine-tune on those whose masks may be used, and score the test subjects once.

    Subjects without a mask are pre-trained on. Families stay on one side.

    Args:
        study: What is trained.
        cohort: The cohort.
        methods: `"pretrained"` and `"scratch"`, encoder and decoder trained; `"pretrained_probe"` and `"scratch_probe"`, the decoder alone;
            `"mean_mask"`, the most common class of each voxel among the training masks, which knows nothing of the image.
        protocol: `"k_fold"`, or `"published"`, one split a column with the role `split`.
        seeds: Seeds of weights, order and draws of masks.
        label_fractions: Shares of the training subjects with masks whose masks are used; those of a smaller share are among those of a larger one.
        n_splits: Folds of `"k_fold"`.
        folder: Where finished parts are kept, so that a run that was killed goes on from there.

    Returns:
        Dice, intersection over union and 95th percentile of distances of surfaces, means over the images of a fold and then over classes (`dice`,
        `iou`, `hd95`), and Dice of each class (`dice: <class>`); and the splits. Distances are those of images in which something was found.

    Raises:
        ConfigError: If a method or the protocol is unknown.
        DataError: If the cohort has no masks, no published split, or too few subjects.
    """
    check_segmentation(study, cohort, methods, protocol)
    splits = _splits(cohort, study, protocol, n_splits)
    results: list[Result] = []
    for split, seed in itertools.product(splits, seeds):
        unit = _Unit(study, cohort, protocol, split, seed, tuple(methods), tuple(label_fractions))
        results += unit.results() if folder is None else unit.kept(Path(folder))
    return results, splits


def check_segmentation(study: SegmentationStudy, cohort: Cohort, methods: Sequence[str], protocol: str) -> None:
    """Check that a study can be run on a cohort.

    Raises:
        ConfigError: If a method or the protocol is unknown.
        DataError: If the cohort has no masks, or no published split.
    """
    strange = [name for name in methods if name not in SEGMENTATION_METHODS]
    if strange or not methods:
        raise ConfigError(f"Expected methods of segmentation among {', '.join(SEGMENTATION_METHODS)}; found {strange or 'none'}.")
    if protocol not in ("k_fold", "published"):
        raise ConfigError(f"Expected the protocol 'k_fold' or 'published' for segmentation, found {protocol!r}.")
    if protocol == "published" and not cohort.schema.named("split"):
        raise DataError(f"Expected {cohort.name!r} to have a column with the role 'split', found none. Use k_fold.")
    _images_of(study, cohort)


@dataclass(frozen=True)
class _Unit:
    """All methods on one split and seed."""

    study: SegmentationStudy
    cohort: Cohort
    protocol: str
    split: Split
    seed: int
    methods: tuple[str, ...]
    fractions: tuple[float, ...]

    def kept(self, folder: Path) -> list[Result]:
        """What an earlier run found, or what is found now; the name of the file holds a hash of all that decides its numbers."""
        study = self.study
        described = (type(study.encoder).__name__, study.encoder.arguments(), study.objective, study.builder, study.segmentation)
        settings = [repr(part) for part in (*described, study.pretraining, study.finetuning)]
        key = joblib.hash([self.cohort.hash, self.protocol, self.split.hash, self.seed, self.methods, self.fractions, settings])
        path = folder / f"segmentation-{self.split.name}-{self.seed}-{key[:12]}.jsonl"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_results(path, self.results())
        return [Result(*record) for record in read_results(path)[list(FIELDS)].itertuples(index=False)]

    def results(self) -> list[Result]:
        """Numbers of every method and share of the masks."""
        train, images = self.cohort.select(self.split.train), _images_of(self.study, self.cohort)
        starts = {start: self._start(start, train) for start in dict.fromkeys(map(_start_of, self.methods))}
        results: list[Result] = []
        for fraction, name in itertools.product(self.fractions, self.methods):
            some = _some_masks(train, images, fraction, self.seed)
            results += self._scored(name, starts[_start_of(name)], some, len(subjects_with_masks(some, images)), fraction)
        return results

    def _start(self, start: str, train: Cohort) -> Model:
        study = self.study
        if start == "scratch":
            return untrained(train, encoder=study.encoder, builder=study.builder, seed=self.seed)
        return pretrain(train, objective=study.objective, encoder=study.encoder, builder=study.builder, settings=study.pretraining, seed=self.seed)

    def _scored(self, name: str, start: Model, train: Cohort, n_train: int, fraction: float) -> list[Result]:
        test = self.cohort.select(self.split.test)
        started = time.perf_counter()
        if name == "mean_mask":
            common, builder = _most_common(start, train)
            seconds = time.perf_counter() - started
            batch = builder.transform(test)
            scores = scores_by_image(common.expand(len(batch), *common.shape), batch, builder)
        else:
            chosen = replace(self.study.segmentation, frozen=self.study.segmentation.frozen or name.endswith("_probe"))
            model = finetune_segmentation(start, train, segmentation=chosen, settings=self.study.finetuning, seed=self.seed)
            seconds = time.perf_counter() - started
            scores = evaluate_segmentation(model, test, window=self.study.window)
        where = (self.cohort.name, TASK, self.protocol, name, self.split.name, self.seed, fraction)
        return [Result(*where, metric, value, n_train, len(test), seconds) for metric, value in _means(scores).items()]


def _start_of(method: str) -> str:
    """The untuned model that a method starts from; the mean mask needs its builder."""
    return "pretrained" if method.startswith("pretrained") else "scratch"


def _most_common(start: Model, train: Cohort) -> tuple[Int[Tensor, "*S"], ImageBuilder]:
    """The most common class of each voxel among the training masks, the first one of those that are as common; a few images at a time."""
    builder = with_classes(start, train)
    batch = masked_rows(builder, train)
    counts = torch.zeros(len(builder.classes_), *batch.shape[2:], dtype=torch.long)
    for rows in torch.arange(len(batch)).split(16):
        masks = batch[rows.tolist()].masks
        assert masks is not None
        counts += torch.stack([(masks == k).sum(dim=0) for k in range(len(builder.classes_))])
    return counts.argmax(dim=0), builder


def _splits(cohort: Cohort, study: SegmentationStudy, protocol: str, n_splits: int) -> list[Split]:
    """Splits of the subjects with masks; those without join the training side, unless their family is tested."""
    masked = cohort.select(subjects_with_masks(cohort, _images_of(study, cohort)))
    groups = cohort.groups
    if protocol == "k_fold":
        splits = k_fold(masked.ids, ["all"] * len(masked), groups=groups[masked.ids].tolist(), n_splits=n_splits)
    else:
        columns = {name: masked.subjects[name].tolist() for name in cohort.schema.named("split")}
        splits = [published(masked.ids, column, name=name, groups=groups[masked.ids].tolist()) for name, column in columns.items()]
    rest = [subject for subject in cohort.ids if subject not in set(masked.ids)]
    return [replace(split, train=(*split.train, *(s for s in rest if groups[s] not in set(groups[list(split.test)])))) for split in splits]


def _images_of(study: SegmentationStudy, cohort: Cohort) -> str:
    """Name of the images that the builder reads.

    Raises:
        DataError: If the cohort has none of that name, or none at all.
    """
    named = str(getattr(study.builder, "images", None) or next(iter(cohort.images), None))
    if named not in cohort.images or not cohort.images[named].has_masks:
        raise DataError(f"Expected {cohort.name!r} to have images with segmentation masks, found {list(cohort.images) or 'no images'} without.")
    return named


def _some_masks(cohort: Cohort, images: str, fraction: float, seed: int) -> Cohort:
    """The cohort with the masks of a share of its subjects; a smaller share is part of a larger one of the same seed."""
    known = subjects_with_masks(cohort, images)
    order = np.random.default_rng(seed).permutation(len(known))
    kept = {known[k] for k in order[: max(2, math.ceil(fraction * len(known)))]}
    data = cohort.images[images]
    withheld = ~data.table["subject_id"].isin(kept)
    table = data.table.assign(**{name: data.table[name].mask(withheld, "") for name in ("mask_path", "mask_part", "mask_hash")})
    return replace(cohort, images={**cohort.images, images: replace(data, table=table)})


def _means(scores: pd.DataFrame) -> dict[str, float]:
    """Means over images of each class, and of these over classes; distances where there is one."""
    metrics = ["dice", "iou", "hd95"]
    by_class = scores[metrics].replace(math.inf, math.nan).groupby(scores["class"], sort=False).mean()
    found = {metric: float(by_class[metric].mean()) for metric in metrics}
    return found | {f"dice: {name}": float(by_class.loc[name, "dice"]) for name in by_class.index}
