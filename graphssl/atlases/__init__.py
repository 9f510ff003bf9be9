"""Readers of atlases: label volumes, tables, those nilearn knows, and a simulated one."""

from graphssl.atlases.download import fetch_atlas
from graphssl.atlases.guess import guess_atlases
from graphssl.atlases.load import list_atlases, load_atlas
from graphssl.atlases.networks import nearest_network
from graphssl.atlases.shipped import atlas_from_nilearn
from graphssl.atlases.simulated import simulated_atlas
from graphssl.atlases.table import atlas_from_table
from graphssl.atlases.volume import atlas_from_volume

__all__ = [
    "atlas_from_nilearn",
    "atlas_from_table",
    "atlas_from_volume",
    "fetch_atlas",
    "guess_atlases",
    "list_atlases",
    "load_atlas",
    "nearest_network",
    "simulated_atlas",
]
