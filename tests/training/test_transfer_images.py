"""Models of images on images of another kind: what is kept, what is fitted anew, what is refused."""

import pytest
import torch

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet, SliceTransformer
from graphssl.errors import CheckpointError, DataError
from graphssl.initializers import VariableDimension, inflated
from graphssl.objectives import PredictLabel
from graphssl.training import TrainingSettings, finetune, pretrain, transfer_images, untrained

SMALL = {"width": 4, "blocks": (1, 1), "stem": "small"}
QUICK = TrainingSettings(max_epochs=1, batch_size=8, accelerator="cpu")


@pytest.fixture(scope="module")
def volumes():
    return simulate_images(12, size=16, rank=3, seed=1)


def test_a_3d_network_pre_trained_on_labelled_2d_images_is_fine_tuned_on_volumes(volumes):
    """CSPR end to end: colours as slices, no stride along depth, then volumes with strides along it."""
    images = simulate_images(16, size=16, n_channels=3)
    encoder = ResNet(3, depth_stride=False, **SMALL)
    objective = PredictLabel(view=VariableDimension())
    model = pretrain(images, objective=objective, encoder=encoder, builder=ImageBuilder(), settings=QUICK)
    ready = transfer_images(model, volumes, builder=ImageBuilder(size=(8, 16, 16)), encoder=ResNet(3, depth_stride=True, **SMALL))
    assert ready.encoder.depth_stride
    for name, weight in model.encoder.state_dict().items():
        assert torch.equal(ready.encoder.state_dict()[name], weight), name
    assert ready.builder.rank_ == 3
    tuned = finetune(ready, volumes, mode="probe")
    assert tuned.predict_proba(volumes).shape == (12, 2)
    assert "transferred to" in tuned.card


def test_a_2d_model_becomes_a_3d_one(volumes):
    model = untrained(simulate_images(8, size=16), encoder=ResNet(**SMALL), builder=ImageBuilder())
    ready = transfer_images(model, volumes, encoder=ResNet(3, **SMALL), inflation="centre")
    expected = inflated(model.encoder, "centre").state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in ready.encoder.state_dict().items())


def test_a_2d_model_becomes_the_network_of_slices(volumes):
    model = untrained(simulate_images(8, size=16), encoder=ResNet(**SMALL), builder=ImageBuilder())
    wanted = SliceTransformer(width=8, depth=1, heads=2, slice_width=4, blocks=(1, 1), stem="small")
    ready, other = (transfer_images(model, volumes, encoder=wanted, seed=seed) for seed in (0, 1))
    assert all(torch.equal(weight, ready.encoder.network.state_dict()[name]) for name, weight in model.encoder.state_dict().items())
    assert not ready.encoder.gather.weight.equal(other.encoder.gather.weight)


def test_intensities_are_those_of_the_new_cohort():
    first, second = simulate_images(8, size=16), simulate_images(8, size=16, seed=5, effect=3.0)
    model = untrained(first, encoder=ResNet(**SMALL), builder=ImageBuilder())
    ready = transfer_images(model, second)
    assert ready.builder.state()[0]["preparation"] == ImageBuilder().fit(second).state()[0]["preparation"]
    assert model.builder.state()[0]["preparation"] == ImageBuilder().fit(first).state()[0]["preparation"]


def test_what_does_not_fit_is_refused(volumes, make_cohort, make_encoder):
    model = untrained(simulate_images(8, size=16, n_channels=3), encoder=ResNet(in_channels=3, **SMALL), builder=ImageBuilder())
    with pytest.raises(CheckpointError, match="first kernel of 2 channels, or of one to spread over them, found 3"):
        transfer_images(model, volumes, encoder=ResNet(3, in_channels=2, **SMALL))
    with pytest.raises(CheckpointError, match="Take a checkpoint of the same size"):
        transfer_images(model, volumes, encoder=ResNet(3, **{**SMALL, "width": 8}))
    connectomes = untrained(make_cohort(n_subjects=6), encoder=make_encoder())
    with pytest.raises(DataError, match="Expected a model of images to transfer, found one made by a ConnectomeBuilder"):
        transfer_images(connectomes, volumes)
