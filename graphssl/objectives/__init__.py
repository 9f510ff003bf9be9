"""Objectives: encoder and batch in, [`Loss`][graphssl.objectives.Loss] out."""

from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.masked import MaskedConnections, MaskedRegions
from graphssl.objectives.supervised import Supervised

__all__ = ["AbstractObjective", "Loss", "MaskedConnections", "MaskedRegions", "Supervised"]
