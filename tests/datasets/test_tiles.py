"""Pictures of tissue cut into tiles: which, from where, and under which label."""

import numpy as np
import pytest
from PIL import Image

from graphssl.data import ImageBuilder
from graphssl.datasets import load_tiles
from graphssl.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    """Two pictures of 2 × 3 tiles and a margin, each tile of one colour; one tile of the first is glass."""
    for number, level in enumerate((0, 2)):
        pixels = np.full((40, 55, 4), 255, np.uint8)
        for row in range(2):
            for column in range(3):
                pixels[16 * row : 16 * row + 16, 16 * column : 16 * column + 16, :3] = 100 * number + 10 * row + column
        if not number:
            pixels[:16, 16:32, :3] = 240
        Image.fromarray(pixels, "RGBA").save(tmp_path / f"picture{number}-level{level}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_tiles_in_their_order_without_glass(folder, tmp_path):
    cohort = load_tiles(folder, size=16, label=r"(level\d)", names={"level2": "lower"}, folder=tmp_path / "made")
    assert len(cohort) == 11
    assert cohort.subjects["label"].tolist() == ["level0"] * 5 + ["lower"] * 6
    assert cohort.groups.nunique() == 2
    batch = ImageBuilder(size=(16, 16), channels=3, scale="unit").fit(cohort).transform(cohort)
    brightness = (255 * batch.images.mean(dim=(1, 2, 3))).round().int().tolist()
    assert brightness == [0, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112]


def test_labels_are_a_choice(folder):
    assert "label" not in load_tiles(folder, size=16).schema
    with pytest.raises(ConfigError, match="Expected a label by 'stage"):
        load_tiles(folder, size=16, label=r"stage(\d)")
    with pytest.raises(ConfigError, match="Expected a regular expression with one group"):
        load_tiles(folder, size=16, label=r"level\d")


def test_nothing_to_cut(folder, tmp_path):
    with pytest.raises(DataError, match="with tiles of 64 pixels"):
        load_tiles(folder, size=64)
