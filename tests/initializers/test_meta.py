"""Learning to initialise: losses are those of the networks with their predicted weights, and fall."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import ImageBatch
from graphssl.encoders import ResNet
from graphssl.errors import ConfigError, DataError
from graphssl.initializers import ArchitectureSampler, HyperNetwork, SampledNetwork, SampledNetworks, architecture_of
from graphssl.objectives.contrastive import nt_xent
from graphssl.views import AbstractView

SMALL = ArchitectureSampler(stages=(2, 2), blocks=(1, 1), widths=(8,), kinds=("conv3", "pool"), norms=("batch", "group"))
IDS = tuple(f"s{k}" for k in range(12))
LABELS = {subject: int(k % 3 == 0) for k, subject in enumerate(IDS)}


@pytest.fixture
def hypernetwork():
    torch.manual_seed(0)
    return HyperNetwork(width=8, depth=1, heads=2, side=3)


def bright(rank=2):
    """Images that are bright where the class is 1."""
    images = 0.1 * torch.randn(len(IDS), 1, *[6] * rank, generator=torch.Generator().manual_seed(1))
    images += torch.tensor(list(LABELS.values())).reshape(-1, 1, *[1] * rank)
    return ImageBatch(IDS, images, masks=(images[:, 0] > 0.5).long())


def test_the_loss_is_the_mean_over_networks_with_predicted_weights(hypernetwork):
    objective, batch = SampledNetworks("labels", LABELS, sampler=SMALL, n_networks=3), bright()
    loss = objective(hypernetwork, batch, torch.Generator().manual_seed(5))
    generator, expected = torch.Generator().manual_seed(5), []
    for _ in range(3):
        network = SampledNetwork(SMALL.draw(generator, n_outputs=2))
        (weights,) = hypernetwork.predict([architecture_of(network)])
        made = functional_call(network, weights, (batch.images,))
        expected.append(F.cross_entropy(made, torch.tensor(list(LABELS.values())), torch.tensor([12 / 16, 12 / 8])))
    assert_close(loss.total, torch.stack(expected).mean())
    assert_close(loss.parts["worst"], torch.stack(expected).max().detach())


@dataclass(frozen=True)
class Brighter(AbstractView):
    """Brightness changes from look to look."""

    def draw(self, batch, generator):
        return torch.rand(len(batch), 1, 1, 1, generator=generator)

    def apply(self, batch, draw):
        return replace(batch, images=batch.images + draw)


def test_views_are_compared_without_labels(hypernetwork):
    batch = bright()
    loss = SampledNetworks("views", view=Brighter(), sampler=SMALL, n_networks=1)(hypernetwork, batch, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    views = [Brighter()(batch, generator).images for _ in range(2)]
    network = SampledNetwork(SMALL.draw(generator))
    (weights,) = hypernetwork.predict([architecture_of(network)])
    first, second = functional_call(network, weights, (torch.cat(views),)).chunk(2)
    assert_close(loss.total, nt_xent(first, second, torch.arange(12), 0.2))


@pytest.mark.parametrize("rank", [2, 3])
def test_masks_are_learned_by_networks_with_a_decoder(hypernetwork, rank):
    pytest.importorskip("monai")
    batch = bright(rank)
    loss = SampledNetworks("masks", sampler=SMALL, n_networks=2)(hypernetwork, batch, torch.Generator().manual_seed(0))
    loss.total.backward()
    assert all(p.grad is not None for name, p in hypernetwork.named_parameters() if name != "decoder.slices" or rank == 3)


def test_the_hypernetwork_learns(hypernetwork):
    """Networks that were never drawn in training tell bright images from dark ones with predicted weights alone."""
    objective, batch = SampledNetworks("labels", LABELS, sampler=SMALL, n_networks=2), bright()
    optimizer = torch.optim.AdamW(hypernetwork.parameters(), lr=3e-3)

    def unseen():
        with torch.no_grad():
            return float(torch.stack([objective(hypernetwork, batch, torch.Generator().manual_seed(10**6 + k)).total for k in range(4)]).mean())

    before = unseen()
    for step in range(30):
        optimizer.zero_grad()
        objective(hypernetwork, batch, torch.Generator().manual_seed(step)).total.backward()
        optimizer.step()
    assert unseen() < min(0.5, before / 2)


def test_what_is_missing_is_named(hypernetwork):
    batch, generator = bright(), torch.Generator()
    with pytest.raises(ConfigError, match="Expected a task among labels, masks, views and one network or more a step, found 'boxes' and 4"):
        SampledNetworks("boxes")
    with pytest.raises(ConfigError, match="Expected the labels of the task 'labels', found none"):
        SampledNetworks("labels")
    with pytest.raises(ConfigError, match="Expected the view of the task 'views', found none"):
        SampledNetworks("views")
    with pytest.raises(ConfigError, match="Expected a HyperNetwork to train, found ResNet"):
        SampledNetworks("labels", LABELS)(ResNet(width=4, blocks=(1,)), batch, generator)
    with pytest.raises(DataError, match=r"Expected a label for every subject of the batch, found none for \['s0'\]"):
        SampledNetworks("labels", {"s1": 0, "s2": 1})(hypernetwork, batch[[0, 1]], generator)
    pytest.importorskip("monai")
    with pytest.raises(DataError, match="Expected images with segmentation masks for the task 'masks', found none"):
        SampledNetworks("masks")(hypernetwork, ImageBatch(IDS, batch.images), generator)
