"""The layouts in which connectomes, tables and records lie on disks: each is recognised by its file names, and loaded by one adapter."""

import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

from graphssl.data import Atlas, Cohort, StreamedCohort
from graphssl.datasets.abide import atlases_of_files, load_abide
from graphssl.datasets.abide_arrays import atlases_of_arrays, load_abide_arrays
from graphssl.datasets.abide_lists import ListName
from graphssl.datasets.arrays import read_labelled
from graphssl.datasets.derivatives import FINDERS, load_derivatives
from graphssl.datasets.folder import find_files
from graphssl.datasets.graph_dictionary import atlas_of_dictionary, is_dictionary, load_graph_dictionary
from graphssl.datasets.images import is_image_arrays, is_images, load_images
from graphssl.datasets.kinds import kind_of
from graphssl.datasets.labelled import LabelledArray
from graphssl.datasets.listing import Listing, list_files
from graphssl.datasets.matrices import load_matrices
from graphssl.datasets.meds import is_meds, load_meds
from graphssl.datasets.physionet2012 import is_physionet2012, load_physionet2012
from graphssl.datasets.physionet2019 import is_physionet2019, load_physionet2019
from graphssl.datasets.records import fits_mapping, load_records
from graphssl.datasets.regions import MissingRegions
from graphssl.datasets.scan_files import Choices
from graphssl.datasets.stand_ins import UNNAMED, stand_in, unknown_atlases
from graphssl.datasets.tables import is_table, load_tables
from graphssl.datasets.timeseries import load_timeseries
from graphssl.errors import AtlasError, ChoiceError, ConfigError, DataError


@dataclass(frozen=True)
class Layout:
    """One way in which data lie on a disk.

    Args:
        name: Short name, such as `"bids"`.
        what: What it is, in a few words.
        fits: Whether a listing is of this layout.
        adapter: The function that loads it.
        stand_ins: Atlases of its regions without their places, with which files can be checked where no atlas is at hand.
    """

    name: str
    what: str
    fits: Callable[[Listing], bool]
    adapter: Callable[..., Cohort]
    stand_ins: Callable[[Listing, Choices], list[Atlas]]

    def load(self, path: str | os.PathLike[str], atlases: Sequence[Atlas], **options: Any) -> Cohort:
        """Load a path of this layout.

        Args:
            path: The path.
            atlases: Atlases of the regions.
            options: Arguments of the adapter; those left at None are not given.

        Raises:
            ConfigError: If the adapter has no such argument, or takes another number of atlases.
            InputError: If the data cannot be read.
        """
        known = inspect.signature(self.adapter).parameters
        given = {name: value for name, value in options.items() if value is not None}
        strange = sorted(set(given) - set(known))
        if strange:
            raise ConfigError(f"Expected options that apply to {self.what}, found {', '.join(strange)}. Leave them out.")
        if "atlases" in known:
            return self.adapter(path, atlases=list(atlases), **given)
        if "atlas" not in known:
            if atlases:
                raise ConfigError(f"Expected no atlas for {self.what}, found {atlases[0].name}. Leave it out.")
            return self.adapter(path, **given)
        if len(atlases) != 1:
            raise ConfigError(f"Expected one atlas for {self.what}, found {len(atlases)}. Give the one its regions belong to.")
        return self.adapter(path, atlas=atlases[0], **given)


def recognise(path: str | os.PathLike[str], *, variable: str | None = None, pattern: str | None = None) -> Layout:
    """What layout a path is of.

    Args:
        path: A folder or a file.
        variable: Name of the array where files of a plain folder hold several.
        pattern: Which files of a plain folder count.

    Raises:
        DataError: If there is nothing at the path, or nothing that is known.
    """
    listing = list_files(path)
    return next((layout for layout in LAYOUTS if layout.fits(listing)), None) or _by_shape(listing, variable, pattern)


def load_source(path: str | os.PathLike[str], *, atlases: Sequence[Atlas] = (), **options: Any) -> Cohort:
    """Load whatever lies at a path, as what it is recognised as.

    Args:
        path: A saved cohort, or a folder or file of any known layout.
        atlases: Atlases of the regions.
        options: Arguments of the adapter of that layout, such as `participants`, `target`, `site` or `select`.

    Raises:
        ConfigError: If an argument does not apply to the layout.
        InputError: If the data cannot be read.
    """
    return recognise(path, variable=options.get("variable"), pattern=options.get("pattern")).load(path, atlases, **options)


# The layouts, in the order in which they are tried


def _load_saved(path: str | os.PathLike[str], *, atlases: Sequence[Atlas] = ()) -> Cohort:
    return Cohort.load(path)


def _load_shards(path: str | os.PathLike[str], *, atlases: Sequence[Atlas] = ()) -> Cohort:
    return StreamedCohort(path).whole()


def _load_arrays(
    path: str | os.PathLike[str],
    *,
    atlases: Sequence[Atlas],
    subjects: ListName = "abide1-1035",
    target: str = "diagnosis",
    missing_regions: MissingRegions = "mask",
) -> Cohort:
    return load_abide_arrays(path, atlases=atlases, cohort=subjects, target=target, missing_regions=missing_regions)


def _refuse_torch(path: str | os.PathLike[str], *, atlases: Sequence[Atlas] = ()) -> Cohort:
    raise DataError(
        f"Expected arrays in {path}, found objects of PyTorch Geometric (data.pt), which are pickled and never read: unpickling runs what a file "
        "says. If you trust the file, convert it where its packages are: data, slices = torch.load('data.pt', weights_only=False); write one matrix "
        "a graph with numpy.save, or the series with numpy.savetxt, and give the folder."
    )


def _by_derivative(name: str, what: str) -> Layout:
    def stand_ins(listing: Listing, choices: Choices) -> list[Atlas]:
        return unknown_atlases(list(FINDERS[name](listing)), choices)

    def fits(listing: Listing) -> bool:
        return next(FINDERS[name](listing), None) is not None

    return Layout(name, what, fits, partial(load_derivatives, layout=name), stand_ins)


def _by_mapping(name: str, what: str) -> Layout:
    return Layout(name, what, partial(fits_mapping, mapping=name), partial(load_records, mapping=name), lambda listing, choices: [])


def _by_shape(listing: Listing, variable: str | None, pattern: str | None) -> Layout:
    """Files of which names say nothing: matrices where the first that holds numbers is square, else time series."""
    array = _first_array(listing, variable, pattern)

    def stand_ins(listing: Listing, choices: Choices) -> list[Atlas]:
        found = array.transposed if choices.transpose else array
        return [stand_in(UNNAMED, found.columns, found.values.shape[1])]

    @wraps(load_matrices)
    def load(path: str | os.PathLike[str], **options: Any) -> Cohort:
        told = options.get("kind"), options.get("fisher_z")
        if told[0] is None:
            kind, fisher_z = kind_of(array.values, told[1], Path(path).name)
            options = {**options, "kind": kind, "fisher_z": fisher_z}
        try:
            return load_matrices(path, **options)
        except (DataError, AtlasError) as error:
            _check_one_size(listing, pattern, error)
            raise

    if array.values.shape[0] != array.values.shape[1]:
        return Layout("timeseries", "a folder of time series", lambda listing: True, load_timeseries, stand_ins)
    return Layout("matrices", "a folder of matrices", lambda listing: True, load, stand_ins)


def _check_one_size(listing: Listing, pattern: str | None, error: Exception) -> None:
    """Look again at files that did not fit: several sizes are several atlases.

    Raises:
        ChoiceError: If there are several sizes; names files of each.
    """
    by_size: defaultdict[str, list[str]] = defaultdict(list)
    for path in [] if listing.is_file else find_files(listing.root, pattern):
        try:
            rows, columns = read_labelled(path).values.shape
        except DataError:
            continue  # what cannot be read is said in the error at hand
        by_size[f"{rows} × {columns}"].append(path.name)
    counts = sorted(map(len, by_size.values()))
    if len(counts) > 1 and (counts[-2] > 1 or counts[-1] == 1):  # one odd file among many is a mistake
        shown = "; ".join(f"{size} in {len(names)} files such as {names[0]}" for size, names in by_size.items())
        example = next(iter(by_size.values()))[0]
        raise ChoiceError(f"Expected matrices of one size, found {shown}. Choose files with pattern=…, such as '*{example}'.") from error


def _first_array(listing: Listing, variable: str | None, pattern: str | None) -> LabelledArray:
    """The first file that holds numbers: tables of people or regions may lie beside the scans."""
    problems: list[DataError] = []
    for path in [listing.path] if listing.is_file else find_files(listing.root, pattern):
        try:
            return read_labelled(path, variable=variable)
        except DataError as error:
            problems.append(error)
    raise problems[0]


LAYOUTS = (
    Layout("cohort", "a saved cohort", lambda listing: listing.here("cohort.json".__eq__), _load_saved, lambda listing, choices: []),
    Layout("shards", "a cohort in shards", lambda listing: listing.here("shards.json".__eq__), _load_shards, lambda listing, choices: []),
    Layout(
        "abide_arrays",
        "ABIDE I as packed arrays",
        lambda listing: listing.here("subjects.csv".__eq__) and listing.here(lambda name: name.startswith("timeseries_") and name.endswith(".npz")),
        _load_arrays,
        lambda listing, choices: atlases_of_arrays(listing),
    ),
    Layout(
        "abide",
        "ABIDE I of the Preprocessed Connectomes Project",
        lambda listing: any("_rois_" in name and name.endswith(".1D") for name in listing.names),
        load_abide,
        lambda listing, choices: atlases_of_files(listing),
    ),
    Layout("image_arrays", "images, volumes or clips in one file", is_image_arrays, load_images, lambda listing, choices: []),
    Layout(
        "graph_dictionary",
        "all subjects in one file (BrainGB, BrainNetworkTransformer, PTGB, BrainGFM)",
        is_dictionary,
        load_graph_dictionary,
        lambda listing, choices: [atlas_of_dictionary(listing, choices.variable)],
    ),
    Layout(
        "pyg", "graphs of PyTorch Geometric (NeuroGraph)", lambda listing: bool(listing.ending(".pt")), _refuse_torch, lambda listing, choices: []
    ),
    _by_derivative("bids", "BIDS derivatives (XCP-D, giga_connectome, C-PAC, QSIRecon)"),
    _by_derivative("conn", "first-level results of CONN"),
    _by_derivative("dpabi", "ROI signals and correlations of DPABI"),
    _by_derivative("gretna", "matrices or time courses of GRETNA"),
    _by_derivative("population_gcn", "correlation files of population-gcn"),
    _by_derivative("cifti", "parcellated CIFTI files"),
    _by_derivative("mrtrix", "connectomes of MRtrix3"),
    _by_derivative("graphs", "graphs with named nodes (GraphML, edge lists)"),
    _by_derivative("brainnet_viewer", "matrices of BrainNet Viewer"),
    Layout("meds", "records in MEDS", is_meds, load_meds, lambda listing, choices: []),
    _by_mapping("mimic3", "tables of MIMIC-III"),
    _by_mapping("eicu", "tables of the eICU Collaborative Research Database"),
    _by_mapping("omop", "tables of the OMOP Common Data Model"),
    Layout("physionet2012", "stays of the PhysioNet Challenge 2012", is_physionet2012, load_physionet2012, lambda listing, choices: []),
    Layout("physionet2019", "stays of the PhysioNet Challenge 2019", is_physionet2019, load_physionet2019, lambda listing, choices: []),
    Layout("images", "images, volumes or clips", is_images, load_images, lambda listing, choices: []),
    Layout("table", "a table with one row a subject", is_table, load_tables, lambda listing, choices: []),
)
