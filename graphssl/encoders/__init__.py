"""Encoders: a batch in, an [`Embedding`][graphssl.encoders.Embedding] out."""

from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.graph_transformer import GraphTransformer

__all__ = ["AbstractEncoder", "Embedding", "GraphTransformer"]
