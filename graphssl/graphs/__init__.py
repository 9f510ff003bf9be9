"""From region data to graphs, and to the graphs of other libraries."""

from graphssl.graphs.connectivity import Connectivity, ConnectivityFeatures
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.contrast import ScanContrast
from graphssl.graphs.harmonize import CohortHarmonizer

__all__ = ["CohortHarmonizer", "Connectivity", "ConnectivityFeatures", "ConnectomeBuilder", "ScanContrast"]
