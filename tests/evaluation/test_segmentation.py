"""Scores of segmentation against loops over voxels and pairs of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import GraphTransformer, ResNet, SegmentationDecoder
from graphssl.errors import DataError
from graphssl.evaluation import evaluate_segmentation, segmentation_scores
from graphssl.evaluation.segmentation import SCORES
from graphssl.graphs import ConnectomeBuilder
from graphssl.training import Model


def by_loops(predicted, masks, k, spacing, tolerance):
    known = masks >= 0
    ours, truth = (predicted == k) & known, (masks == k) & known
    hit, total = int((ours & truth).sum()), int(ours.sum() + truth.sum())
    surfaces = []
    for mask in (ours, truth):
        places = []
        padded = np.pad(mask.numpy(), 1)
        for place in zip(*np.nonzero(padded), strict=True):
            steps = [
                tuple(np.add(place, step))
                for axis in range(mask.ndim)
                for step in (np.eye(mask.ndim, dtype=int)[axis], -np.eye(mask.ndim, dtype=int)[axis])
            ]
            if not all(padded[step] for step in steps):
                places.append(np.array(place) * spacing)
        surfaces.append(places)
    directed, near_enough = [], []
    for near, far in (surfaces, surfaces[::-1]):
        distances = [min(np.linalg.norm(a - b) for b in far) for a in near]
        directed.append(np.percentile(distances, 95))
        near_enough += [distance <= tolerance for distance in distances]
    return 2 * hit / total, hit / (total - hit), np.mean(near_enough), max(directed)


@pytest.mark.parametrize(("shape", "spacing"), [((9, 8), (1.0, 1.0)), ((9, 8), (2.0, 0.5)), ((5, 6, 4), (3.0, 1.0, 1.0))])
def test_scores_against_loops(shape, spacing):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(-1, 3, (2, *shape), generator=generator)
    predicted = torch.where(
        torch.rand(masks.shape, generator=generator) < 0.7, masks.clamp(min=0), torch.randint(0, 3, masks.shape, generator=generator)
    )
    found = segmentation_scores(predicted, masks, 3, spacing, tolerance=0.8)
    for row in range(2):
        for k in (1, 2):
            expected = by_loops(predicted[row], masks[row], k, spacing, 0.8)
            assert [found[name][row, k - 1].item() for name in SCORES] == pytest.approx(expected, rel=1e-5)


def test_a_perfect_prediction_and_classes_that_are_absent():
    masks = torch.zeros(3, 6, 6, dtype=torch.long)
    masks[0, 1:3, 1:4] = 1
    masks[1, 2:5, 2:5] = 2
    predicted = masks.clone()
    predicted[2, 0, 0] = 1  # there is nothing
    predicted[1] = 0  # nothing is found
    found = segmentation_scores(predicted, masks, 3)
    assert [found[name][0, 0].item() for name in SCORES] == [1.0, 1.0, 1.0, 0.0]
    assert [found[name][1, 1].item() for name in SCORES] == [0.0, 0.0, 0.0, math.inf]
    assert [found[name][2, 0].item() for name in SCORES] == [0.0, 0.0, 0.0, math.inf]
    assert all(found[name][0, 1].isnan() for name in found)


def test_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"of one shape, found \[1, 4, 4\] and \[1, 4, 5\]"):
        segmentation_scores(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), 2)
    with pytest.raises(DataError, match="a tolerance of surfaces of at least 0, found -1"):
        segmentation_scores(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), 2, tolerance=-1)


def cohort_and_model(n_masks):
    """Five patients, as many of them with a mask, and a model with random weights."""
    cohort = simulate_images(5, size=16, n_sites=1)
    data = cohort.images["images"]
    table = data.table.assign(mask_path=["images.npz"] * n_masks + [""] * (5 - n_masks))
    cohort = replace(cohort, images={"images": replace(data, table=table)})
    encoder = ResNet(2, 1, 4, (1,), stem="small")
    return cohort, Model(ImageBuilder().fit(cohort), encoder, decoder=SegmentationDecoder.for_encoder(encoder, 2, width=4))


def test_every_image_with_a_mask_is_scored_by_class():
    cohort, model = cohort_and_model(4)
    found = evaluate_segmentation(model, cohort)
    assert found["subject"].tolist() == list(cohort.ids[:4])
    assert set(found["class"]) == {"lesion"}
    assert list(found.columns) == ["subject", "row", "class", *SCORES]
    batch = model.builder.transform(cohort)
    scores = segmentation_scores(model.segment(batch), batch.masks, 2)
    assert found["dice"].tolist() == scores["dice"][:4, 0].tolist()


def test_a_cohort_without_masks_is_refused():
    cohort, model = cohort_and_model(0)
    with pytest.raises(DataError, match="Expected images with segmentation masks to score, found none. Load them with masks"):
        evaluate_segmentation(model, cohort)


def test_a_model_of_brains_has_nothing_to_segment(make_cohort):
    brains = make_cohort()
    with pytest.raises(DataError, match="Expected a model of images to score segmentations, found one of"):
        evaluate_segmentation(Model(ConnectomeBuilder().fit(brains), GraphTransformer()), brains)
