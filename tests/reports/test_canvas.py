"""Marks of figures: each lies where its number is drawn, for every kind of artist."""

import io
import re

import numpy as np
import pytest

from graphssl.reports.canvas import canvas, marks, png, tell, tell_points
from graphssl.reports.markup import Picture, figure


def colours_at(image, found):
    """Colour of the pixel in the middle of each mark `[n, 3]`, in shares."""
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(image))[..., :3]
    places = [(mark.y + mark.height / 2, mark.x + mark.width / 2) for mark in found]
    return np.asarray([pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])] for y, x in places])


def test_points_and_lines_lie_on_what_is_drawn():
    with canvas(4, 3) as (drawing, axes):
        tell(axes.scatter([1, 2, 3], [4.0, 5.0, 3.0], color="red", s=80), ["a", "b", "c"])
        tell(axes.plot([1, 2, 3], [1.0, 2.0, 1.5], color="blue", marker="s", markersize=9)[0], ["d", "e", "f"])
        image, found = png(drawing), marks(drawing)
    by_name = {mark.told: mark for mark in found}
    assert sorted(by_name) == ["a", "b", "c", "d", "e", "f"]
    np.testing.assert_allclose(colours_at(image, [by_name[k] for k in "abc"]), [(1, 0, 0)] * 3, atol=0.02)
    np.testing.assert_allclose(colours_at(image, [by_name[k] for k in "def"]), [(0, 0, 1)] * 3, atol=0.02)
    assert by_name["a"].x < by_name["b"].x < by_name["c"].x
    assert by_name["b"].y < by_name["a"].y < by_name["c"].y  # from the upper edge


def test_cells_and_bars_have_the_extent_of_what_is_drawn():
    with canvas(5, 3, columns=2) as (drawing, (left, right)):
        tell(left.imshow([[0.0, 1.0, 0.0]], cmap="gray", aspect="auto"), ["first", "second", "third"])
        bars = right.bar([0, 1], [3, 1], color=["red", "blue"])
        for bar, told in zip(bars, ("high", "low"), strict=True):
            tell(bar, [told])
        image, found = png(drawing), marks(drawing)
    by_name = {mark.told: mark for mark in found}
    np.testing.assert_allclose(colours_at(image, [by_name[k] for k in ("first", "second", "third")]), [(0,) * 3, (1,) * 3, (0,) * 3], atol=0.02)
    np.testing.assert_allclose(colours_at(image, [by_name["high"], by_name["low"]]), [(1, 0, 0), (0, 0, 1)], atol=0.02)
    assert by_name["high"].height == pytest.approx(3 * by_name["low"].height, rel=0.01)
    assert [mark.told for mark in found][-1] == "low"  # the smallest lies on top


def test_many_cells_tell_nothing_and_of_many_points_every_so_many_do():
    with canvas(4, 3) as (drawing, axes):
        tell(axes.imshow(np.zeros((51, 50))), map(str, range(51 * 50)))
        tell(axes.plot(np.arange(1000) / 25, np.ones(1000))[0], map(str, range(1000)))
        png(drawing)
        assert [mark.told for mark in marks(drawing)] == [str(k) for k in range(0, 1000, 3)]


def test_what_is_not_drawn_tells_nothing():
    with canvas(4, 3) as (drawing, axes):
        tell(axes.scatter([1, 2, 9], [1.0, np.nan, 1.0]), ["here", "nowhere", "outside"])
        axes.set_xlim(0, 5)
        axes.scatter([3], [1.0])
        tell(axes.plot([], [])[0], [])
        png(drawing)
        assert [mark.told for mark in marks(drawing)] == ["here"]
    with canvas(4, 3) as (drawing, axes):
        axes.scatter([1, 2], [1, 2])
        axes.scatter([1, 2, 3], [1, 2, 3])
        tell_points(drawing, ["one\nline", "two"])
        png(drawing)
        assert [mark.told for mark in marks(drawing)] == ["one line", "two"]


def test_a_figure_holds_its_marks_over_its_image():
    with canvas(4, 3) as (drawing, axes):
        tell(axes.scatter([1], [1.0]), ["<a> & b"])
        picture = Picture(png(drawing), "alt", "caption", 384, marks(drawing))
    page = figure(picture)
    assert "<title>&lt;a&gt; &amp; b</title>" in page
    assert re.search(
        r'<div class="picture" style="width:384px[^"]*"><img [^>]*><svg class="marks" aria-hidden="true"><circle cx="\d+\.\d\d%" cy=', page
    )
    assert "svg" not in figure(Picture(b"\x89PNG", "alt", "caption"))
