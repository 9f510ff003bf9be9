"""Figures without a screen: drawn without pyplot, so that no backend is chosen and nothing stays open."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from graphssl.reports.markup import Mark

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DPI = 170
INCH = 96  # CSS pixels


@contextmanager
def canvas(width: float, height: float, *, columns: int = 1, axes: bool = True) -> Iterator[tuple["Figure", Any]]:
    """A figure with its axes, in the style of the report.

    Args:
        width: Width in inches.
        height: Height in inches.
        columns: Number of panels side by side.
        axes: Whether to make axes at all.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "axes.axisbelow": True,
        "axes.edgecolor": "#97a1ac",
        "axes.labelcolor": "#1b2430",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10.5,
        "font.size": 9.5,
        "legend.fontsize": 9,
        "savefig.facecolor": "white",
        "xtick.color": "#56616f",
        "ytick.color": "#56616f",
    }
    with rc_context(style):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if axes else None)
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(1, columns) if axes else None
        figure.clear()


def png(figure: "Figure") -> bytes:
    """The figure as PNG."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
        return file.getvalue()


def tell(artist: "Artist", words: Iterable[str]) -> None:
    """Give the marks of an artist what they tell where the pointer is.

    Args:
        artist: Points, a line, a patch, or an image. Lest the page grow, an image of more than 2,500 cells tells nothing, and a line of more than
            400 points tells every so many.
        words: What each point or cell tells, row by row; one for a patch.
    """
    artist.set_gid(_TOLD + "\n".join(" ".join(word.split()) for word in words))


def tell_points(figure: "Figure", words: Sequence[str]) -> None:
    """Let every scatter of as many points as there are words tell them, as those that nilearn draws from several sides."""
    from matplotlib.collections import PathCollection

    for points in figure.findobj(PathCollection):
        if len(np.asarray(points.get_offsets())) == len(words):
            tell(points, words)


def marks(figure: "Figure") -> tuple[Mark, ...]:
    """Places of all that tells something in a figure which `png` has drawn; the larger first, so that points lie above cells."""
    width, height = figure.canvas.get_width_height()
    found = []
    for artist in figure.findobj(lambda one: (one.get_gid() or "").startswith(_TOLD)):
        told_here = str(artist.get_gid()).removeprefix(_TOLD)
        words = told_here.split("\n") if told_here else []
        for told, (left, low, right, top) in zip(*_thinned(words, _boxes(artist)), strict=True):
            if np.isfinite((left, low, right, top)).all() and artist.axes.bbox.padded(1).contains((left + right) / 2, (low + top) / 2):  # type: ignore[union-attr]
                found.append(Mark(told, left / width, 1 - top / height, (right - left) / width, (top - low) / height))
    return tuple(sorted(found, key=lambda mark: -mark.width * mark.height))


_TOLD = "told:"  # group ids of artists that tell something begin with it
_MOST_CELLS = 2500
_MOST_POINTS = 400


def _boxes(artist: Any) -> npt.NDArray[np.float64]:
    """Left, lower, right and upper edge of each mark in pixels `[n, 4]`; points have no extent."""
    from matplotlib.collections import PathCollection
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

    if isinstance(artist, AxesImage):
        return _cells(artist)
    if isinstance(artist, Line2D):
        return _points(artist.get_transform().transform(artist.get_xydata()))
    if isinstance(artist, PathCollection):
        return _points(artist.get_offset_transform().transform(artist.get_offsets()))
    return np.asarray([artist.get_window_extent().extents], dtype=np.float64)


def _points(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.tile(np.asarray(places, dtype=np.float64), 2)


def _cells(image: "AxesImage") -> npt.NDArray[np.float64]:
    """Boxes of the cells of an image whose first row is the upper one."""
    rows, columns = image.get_array().shape[:2]  # type: ignore[union-attr]
    left, right, bottom, top = image.get_extent()
    corners = np.stack(np.meshgrid(np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)), axis=-1)
    placed = image.axes.transData.transform(corners.reshape(-1, 2)).reshape(rows + 1, columns + 1, 2)
    lower, upper = placed[1:, :-1], placed[:-1, 1:]
    return np.concatenate([lower, upper], axis=-1).reshape(-1, 4)


def _thinned(words: Sequence[str], boxes: npt.NDArray[np.float64]) -> tuple[Sequence[str], npt.NDArray[np.float64]]:
    """No cells of an image that has too many; of too many points every so many."""
    is_image = len(boxes) > 1 and bool((boxes[0, :2] != boxes[0, 2:]).any())
    if is_image:
        return ([], boxes[:0]) if len(boxes) > _MOST_CELLS else (words, boxes)
    step = -(-len(boxes) // _MOST_POINTS) or 1
    return words[::step], boxes[::step]
