"""Adapters: each reads one kind of source and returns a cohort."""

from graphssl.datasets.simulate import GroundTruth, SimulatedSite, Simulation, simulate

__all__ = ["GroundTruth", "SimulatedSite", "Simulation", "simulate"]
