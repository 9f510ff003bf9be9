"""Stains of tissue sections: what is varied, what stays, and templates that are like the training images."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from graphssl.data import Cohort, ImageBatch, ImageData, Schema
from graphssl.data.image_files import content_hash
from graphssl.errors import ConfigError, DataError
from graphssl.views import Compose, FieldsOfView, Flip, MultiCrop, StainJitter, StainNormalise
from graphssl.views.colour import from_space, to_space
from graphssl.views.stain import StainTemplates, check_unit_colour


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tissue(n=6, size=24, seed=0):
    """Sections with random amounts of haematoxylin and eosin, another overall amount in each; what one has more of it has less of the other."""
    numbers = torch.rand(n, 3, size, size, generator=generator(seed))
    strength = torch.linspace(0.4, 1.0, n).view(-1, 1, 1)
    amounts = torch.stack([numbers[:, 0] * strength, numbers[:, 1] * (1.3 - strength), 0.02 * numbers[:, 2]], dim=1)
    return ImageBatch(tuple(map(str, range(n))), from_space(amounts, "HED"))


def test_no_strength_changes_nothing():
    batch = tissue()
    assert torch.allclose(StainJitter(0.0)(batch, generator()).images, batch.images, atol=1 / 255)


def test_stains_are_varied_one_by_one():
    batch = tissue(40)
    view = StainJitter(0.1)
    draw = view.draw(batch, generator())
    seen = to_space(view.apply(batch, draw).images, "HED").mean(dim=(2, 3))
    before = to_space(batch.images, "HED").mean(dim=(2, 3))
    factor, move = draw.what
    expected = before * factor + move
    assert torch.allclose(seen[:, :2], expected[:, :2], atol=0.02)
    change = (seen - before)[:, :2]
    assert torch.corrcoef(change.T)[0, 1].abs() < 0.35
    assert (change.std(dim=0) > 0.02).all()


def test_images_get_mean_and_spread_of_their_templates():
    batch = tissue()
    view = StainNormalise(("LAB",)).fit(batch.images)
    draw = view.draw(batch, generator())
    seen = to_space(view.apply(batch, draw).images, "LAB")
    template = draw.what[1][:, 0]
    assert torch.allclose(seen.mean(dim=(2, 3)), template[:, :3], atol=2.5)
    assert torch.allclose(seen.std(dim=(2, 3), correction=0), template[:, 3:], atol=2.5)


def test_spaces_are_drawn_and_each_row_is_changed_in_its_own():
    batch = tissue(30)
    view = StainNormalise().fit(batch.images)
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw).images
    assert set(draw.what[0].tolist()) == {0, 1, 2}
    for row in range(30):
        space = view.spaces[draw.what[0][row]]
        template = {space: StainTemplates((1.0,), draw.what[1][row, draw.what[0][row]].unsqueeze(0), torch.zeros(1, 6, 6))}
        alone = StainNormalise((space,), templates=template)(batch[[row]], generator())
        assert torch.allclose(alone.images[0], seen[row], atol=1e-5)


def test_one_row_is_changed_in_one_space_without_a_warning():
    view = StainNormalise().fit(tissue().images)
    assert view(tissue()[[0]], generator()).shape == (1, 3, 24, 24)


def test_a_mixture_keeps_what_goes_together_and_single_numbers_do_not():
    images = tissue(80, 16).images
    numbers = torch.cat([to_space(images, "HED").mean(dim=(2, 3)), to_space(images, "HED").std(dim=(2, 3), correction=0)], dim=1)
    together = float(torch.corrcoef(numbers.T)[0, 1])
    assert together < -0.8
    for n_components, expected in ((3, together), (0, 0.0)):
        templates = StainTemplates.fit(images, "HED", n_components)
        drawn = templates.sample(4000, generator())
        assert torch.allclose(drawn.mean(dim=0), numbers.mean(dim=0), atol=0.02)
        assert torch.allclose(drawn.std(dim=0), numbers.std(dim=0), atol=0.02)
        assert float(torch.corrcoef(drawn.T)[0, 1]) == pytest.approx(expected, abs=0.1)


def test_templates_are_told_apart_by_their_text_and_few_images_do():
    one, other = (StainTemplates.fit(tissue(seed=seed).images, "LAB", 10) for seed in (0, 1))
    assert repr(one) != repr(other)
    assert repr(one) == repr(StainTemplates.fit(tissue().images, "LAB", 10))
    assert len(one.weights) == 3  # every second image
    assert len(StainTemplates.fit(tissue(1).images, "LAB", 10).weights) == 1


def slides(folder, n=5):
    rows = []
    for k, image in enumerate(tissue(n).images):
        path = folder / f"{k}.png"
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(path)
        rows.append((f"s{k}", path.name, "", content_hash(path), 3, (24, 24), (), "", "", ""))
    columns = ["subject_id", "path", "part", "hash", "channels", "shape", "spacing", "mask_path", "mask_part", "mask_hash"]
    data = ImageData(pd.DataFrame(rows, columns=columns), 2, root=folder)
    return Cohort("slides", pd.DataFrame(index=pd.Index([row[0] for row in rows], dtype="str")), Schema([]), images={"tile": data})


def test_templates_are_learned_of_a_cohort_wherever_the_view_stands(tmp_path):
    cohort = slides(tmp_path)
    plain = StainNormalise(("HED",))
    learned = plain.for_cohort(cohort)
    shown = F.interpolate(tissue(5).images, (128, 128), mode="bilinear", antialias=True)
    by_hand = plain.fit((shown * 255).round() / 255)
    assert np.allclose(learned.templates["HED"].means, by_hand.templates["HED"].means, atol=5e-3)
    assert learned.for_cohort(cohort) is learned
    nested = MultiCrop(Compose([plain, Flip()]), plain).for_cohort(cohort)
    assert repr(nested.small) == repr(learned)
    assert repr(nested.large.views[0]) == repr(learned)
    with pytest.raises(DataError, match="images of one kind in 'slides' to learn stains from, found 0"):
        plain.for_cohort(Cohort("slides", cohort.subjects, cohort.schema))


def test_fields_of_view_take_in_more_in_as_many_voxels():
    grid = torch.stack(torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij"))
    batch = ImageBatch(("a",) * 200, grid.expand(200, -1, -1, -1), grid[1].long().expand(200, -1, -1))
    view = FieldsOfView(8, (1, 2), (0.75, 0.25))
    draw = view.draw(batch, generator())
    seen = view.apply(batch, draw)
    assert seen.shape == (200, 2, 8, 8)
    assert 30 < draw.what[0].sum() < 70
    for which, start, image, mask in zip(draw.what[0], draw.what[1], seen.images, seen.masks, strict=True):
        factor = (1, 2)[which]
        row, column = (min(int(float(s) * (n - 8 * factor + 1)), n - 8 * factor) for s, n in zip(start, (20, 24), strict=True))
        box = grid[:, row : row + 8 * factor, column : column + 8 * factor]
        assert torch.allclose(image, box.reshape(2, 8, factor, 8, factor).mean(dim=(2, 4)))
        assert torch.equal(mask, box[1, ::factor, ::factor].long())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: StainJitter(-1.0), "a strength of 0 or more"),
        (lambda: StainNormalise(("XYZ",)), "colour spaces among LAB, HSV, HED"),
        (lambda: StainNormalise(("LAB",), templates={}), "templates of the colour spaces"),
        (lambda: StainNormalise()(tissue(), generator()), "templates of training images, found none"),
        (lambda: FieldsOfView(8, (0,)), "factors of 1 or more"),
        (lambda: FieldsOfView(8, (1, 2), (1.0,)), "a weight for each"),
    ],
)
def test_arguments_that_cannot_be_are_refused(make, match):
    with pytest.raises(ConfigError, match=match):
        make()


def test_images_whose_stains_cannot_be_told_are_refused():
    with pytest.raises(DataError, match=r"in colour, found \(1, 1, 4, 4\).*ImageBuilder\(channels=3\)"):
        StainJitter()(ImageBatch(("a",), torch.zeros(1, 1, 4, 4)), generator())
    with pytest.raises(DataError, match=r"in \[0, 1\], found -2 to 1.*scale='unit'"):
        check_unit_colour(torch.tensor([-2.0, 0.0, 1.0]).view(1, 3, 1, 1))
