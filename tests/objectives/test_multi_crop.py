"""Small views: all pairs with a whole view count, all of one size pass the encoder together; frozen prototypes get no gradient."""

import pytest
import torch

from graphssl.errors import ConfigError
from graphssl.objectives import DINO, SwAV
from graphssl.objectives.multi_crop import check_share, cross_entropies

KINDS = (DINO, SwAV)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n_views", [2, 3, 5])
def test_all_pairs_count_but_a_view_with_itself(n_views):
    scores = list(torch.randn(n_views, 4, 6, generator=generator(), dtype=torch.float64).requires_grad_().unbind())
    targets = list(torch.rand(2, 4, 6, generator=generator(1), dtype=torch.float64).softmax(dim=2).unbind())
    slow, n = 0.0, 0
    for whole in range(2):
        for other in range(n_views):
            if whole != other:
                for row in range(4):
                    slow, n = slow - (targets[whole][row] * torch.log_softmax(scores[other][row] / 0.3, dim=0)).sum(), n + 1
    torch.testing.assert_close(cross_entropies(scores, targets, 0.3), slow / n)


def test_mixed_precision_leaves_assignments_and_losses_as_they_are():
    from graphssl.objectives.clustering import sinkhorn

    scores = list((2 * torch.rand(4, 16, 500, generator=generator()) - 1).unbind())
    expected = sinkhorn(scores[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assigned = sinkhorn(scores[0])
        loss = cross_entropies(scores, [assigned, assigned], 0.1)
    torch.testing.assert_close(assigned, expected)
    torch.testing.assert_close(loss, cross_entropies(scores, [expected, expected], 0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_small_views_pass_the_encoder_at_once_and_train_it(make_resnet, make_patients, crops, kind):
    torch.manual_seed(1)
    encoder, seen = make_resnet(norm="group"), []
    objective = kind(crops(3), 5, width=6, hidden=8).prepare(encoder)
    encoder.register_forward_pre_hook(lambda module, arguments: seen.append(tuple(arguments[0].shape)))
    assert not objective.selects_epoch
    loss = objective(encoder, make_patients(), generator())
    assert seen == [(6, 1, 8, 8), (6, 1, 8, 8), (18, 1, 4, 4)]
    loss.total.backward()
    assert encoder.conv1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_prototypes_wait_for_their_share_of_the_training(make_resnet, make_patients, noise, kind):
    torch.manual_seed(1)
    encoder = make_resnet(norm="group")
    objective = kind(noise(), width=6, hidden=8, frozen=0.5).prepare(encoder)
    for progress, moves in ((0.0, False), (0.4, False), (0.5, True)):
        objective.after_step(encoder, progress)
        objective.zero_grad()
        objective(encoder, make_patients(), generator()).total.backward()
        assert (objective.prototypes.directions.grad is not None) == moves
        assert encoder.conv1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_how_far_the_training_is_belongs_to_the_state(make_resnet, noise, kind):
    encoder = make_resnet(norm="group")
    objective, other = (kind(noise(), width=6, hidden=8, frozen=0.5).prepare(encoder) for _ in range(2))
    objective.after_step(encoder, 0.25)
    other.load_state_dict(objective.state_dict())
    assert float(other.progress) == 0.25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frozen": 1.5}, r"Expected frozen to be a share of the training in \[0, 1\], found \{'frozen': 1.5\}"),
        ({"n_prototypes": 0}, r"above 0, found \{'n_prototypes': 0\}"),
    ],
)
def test_impossible_arguments_are_refused(kind, wrong, message):
    with pytest.raises(ConfigError, match=message):
        kind(**wrong)


def test_shares_are_named():
    check_share(a=0.0, b=1.0)
    with pytest.raises(ConfigError, match=r"Expected a, b to be a share of the training in \[0, 1\], found \{'b': -0.1\}"):
        check_share(a=0.0, b=-0.1)
