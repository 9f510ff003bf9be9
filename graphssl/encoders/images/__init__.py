"""Encoders of images, volumes and clips."""

from graphssl.encoders.images.frames import FrameEncoder
from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.encoders.images.pyramid import PyramidTransformer
from graphssl.encoders.images.resnet import ResNet
from graphssl.encoders.images.segmentation import SegmentationAdapter, SegmentationDecoder
from graphssl.encoders.images.slices import SliceTransformer
from graphssl.encoders.images.swin import SwinTransformer
from graphssl.encoders.images.texture import TextureEncoder
from graphssl.encoders.images.token_graph import TokenGraph
from graphssl.encoders.images.vit import PatchDecoder, VisionTransformer

__all__ = [
    "AbstractImageEncoder",
    "FrameEncoder",
    "PatchDecoder",
    "PyramidTransformer",
    "ResNet",
    "SegmentationAdapter",
    "SegmentationDecoder",
    "SliceTransformer",
    "SwinTransformer",
    "TextureEncoder",
    "TokenGraph",
    "VisionTransformer",
]
