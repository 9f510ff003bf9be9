"""Encoders: a batch in, an [`Embedding`][graphssl.encoders.Embedding] out."""

from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.gnn import GAT, GCN
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.encoders.mlp import MLP

__all__ = ["GAT", "GCN", "MLP", "AbstractEncoder", "Embedding", "GraphTransformer"]
