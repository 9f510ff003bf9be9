"""Losses of segmentation against the formulas, unknown voxels, and sums."""

import math

import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch.testing import assert_close

from graphssl.errors import ConfigError, DataError
from graphssl.objectives.segmentation_loss import SEGMENTATION_LOSSES, SegmentationLoss, resized


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 7, generator=generator, requires_grad=True)
    masks = torch.randint(0, 3, (2, 6, 7), generator=generator)
    return logits, masks


def counted(logits, masks):
    """Known probabilities and truths of each class, as lists of numbers."""
    probability = logits.detach().softmax(dim=1)
    known = masks >= 0
    return [(probability[:, k][known].tolist(), (masks == k)[known].tolist()) for k in range(logits.shape[1])]


def by_formula(name, logits, masks):
    classes = counted(logits, masks)
    if name in ("ce", "focal"):
        chosen = [p for probabilities, truths in classes for p, t in zip(probabilities, truths, strict=True) if t]
        if name == "ce":
            return sum(-math.log(p) for p in chosen) / len(chosen)
        return sum(-((1 - p) ** 2) * math.log(p) for p in chosen) / (masks.numel() * 3)  # MONAI's mean is over classes too
    values = []
    for probabilities, truths in classes[1:]:
        hit = sum(p * t for p, t in zip(probabilities, truths, strict=True))
        total = sum(probabilities) + sum(truths)
        extra = sum(p * (1 - t) for p, t in zip(probabilities, truths, strict=True))
        lacking = sum((1 - p) * t for p, t in zip(probabilities, truths, strict=True))
        values.append({"dice": 2 * hit / total, "jaccard": hit / (total - hit), "tversky": hit / (hit + 0.3 * extra + 0.7 * lacking)}[name])
    return 1 - sum(values) / len(values)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("name", ["ce", "dice", "jaccard", "tversky", "focal"])
def test_each_is_its_formula_over_known_voxels(drawn, name, unknown):
    logits, masks = drawn
    if unknown:
        masks[:, :2] = -1
    total, parts = SegmentationLoss({name: 1.0})(logits, masks)
    assert total.item() == pytest.approx(by_formula(name, logits, masks), rel=1e-3)
    assert list(parts) == [name]


def test_generalised_dice_weights_classes_by_their_volume(drawn):
    logits, masks = drawn
    masks[:] = torch.where(masks == 2, 0, masks)
    masks[0, 0, :2] = 2
    hit = total = 0.0
    for probabilities, truths in counted(logits, masks):
        weight = 1 / sum(truths) ** 2
        hit += weight * sum(p * t for p, t in zip(probabilities, truths, strict=True))
        total += weight * (sum(probabilities) + sum(truths))
    assert SegmentationLoss({"generalised_dice": 1.0})(logits, masks)[0].item() == pytest.approx(1 - 2 * hit / total, rel=1e-3)


def test_boundary_is_the_mean_of_probabilities_times_signed_distances(drawn):
    logits, _ = drawn
    masks = torch.zeros(2, 6, 7, dtype=torch.long)
    masks[0, 1:4, 2:6] = 1
    masks[1, 3:, :3] = 2
    expected = []
    for row in range(2):
        for k in (1, 2):
            inside = (masks[row] == k).numpy()
            if inside.any():
                distance = torch.from_numpy(distance_transform_edt(~inside) - (distance_transform_edt(inside) - 1) * inside)
            else:
                distance = torch.zeros(6, 7)
            expected.append((logits.detach().softmax(dim=1)[row, k] * distance).mean())
    assert_close(SegmentationLoss({"boundary": 1.0})(logits, masks)[0].double(), torch.stack(expected).double().mean(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_a_perfect_prediction_is_the_best_and_unknown_voxels_have_no_gradient(drawn, name):
    logits, masks = drawn
    masks[:, :2] = -1
    loss = SegmentationLoss({name: 1.0})
    total, _ = loss(logits, masks)
    total.backward()
    assert not logits.grad[:, :, :2].any()
    assert logits.grad[:, :, 2:].abs().max() > 0
    perfect = 50.0 * torch.nn.functional.one_hot(masks.clamp(min=0), 3).movedim(-1, 1).float()
    assert loss(perfect, masks)[0] < total.detach()


def test_a_mix_is_the_weighted_sum_of_its_parts(drawn):
    logits, masks = drawn
    total, parts = SegmentationLoss({"dice": 2.0, "ce": 0.5})(logits, masks)
    assert_close(total, 2 * parts["dice"] + 0.5 * parts["ce"])


def test_nothing_known_costs_nothing(drawn):
    logits, masks = drawn
    assert SegmentationLoss({"ce": 1.0, "dice": 1.0})(logits, torch.full_like(masks, -1))[0].item() == pytest.approx(0.0, abs=1e-6)


def test_masks_of_another_size_are_taken_at_the_nearest_voxel():
    masks = torch.arange(16).view(1, 4, 4) - 1
    assert resized(masks, torch.zeros(1, 2, 2, 2)).tolist() == [[[4, 6], [12, 14]]]
    assert resized(masks, torch.zeros(1, 2, 4, 4)).equal(masks)


def test_classes_beyond_the_last_are_refused(drawn):
    logits, masks = drawn
    masks[0, 0, 0] = 3
    with pytest.raises(DataError, match="Expected masks of the classes 0 to 2, or -1 where unknown; found 0 to 3. Give every class a number"):
        SegmentationLoss({"ce": 1.0})(logits, masks)


@pytest.mark.parametrize("weights", [{}, {"dise": 1.0}, {"dice": 0.0}])
def test_strange_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="Expected weights above 0 of losses among ce, dice, jaccard, .*; found {"):
        SegmentationLoss(weights)
