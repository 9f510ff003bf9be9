"""Objectives: encoder and batch in, [`Loss`][graphssl.objectives.Loss] out."""

from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.contrastive import NTXent
from graphssl.objectives.masked import MaskedConnections, MaskedRegions
from graphssl.objectives.redundancy import BarlowTwins
from graphssl.objectives.supervised import Supervised
from graphssl.objectives.weighted import WeightedSum

__all__ = ["AbstractObjective", "BarlowTwins", "Loss", "MaskedConnections", "MaskedRegions", "NTXent", "Supervised", "WeightedSum"]
