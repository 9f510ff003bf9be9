"""Weights of pairs: the weighted contrast in loops, the gradient through the tried step by finite differences, and that bad pairs lose weight."""

import copy
import math

import pytest
import torch
from torch import nn

from graphssl.data import ImageBatch
from graphssl.encoders import AbstractEncoder, Embedding, ResNet
from graphssl.errors import ConfigError, DataError
from graphssl.objectives.contrastive import nt_xent, nt_xent_logits
from graphssl.training.accumulation import rows_at_once
from graphssl.training.meta import MetaContrast, PairWeights
from graphssl.training.meta.sample_weights import set_aside, weighted_contrast
from graphssl.views import FramePair, ImageNoise, MultiCrop

NOISE = ImageNoise((0.1, 0.2))


class Flat(AbstractEncoder):
    """A linear map of four pixels."""

    def __init__(self, width=4):
        super().__init__()
        self.width = self.token_width = self.pooled_width = width
        self.linear = nn.Linear(4, width)

    def forward(self, batch):
        pooled = self.linear(batch.images.flatten(start_dim=1))
        return Embedding(pooled.unsqueeze(1), torch.ones(len(pooled), 1, dtype=torch.bool), pooled)


def clips(n=12, n_bad=0, size=2, dtype=torch.float32):
    """Clips of two frames: the same twice, but for bad ones, whose second frame is that of another."""
    first = torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    second = first.clone()
    second[:n_bad] = first[torch.arange(n_bad).roll(1)]
    return ImageBatch(tuple(map(str, range(n))), torch.stack([first, second], dim=2), clip=True)


def make(encoder=None, **arguments):
    torch.manual_seed(0)
    encoder = encoder or Flat()
    settings = {"inner_decay": 0.0, "clean_share": 0.5, "width": 8, "hidden": 16, **arguments}
    return encoder, MetaContrast(FramePair(n_frames=2, then=NOISE), **settings).prepare(encoder)


def test_weights_that_are_alike_give_nt_xent():
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    logits, target = nt_xent_logits(first, second, torch.arange(5), 0.5)
    torch.testing.assert_close(weighted_contrast(logits, target, torch.full((5,), 0.3)), nt_xent(first, second, torch.arange(5), 0.5))


def test_the_weighted_contrast_is_that_of_loops():
    first, second = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([0.1, 0.9, 0.5, 0.2])
    vectors = [v / v.norm() for v in (*first, *second)]
    total, whole = 0.0, 0.0
    for i in range(8):
        scores = {k: float(vectors[i] @ vectors[k]) / 0.5 for k in range(8) if k != i}
        loss = math.log(sum(map(math.exp, scores.values()))) - scores[(i + 4) % 8]
        total += float(weights[i % 4]) * loss
        whole += float(weights[i % 4])
    found = weighted_contrast(*nt_xent_logits(first, second, torch.arange(4), 0.5), weights)
    assert float(found) == pytest.approx(total / whole, rel=1e-5)


def test_weights_are_between_zero_and_one_and_read_both_views():
    net = PairWeights(3, hidden=4)
    first, second = torch.randn(2, 6, 3)
    weights = net(first, second)
    assert ((weights > 0) & (weights < 1)).all()
    assert not torch.equal(weights, net(first, second.flip(0)))


def tried(encoder, objective, views, clean):
    """Clean contrast after one step on the weighted contrast, on copies, written out."""
    encoder, projector = copy.deepcopy(encoder), copy.deepcopy(objective.projector)
    first, second = (encoder(view).pooled for view in views)
    weights = objective.pair_weights(first, second).detach()
    subjects = torch.arange(len(first))
    loss = weighted_contrast(*nt_xent_logits(projector(first), projector(second), subjects, objective.temperature), weights)
    parameters = [*encoder.parameters(), *projector.parameters()]
    with torch.no_grad():
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter -= objective.inner_rate * (gradient + objective.inner_decay * parameter)
        return nt_xent(*(projector(encoder(view).pooled) for view in clean), torch.arange(len(clean[0])), objective.temperature)


def test_the_gradient_through_the_tried_step_is_that_of_finite_differences():
    encoder, objective = make(inner_rate=0.5, inner_decay=0.01, weight_hidden=3)
    encoder, objective = encoder.double(), objective.double()
    batch = clips(dtype=torch.float64)
    source = torch.Generator().manual_seed(0)
    views, clean = objective.look(batch[list(range(7))], source), objective.clean(batch[list(range(7, 12))], source)
    loss, gradients = objective.clean_gradient(encoder, views, clean)
    assert float(loss) == pytest.approx(float(tried(encoder, objective, views, clean)), rel=1e-9)
    step, checked = 1e-5, 0
    for name, parameter in objective.pair_weights.named_parameters():
        for place in range(parameter.numel()):
            both = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[place] += sign * step
                both.append(float(tried(encoder, objective, views, clean)))
                with torch.no_grad():
                    parameter.view(-1)[place] -= sign * step
            difference = (both[0] - both[1]) / (2 * step)
            assert float(gradients[f"pair_weights.{name}"].view(-1)[place]) == pytest.approx(difference, rel=1e-4, abs=1e-9)
            checked += abs(difference) > 1e-6
    assert checked > 10


def test_bad_pairs_lose_weight():
    """Three pairs in ten are of different clips."""
    batch = clips(64, n_bad=20)
    encoder, objective = make(inner_rate=0.1, weight_rate=1e-2, weight_hidden=32)
    learned = [*encoder.parameters(), *objective.projector.parameters()]
    optimizer = torch.optim.Adam(learned, lr=3e-3)
    for step in range(80):
        loss = objective(encoder, batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    with torch.no_grad():
        first, second = objective.look(batch, torch.Generator().manual_seed(999))
        weights = objective.pair_weights(encoder(first).pooled, encoder(second).pooled)
    assert weights[:20].mean() < 0.8 * weights[20:].mean()


def test_a_step_moves_the_weights_by_adam_and_nothing_else_of_its_own():
    encoder, objective = make(weight_rate=0.01)
    peer = copy.deepcopy(objective.pair_weights)
    optimizer = torch.optim.Adam(peer.parameters(), lr=0.01)
    batch = clips()
    before = copy.deepcopy(encoder.state_dict())
    for step in range(3):
        source = torch.Generator().manual_seed(step)
        aside = set_aside(batch, 0.5, source)
        views = objective.look(batch[~aside], source)
        _, gradients = objective.clean_gradient(encoder, views, objective.clean(batch[aside], source))
        for name, parameter in peer.named_parameters():
            parameter.grad = gradients[f"pair_weights.{name}"]
        optimizer.step()
        objective(encoder, batch, torch.Generator().manual_seed(step))
        for mine, theirs in zip(objective.pair_weights.parameters(), peer.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.pair_weights.parameters())


def test_the_encoder_learns_from_the_weighted_contrast_alone():
    encoder, objective = make()
    batch = clips()
    objective(encoder, batch, torch.Generator().manual_seed(1)).total.backward()
    found = encoder.linear.weight.grad.clone()
    source = torch.Generator().manual_seed(1)
    aside = set_aside(batch, 0.5, source)
    first, second = (encoder(view).pooled for view in objective.look(batch[~aside], source))
    logits = nt_xent_logits(objective.projector(first), objective.projector(second), torch.arange(6), 0.5)
    (expected,) = torch.autograd.grad(weighted_contrast(*logits, objective.pair_weights(first, second).detach()), encoder.linear.weight)
    torch.testing.assert_close(found, expected)
    assert all(parameter.grad is None for parameter in objective.pair_weights.parameters())


def test_running_means_are_moved_by_the_real_step_alone():
    torch.manual_seed(0)
    encoder, objective = make(ResNet(width=2, blocks=(1,), stem="small"))
    batch, peer = clips(size=4), copy.deepcopy(encoder)
    objective(encoder, batch, torch.Generator().manual_seed(1))
    source = torch.Generator().manual_seed(1)
    aside = set_aside(batch, 0.5, source)
    for view in objective.look(batch[~aside], source):
        peer(view)
    for name, value in peer.named_buffers():
        torch.testing.assert_close(encoder.get_buffer(name), value)


def test_a_resumed_training_goes_on_with_the_same_numbers():
    first, objective = make()
    second, other = make()
    objective(first, clips(), torch.Generator().manual_seed(0))
    other.load_state_dict(objective.state_dict())
    losses = [each(encoder, clips(), torch.Generator().manual_seed(1)) for each, encoder in ((objective, first), (other, second))]
    assert torch.equal(losses[0].total, losses[1].total)
    assert torch.equal(objective.moments, other.moments)
    assert float(other.n_moves) == 2


def test_subjects_are_set_aside_whole():
    batch = ImageBatch(("a", "a", "b", "c", "d", "e", "e"), torch.zeros(7, 1, 2, 2))
    aside = set_aside(batch, 0.5, torch.Generator().manual_seed(0))
    chosen = {subject for subject, out in zip(batch.subject_ids, aside.tolist(), strict=True) if out}
    kept = {subject for subject, out in zip(batch.subject_ids, aside.tolist(), strict=True) if not out}
    assert len(chosen) == 2
    assert not chosen & kept
    assert not set_aside(batch[[0, 1, 2, 3]], 0.5, torch.Generator()).any(), "three subjects are too few"
    assert int(set_aside(ImageBatch(tuple("abcd"), torch.zeros(4, 1, 2, 2)), 0.9, torch.Generator()).sum()) == 2


def test_few_subjects_are_weighted_and_teach_no_weights():
    encoder, objective = make()
    loss = objective(encoder, clips(3), torch.Generator())
    assert "clean_loss" not in loss.parts
    assert float(objective.n_moves) == 0
    with pytest.raises(DataError, match="at least two subjects"):
        objective(encoder, clips(1), torch.Generator())


def test_validation_weighs_all_alike():
    encoder, objective = make()
    objective.eval()
    batch = clips()
    loss = objective(encoder, batch, torch.Generator().manual_seed(0))
    projected = [objective.projector(encoder(view).pooled) for view in objective.look(batch, torch.Generator().manual_seed(0))]
    torch.testing.assert_close(loss.total, nt_xent(*projected, torch.arange(12), 0.5))


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="clean_share between 0 and 1 and no negative inner_decay, found 1.0"):
        MetaContrast(clean_share=1.0)
    with pytest.raises(ConfigError, match="above 0, found"):
        MetaContrast(inner_rate=0.0)
    with pytest.raises(ConfigError, match="two large looks at a row"):
        MetaContrast(clean=MultiCrop(NOISE, NOISE, n_large=3))
    encoder, objective = make()
    with rows_at_once(encoder, 4), pytest.raises(ConfigError, match="Leave rows_at_once out"):
        objective(encoder, clips(), torch.Generator())
