"""Training: pre-training, fine-tuning, checkpoints and the model on disk."""

from graphssl.training.by_steps import StepSettings, bit_hyper_rule, finetune_by_steps, segment_by_steps
from graphssl.training.finetune import finetune
from graphssl.training.fit import Fitted, TrainingSettings, fit
from graphssl.training.model import Model, load_model
from graphssl.training.pretrain import pretrain, untrained
from graphssl.training.probe import Probe
from graphssl.training.segment import SegmentationSettings, finetune_segmentation
from graphssl.training.selection import Pool, PoolSelection, Selection, SelectionSettings, select_nearest
from graphssl.training.stage import Stage
from graphssl.training.stages import Chain, pretrain_stages
from graphssl.training.transfer import Transfer, transfer
from graphssl.training.transfer_images import transfer_images

__all__ = [
    "Chain",
    "Fitted",
    "Model",
    "Pool",
    "PoolSelection",
    "Probe",
    "SegmentationSettings",
    "Selection",
    "SelectionSettings",
    "Stage",
    "StepSettings",
    "TrainingSettings",
    "Transfer",
    "bit_hyper_rule",
    "finetune",
    "finetune_by_steps",
    "finetune_segmentation",
    "fit",
    "load_model",
    "pretrain",
    "pretrain_stages",
    "segment_by_steps",
    "select_nearest",
    "transfer",
    "transfer_images",
    "untrained",
]
