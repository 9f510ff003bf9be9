"""Several looks at once."""

import pytest
import torch

from graphssl.data import ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.views import Compose, Flip, IntensityJitter, MultiCrop, OverlappingCrops, ResizedCrop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def places(n, *space):
    """Images whose channels say where each voxel lies."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(size)) for size in space), indexing="ij"))
    return ImageBatch(tuple(map(str, range(n))), grid.expand(n, *grid.shape))


def test_multi_crop_gives_large_looks_then_small_ones():
    batch = places(3, 24, 24)
    view = MultiCrop(Compose([ResizedCrop(16, (0.4, 1.0)), Flip()]), ResizedCrop(8, (0.05, 0.2)), 2, 3)
    draw = view.draw(batch, generator())
    looks = view.apply(batch, draw)
    assert view.n_looks == len(looks) == 5
    assert [look.shape for look in looks] == [(3, 2, 16, 16)] * 2 + [(3, 2, 8, 8)] * 3
    assert not torch.equal(looks[0].images, looks[1].images)
    assert all(torch.equal(look.images, again.images) for look, again in zip(looks, view(batch, generator()), strict=True))
    assert all(look.subject_ids == batch.subject_ids for look in looks)
    seen = [look.images.flatten(start_dim=2).amax(dim=2) - look.images.flatten(start_dim=2).amin(dim=2) for look in looks]
    assert min(extent.min() for extent in seen[:2]) > max(extent.max() for extent in seen[2:])


@pytest.mark.parametrize(("space", "size"), [((30, 20), (12, 8)), ((20, 24, 22), (8, 12, 10)), ((12, 12), (11, 12))])
@pytest.mark.parametrize("overlap", [0.25, 0.6])
def test_pairs_of_patches_overlap_as_much_as_asked_for(space, size, overlap):
    first, second = OverlappingCrops(size, overlap)(places(300, *space), generator())
    shares = []
    for one, other in zip(first.images, second.images, strict=True):
        begin, end = (torch.stack([patch.flatten(start_dim=1).amin(dim=1) for patch in (one, other)]) for _ in range(2))
        for patch, at in zip((one, other), begin, strict=True):
            assert torch.equal(patch, places(1, *space).images[0][(slice(None), *(slice(int(a), int(a) + n) for a, n in zip(at, size, strict=True)))])
        distance = (end[0] - end[1]).abs()
        shared = (torch.tensor(size) - distance).clamp(min=0).prod()
        shares.append(float(shared / (2 * torch.tensor(size).prod() - shared)))
    assert min(shares) >= overlap
    assert min(shares) < overlap + 0.25 or space == (12, 12)
    assert max(shares) > 0.9


def test_each_of_a_pair_is_looked_at_anew():
    batch = ImageBatch(("a", "b"), torch.randn(2, 1, 8, 8))
    plain, changed = OverlappingCrops(8, then=None), OverlappingCrops(8, then=IntensityJitter(1.0))
    one, other = plain(batch, generator())
    assert torch.equal(one.images, other.images)
    one, other = changed(batch, generator())
    assert not torch.allclose(one.images, other.images)
    assert changed.n_looks == 2


def test_arguments_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"an overlap in \(0, 1\), found 1"):
        OverlappingCrops(8, 1.0)
    with pytest.raises(ConfigError, match="at least one large look"):
        MultiCrop(Flip(), Flip(), 0)
    with pytest.raises(DataError, match="at least 9 × 9 voxels"):
        OverlappingCrops(9)(places(2, 8, 8), generator())
