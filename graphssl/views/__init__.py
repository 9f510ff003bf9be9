"""Views: one random look at a sample, drawn first and then applied."""

from graphssl.views.base import AbstractView, Compose
from graphssl.views.by_rank import ByRank
from graphssl.views.clip import ClipPair, FramePair
from graphssl.views.colour_jitter import ColourJitter
from graphssl.views.columns import CorruptColumns
from graphssl.views.dropped import DropBoxes
from graphssl.views.erase import Cutout, LocalShuffle
from graphssl.views.foreground_crop import ForegroundCrop
from graphssl.views.graph import HideConnections, HideRegions, WeightNoise
from graphssl.views.intensity import BandEnergy, BezierCurve, Blur, Gamma, HistogramShift, ImageNoise, IntensityJitter, Speckle
from graphssl.views.looks import AbstractLooks, MultiCrop, OverlappingCrops
from graphssl.views.modalities import HideModalities, PartViews
from graphssl.views.spatial import Affine, Crop, Flip, ResizedCrop, Rotate90
from graphssl.views.stain import FieldsOfView, StainJitter, StainNormalise
from graphssl.views.texture import GridShuffle, texture_preserving
from graphssl.views.time import TimePointDropout, TimeWindow

__all__ = [
    "AbstractLooks",
    "AbstractView",
    "Affine",
    "BandEnergy",
    "BezierCurve",
    "Blur",
    "ByRank",
    "ClipPair",
    "ColourJitter",
    "Compose",
    "CorruptColumns",
    "Crop",
    "Cutout",
    "DropBoxes",
    "FieldsOfView",
    "Flip",
    "ForegroundCrop",
    "FramePair",
    "Gamma",
    "GridShuffle",
    "HideConnections",
    "HideModalities",
    "HideRegions",
    "HistogramShift",
    "ImageNoise",
    "IntensityJitter",
    "LocalShuffle",
    "MultiCrop",
    "OverlappingCrops",
    "PartViews",
    "ResizedCrop",
    "Rotate90",
    "Speckle",
    "StainJitter",
    "StainNormalise",
    "TimePointDropout",
    "TimeWindow",
    "WeightNoise",
    "texture_preserving",
]
