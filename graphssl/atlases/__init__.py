"""Atlases, as label volumes, tables and those nilearn knows, and maps from one to another."""

from graphssl.atlases.apply import ConvertedMatrices, convert_cohort, convert_matrices, convert_regions, convert_series
from graphssl.atlases.autoencoder import AtlasAutoencoder, TiedAutoencoder, autoencoder_map
from graphssl.atlases.converter import AtlasConverter
from graphssl.atlases.download import fetch_atlas
from graphssl.atlases.geometry import SpatialModel, fit_spatial_model, geometry_map
from graphssl.atlases.guess import guess_atlases
from graphssl.atlases.label_volume import LabelVolume, load_label_volume
from graphssl.atlases.linear import joint_map, ridge_map
from graphssl.atlases.load import list_atlases, load_atlas
from graphssl.atlases.load import list_atlases as list
from graphssl.atlases.map import AtlasMap, Correction
from graphssl.atlases.networks import nearest_network
from graphssl.atlases.one_width import LinearProjection, ZeroPadding
from graphssl.atlases.overlap import overlap_map, overlap_volumes
from graphssl.atlases.paired import PairedSubjects, paired_subjects
from graphssl.atlases.parcellation import load_parcellation
from graphssl.atlases.shipped import atlas_from_nilearn
from graphssl.atlases.simulated import simulated_atlas
from graphssl.atlases.stack import stack_atlases, stack_series
from graphssl.atlases.table import atlas_from_table
from graphssl.atlases.transport import Frames, draw_frames, transport_map, transport_maps
from graphssl.atlases.volume import atlas_from_volume

__all__ = [
    "AtlasAutoencoder",
    "AtlasConverter",
    "AtlasMap",
    "ConvertedMatrices",
    "Correction",
    "Frames",
    "LabelVolume",
    "LinearProjection",
    "PairedSubjects",
    "SpatialModel",
    "TiedAutoencoder",
    "ZeroPadding",
    "atlas_from_nilearn",
    "atlas_from_table",
    "atlas_from_volume",
    "autoencoder_map",
    "convert_cohort",
    "convert_matrices",
    "convert_regions",
    "convert_series",
    "draw_frames",
    "fetch_atlas",
    "fit_spatial_model",
    "geometry_map",
    "guess_atlases",
    "joint_map",
    "list",
    "list_atlases",
    "load_atlas",
    "load_label_volume",
    "load_parcellation",
    "nearest_network",
    "overlap_map",
    "overlap_volumes",
    "paired_subjects",
    "ridge_map",
    "simulated_atlas",
    "stack_atlases",
    "stack_series",
    "transport_map",
    "transport_maps",
]
