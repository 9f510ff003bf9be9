"""From region data to graphs, and to the graphs of other libraries."""

from graphssl.graphs.connectivity import Connectivity, ConnectivityFeatures
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.contrast import ScanContrast
from graphssl.graphs.feature_groups import FeatureGroup
from graphssl.graphs.harmonize import CohortHarmonizer
from graphssl.graphs.hops import hop_distances
from graphssl.graphs.neighbors import NeighborIndex, Neighbors
from graphssl.graphs.population import population_graph
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.graphs.sampler import Neighborhoods, sample_neighborhoods
from graphssl.graphs.vectors import with_vectors

__all__ = [
    "CohortHarmonizer",
    "Connectivity",
    "ConnectivityFeatures",
    "ConnectomeBuilder",
    "FeatureGroup",
    "NeighborIndex",
    "Neighborhoods",
    "Neighbors",
    "PopulationBuilder",
    "ScanContrast",
    "hop_distances",
    "population_graph",
    "sample_neighborhoods",
    "with_vectors",
]
