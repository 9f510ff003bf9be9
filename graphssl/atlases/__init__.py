"""Readers of atlases: label volumes, tables, those nilearn knows, and a simulated one."""

from graphssl.atlases.simulated import simulated_atlas

__all__ = ["simulated_atlas"]
