"""Masked slices against a loop over slices; the network that makes them is left alone, and so is what is predicted."""

from dataclasses import replace

import pytest
import torch

from graphssl.encoders import SliceTransformer
from graphssl.errors import ConfigError
from graphssl.objectives import MaskedSlices
from graphssl.objectives.masked_slices import running_statistics


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def make_slices():
    def make(**changes):
        torch.manual_seed(0)
        return SliceTransformer(
            **{"width": 8, "depth": 1, "heads": 2, "dropout": 0.0, "slice_width": 4, "blocks": (1, 1), "stem": "small", **changes}
        )

    return make


def prepared(encoder, **options):
    torch.manual_seed(1)
    return MaskedSlices(**options).prepare(encoder)


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_the_error_is_that_of_the_slices_that_count(make_slices, make_patients, loss_on):
    encoder, batch = make_slices().eval(), make_patients(3, 3)
    objective = prepared(encoder, ratio=0.3, loss_on=loss_on)
    loss = objective(encoder, batch, generator(2))
    with torch.no_grad():
        alone = encoder.slice_tokens(batch.images)
        hidden = torch.rand(3, 6, generator=generator(2)).argsort(dim=1).argsort(dim=1) < 2  # round(0.3 · 6)
        predicted = objective.decoder(encoder.mix(alone, hidden))
    total, n = 0.0, 0
    for row in range(3):
        for place in range(6):
            if loss_on == "all" or hidden[row, place]:
                total, n = total + float((predicted[row, place] - alone[row, place]).square().mean()), n + 1
    assert n == (18 if loss_on == "all" else 6)
    assert float(loss.total.detach()) == pytest.approx(total / n, rel=1e-4)


def test_masked_only_gives_visible_slices_no_error(make_slices):
    objective = prepared(make_slices(), loss_on="masked")
    predicted = torch.randn(2, 6, 8, generator=generator(), requires_grad=True)
    alone, hidden = torch.randn(2, 6, 8, generator=generator(1)), torch.arange(6).expand(2, 6) == 2
    objective.error(predicted, alone, hidden).backward()
    assert not predicted.grad[~hidden].any()
    assert predicted.grad[hidden].abs().min() > 0


def test_the_gradient_reaches_what_mixes_slices_and_nothing_before(make_slices, make_patients, noise):
    encoder = make_slices()
    objective = prepared(encoder, view=noise())
    objective(encoder, make_patients(3, 3), generator()).total.backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == name.startswith(("network.", "gather.")), name
    assert encoder.hidden.grad.abs().max() > 0
    assert objective.decoder.weight.grad.abs().max() > 0


def test_the_network_keeps_its_running_means_and_the_encoder_its_mode(make_slices, make_patients):
    encoder = make_slices(norm="batch")
    before = encoder.network.bn1.running_mean.clone()
    encoder.train()
    prepared(encoder)(encoder, make_patients(3, 3), generator())
    assert torch.equal(encoder.network.bn1.running_mean, before)
    assert all(part.training for part in encoder.modules())
    encoder.network.eval()
    with running_statistics(encoder):
        assert not any(part.training for part in encoder.modules())
    assert encoder.training
    assert not encoder.network.training


def test_two_views_are_drawn_where_there_is_one(make_slices, make_patients, noise):
    encoder, batch = make_slices().eval(), make_patients(3, 3)
    once, twice = (prepared(encoder, view=view)(encoder, batch, generator(2)).total for view in (None, noise()))
    assert float((once - twice).detach().abs()) > 1e-6
    source = generator(2)
    objective = prepared(encoder, view=noise())
    views = [noise()(batch, source), noise()(batch, source)]
    plain = prepared(encoder)
    found = [plain(encoder, view, source).total for view in views]
    torch.testing.assert_close(objective(encoder, batch, generator(2)).total, sum(found) / 2)


def test_the_order_of_volumes_does_not_matter(make_slices, make_patients):
    encoder, batch = make_slices().eval(), make_patients(4, 3)
    objective, hidden = prepared(encoder), torch.arange(6).expand(4, 6) % 4 == 1
    alone = encoder.slice_tokens(batch.images)
    found = encoder.mix(alone[[2, 0, 3, 1]], hidden)
    torch.testing.assert_close(found, encoder.mix(alone, hidden)[[2, 0, 3, 1]])
    assert objective.reads_maps


def test_the_loss_falls_below_the_mean(make_slices, make_patients, train):
    encoder = make_slices()
    objective = prepared(encoder, ratio=0.2)
    batch = make_patients(8, 3)
    batch = replace(batch, images=3 * batch.images[:, :, :1] + 0.2 * batch.images)  # slices of a volume are alike
    losses = train(objective, encoder, batch, 80, 1e-2)
    parts = objective(encoder, batch, generator(80)).parts
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert sum(losses[-5:]) / 5 < float(parts["mean_error"])


@pytest.mark.parametrize("wrong", [{"ratio": 0.0}, {"ratio": 1.0}, {"loss_on": "visible"}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ConfigError, match="Expected 0 < ratio < 1 and loss_on 'all' or 'masked', found"):
        MaskedSlices(**wrong)


def test_another_encoder_is_refused(make_resnet):
    with pytest.raises(ConfigError, match="Expected a SliceTransformer, whose slices learn from one another, found ResNet"):
        MaskedSlices().prepare(make_resnet())


def test_one_that_is_not_prepared_is_refused(make_slices, make_patients):
    with pytest.raises(ConfigError, match="prepared for an encoder"):
        MaskedSlices()(make_slices(), make_patients(2, 3), generator())
