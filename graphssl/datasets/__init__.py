"""Adapters: each reads one kind of source and returns a cohort. `load_*` reads what is there, `fetch_*` may download."""

from graphssl.datasets.abide import fetch_abide, load_abide
from graphssl.datasets.abide_arrays import load_abide_arrays
from graphssl.datasets.array_writer import write_array
from graphssl.datasets.arrays import read_array
from graphssl.datasets.brainnet_viewer import save_brainnet_viewer
from graphssl.datasets.derivatives import load_derivatives
from graphssl.datasets.graph_dictionary import load_graph_dictionary
from graphssl.datasets.images import load_images
from graphssl.datasets.layouts import load_source, recognise
from graphssl.datasets.matrices import load_matrices
from graphssl.datasets.medmnist import fetch_medmnist
from graphssl.datasets.meds import load_meds
from graphssl.datasets.participants import read_participants
from graphssl.datasets.physionet2012 import load_physionet2012
from graphssl.datasets.physionet2019 import load_physionet2019
from graphssl.datasets.records import load_omop, load_records
from graphssl.datasets.simulate import GroundTruth, Simulation, simulate
from graphssl.datasets.simulate_images import simulate_images
from graphssl.datasets.simulate_modalities import simulate_modalities
from graphssl.datasets.simulate_multimodal import simulate_multimodal
from graphssl.datasets.simulate_stays import simulate_stays
from graphssl.datasets.simulate_table import TableSimulation, TableTruth, simulate_table
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.datasets.tables import load_tables
from graphssl.datasets.tadpole import load_tadpole
from graphssl.datasets.tiles import load_tiles
from graphssl.datasets.timeseries import load_timeseries

__all__ = [
    "GroundTruth",
    "SimulatedSite",
    "Simulation",
    "TableSimulation",
    "TableTruth",
    "fetch_abide",
    "fetch_medmnist",
    "load_abide",
    "load_abide_arrays",
    "load_derivatives",
    "load_graph_dictionary",
    "load_images",
    "load_matrices",
    "load_meds",
    "load_omop",
    "load_physionet2012",
    "load_physionet2019",
    "load_records",
    "load_source",
    "load_tables",
    "load_tadpole",
    "load_tiles",
    "load_timeseries",
    "read_array",
    "read_participants",
    "recognise",
    "save_brainnet_viewer",
    "simulate",
    "simulate_images",
    "simulate_modalities",
    "simulate_multimodal",
    "simulate_stays",
    "simulate_table",
    "write_array",
]
