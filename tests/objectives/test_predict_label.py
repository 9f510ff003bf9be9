"""Supervised pre-training against the smoothed cross-entropy in loops; whose labels it knows; and 3D networks on 2D images."""

import math

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.datasets import simulate_images
from graphssl.errors import ConfigError, DataError
from graphssl.initializers import VariableDimension
from graphssl.objectives import NTXent, PredictLabel, WeightedSum
from graphssl.views import Flip


def told(**arguments):
    return PredictLabel(**arguments).with_labels({"s0": "b", "s1": "a", "s3": "c"})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_smoothed_cross_entropy_of_labelled_rows(smoothing, make_resnet, make_images):
    """L = -(1 - ε) log p_y - ε/K Σ log p_k, over s0, s1 and s3: s2 has no label."""
    encoder, batch = make_resnet().eval(), make_images(4, 1, 8, 8)
    objective = told(smoothing=smoothing).prepare(encoder)
    loss = objective(encoder, batch, torch.Generator())
    total = 0.0
    for row, label in ((0, 1), (1, 0), (3, 2)):
        scores = objective.head(encoder(batch[[row]]).pooled)[0].tolist()
        logs = [score - math.log(sum(map(math.exp, scores))) for score in scores]
        total -= (1 - smoothing) * logs[label] + smoothing / 3 * sum(logs)
    assert loss.total.item() == pytest.approx(total / 3, rel=1e-5)


def test_rows_without_a_label_give_no_loss_and_no_error(make_resnet, make_images):
    encoder = make_resnet()
    loss = told().prepare(encoder)(encoder, make_images(4, 1, 8, 8)[[2]], torch.Generator())
    assert (loss.total.item(), loss.parts) == (0.0, {})
    loss.total.backward()


def test_pre_training_takes_the_labels_of_its_cohort():
    cohort = simulate_images(6, size=8)
    objective = PredictLabel().for_cohort(cohort)
    assert objective.class_of == {subject: int(label == "malignant") for subject, label in cohort.target(None).items()}
    assert objective.for_cohort(simulate_images(4, size=8)).class_of == objective.class_of, "what it was told stays"
    assert objective.fresh().class_of == objective.class_of


def test_labels_are_in_no_card_and_no_key():
    objective = told(smoothing=0.2)
    assert repr(objective) == "PredictLabel(target=None, smoothing=0.2, view=None)"
    assert objective.arguments() == {"target": None, "smoothing": 0.2, "view": None}


def test_a_sum_hands_labels_on():
    both = WeightedSum({"labels": PredictLabel(), "contrast": NTXent(Flip())})
    assert both.reads_labels
    assert both.with_labels({"a": "x", "b": "y"}).parts["labels"].class_of == {"a": 0, "b": 1}
    assert not WeightedSum({"contrast": NTXent(Flip())}).reads_labels


def test_colours_as_slices_train_every_slice_of_every_kernel(make_resnet):
    """CSPR: depth 3 lives to the end, so the gradient reaches the outer slices of 3D kernels."""
    encoder = make_resnet(3, depth_stride=False, blocks=(1, 1, 1))
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    batch = ImageBatch(("s0", "s1", "s2", "s3"), images)
    objective = told(view=VariableDimension()).prepare(encoder)
    objective(encoder, batch, torch.Generator().manual_seed(0)).total.backward()
    assert encoder(VariableDimension()(batch, torch.Generator())).maps[-1].shape[2] == 3
    assert (encoder.conv1.weight.grad.abs().sum(dim=(0, 1, 3, 4)) > 0).all()


def test_labels_are_learned(make_resnet, train):
    images = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[::2] += 1.0
    batch, encoder = ImageBatch(tuple(map(str, range(24))), images), make_resnet()
    objective = PredictLabel(smoothing=0.0).with_labels({str(k): "ab"[k % 2] for k in range(24)}).prepare(encoder)
    losses = train(objective, encoder, batch, 30, 1e-2)
    assert losses[-1] < 0.1 * losses[0]


def test_wrong_arguments_are_refused(make_resnet):
    with pytest.raises(ConfigError, match=r"smoothing in \[0, 1\), found 1.0"):
        PredictLabel(smoothing=1.0)
    with pytest.raises(ConfigError, match="knows labels, found one without"):
        PredictLabel().prepare(make_resnet())
    with pytest.raises(DataError, match=r"two classes or more to pre-train on, found \['a'\]"):
        PredictLabel().with_labels({"s0": "a", "s1": "a"})
    with pytest.raises(ConfigError, match="Call prepare"):
        told()(make_resnet(), None, torch.Generator())
