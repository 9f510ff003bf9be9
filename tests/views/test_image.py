"""What all views of images share: a share of the rows, clips frame by frame alike, masks that move along, and steps that replay."""

from dataclasses import replace

import pytest
import torch

from graphssl.data import ImageBatch, TableBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import (
    Affine,
    BandEnergy,
    BezierCurve,
    Blur,
    Compose,
    Crop,
    Cutout,
    Flip,
    Gamma,
    GridShuffle,
    HistogramShift,
    ImageNoise,
    IntensityJitter,
    LocalShuffle,
    ResizedCrop,
    Rotate90,
    Speckle,
)
from graphssl.views.image import AbstractIntensityView

SHAPES = {"image": (2, 16, 12), "volume": (1, 8, 12, 12), "clip": (2, 3, 16, 12)}
VIEWS = [
    Affine(15.0, shear=0.1),
    BandEnergy(2),
    BezierCurve(),
    Blur(),
    Cutout(),
    Flip((-1, -2)),
    Gamma(),
    GridShuffle(2),
    HistogramShift(),
    ImageNoise(),
    IntensityJitter(),
    LocalShuffle(4, 0.3),
    Speckle(),
]
SIZED = [Crop(6), ResizedCrop(6)]


def batch_of(kind, n=5, seed=0, masks=True):
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[kind]
    images = torch.randn(n, *shape, generator=generator)
    labels = torch.randint(0, 3, (n, *shape[1:]), generator=generator) if masks else None
    return ImageBatch(tuple(f"s{k}" for k in range(n)), images, labels, clip=kind == "clip")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("view", VIEWS + SIZED, ids=lambda view: type(view).__name__)
def test_steps_replay_and_rows_do_not_hear_of_one_another(view, kind):
    batch = batch_of(kind)
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw)
    assert torch.equal(view(batch, generator()).images, seen.images)
    assert not torch.equal(view(batch, generator(1)).images, seen.images)
    assert torch.isfinite(seen.images).all()
    assert torch.equal(batch.images, batch_of(kind).images), "the batch itself was changed"
    for row in range(len(batch)):
        alone = view.change(batch[[row]], tuple(tensor[[row]] for tensor in draw.what))
        assert torch.allclose(alone.images[0], seen.images[row], atol=1e-5)
        assert torch.equal(alone.masks[0], seen.masks[row])


@pytest.mark.parametrize("view", VIEWS + SIZED, ids=lambda view: type(view).__name__)
def test_double_precision_stays_double(view):
    batch = batch_of("volume")
    twice = view(replace(batch, images=batch.images.double()), generator())
    assert twice.images.dtype == torch.float64
    assert torch.allclose(twice.images.float(), view(batch, generator()).images, atol=1e-4)


@pytest.mark.parametrize("view", VIEWS + SIZED, ids=lambda view: type(view).__name__)
def test_frames_of_a_clip_are_seen_alike(view):
    """A clip of one frame repeated stays one frame repeated, but for noise."""
    clip = batch_of("clip")
    still = replace(clip, images=clip.images[:, :, :1].expand_as(clip.images), masks=clip.masks[:, :1].expand_as(clip.masks))
    seen = view(still, generator())
    if not isinstance(view, (ImageNoise, Speckle)) and not (isinstance(view, Cutout)):
        assert torch.allclose(seen.images, seen.images[:, :, :1].expand_as(seen.images), atol=1e-6)
    assert torch.equal(seen.masks, seen.masks[:, :1].expand_as(seen.masks))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("view", [Affine(30.0), Flip((-1, -2)), *SIZED], ids=lambda view: type(view).__name__)
def test_masks_and_what_is_visible_move_with_the_image(view, kind):
    """An image that is its own mask and its own visibility is so after every move, but where linear interpolation mixes classes."""
    batch = batch_of(kind)
    batch = replace(batch, images=batch.masks.unsqueeze(1).float(), visible=batch.masks > 0)
    seen = view(batch, generator())
    assert torch.equal(seen.visible, seen.masks > 0)
    if isinstance(view, (Affine, ResizedCrop)):
        blocks = replace(batch, images=torch.zeros_like(batch.images), masks=torch.zeros_like(batch.masks))
        middle = [slice(n // 4, n - n // 4) for n in batch.shape[-batch.rank :]]
        blocks.images[(..., *middle)] = 1.0
        blocks.masks[(..., *middle)] = 1
        moved = view(blocks, generator(2))
        differ = (moved.images[:, 0] > 0.5) != (moved.masks == 1)
        assert differ.float().mean() < 0.1
        assert 0 < moved.masks.float().mean() <= 1
    else:
        assert torch.equal(seen.images[:, 0].long(), seen.masks)


@pytest.mark.parametrize("view", [Flip((-1,), p=0.4), Gamma(p=0.4), Cutout(p=0.4, hide=True)], ids=lambda view: type(view).__name__)
def test_a_share_of_the_rows_is_changed(view):
    batch = batch_of("image", n=400)
    draw = view.draw(batch, generator())
    assert 120 < len(draw.rows) < 200
    seen = view.apply(batch, draw)
    changed = (seen.images != batch.images).flatten(start_dim=1).any(dim=1)
    assert set(changed.nonzero().flatten().tolist()) <= set(draw.rows.tolist())
    assert changed.sum() > 0.3 * len(draw.rows)
    if seen.visible is not None:
        assert torch.equal((~seen.visible).flatten(start_dim=1).any(dim=1), changed)


def test_no_row_and_no_image():
    batch = batch_of("image", n=1)
    assert Flip(p=1e-9)(batch, generator()) is batch
    assert len(Compose(VIEWS)(batch_of("image", n=0), generator())) == 0


def test_hidden_voxels_stay_at_zero():
    batch = batch_of("volume")
    hidden = torch.zeros_like(batch.masks, dtype=torch.bool)
    hidden[:, 2:5] = True
    seen = Compose([IntensityJitter(1.0), ImageNoise(), Gamma()])(batch.hide(hidden), generator())
    assert (seen.images[:, 0][hidden] == 0).all()
    assert (seen.images[:, 0][~hidden] != 0).all()


def test_views_are_drawn_before_any_is_applied():
    """Draws are in shares of the axes: a cut-out that was drawn for the whole image holds for the crop of it."""
    batch = batch_of("image")
    view = Compose([Crop(8), Cutout(extent=(0.5, 0.5), n_boxes=(1, 1), fill="zero"), Rotate90()])
    seen = view(batch, generator())
    assert seen.shape == (5, 2, 8, 8)
    assert ((seen.images == 0).flatten(start_dim=2).sum(dim=2) == 16).all()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("view", VIEWS + SIZED, ids=lambda view: type(view).__name__)
def test_the_gpu_does_the_same(view, kind):
    batch = batch_of(kind)
    draw = view.draw(batch, generator())
    there = view.apply(batch.to("cuda"), draw)
    assert there.device.type == "cuda"
    here = view.apply(batch, draw)
    assert (there.images.cpu() - here.images).abs().quantile(0.99) < 1e-3
    assert (there.masks.cpu() != here.masks).float().mean() < 0.01


def test_what_is_no_image_is_refused():
    table = TableBatch(("a",), torch.zeros(1, 1), torch.zeros(1, 1, 2), torch.zeros(1, 0, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(DataError, match="an ImageBatch for a view of images, found a TableBatch"):
        Flip()(table, generator())


@pytest.mark.parametrize("p", [0.0, 1.5])
def test_shares_out_of_range_are_refused(p):
    with pytest.raises(ConfigError, match=r"a share p of the images in \(0, 1\]"):
        Flip(p=p)


def test_ranges_out_of_order_are_refused():
    with pytest.raises(ConfigError, match=r"gamma as a lowest and a highest value within \[0.001, inf\], found \(2.0, 1.0\)"):
        Gamma((2.0, 1.0))
    assert issubclass(Gamma, AbstractIntensityView)
