"""Parts of a batch against the whole of it: the same losses and gradients for any loss."""

import copy

import pytest
import torch
from torch import nn

from graphssl.data import ColumnTokenizer, ImageBatch
from graphssl.datasets import simulate_table
from graphssl.encoders import PatientNetwork, PopulationGNN, ResNet
from graphssl.errors import ConfigError
from graphssl.graphs import PopulationBuilder
from graphssl.objectives import BYOL, DINO, BarlowTwins, NTXent, SwAV
from graphssl.training.accumulation import rows_at_once
from graphssl.views import AbstractView


class Noise(AbstractView):
    def draw(self, batch, generator):
        return 0.1 * torch.randn(batch.shape, generator=generator)

    def apply(self, batch, draw):
        return ImageBatch(batch.subject_ids, batch.images + draw)


def images(n=7, rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ImageBatch(tuple(f"patient-{k}" for k in range(n)), torch.randn(n, 1, *(6,) * rank, generator=generator))


def network(norm="group", rank=2):
    torch.manual_seed(0)
    encoder = ResNet(rank, 1, 4, (1, 1), stem="small", norm=norm).double()
    for name, parameter in encoder.named_parameters():  # blocks that start as the identity would hide their convolutions
        if name.endswith("bn2.weight"):
            nn.init.ones_(parameter)
    return encoder


def step(kind, encoder, batch, n_rows=None):
    """Loss and gradients of one step in double precision."""
    torch.manual_seed(1)
    objective = kind(Noise(), width=6, hidden=8).prepare(encoder).double()
    batch = ImageBatch(batch.subject_ids, batch.images.double())
    if n_rows is None:
        loss = objective(encoder, batch, torch.Generator().manual_seed(2))
    else:
        with rows_at_once(encoder, n_rows, maps=objective.reads_maps):
            loss = objective(encoder, batch, torch.Generator().manual_seed(2))
    loss.total.backward()
    gradients = {name: p.grad for name, p in (*encoder.named_parameters(), *objective.named_parameters()) if p.grad is not None}
    return loss.total.detach(), gradients


@pytest.mark.parametrize("kind", [NTXent, BarlowTwins, SwAV, BYOL, DINO])
@pytest.mark.parametrize("rank", [2, 3])
def test_losses_that_span_the_batch_have_the_gradients_of_the_batch(kind, rank):
    loss, gradients = step(kind, network(rank=rank), images(rank=rank))
    for n_rows in (1, 3, 7):
        found, parts = step(kind, network(rank=rank), images(rank=rank), n_rows)
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
        assert parts.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_sum_over_small_minibatches_is_another_loss():
    """Why embeddings are kept: negatives of NT-Xent are those of the whole batch."""
    whole, _ = step(NTXent, network(), images(8))
    parts = [step(NTXent, network(), images(8)[rows])[0] for rows in ([0, 1, 2, 3], [4, 5, 6, 7])]
    assert abs(float(sum(parts)) / 2 - float(whole)) > 0.1


def test_byol_without_batch_normalisation_is_the_mean_over_small_minibatches():
    """The published accumulation, micro-batch by micro-batch, is exact for what compares no rows."""
    encoder = network()
    torch.manual_seed(1)
    objective = BYOL(width=6, hidden=8).prepare(encoder).double()
    plain = nn.Linear(8, 6, dtype=torch.float64)
    objective.projector, objective.teacher.head, objective.predictor = plain, copy.deepcopy(plain).requires_grad_(False), nn.Linear(6, 6).double()
    objective.view = Noise()
    batch = ImageBatch(images(8).subject_ids, images(8).images.double())
    views = objective.look(batch, torch.Generator().manual_seed(2))

    def loss_of(rows):
        seen = tuple(view[rows] for view in views)
        return objective.compare(tuple(objective.projector(encoder(view).pooled) for view in seen), seen).total

    for rows in ([0, 1], [2, 3], [4, 5], [6, 7]):
        (loss_of(rows) / 4).backward()
    by_hand = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    encoder.zero_grad()
    with rows_at_once(encoder, 2):
        loss = loss_of(list(range(8)))
    loss.backward()
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, by_hand[name], rtol=1e-4, atol=1e-7, msg=name)


def test_batch_normalisation_is_refused_unless_it_is_frozen():
    with pytest.raises(ConfigError, match=r"found batch normalisation in \d+ places of ResNet, such as 'bn1'. Use group normalisation"):
        step(NTXent, network("batch"), images(8), 4)
    loss, gradients = step(NTXent, network("batch").eval(), images(8))
    found, parts = step(NTXent, network("batch").eval(), images(8), 4)
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_parts_of_a_batch_by_reference_are_decoded_once():
    from graphssl.data.image_batch import Pending

    class Source:
        size, has_masks, asked = (1, 6, 6), False, []

        def images(self, rows):
            self.asked.append(tuple(rows))
            return images(7).images[list(rows)].double()

    batch = ImageBatch(images(5).subject_ids, Pending(Source(), tuple(range(5))))
    encoder = network()
    with rows_at_once(encoder, 2):
        pooled = encoder(batch).pooled
    pooled.sum().backward()
    assert Source.asked == [(0, 1), (2, 3), (4,)]


def test_no_more_rows_than_asked_for_pass_at_once_and_maps_are_kept_where_they_are_read():
    encoder, seen = network(), []
    forward = encoder.forward
    encoder.forward = lambda batch: (seen.append(len(batch)), forward(batch))[1]
    batch = ImageBatch(images(7).subject_ids, images(7).images.double())
    with rows_at_once(encoder, 3):
        embedding = encoder(batch)
    embedding.pooled.sum().backward()
    assert seen == [3, 3, 1, 1, 3, 3]
    expected = forward(batch)
    for found, whole in zip((*embedding[:3], *embedding.maps), (*expected[:3], *expected.maps), strict=True):
        torch.testing.assert_close(found, whole)
    with rows_at_once(encoder, 3, maps=False):
        assert encoder(batch).maps == ()


def test_afterwards_the_encoder_is_as_it_was():
    encoder = network()
    with rows_at_once(encoder, 2):
        assert "forward" in vars(encoder)
    assert "forward" not in vars(encoder)
    with pytest.raises(ZeroDivisionError), rows_at_once(encoder, 2):
        1 / 0  # noqa: B018
    assert "forward" not in vars(encoder)


@pytest.fixture(scope="module")
def population():
    """Thirty patients of a population whose first column is hidden, and what embeds them, by whether the population is embedded whole."""
    cohort = simulate_table(n_subjects=30).cohort
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=4)
    batch = builder.fit_transform(cohort)
    hidden = torch.zeros_like(batch.hidden)
    hidden[:, 0] = True

    def encoder(whole_limit, dropout=0.0):
        torch.manual_seed(0)
        patient = PatientNetwork(8, 1, 2, dropout=dropout)
        return PopulationGNN(8, 1, heads=2, dropout=dropout, layer="sage", whole_limit=whole_limit, fan_outs=(3, 2), patient=patient).for_builder(
            builder
        )

    return batch.hide(hidden), encoder


@pytest.mark.parametrize("whole_limit", [0, 100])
def test_what_is_hidden_of_a_neighbour_is_hidden_in_every_part(population, whole_limit):
    """Without that a neighbour in another part would be read as if nothing of it were hidden."""
    batch, make = population
    encoder = make(whole_limit).eval()
    found = []
    for n_rows in (30, 7):
        encoder.zero_grad()
        with rows_at_once(encoder, n_rows):
            embedding = encoder(batch)
        embedding.pooled.square().sum().backward()
        found.append((embedding.pooled, embedding.tokens, *(weight.grad for weight in encoder.parameters() if weight.grad is not None)))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    apart = torch.cat([encoder(batch[rows]).pooled for rows in torch.arange(30).split(7)])
    assert not torch.allclose(apart, found[0][0], atol=1e-3)


def test_neighbours_are_drawn_the_same_when_a_part_is_repeated(population):
    batch, make = population
    encoder, gradients = make(0, 0.2), []
    for parts in (True, False):
        encoder.zero_grad()
        torch.manual_seed(5)
        with rows_at_once(encoder, 10):
            whole = batch.share(range(30), torch.Generator().manual_seed(6))  # as one of several processes has it
            pooled = encoder(whole).pooled if parts else torch.cat([encoder(whole.share(rows)).pooled for rows in torch.arange(30).split(10)])
        pooled.square().sum().backward()
        gradients.append([weight.grad for weight in encoder.parameters() if weight.grad is not None])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_dropout_draws_the_same_when_a_part_is_repeated():
    class Dropped(ResNet):
        def forward(self, batch):
            embedding = super().forward(batch)
            return embedding._replace(pooled=nn.functional.dropout(embedding.pooled, 0.5))

    torch.manual_seed(0)
    encoder = Dropped(2, 1, 4, (1, 1), stem="small", norm="group").double()
    batch = ImageBatch(images(6).subject_ids, images(6).images.double())
    gradients = []
    for parts in (True, False):
        encoder.zero_grad()
        torch.manual_seed(5)
        with rows_at_once(encoder, 2):
            pooled = encoder(batch).pooled if parts else torch.cat([encoder(batch[[k, k + 1]]).pooled for k in (0, 2, 4)])
        pooled.square().sum().backward()
        gradients.append(encoder.conv1.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_teacher_and_centre_move_once_for_all_parts(monkeypatch):
    """Of a training of two epochs of two steps, whose minibatches pass in three parts each."""
    from graphssl.objectives.teacher import Teacher
    from graphssl.training import TrainingSettings, fit

    moved, follow = [], Teacher.follow
    monkeypatch.setattr(Teacher, "follow", lambda self, *arguments: (moved.append(arguments[2]), follow(self, *arguments)))
    centers = {}
    for n_rows in (None, 2):
        encoder = network().float()
        torch.manual_seed(1)
        objective = DINO(Noise(), width=6, hidden=8, momentum=0.5).prepare(encoder)
        settings = TrainingSettings(max_epochs=2, batch_size=6, accelerator="cpu", rows_at_once=n_rows)
        fit(encoder, objective, images(12), None, settings)
        centers[n_rows] = objective.center
        assert len(moved) == 4
        moved.clear()
    torch.testing.assert_close(centers[2], centers[None], rtol=1e-3, atol=1e-5)
