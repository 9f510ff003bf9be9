"""Views: one random look at a sample."""

from graphssl.views.graph import draw_connections, draw_regions

__all__ = ["draw_connections", "draw_regions"]
