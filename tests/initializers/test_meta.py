"""Learning to initialise: losses are those of the networks with their predicted weights, and fall."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import ImageBatch, ImageBuilder
from graphssl.datasets import simulate_images, simulate_table
from graphssl.encoders import ResNet
from graphssl.errors import ConfigError, DataError
from graphssl.initializers import ArchitectureSampler, HyperInitializer, HyperNetwork, SampledNetwork, SampledNetworks, architecture_of
from graphssl.objectives.contrastive import nt_xent
from graphssl.training import Model, TrainingSettings, pretrain, transfer_images
from graphssl.views import AbstractView

SMALL = ArchitectureSampler(stages=(2, 2), blocks=(1, 1), widths=(8,), kinds=("conv3", "pool"), norms=("batch", "group"))
IDS = tuple(f"s{k}" for k in range(12))
LABELS = {subject: "bright" if k % 3 == 0 else "_dark" for k, subject in enumerate(IDS)}
CLASSES = torch.tensor([int(label == "bright") for label in LABELS.values()])


@pytest.fixture
def hypernetwork():
    torch.manual_seed(0)
    return HyperNetwork(width=8, depth=1, heads=2, side=3)


def bright(rank=2):
    """Images that are bright or not."""
    images = 0.1 * torch.randn(len(IDS), 1, *[6] * rank, generator=torch.Generator().manual_seed(1))
    images += CLASSES.reshape(-1, 1, *[1] * rank)
    return ImageBatch(IDS, images, masks=(images[:, 0] > 0.5).long())


def test_the_loss_is_the_mean_over_networks_with_predicted_weights(hypernetwork):
    objective, batch = SampledNetworks(sampler=SMALL, n_networks=3).with_labels(LABELS), bright()
    loss = objective(hypernetwork, batch, torch.Generator().manual_seed(5))
    generator, expected = torch.Generator().manual_seed(5), []
    for _ in range(3):
        network = SampledNetwork(replace(SMALL.draw(generator), n_outputs=2))
        (weights,) = hypernetwork.predict([architecture_of(network)])
        made = functional_call(network, weights, (batch.images,))
        expected.append(F.cross_entropy(made, CLASSES, torch.tensor([12 / 16, 12 / 8])))
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
    loss = SampledNetworks("masks", sampler=SMALL, n_networks=2, n_classes=2)(hypernetwork, batch, torch.Generator().manual_seed(0))
    loss.total.backward()
    assert all(p.grad is not None for name, p in hypernetwork.named_parameters() if name != "decoder.slices" or rank == 3)


def test_the_hypernetwork_learns(hypernetwork):
    """Networks that were never drawn in training tell bright images from dark ones with predicted weights alone."""
    objective, batch = SampledNetworks(sampler=SMALL, n_networks=2).with_labels(LABELS), bright()
    optimizer = torch.optim.AdamW(hypernetwork.parameters(), lr=1e-2)

    def unseen():
        with torch.no_grad():
            return float(torch.stack([objective(hypernetwork, batch, torch.Generator().manual_seed(10**6 + k)).total for k in range(4)]).mean())

    before = unseen()
    for step in range(20):
        optimizer.zero_grad()
        objective(hypernetwork, batch, torch.Generator().manual_seed(step)).total.backward()
        optimizer.step()
    assert unseen() < min(0.5, before / 2)


def test_rows_without_a_label_are_left_out(hypernetwork):
    objective = SampledNetworks(sampler=SMALL, n_networks=1).with_labels({f"s{k}": LABELS[f"s{k}"] for k in range(6)})
    every, labelled = (objective(hypernetwork, bright()[list(range(n))], torch.Generator().manual_seed(0)).total for n in (12, 6))
    assert_close(every, labelled)


def test_labels_and_classes_of_masks_are_those_of_the_cohort():
    cohort = simulate_images(12, size=12)
    told = SampledNetworks().for_cohort(cohort)
    diagnosis = cohort.subjects["diagnosis"]
    assert told.reads_labels
    assert told.class_of == {subject: ["benign", "malignant"].index(label) for subject, label in diagnosis.items()}
    assert told.fresh().class_of == told.class_of
    assert told.for_cohort(simulate_images(4, size=12, seed=1)).class_of == told.class_of  # what it was given stays
    assert not SampledNetworks("views", view=Brighter()).reads_labels
    assert SampledNetworks("views", view=Brighter()).for_cohort(cohort).with_labels({"a": "b"}).class_of is None
    pytest.importorskip("monai")
    assert SampledNetworks("masks").for_cohort(cohort).n_classes == 2


def test_what_is_missing_is_named(hypernetwork):
    batch, generator = bright(), torch.Generator()
    with pytest.raises(ConfigError, match="Expected a task among labels, masks, views and one network or more a step, found 'boxes' and 4"):
        SampledNetworks("boxes")
    with pytest.raises(ConfigError, match="Expected a view for the task 'views', found none"):
        SampledNetworks("views")
    with pytest.raises(ConfigError, match="Expected SampledNetworks that know labels, found none"):
        SampledNetworks()(hypernetwork, batch, generator)
    with pytest.raises(DataError, match=r"Expected labels of two classes or more to predict, found \['a'\]"):
        SampledNetworks().with_labels({"s0": "a"})
    with pytest.raises(ConfigError, match="Expected a HyperNetwork to train on SampledNetworks, found ResNet"):
        SampledNetworks().with_labels(LABELS)(ResNet(width=4, blocks=(1,)), batch, generator)
    pytest.importorskip("monai")
    with pytest.raises(DataError, match="Expected images with segmentation masks, and the number of their classes, found none"):
        SampledNetworks("masks")(hypernetwork, batch, generator)
    with pytest.raises(DataError, match="Expected images with segmentation masks in 'plain' for the task 'masks', found none"):
        SampledNetworks("masks").for_cohort(simulate_table(n_subjects=8, columns=2, name="plain").cohort)


def test_it_pre_trains_like_any_objective(tmp_path):
    """From a cohort to an initialiser, and from that to an encoder of another architecture."""
    cohort = simulate_images(16, size=12)
    model = pretrain(
        cohort,
        encoder=HyperNetwork(width=8, depth=1, heads=2, side=3),
        objective=SampledNetworks(sampler=SMALL, n_networks=1),
        settings=TrainingSettings(max_epochs=2, batch_size=8, accelerator="cpu"),
        builder=ImageBuilder(),
    )
    initializer = HyperInitializer.from_pretrained(model.save_pretrained(tmp_path / "encoder"))
    assert initializer.card["trained on"].startswith("images, 14 subjects")
    assert Model.from_pretrained(tmp_path / "encoder").encoder.arguments() == model.encoder.arguments()
    ready = transfer_images(model, cohort, encoder=ResNet(width=4, blocks=(1, 1), stem="small"))
    expected = ResNet(width=4, blocks=(1, 1), stem="small")
    initializer.initialize(expected, leave_out=())
    for name, weight in ready.encoder.named_parameters():
        assert_close(weight, dict(expected.named_parameters())[name], rtol=1e-4, atol=1e-5)
    assert int(ready.encoder.bn1.num_batches_tracked) == 1  # statistics of the cohort
    assert not ready.encoder.bn1.running_mean.equal(torch.zeros(4))
    assert ready.encoder.bn1.momentum == 0.1
    assert "left alone: none" in ready.card["weights predicted"]
    with pytest.raises(ConfigError, match="Expected an encoder for the hypernetwork to initialise, found none"):
        transfer_images(model, cohort)
    with pytest.raises(ConfigError, match="Expected architectures before a HyperNetwork, found ImageBatch"):
        model.embed(cohort)
