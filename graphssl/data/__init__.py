"""Containers: what a cohort is, how it is split, and what an encoder sees of it."""

from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.embedded import EmbeddedBatch
from graphssl.data.event_tokens import EventBatch, EventTokenizer
from graphssl.data.events import Events
from graphssl.data.harmonize import SiteHarmonizer
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.images import ImageData
from graphssl.data.mixed_images import MixedImageBuilder, MixedImages
from graphssl.data.multimodal import MultimodalBatch, MultimodalBuilder
from graphssl.data.overlap import overlap
from graphssl.data.pooled import pooled
from graphssl.data.population import PopulationGraph
from graphssl.data.population_batch import Population, PopulationBatch
from graphssl.data.records import AbstractRecords
from graphssl.data.regions import Provenance, RegionData
from graphssl.data.regress import CovariateRemover
from graphssl.data.scans import Scans
from graphssl.data.schema import Column, Schema
from graphssl.data.shards import write_shards
from graphssl.data.side_by_side import side_by_side
from graphssl.data.splits import Split
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.data.summaries import EventSummary
from graphssl.data.table import ColumnTokenizer, TableBatch
from graphssl.data.timeline import TimelineBatch, TimelineTokenizer
from graphssl.data.transforms import ColumnEncoder
from graphssl.data.union import union_of_labels

__all__ = [
    "AbstractRecords",
    "Atlas",
    "Cohort",
    "Column",
    "ColumnEncoder",
    "ColumnTokenizer",
    "ConnectomeBatch",
    "CovariateRemover",
    "EmbeddedBatch",
    "EventBatch",
    "EventSummary",
    "EventTokenizer",
    "Events",
    "ImageBatch",
    "ImageBuilder",
    "ImageData",
    "MixedImageBuilder",
    "MixedImages",
    "MultimodalBatch",
    "MultimodalBuilder",
    "Population",
    "PopulationBatch",
    "PopulationGraph",
    "Provenance",
    "RegionData",
    "Scans",
    "Schema",
    "SiteHarmonizer",
    "Split",
    "StreamedCohort",
    "TableBatch",
    "TimelineBatch",
    "TimelineTokenizer",
    "overlap",
    "pooled",
    "side_by_side",
    "union_of_labels",
    "write_shards",
]
