"""What a cell is worth: fine-tuned on its labelled subjects, scored on its test subjects, and kept."""

import json
import math
import time
from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
from safetensors.torch import load_file

from graphssl.data.cohort import Cohort
from graphssl.data.splits import hold_out, label_fraction, label_imbalance, label_shots
from graphssl.encoders.images.segmentation import SegmentationDecoder
from graphssl.errors import DataError
from graphssl.evaluation.cell import rare_class
from graphssl.evaluation.cell_resamples import resampled_classes, resampled_masks
from graphssl.evaluation.cell_start import n_pretrained, start_model
from graphssl.evaluation.cell_unit import Unit
from graphssl.evaluation.parallel import one_thread
from graphssl.evaluation.segmentation import evaluate_segmentation, mean_scores
from graphssl.evaluation.task import without_labels
from graphssl.folders import file_written_whole
from graphssl.statistics import bhattacharyya, late_spread, mean_height, recall_by_class
from graphssl.statistics.checks import Scores
from graphssl.statistics.metrics import score_all
from graphssl.training.by_steps import SCORE, finetune_by_steps, segment_by_steps
from graphssl.training.finetune import finetune
from graphssl.training.model import Model
from graphssl.training.stage_folder import OBJECTIVE


def score(unit: Unit, alone: bool) -> None:
    """Compute a cell, unless an earlier run did, and keep it."""
    if unit.path.is_file():
        return
    try:
        labelled, validation = _labelled(unit)
    except DataError as error:  # of too few subjects for what is asked of them
        record: dict[str, Any] = {"left_out": str(error)}
    else:
        with one_thread(alone):
            record = _computed(unit, labelled, validation)
    with file_written_whole(unit.path) as aside:
        aside.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def _computed(unit: Unit, labelled: Sequence[str], validation: Sequence[str]) -> dict[str, Any]:
    cell, task = unit.cell, unit.task
    start = start_model(unit)
    started = time.perf_counter()
    tuned = _tuned(unit, start, cell.cohort.select(labelled), cell.cohort.select(validation) if validation else None)
    seconds = time.perf_counter() - started
    test = without_labels(cell.cohort.select(unit.split.test), task)
    values, resampled = _of_masks(unit, tuned, test) if task.masks else _of_classes(unit, start, tuned, test)
    curve = tuned.history if SCORE in tuned.history else pd.DataFrame()
    if len(curve):
        values["curve_area"] = mean_height(curve["step"], curve[SCORE])
        values["late_spread"] = late_spread(curve[SCORE].to_numpy())
    counts = pd.Series([task.labels[subject] for subject in labelled]).value_counts()
    return {
        "values": {name: None if math.isnan(value) else float(value) for name, value in values.items()},
        "n_labelled": len(labelled),
        "n_rarest": int(counts.min()),
        "n_pretrained": n_pretrained(unit),
        "n_train": len(unit.split.train),
        "n_test": len(unit.split.test),
        "seconds": seconds,
        "resampled": {name: [None if math.isnan(value) else value for value in draws.tolist()] for name, draws in resampled.items()},
        "tested": joblib.hash([*test.ids])[:16],
        "curve": curve.replace({np.nan: None}).to_dict("list"),
    }


def _labelled(unit: Unit) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who is trained on with a label, and who is scored on the way."""
    task, settings, seed = unit.task, unit.cell.settings, unit.seed
    known = tuple(subject for subject in unit.split.train if subject in task.labels)
    validation: tuple[str, ...] = ()
    if settings.validation_fraction:
        labels = [task.labels[subject] for subject in known]
        groups = unit.cell.cohort.groups[list(known)].tolist()
        held = hold_out(known, labels, groups=groups, test_fraction=settings.validation_fraction, seed=seed)
        known, validation = held.train, held.test

    def labels_of(ids: Sequence[str]) -> list[int]:
        return [task.labels[subject] for subject in ids]

    if settings.imbalance is not None:
        rare = rare_class(settings, task.classes)
        known = label_imbalance(known, labels_of(known), settings.imbalance, rare=rare, seed=seed)
    if settings.shots is not None:
        known = label_shots(known, labels_of(known), settings.shots, seed=seed)
    return label_fraction(known, labels_of(known), settings.label_fraction, seed=seed), validation


def _tuned(unit: Unit, start: Model, labelled: Cohort, validation: Cohort | None) -> Model:
    cell, settings = unit.cell, unit.cell.settings
    if cell.segmentation is not None:
        decoder = _decoder(unit, start) if settings.transfer == "encoder_decoder" and unit.starts else None
        return segment_by_steps(
            start, labelled, segmentation=cell.segmentation, settings=settings.steps, validation=validation, decoder=decoder, seed=unit.seed
        )
    of_labels: dict[str, Any] = {"target": unit.task.target, "classes": unit.task.classes, "class_weight": cell.class_weight, "seed": unit.seed}
    if settings.mode == "probe":
        return finetune(start, labelled, mode="probe", **of_labels)
    return finetune_by_steps(start, labelled, settings=settings.steps, validation=validation, **of_labels)


def _decoder(unit: Unit, start: Model) -> SegmentationDecoder:
    """The decoder that pre-training learned, from where its objective is kept."""
    assert unit.cell.segmentation is not None
    last = unit.starts[-1] / f"1-{unit.cell.settings.pretrain_on[-1]}"
    weights = {name.removeprefix("decoder."): value for name, value in load_file(last / OBJECTIVE).items() if name.startswith("decoder.")}
    channels = weights["heads.0.bias"].shape[0]
    decoder = SegmentationDecoder.for_encoder(start.encoder, channels, width=unit.cell.segmentation.width, deep_supervision=False)
    decoder.load_state_dict(weights)
    return decoder


def _of_classes(unit: Unit, start: Model, tuned: Model, test: Cohort) -> tuple[dict[str, float], dict[str, Scores]]:
    """Scores of the test subjects, recall class by class, and how far classes lie apart before and after fine-tuning; scores on resamples."""
    y = np.asarray([unit.task.labels[subject] for subject in test.ids])
    batch = tuned.builder.transform(test)
    pooled, probability = tuned.answers(batch, test.ids)
    assert probability is not None
    p = probability[:, 1] if len(unit.task.classes) == 2 else probability
    recalls = dict(zip([f"recall: {name}" for name in unit.task.classes], recall_by_class(y, p), strict=True))
    before = start.answers(batch, test.ids).pooled.numpy()
    apart = {"separation_before": bhattacharyya(before, y), "separation": bhattacharyya(pooled.numpy(), y)}
    resampled = resampled_classes(y, p, unit.task.classes, test.groups.to_numpy()) if unit.only_split else {}
    return {**score_all(y, p), **recalls, **apart}, resampled


def _of_masks(unit: Unit, tuned: Model, test: Cohort) -> tuple[dict[str, float], dict[str, Scores]]:
    assert unit.cell.segmentation is not None
    scores = evaluate_segmentation(tuned, test, window=unit.cell.segmentation.window)
    return mean_scores(scores, unit.task.classes), resampled_masks(scores, unit.task.classes) if unit.only_split else {}
