"""The hybrid schedule: the sum, its weight over time, and which epoch it chooses by."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.objectives import DINO, Hybrid, NTXent, PredictLabel, Restoration
from graphssl.objectives.hybrid import weight_at
from graphssl.views import Flip, ImageNoise

LABELS = {"s0": "a", "s1": "b"}


def make(**arguments):
    return Hybrid(PredictLabel(), NTXent(ImageNoise()), **arguments).with_labels(LABELS)


def test_the_weight_falls_along_half_a_cosine():
    assert weight_at(1.0, 0.1, 0.0) == 1.0
    assert weight_at(1.0, 0.1, 0.5) == pytest.approx(0.55)
    assert weight_at(1.0, 0.1, 1.0) == pytest.approx(0.1)
    steps = [weight_at(1.0, 0.1, k / 20) for k in range(21)]
    assert steps == sorted(steps, reverse=True)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_loss_is_the_weighted_sum(progress, make_resnet, make_images):
    encoder, batch = make_resnet().eval(), make_images(4, 1, 8, 8)
    objective = make(weight=2.0, final_weight=0.5).prepare(encoder)
    objective.after_step(encoder, progress)
    loss = objective(encoder, batch, torch.Generator().manual_seed(0))
    parts = loss.parts
    expected = parts["supervised_loss"] + weight_at(2.0, 0.5, progress) * parts["self_supervised_loss"]
    torch.testing.assert_close(loss.total.detach(), expected)
    objective.eval()
    parts = (loss := objective(encoder, batch, torch.Generator().manual_seed(0))).parts
    torch.testing.assert_close(loss.total.detach(), parts["supervised_loss"] + 0.5 * parts["self_supervised_loss"])


def test_how_far_the_training_is_is_saved(make_resnet):
    objective, other = make().prepare(make_resnet()), make().prepare(make_resnet())
    objective.after_step(make_resnet(), 0.3)
    other.load_state_dict(objective.state_dict())
    assert float(other.done) == pytest.approx(0.3)


def test_unlabelled_subjects_take_part_in_the_second_loss_alone(make_resnet, make_images):
    encoder, batch = make_resnet().eval(), make_images(4, 1, 8, 8)
    objective = make().prepare(encoder)
    assert "supervised_accuracy" in objective(encoder, batch, torch.Generator()).parts
    loss = objective(encoder, batch[[2, 3]], torch.Generator())
    assert "supervised_accuracy" not in loss.parts
    assert loss.parts["self_supervised_loss"] > 0


def test_fresh_and_epochs():
    assert make().fresh().supervised.class_of == {"s0": 0, "s1": 1}
    assert make().selects_epoch
    assert not make().needs_series
    assert not make().reads_maps
    assert Hybrid(PredictLabel(), Restoration()).reads_maps
    assert not Hybrid(PredictLabel(), DINO(Flip())).selects_epoch


def test_the_slow_copy_is_that_of_the_second(make_resnet):
    encoder = make_resnet()
    distilled = Hybrid(PredictLabel(), DINO(Flip())).with_labels(LABELS).prepare(encoder)
    assert distilled.target_encoder is distilled.self_supervised.teacher.encoder
    assert make().prepare(encoder).target_encoder is None


def test_both_learn(make_resnet, make_images, train):
    encoder, batch = make_resnet(), make_images(8, 1, 8, 8)
    objective = make().prepare(encoder)
    losses = train(objective, encoder, batch, 25, 1e-2)
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="found NTXent and NTXent"):
        Hybrid(NTXent(Flip()), NTXent(Flip()))
    with pytest.raises(ConfigError, match="found PredictLabel and PredictLabel"):
        Hybrid(PredictLabel(), PredictLabel())
    with pytest.raises(ConfigError, match="above 0, found"):
        make(final_weight=0.0)
