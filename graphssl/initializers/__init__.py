"""Initializers: where the weights that training starts from come from."""

from graphssl.initializers.architecture import OPERATIONS, Architecture, Operation, Weight, architecture_of
from graphssl.initializers.architecture_batch import ArchitectureBatch
from graphssl.initializers.dimension import VariableDimension, inflated, inflated_kernel, initialise_from_2d, with_channels
from graphssl.initializers.hyper_initializer import HyperInitializer, Initialised, initialize
from graphssl.initializers.hypernetwork import HyperNetwork
from graphssl.initializers.meta import SampledNetworks
from graphssl.initializers.sampler import ArchitectureSampler, Blueprint, SampledNetwork

__all__ = [
    "OPERATIONS",
    "Architecture",
    "ArchitectureBatch",
    "ArchitectureSampler",
    "Blueprint",
    "HyperInitializer",
    "HyperNetwork",
    "Initialised",
    "Operation",
    "SampledNetwork",
    "SampledNetworks",
    "VariableDimension",
    "Weight",
    "architecture_of",
    "inflated",
    "inflated_kernel",
    "initialise_from_2d",
    "initialize",
    "with_channels",
]
