"""Views: one random look at a sample, drawn first and then applied."""

from graphssl.views.base import AbstractView, Compose
from graphssl.views.columns import CorruptColumns
from graphssl.views.graph import HideConnections, HideRegions, WeightNoise
from graphssl.views.time import TimePointDropout, TimeWindow
from graphssl.views.window import RandomWindow

__all__ = [
    "AbstractView",
    "Compose",
    "CorruptColumns",
    "HideConnections",
    "HideRegions",
    "RandomWindow",
    "TimePointDropout",
    "TimeWindow",
    "WeightNoise",
]
