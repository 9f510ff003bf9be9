"""BIDS derivatives with region data: XCP-D, giga_connectome, C-PAC, QSIRecon and whoever names files the same way.

Names are read as BIDS writes them (`sub-01_ses-1_task-rest_atlas-A_stat-mean_timeseries.tsv`), in every spelling the tools have used over the years.
Sources: the BIDS specification 1.10 on entities and inheritance, BEP017 on relational matrices (https://github.com/bids-standard/bids-specification/pull/1902),
and the outputs of XCP-D (https://xcp-d.readthedocs.io/en/latest/outputs.html). Tables and sidecars are found in one listing; pybids is not needed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphssl.data.regions import ValueKind
from graphssl.datasets.folder import People
from graphssl.datasets.listing import Listing
from graphssl.datasets.matlab import IDS, matlab_variables
from graphssl.datasets.participants import find_participants
from graphssl.datasets.scan_files import Content, Scan
from graphssl.errors import DataError


def find_bids(listing: Listing) -> Iterator[Scan]:
    """Files of BIDS derivatives that hold region data, one after the other; none where it is another layout."""
    sidecars = None
    for file in listing.names:
        name = parse_name(file)
        content = None if name is None else _content(name)
        if name is not None and content is not None:
            sidecars = sidecars or _Sidecars(listing)
            yield from _scans_of(listing, file, name, content, sidecars)


def with_participants(people: People, listing: Listing) -> People:
    """The table of participants of the folder, or of the data set that the derivatives lie in, where none is given."""
    if people.participants is not None:
        return people
    folder = listing.root.resolve()
    places = [folder, *(parent for parent in list(folder.parents)[:3] if _holds_derivatives(folder, parent))]
    found = next((table for table in map(find_participants, places) if table is not None), None)
    return replace(people, participants=found)


@dataclass(frozen=True)
class BidsName:
    """A file name as BIDS composes it.

    Args:
        entities: Values by key, in order.
        suffix: The last word.
        ending: What follows the first point, with it.
    """

    entities: Mapping[str, str]
    suffix: str
    ending: str


def parse_name(file: str) -> BidsName | None:
    """Take a name apart, or None where it does not begin with `sub-`."""
    stem, point, ending = file.rpartition("/")[2].partition(".")
    words = stem.split("_")
    pairs = [word.partition("-") for word in words]
    if not stem.startswith("sub-") or "-" in words[-1]:
        return None
    return BidsName({key: value for key, mark, value in pairs if mark}, words[-1], (point + ending).lower())


def _holds_derivatives(folder: Path, parent: Path) -> bool:
    """Whether a folder above is a BIDS data set that this one is a part or a derivative of."""
    return (parent / "dataset_description.json").is_file() or parent / "derivatives" in (folder, *folder.parents)


# What a file holds


def _content(name: BidsName) -> Content | None:
    if name.entities.get("desc") == "confounds":
        return None
    suffix, ending = name.suffix.lower(), name.ending
    if ending.endswith(".nii"):
        return _CIFTI.get(ending.removeprefix("."))
    if suffix == "timeseries" and ending in (".tsv", ".csv", ".1d"):
        return Content(f"timeseries{ending}", "timeseries", False, rank=0)
    if ending == ".mat" and suffix.endswith(("connectivity", "connectome")):
        return Content("connectivity.mat", rank=4)
    if suffix in _GRAPHS and ending in (".graphml", ".edgelist", ".ssv"):
        return Content(f"{suffix}{ending}", rank=5)
    if suffix not in _MATRICES or ending not in (".tsv", ".csv", ".txt", ".npy"):
        return None
    return _of_measure(Content(f"{suffix}{ending}", rank=2), _measure(name.entities))


def _measure(entities: Mapping[str, str]) -> str:
    """What a matrix was measured by; C-PAC writes it into `desc`, where others write the denoising."""
    named = next((entities[key] for key in ("stat", "meas", "measure") if key in entities), "")
    return named or (entities.get("desc", "") if _measured(entities.get("desc", "")) else "")


def _of_measure(content: Content, measure: str) -> Content:
    kind = _measured(measure)
    if kind is None:
        return replace(content, measure=measure)
    return replace(content, words=f"{measure} {content.words}", kind=kind[0], fisher_z=kind[1])


def _measured(measure: str) -> tuple[ValueKind, bool | None] | None:
    plain = re.sub(r"[\W_]+", "", measure.casefold())
    return next((kind for pattern, kind in _MEASURES if re.search(pattern, plain)), None) if plain else None


def _scans_of(listing: Listing, file: str, name: BidsName, content: Content, sidecars: "_Sidecars") -> list[Scan]:
    entities = {key: value for key, value in name.entities.items() if key not in ("sub", "atlas", "seg", "parc")}
    atlas = next((name.entities[key] for key in ("atlas", "seg", "parc") if key in name.entities), "")
    told = sidecars.of(file, name)
    if content.measure == "" and content.kind is None and "RelationshipMeasure" in told:
        content = _of_measure(content, str(told["RelationshipMeasure"]))
    length = next((int(told[key]) for key in _LENGTHS if isinstance(told.get(key), int)), None)
    scan = Scan(listing.root / file, f"sub-{name.entities['sub']}", content, atlas, entities, sidecars.pipeline(file), length)
    return [scan] if content.words != "connectivity.mat" else _matrices_of(scan, sidecars.variables(scan.path, name))


def _matrices_of(scan: Scan, keys: Mapping[str, tuple[str, str]]) -> list[Scan]:
    """One scan an atlas and weight of a QSIRecon file."""
    found = []
    for key, (atlas, weight) in keys.items():
        measured = _measured(weight)
        content = replace(scan.content, variable=key, kind="adjacency" if measured is None else measured[0], fisher_z=False)
        found.append(replace(scan, content=content, atlas=atlas, entities={**scan.entities, "variable": weight}))
    return found or [scan]


class _Sidecars:
    """JSON files of a listing, each read once, and what they say of a file by inheritance."""

    def __init__(self, listing: Listing) -> None:
        self._root = listing.root
        self._by_folder: defaultdict[str, list[tuple[str, BidsName]]] = defaultdict(list)
        self._pipelines: dict[str, str] = {}
        for file in listing.ending(".json"):
            folder, _, last = file.rpartition("/")
            name = _sidecar_name(last)
            if last == "dataset_description.json":
                self._pipelines[folder] = _pipeline_of(self._json(self._root / file))
            elif name is not None:
                self._by_folder[folder].append((file, name))
        above = [parent / "dataset_description.json" for parent in list(listing.root.resolve().parents)[:3]]
        described = next((path for path in above if path.is_file()), None)
        self._above = "" if described is None else _pipeline_of(self._json(described))
        self._read: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, dict[str, tuple[str, str]]] = {}

    def of(self, file: str, name: BidsName) -> dict[str, Any]:
        """What sidecars say of a file: nearer ones overrule those in folders above."""
        told: dict[str, Any] = {}
        for folder in reversed(_folders(file)):
            for sidecar, other in self._by_folder.get(folder, ()):
                if other.suffix == name.suffix and other.entities.items() <= name.entities.items():
                    if sidecar not in self._read:
                        self._read[sidecar] = self._json(self._root / sidecar)
                    told.update(self._read[sidecar])
        return told

    def pipeline(self, file: str) -> str:
        """Name and version of what made a file, from the nearest `dataset_description.json`."""
        return next((self._pipelines[folder] for folder in _folders(file) if folder in self._pipelines), self._above)

    def variables(self, path: Path, name: BidsName) -> dict[str, tuple[str, str]]:
        """Atlas and weight by key of a QSIRecon file. Files of one suffix hold the same keys: one of them is looked into."""
        if name.suffix not in self._keys:
            stored = matlab_variables(path)
            prefixes = sorted((key.removesuffix(IDS) for key in stored if key.endswith(IDS)), key=len, reverse=True)
            keys = {}
            for key in stored:
                prefix = next((prefix for prefix in prefixes if key.startswith(prefix + "_")), None)
                if prefix is not None and key.endswith("_connectivity"):
                    weight = key.removeprefix(prefix + "_").removesuffix("_connectivity")
                    keys[key] = (prefix.removeprefix("atlas_"), weight)
            self._keys[name.suffix] = keys
        return self._keys[name.suffix]

    @staticmethod
    def _json(path: Path) -> dict[str, Any]:
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"Expected JSON in {path}, found a file that cannot be read ({error}). Mend or remove it.") from error
        return record if isinstance(record, dict) else {}


def _folders(file: str) -> list[str]:
    """The folder of a file and those above it up to the root, which is the empty name."""
    found = []
    while file:
        file = file.rpartition("/")[0]
        found.append(file)
    return found


def _pipeline_of(description: Mapping[str, Any]) -> str:
    made_by = description.get("GeneratedBy") or description.get("PipelineDescription") or []
    made_by = [made_by] if isinstance(made_by, dict) else made_by
    return " + ".join(f"{entry.get('Name', '')} {entry.get('Version', '')}".strip() for entry in made_by if isinstance(entry, dict))


def _sidecar_name(file: str) -> BidsName | None:
    """A sidecar's name; one that holds for several subjects has no `sub-`."""
    stem = file.removesuffix(".json")
    words = stem.split("_")
    if "-" in words[-1] or not all("-" in word for word in words[:-1]):
        return None
    return BidsName(dict(word.split("-", 1) for word in words[:-1]), words[-1], ".json")


_CIFTI = {
    "ptseries.nii": Content("ptseries.nii", "timeseries", False, rank=1),
    "pconn.nii": Content("pconn.nii", "correlation", None, rank=3),
}
_MATRICES = ("relmat", "conmat", "correlations", "connectome", "connectivity")
_GRAPHS = (*_MATRICES, "graph", "adj", "ds")
# Words of a measure in any spelling; the first that fits counts.
_MEASURES: tuple[tuple[str, tuple[ValueKind, bool | None]], ...] = (
    ("fisher|zcorr|pearsonz|ztransf", ("correlation", True)),
    ("partial", ("partial correlation", None)),
    ("precision|inversecov", ("precision", False)),
    ("covariance", ("covariance", False)),
    ("tangent", ("tangent", False)),
    ("length|ncount|gfa|fa$|md$|volnorm", ("adjacency", False)),
    ("sift|streamline|count", ("streamline count", False)),
    ("pearson|correlation|^corr$|^fc$", ("correlation", None)),
)
# Where sidecars tell the number of volumes that remained.
_LENGTHS = ("NumberOfVolumes", "NumberOfTimepoints", "NumberOfTimePoints", "n_timepoints")
