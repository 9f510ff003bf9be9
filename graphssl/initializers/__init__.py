"""Initializers: where the weights that training starts from come from."""

from graphssl.initializers.dimension import VariableDimension, inflated, inflated_kernel, initialise_from_2d, with_channels

__all__ = ["VariableDimension", "inflated", "inflated_kernel", "initialise_from_2d", "with_channels"]
