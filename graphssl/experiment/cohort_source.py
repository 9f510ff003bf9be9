"""Where a cohort comes from, in a configuration: a path or an adapter, with its arguments."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from graphssl import datasets
from graphssl.atlases import load_atlas
from graphssl.data.cohort import Cohort
from graphssl.data.side_by_side import side_by_side
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.data.summaries import EventSummary
from graphssl.datasets.postgres import has_password, is_postgres
from graphssl.datasets.simulate import GroundTruth, Simulation
from graphssl.datasets.simulate_table import TableSimulation
from graphssl.errors import ConfigError
from graphssl.experiment.parser import nearest
from graphssl.experiment.sources import Source, open_source, several


@dataclass(frozen=True)
class CohortSource:
    """A path that holds a cohort, or a function that gives one.

    Args:
        adapter: Name of a function of `graphssl.datasets`, such as `load_timeseries`, or the dotted name of any other.
        arguments: Its arguments, or the options of `graphssl build` for the path. Atlases are given as names, files or `NAME=FILE`; paths count from
            the folder in which the command is run.
        path: What `graphssl validate` recognises: a saved cohort, a folder of files or one file; instead of an adapter.
        summary: How the events before the prediction time become columns, where the cohort has events.
        beside: More sources of the same subjects, each a path or an adapter with its arguments: a table beside images, say; found by their ids.
        sites: Sites to take; all when left out.
        without_sites: Sites to leave out.
        licence: What the licence of the data asks of those who pass a model on; the card of a pre-trained model says it.
        window: Shards in memory at once, where the path is a cohort in shards that `graphssl pretrain` is to stream; all of it when left out.

    Raises:
        ConfigError: If neither of the two is given, or both, a window stands beside anything but a path, or the address of a database carries a
            password, which would be copied into run folders.
    """

    adapter: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    summary: EventSummary | None = None
    beside: list[dict[str, Any]] | None = None
    sites: list[str] | None = None
    without_sites: list[str] | None = None
    licence: str | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        if (self.adapter is None) == (self.path is None):
            raise ConfigError(f"Expected the cohort to have a path or an adapter, found {'neither' if self.path is None else 'both'}.")
        others = [name for name in ("adapter", "arguments", "summary", "beside", "sites", "without_sites") if getattr(self, name)]
        if self.window is not None and others:
            raise ConfigError(f"Expected a window beside the path of a cohort in shards alone, found {', '.join(others)} too. Leave them out.")
        if any(is_postgres(value) and has_password(value) for value in self.arguments.values()):
            raise ConfigError(
                "Expected the address of a database without a password, since configurations are copied into run folders; found one with it. "
                "Put it into the variable PGPASSWORD, or into ~/.pgpass."
            )

    def open(self) -> Cohort | StreamedCohort:
        """The cohort, streamed where there is a window.

        Raises:
            InputError: If the data cannot be read.
        """
        return self.load()[0] if self.window is None else StreamedCohort(str(self.path), self.window)

    def load(self) -> tuple[Cohort, GroundTruth | None]:
        """The cohort, and what was put into it if it is simulated.

        Raises:
            ConfigError: If there is no such function, an argument of it is unknown or missing, the cohort has no site of that name, or it is to be
                streamed.
            InputError: If the data cannot be read.
        """
        if self.window is not None:
            raise ConfigError(
                f"Expected a cohort in memory, found window={self.window}: `graphssl pretrain` alone streams, in one training on one cohort. "
                "Leave the window out where the cohort fits into memory, or name a smaller cohort."
            )
        cohort, truth = self._read()
        cohort = of_sites(cohort, self.sites, self.without_sites or ())
        for source in self._others():
            cohort = side_by_side(cohort, source.load()[0])
        return (cohort if self.summary is None else self.summary.apply(cohort)), truth

    def _read(self) -> tuple[Cohort, GroundTruth | None]:
        if self.path is not None:
            return open_source(self._source(self.path)), None
        function = self._function()
        name, signature = function.__name__, inspect.signature(function)
        arguments = dict(self.arguments)
        if "atlas" in arguments:
            arguments["atlas"] = load_atlas(arguments["atlas"])
        if "atlases" in arguments:
            arguments["atlases"] = [load_atlas(entry) for entry in arguments["atlases"]]
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ConfigError(f"Expected the arguments that {name} needs, found none for one of them: {error}.") from error
        made = function(**arguments)
        if isinstance(made, TableSimulation):
            return made.cohort, None  # its truth has no regions to explain
        return (made.cohort, made.truth) if isinstance(made, Simulation) else (made, None)

    def absent(self) -> list[str]:
        """Files and folders that are named and at which there is nothing.

        Raises:
            ConfigError: If there is no such function, or an argument of it is unknown.
        """
        atlases: list[Any]
        if self.path is not None:
            source = self._source(self.path)
            places, atlases = [source.path, *filter(None, [source.participants])], [*several(source.atlas)]
        else:
            parameters = inspect.signature(self._function()).parameters
            places = [str(value) for key, value in self.arguments.items() if "PathLike" in str(parameters[key].annotation) and isinstance(value, str)]
            places = [place for place in places if not is_postgres(place)]  # whether it answers is seen when it is read
            atlases = [self.arguments.get("atlas"), *(self.arguments.get("atlases") or [])]
        places += [entry.rpartition("=")[2] for entry in atlases if isinstance(entry, str) and "/" in entry]
        return [place for place in places if not Path(place).exists()] + [place for source in self._others() for place in source.absent()]

    def _others(self) -> list["CohortSource"]:
        known = [entry.name for entry in fields(CohortSource)]
        for key in (key for entry in self.beside or [] for key in entry if key not in known):
            raise ConfigError(f"Expected sources beside the first with {', '.join(known)}, found {key!r}.{nearest(key, known)}")
        return [CohortSource(**entry) for entry in self.beside or []]

    def _source(self, path: str) -> Source:
        known = [entry.name for entry in fields(Source) if entry.name != "path"]
        for key in self.arguments:
            if key not in known:
                raise ConfigError(f"Expected arguments that graphssl build has as options, found {key!r}.{nearest(key, known)}")
        return Source(path, **self.arguments)

    def _function(self) -> Callable[..., Any]:
        module, _, name = str(self.adapter).rpartition(".")
        try:
            function: Callable[..., Any] = getattr(import_module(module or "graphssl.datasets"), name)
            parameters = list(inspect.signature(function).parameters)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            near = nearest(name, datasets.__all__)
            raise ConfigError(
                f"Expected the adapter to be a function of graphssl.datasets or a dotted name, found {self.adapter!r}.{near}"
            ) from error
        for key in self.arguments:
            if key not in parameters:
                raise ConfigError(f"Expected arguments of {name}, found {key!r}.{nearest(key, parameters)}")
        return function


def of_sites(cohort: Cohort, sites: Sequence[str] | None, without: Sequence[str] = ()) -> Cohort:
    """The subjects of some sites.

    Args:
        cohort: The cohort.
        sites: Sites to take; all when left out.
        without: Sites to leave out.

    Raises:
        ConfigError: If the cohort has no site of that name.
    """
    if sites is None and not without:
        return cohort
    known = [] if cohort.sites is None else sorted(cohort.sites.unique())
    for site in (*(sites or ()), *without):
        if site not in known:
            raise ConfigError(f"Expected sites of {cohort.name!r} ({', '.join(known) or 'it has none'}), found {site!r}.{nearest(site, known)}")
    assert cohort.sites is not None
    wanted = set(sites if sites is not None else known) - set(without)
    return cohort.select([str(subject) for subject, site in cohort.sites.items() if site in wanted])
