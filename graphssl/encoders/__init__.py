"""Encoders: a batch in, an [`Embedding`][graphssl.encoders.Embedding] out."""

from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.brain_network_transformer import BrainNetworkTransformer
from graphssl.encoders.event_transformer import EventTransformer
from graphssl.encoders.fusion import AbstractFusion, Bilinear, Concatenation, GatedSum, Mean
from graphssl.encoders.gnn import GAT, GCN, GIN
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.encoders.images import (
    AbstractImageEncoder,
    FrameEncoder,
    PatchDecoder,
    PyramidTransformer,
    ResNet,
    SegmentationAdapter,
    SegmentationDecoder,
    SliceTransformer,
    SwinTransformer,
    TextureEncoder,
    TokenGraph,
    VisionTransformer,
)
from graphssl.encoders.linear_encoder import LinearEncoder
from graphssl.encoders.mlp import MLP
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.encoders.place_encoder import PlaceEncoder
from graphssl.encoders.population_encoder import AbstractPopulationEncoder
from graphssl.encoders.population_gnn import PopulationGNN
from graphssl.encoders.population_transformer import PopulationTransformer
from graphssl.encoders.record_encoder import AbstractRecordEncoder
from graphssl.encoders.source_attention import DynamicMetaEmbedding
from graphssl.encoders.sparse_population_transformer import SparsePopulationTransformer
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.encoders.table_mlp import TableMLP
from graphssl.encoders.table_transformer import TableTransformer
from graphssl.encoders.timeline_encoder import AbstractTimelineEncoder
from graphssl.encoders.timeline_transformer import TimelineTransformer
from graphssl.encoders.token_fusion import CrossAttention, FiLM

__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "MLP",
    "AbstractEncoder",
    "AbstractFusion",
    "AbstractImageEncoder",
    "AbstractPopulationEncoder",
    "AbstractRecordEncoder",
    "AbstractTableEncoder",
    "AbstractTimelineEncoder",
    "Bilinear",
    "BrainNetworkTransformer",
    "Concatenation",
    "CrossAttention",
    "DynamicMetaEmbedding",
    "Embedding",
    "EventTransformer",
    "FiLM",
    "FrameEncoder",
    "GatedSum",
    "GraphTransformer",
    "LinearEncoder",
    "Mean",
    "MultimodalEncoder",
    "PatchDecoder",
    "PatientNetwork",
    "PlaceEncoder",
    "PopulationGNN",
    "PopulationTransformer",
    "PyramidTransformer",
    "ResNet",
    "SegmentationAdapter",
    "SegmentationDecoder",
    "SliceTransformer",
    "SparsePopulationTransformer",
    "SwinTransformer",
    "TableMLP",
    "TableTransformer",
    "TextureEncoder",
    "TimelineTransformer",
    "TokenGraph",
    "VisionTransformer",
]
