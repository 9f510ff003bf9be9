"""What pre-training is worth for segmentation: folds, shares of masks, and what a killed run left."""

import math
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from graphssl.data import Column, ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation import SegmentationStudy, run_segmentation, segmentation_scores
from graphssl.evaluation.segmentation_protocol import _means, _some_masks
from graphssl.objectives import AbstractObjective
from graphssl.objectives.base import Loss
from graphssl.training import SegmentationSettings, TrainingSettings
from graphssl.training.segment import subjects_with_masks

METHODS = ("pretrained", "scratch_probe", "mean_mask")
QUICK = TrainingSettings(max_epochs=1, batch_size=8, learning_rate=1e-2, accelerator="cpu")


class Brightness(AbstractObjective):
    """A small objective that any encoder of images has: the pooled vector has the mean brightness."""

    def __init__(self):
        super().__init__()

    def forward(self, encoder, batch, generator):
        return Loss((encoder(batch).pooled.mean(dim=1) - batch.images.flatten(1).mean(dim=1)).square().mean(), {})


def study(**changes):
    encoder = ResNet(2, 1, 4, (1,), stem="small", norm="group")
    return SegmentationStudy(encoder, Brightness(), segmentation=SegmentationSettings(width=4), pretraining=QUICK, finetuning=QUICK, **changes)


@pytest.fixture(scope="module")
def cohort():
    made = simulate_images(24, size=16)
    data = made.images["images"]
    table = data.table.assign(mask_path=data.table["mask_path"].mask(data.table["subject_id"].isin(made.ids[-2:]), ""))
    return replace(made, images={"images": replace(data, table=table)})


@pytest.fixture(scope="module")
def found(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    results, splits = run_segmentation(study(), cohort, methods=METHODS, seeds=(0,), label_fractions=(1.0, 0.5), n_splits=2, folder=folder)
    return results, splits, folder


def test_every_method_is_scored_on_every_fold_seed_and_share(found):
    results, _, _ = found
    metrics = {"dice", "iou", "hd95", "dice: lesion"}
    assert {r.metric for r in results} == metrics
    assert len(results) == 3 * 2 * 2 * len(metrics)
    assert {(r.method, r.split, r.seed, r.label_fraction) for r in results} == {
        (m, f"fold-{k}", 0, share) for m in METHODS for k in (0, 1) for share in (1.0, 0.5)
    }
    assert {r.n_train for r in results if r.label_fraction == 1.0} == {11}
    assert {r.n_train for r in results if r.label_fraction == 0.5} == {6}
    assert all(0 <= r.value <= 1 for r in results if r.metric.startswith("dice"))


def test_subjects_without_a_mask_are_trained_on_and_never_tested(found, cohort):
    _, splits, _ = found
    assert {s for split in splits for s in split.test} == set(cohort.ids[:-2])
    assert all(set(cohort.ids[-2:]) <= set(split.train) for split in splits)


def test_the_mean_mask_is_the_most_common_class_of_each_voxel(found, cohort):
    results, splits, _ = found
    masks = ImageBuilder().fit(cohort).transform(cohort).masks
    row = {subject: k for k, subject in enumerate(cohort.ids)}
    train, test = ([row[s] for s in side if s in cohort.ids[:-2]] for side in (splits[0].train, splits[0].test))
    common = (masks[train].float().mean(dim=0) > 0.5).long()
    expected = segmentation_scores(common.expand(len(test), -1, -1), masks[test], 2)["dice"].mean().item()
    value = next(r.value for r in results if (r.method, r.split, r.metric, r.label_fraction) == ("mean_mask", "fold-0", "dice", 1.0))
    assert value == pytest.approx(expected)


def test_a_run_goes_on_from_what_is_kept(found, cohort, monkeypatch):
    results, _, folder = found
    monkeypatch.setattr("graphssl.evaluation.segmentation_protocol.finetune_segmentation", None)  # nothing is fitted again
    again, _ = run_segmentation(study(), cohort, methods=METHODS, seeds=(0,), label_fractions=(1.0, 0.5), n_splits=2, folder=folder)
    key = ["method", "split", "seed", "label_fraction", "metric"]
    assert pd.DataFrame(again).sort_values(key).equals(pd.DataFrame(results).sort_values(key))
    with pytest.raises(TypeError):  # another study is another key
        run_segmentation(study(window=(16, 16)), cohort, methods=("scratch",), n_splits=2, folder=folder)


def test_shares_of_masks_are_nested(cohort):
    kept = [set(subjects_with_masks(_some_masks(cohort, "images", share, seed=3), "images")) for share in (0.01, 0.3, 0.7, 1.0)]
    assert [len(each) for each in kept] == [2, 7, 16, 22]
    assert all(few <= more for few, more in pairwise(kept))


def test_means_are_over_images_then_classes_and_distances_over_those_there_are():
    x = [("a", 0, "x", 1.0, 1.0, 2.0), ("b", 1, "x", 0.0, 0.0, math.inf)]
    y = [("a", 0, "y", 0.5, 0.4, 6.0), ("b", 1, "y", math.nan, math.nan, math.nan)]
    found = _means(pd.DataFrame([*x, *y], columns=["subject", "row", "class", "dice", "iou", "hd95"]))
    assert found == {"dice": 0.5, "iou": 0.45, "hd95": 4.0, "dice: x": 0.5, "dice: y": 0.5}


def test_a_published_split_is_taken(cohort):
    split = Column("fold", "categorical", "split", categories=("train", "test"))
    table = pd.Series(["train"] * 16 + ["test"] * 8, index=list(cohort.ids))
    results, splits = run_segmentation(study(), cohort.with_column(split, table), methods=("scratch",), protocol="published")
    assert splits[0].test == tuple(cohort.ids[16:22])
    assert {r.protocol for r in results} == {"published"}


def test_what_cannot_be_run_is_refused(cohort):
    with pytest.raises(ConfigError, match=r"Expected methods of segmentation among pretrained, .*; found \['mlp'\]"):
        run_segmentation(study(), cohort, methods=("mlp",))
    with pytest.raises(ConfigError, match="Expected the protocol 'k_fold' or 'published' for segmentation, found 'time_ordered'"):
        run_segmentation(study(), cohort, protocol="time_ordered")
    with pytest.raises(DataError, match="Expected 'images' to have a column with the role 'split', found none. Use k_fold"):
        run_segmentation(study(), cohort, protocol="published")
    with pytest.raises(DataError, match=r"Expected 'images' to have images with segmentation masks, found \['images'\] without"):
        run_segmentation(study(), _some_masks(cohort, "images", 0, 0).select(cohort.ids[-2:]))
