"""Segmentation under the protocols: folds, shares of masks, the mean mask, and what a killed run left."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images, simulate_table
from graphssl.encoders import ResNet
from graphssl.errors import ConfigError, DataError
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation import MeanMask, Segmenter, evaluate, segmentation_scores
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.segmentation import mean_scores
from graphssl.evaluation.task import make_mask_task
from graphssl.training import SegmentationSettings, TrainingSettings

QUICK = TrainingSettings(max_epochs=1, batch_size=8, learning_rate=1e-2, accelerator="cpu")


def segmenter(mode="full", **settings):
    classifier = ConnectomeClassifier(None, ResNet(2, 1, 4, (1,), stem="small", norm="group"), mode=mode, finetuning=QUICK)
    return Segmenter(classifier, SegmentationSettings(width=4, **settings))


def without_masks(cohort, subjects):
    data = cohort.images["images"]
    table = data.table.assign(mask_path=data.table["mask_path"].mask(data.table["subject_id"].isin(subjects), ""))
    return replace(cohort, images={"images": replace(data, table=table)})


@pytest.fixture(scope="module")
def cohort():
    made = simulate_images(24, size=16)
    return without_masks(made, made.ids[-2:])


@pytest.fixture(scope="module")
def found(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    methods = {"scratch": segmenter(), "scratch_probe": segmenter("probe"), "mean_mask": MeanMask()}
    how = {"masks": "images", "protocol": "k_fold", "n_splits": 2, "label_fractions": (0.5, 1.0)}
    return evaluate(cohort, methods, **how, folder=folder), folder, how


def test_every_method_is_scored_on_every_fold_and_share_of_the_masks(found):
    evaluation, _, _ = found
    assert {r.metric for r in evaluation.results} == {"dice", "iou", "nsd", "hd95"}
    assert {(r.task, r.protocol) for r in evaluation.results} == {("masks of images", "k_fold")}
    assert len(evaluation.results) == 3 * 2 * 2 * 4
    assert {r.n_train for r in evaluation.results if r.label_fraction == 0.5} < {5, 6}
    rows = evaluation.predictions
    assert set(rows) == {"subject", "row", "class", "dice", "iou", "nsd", "hd95", "split", "seed", "method", "label_fraction"}
    assert len(rows) == 3 * 2 * 22


def test_subjects_without_a_mask_are_trained_on_and_never_tested(found, cohort):
    splits = found[0].splits
    assert {s for split in splits for s in split.test} == set(cohort.ids[:-2])
    assert all(set(cohort.ids[-2:]) <= set(split.train) for split in splits)


def test_sites_can_be_left_out(cohort):
    task = make_mask_task(cohort, "leave_one_site_out")
    assert [split.name for split in make_splits(cohort, task, "leave_one_site_out")] == ["site-0", "site-1"]


def test_the_mean_mask_is_the_most_common_class_of_each_voxel(found, cohort):
    evaluation = found[0]
    masks = ImageBuilder().fit(cohort).transform(cohort).masks
    row = {subject: k for k, subject in enumerate(cohort.ids)}
    split = evaluation.splits[0]
    train, test = ([row[s] for s in side if s in cohort.ids[:-2]] for side in (split.train, split.test))
    common = (masks[train].float().mean(dim=0) > 0.5).long()
    expected = segmentation_scores(common.expand(len(test), -1, -1), masks[test], 2)["dice"].mean().item()
    key = ("mean_mask", split.name, "dice", 1.0)
    value = next(r.value for r in evaluation.results if (r.method, r.split, r.metric, r.label_fraction) == key)
    assert value == pytest.approx(expected)


def test_a_run_goes_on_from_what_is_kept(found, cohort, monkeypatch):
    evaluation, folder, how = found
    monkeypatch.setattr("graphssl.evaluation.segmenter.finetune_segmentation", None)  # nothing is fitted again
    methods = {"scratch": segmenter(), "scratch_probe": segmenter("probe"), "mean_mask": MeanMask()}
    again = evaluate(cohort, methods, **how, folder=folder)
    assert again.results == evaluation.results
    pd.testing.assert_frame_equal(again.predictions, evaluation.predictions, check_dtype=False)
    with pytest.raises(TypeError):  # other settings are another run
        evaluate(cohort, {**methods, "scratch": segmenter(window=(16, 16))}, **how, folder=folder)


def test_a_probe_leaves_the_encoder_as_it_is(cohort):
    y = np.zeros(24, dtype=int)
    probe, whole = segmenter("probe").fit(cohort, y), segmenter().fit(cohort, y)
    start = probe.classifier.pretrain_cohort(cohort).encoder.state_dict()
    same = [all(torch_equal(start[name], value) for name, value in each.model_.encoder.state_dict().items()) for each in (probe, whole)]
    assert same == [True, False]


def torch_equal(first, second):
    return bool((first == second).all())


def test_means_are_over_subjects_then_over_classes():
    x = [("a", 0, "x", 1.0, 1.0, 1.0, 2.0), ("b", 1, "x", 0.0, 0.0, 0.5, 8.0), ("b", 2, "x", 0.5, 0.5, 1.0, 2.0)]
    y = [("a", 0, "y", 0.5, 0.4, 0.625, 6.0), ("b", 1, "y", math.nan, math.nan, math.nan, math.nan)]
    found = mean_scores(pd.DataFrame([*x, *y], columns=["subject", "row", "class", "dice", "iou", "nsd", "hd95"]), ["x", "y"])
    assert found == pytest.approx({"dice": 0.5625, "iou": 0.5125, "nsd": 0.75, "hd95": 4.75, "dice: x": 0.625, "dice: y": 0.5})


def test_what_cannot_be_run_is_refused(cohort):
    with pytest.raises(ConfigError, match="Expected neither audits, scores of challenges nor ensembles where masks are predicted"):
        evaluate(cohort, {"mean_mask": MeanMask()}, masks="images", audited=("mean_mask",))
    with pytest.raises(DataError, match=r"Expected one kind of images with segmentation masks in .*, found none"):
        evaluate(simulate_table(n_subjects=8).cohort, {"mean_mask": MeanMask()}, masks="images")
    with pytest.raises(DataError, match="Expected 'images' to have segmentation masks, found none"):
        MeanMask().fit(cohort.select(cohort.ids[-2:]), np.zeros(2, dtype=int))
