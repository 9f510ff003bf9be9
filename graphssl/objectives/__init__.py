"""Objectives: encoder and batch in, [`Loss`][graphssl.objectives.Loss] out."""

from graphssl.objectives.adversarial import SiteAdversary
from graphssl.objectives.alignment import AtlasAlignment
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.clustering import SwAV
from graphssl.objectives.contrastive import NTXent
from graphssl.objectives.cross_modal_concepts import ConceptContrast
from graphssl.objectives.cross_modal_contrast import CrossModalContrast
from graphssl.objectives.cross_modal_matching import TIP
from graphssl.objectives.cross_modal_neighbors import NeighborContrast
from graphssl.objectives.deep_cluster import DeepCluster
from graphssl.objectives.default import default_objective
from graphssl.objectives.distillation import BYOL, DINO
from graphssl.objectives.hybrid import Hybrid
from graphssl.objectives.inpaint_rotate_contrast import InpaintRotateContrast
from graphssl.objectives.jensen_shannon import JensenShannon
from graphssl.objectives.jigsaw import Jigsaw
from graphssl.objectives.label_union import LabelUnion
from graphssl.objectives.masked import MaskedConnections, MaskedRegions
from graphssl.objectives.masked_columns import MaskedColumns
from graphssl.objectives.masked_events import MaskedEvents
from graphssl.objectives.masked_modality import MaskedModality
from graphssl.objectives.masked_patches import MaskedPatches
from graphssl.objectives.masked_slices import MaskedSlices
from graphssl.objectives.masked_timeline import MaskedBlocks, MaskedFeatures, MaskedPatients
from graphssl.objectives.momentum_contrast import MoCo
from graphssl.objectives.predict_label import PredictLabel
from graphssl.objectives.redundancy import BarlowTwins
from graphssl.objectives.relative_position import RelativePosition
from graphssl.objectives.restoration import Restoration
from graphssl.objectives.scarf import Scarf
from graphssl.objectives.segmentation import Segmentation
from graphssl.objectives.segmentation_loss import SegmentationLoss
from graphssl.objectives.slice_volume import SliceVolumeDistillation
from graphssl.objectives.supervised import Supervised
from graphssl.objectives.treatment_prediction import TreatmentPrediction
from graphssl.objectives.weighted import WeightedSum

__all__ = [
    "BYOL",
    "DINO",
    "TIP",
    "AbstractObjective",
    "AtlasAlignment",
    "BarlowTwins",
    "ConceptContrast",
    "CrossModalContrast",
    "DeepCluster",
    "Hybrid",
    "InpaintRotateContrast",
    "JensenShannon",
    "Jigsaw",
    "LabelUnion",
    "Loss",
    "MaskedBlocks",
    "MaskedColumns",
    "MaskedConnections",
    "MaskedEvents",
    "MaskedFeatures",
    "MaskedModality",
    "MaskedPatches",
    "MaskedPatients",
    "MaskedRegions",
    "MaskedSlices",
    "MoCo",
    "NTXent",
    "NeighborContrast",
    "PredictLabel",
    "RelativePosition",
    "Restoration",
    "Scarf",
    "Segmentation",
    "SegmentationLoss",
    "SiteAdversary",
    "SliceVolumeDistillation",
    "Supervised",
    "SwAV",
    "TreatmentPrediction",
    "WeightedSum",
    "default_objective",
]
