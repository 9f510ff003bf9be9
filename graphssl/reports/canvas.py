"""Figures without a screen: drawn without pyplot, so that no backend is chosen and nothing stays open."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        figure = Figure(figsize=(width, height), layout="constrained" if axes else None)
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(1, columns) if axes else None
        figure.clear()


def png(figure: "Figure") -> bytes:
    """The figure as PNG."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
        return file.getvalue()
