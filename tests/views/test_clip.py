"""Pairs of frames and pairs of clips, against the rules written plainly."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import ClipPair, Flip, FramePair
from graphssl.views.clip import beta, take_frames


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clips(n, n_frames, clip=True):
    """Clips whose pixels say which frame they are, as a unit vector over channels."""
    frames = torch.eye(n_frames).view(1, n_frames, n_frames, 1, 1).expand(n, -1, -1, 4, 4)
    return ImageBatch(tuple(map(str, range(n))), frames.contiguous(), clip=clip, groups={"clip": tuple(map(str, range(n)))})


def weights(images):
    """How much of each frame is in an image `[B, T]`."""
    assert torch.equal(images.images, images.images[..., :1, :1].expand_as(images.images))
    return images.images[..., 0, 0]


@pytest.mark.parametrize("reach", [None, 4])
@pytest.mark.parametrize("clip", [True, False])
def test_three_frames_are_mixed_around_the_middle_one(reach, clip):
    batch = clips(500, 9, clip)
    view = FramePair(reach=reach)
    draw = view.draw(batch, generator())
    one, other = view.apply(batch, draw)
    assert (one.shape, one.clip, one.rank, one.groups) == ((500, 9, 4, 4), False, 2, batch.groups)
    frames = draw[0][0]
    assert (frames[:, 0] < frames[:, 1]).all()
    assert (frames[:, 1] < frames[:, 2]).all()
    assert frames.min() == 0
    assert frames.max() == 8
    assert (frames[:, 2] - frames[:, 0]).max() == (reach or 8)
    for u, v, (a, b, c) in zip(weights(one), weights(other), frames.tolist(), strict=True):
        assert u[[a, b]].sum() == pytest.approx(1.0, abs=1e-6)
        assert v[[b, c]].sum() == pytest.approx(1.0, abs=1e-6)
        assert min(u.min(), v.min()) >= 0
    middle = weights(one).gather(1, frames[:, 1:2])
    assert middle.mean() == pytest.approx(3 / 8, abs=0.03)
    assert middle.std() == pytest.approx((3 * 5 / (64 * 9)) ** 0.5, abs=0.02)
    assert not torch.allclose(middle, weights(other).gather(1, frames[:, 1:2]))


def test_more_frames_are_weighted_evenly_over_all_weights():
    one, other = (weights(images) for images in FramePair(5)(clips(2000, 5), generator()))
    assert torch.allclose(one.sum(dim=1), torch.ones(2000), atol=1e-5)
    assert torch.allclose(one.mean(dim=0), torch.full((5,), 0.2), atol=0.02)
    assert torch.allclose(one.var(dim=0), torch.full((5,), 0.2 * 0.8 / 6), atol=0.005)  # flat Dirichlet
    assert torch.corrcoef(torch.stack([one[:, 0], other[:, 0]]))[0, 1].abs() < 0.1


@pytest.mark.parametrize(("n_all", "n_frames", "expected"), [(2, 3, (0, 1)), (1, 3, (0, 0)), (1, 1, (0, 0)), (6, 1, (0, 0))])
def test_short_clips_and_single_frames(n_all, n_frames, expected):
    one, other = FramePair(n_frames)(clips(4, n_all), generator())
    assert (weights(one).argmax(dim=1) == expected[0]).all()
    assert (weights(other).argmax(dim=1) == expected[1]).all()
    assert (weights(one).max(dim=1).values == 1).all()


def test_two_frames_stay_as_they_are():
    one, other = (weights(images).argmax(dim=1) for images in FramePair(2, reach=3)(clips(200, 8), generator()))
    assert set((other - one).tolist()) == {1, 2, 3}


def test_frames_of_clips_follow_the_rule_of_the_sampler():
    batch = clips(400, 30)
    view = ClipPair(6, together=0.5)
    draw = view.draw(batch, generator())
    first, second = draw[0]
    assert (first.diff(dim=1) > 0).all()
    assert first.max() == 29
    follows = (second == (first[:, :1] + torch.arange(6)).clamp(max=29)).all(dim=1)
    assert 150 < follows.sum() < 260
    others = second[~follows]
    assert (others >= (first[~follows][:, :1] - 3)).all()
    assert (others.diff(dim=1) >= 0).all()
    one, other = view.apply(batch, draw)
    assert (one.shape, one.clip) == ((400, 30, 6, 4, 4), True)
    for row in range(5):
        assert torch.equal(one.images[row], batch.images[row][:, first[row]])
        assert torch.equal(other.images[row], batch.images[row][:, second[row]])


@pytest.mark.parametrize("n_all", [1, 3])
def test_clips_with_too_few_frames_repeat_some(n_all):
    one, other = ClipPair(4)(clips(50, n_all), generator())
    for images in (one, other):
        found = images.images[..., 0, 0].argmax(dim=1)
        assert found.shape == (50, 4)
        assert (found.diff(dim=1) >= 0).all()
    assert set(one.images[..., 0, 0].argmax(dim=1).flatten().tolist()) == set(range(n_all))


def test_masks_stay_with_their_frames_in_clips_and_go_where_frames_are_mixed():
    batch = clips(3, 8)
    labelled = ImageBatch(batch.subject_ids, batch.images, torch.arange(8).view(1, 8, 1, 1).expand(3, 8, 4, 4), clip=True)
    one, _ = ClipPair(4)(labelled, generator())
    assert torch.equal(one.masks[..., 0, 0], one.images[..., 0, 0].argmax(dim=1))
    assert FramePair()(labelled, generator())[0].masks is None


def test_each_image_is_looked_at_on_its_own():
    sides = ImageBatch(("a",) * 100, torch.arange(4.0).view(1, 1, 1, 1, 4).expand(100, 1, 1, 4, 4), clip=True)
    one, other = FramePair(1, then=Flip((-1,)))(sides, generator())
    mirrored = [images.images[:, 0, 0, 0] > 0 for images in (one, other)]
    assert 20 < (mirrored[0] != mirrored[1]).sum() < 80
    assert ClipPair(1, then=Flip((-1,)))(sides, generator())[0].clip


def test_the_beta_distribution():
    numbers = beta(3, 5, (20000,), generator())
    assert numbers.mean() == pytest.approx(3 / 8, abs=0.01)
    assert numbers.var() == pytest.approx(15 / (64 * 9), abs=0.002)
    assert torch.equal(take_frames(torch.arange(3.0).view(1, 1, 3, 1, 1), torch.tensor([[2, 0]])).flatten(), torch.tensor([2.0, 0.0]))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: FramePair(0), "frames, reach and shape above 0"),
        (lambda: FramePair(reach=0), "frames, reach and shape above 0"),
        (lambda: ClipPair(0), "frames above 0"),
        (lambda: ClipPair(together=2.0), r"a probability in \[0, 1\]"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, match):
    with pytest.raises(ConfigError, match=match):
        make()


@pytest.mark.parametrize("view", [FramePair(), ClipPair()])
def test_images_have_no_frames(view):
    with pytest.raises(DataError, match="Expected clips or volumes to take frames of, found images of 2 axes"):
        view(ImageBatch(("a",), torch.zeros(1, 1, 4, 4)), generator())
