"""Sources: a path and what its files do not say, opened as what it is recognised as, or looked at as far as it goes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

from graphssl.atlases import load_atlas
from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import MatrixKind
from graphssl.datasets import recognise
from graphssl.datasets.abide_lists import ListName
from graphssl.datasets.image_entries import Form
from graphssl.datasets.image_folder import FolderUse
from graphssl.datasets.image_scan import Damaged, EmptyMasks
from graphssl.datasets.layouts import Layout
from graphssl.datasets.listing import GET_CONTENT, Listing, links_to_nothing, list_files
from graphssl.datasets.scan_files import Choices, Repeats
from graphssl.errors import ChoiceError, ConfigError, InputError
from graphssl.experiment.source_advice import advice, as_options, atlas_advice


@dataclass(frozen=True)
class Source:
    """A path and what its files do not say. What is left at None is as the adapter of the layout has it.

    Args:
        path: Folder of files, one file, or a saved cohort.
        atlas: Atlas of the regions: a name, a table, a label volume, or `NAME=FILE`; several for sources with several.
        participants: Table of participants; the one in the folder when left out.
        id_column: Column of subject ids in it.
        target: Column to predict.
        site: Column of the site.
        group: Column of the family, or of the person where scans are repeated.
        covariates: Columns that may explain the target without the brain.
        kind: Kind of matrices: nilearn's words, `streamline count`, or `adjacency`.
        fisher_z: Whether the matrices hold Fisher z.
        missing_regions: `mask` hides regions without signal, `error` refuses them.
        select: Values that file names must have, such as `ses-1` or `desc-simple`; several as a list.
        repeats: `group` keeps all scans of a subject as rows of one group, `choose` asks for one.
        variable: Name of the array where a file has several.
        header: `ignore` takes columns to be in the order of the atlas, whatever they are called.
        transpose: Whether the regions of time series are rows.
        log1p: Whether to turn streamline counts into log(1 + count).
        pattern: Which files of a plain folder to read, such as `**/*_fc.csv`.
        pipeline: Pipeline of ABIDE files (`cpac`, …), or how the data were made, for the record.
        strategy: Strategy of ABIDE files, such as `filt_global`.
        subjects: Named list of ABIDE subjects: `abide1-1035` or `abide1-871`.
        schema: Corrected schema of a table (YAML), in place of guesses and roles.
        positive: Values of a table's target that make one class against all others.
        drop: Columns of a table to leave out, such as those known only after the target.
        missing: Values of a table that stand for nothing, such as `-9999`.
        form: Whether to read images, volumes or clips, where a folder holds several.
        masks: Folder of segmentation masks in a folder of images.
        mask_classes: Names of the classes of masks, the background first.
        labels: Names of the classes of images in an NPZ file, in the order of their numbers.
        folders: Whether sub-folders of images are classes or persons.
        person: Regular expression that finds the person in the name of an image.
        damaged: `exclude` leaves out and lists images that cannot be read.
        empty_masks: Whether images whose mask shows nothing are kept or left out.
    """

    path: str
    atlas: Sequence[str] | str = ()
    participants: str | None = None
    id_column: str | None = None
    target: str | None = None
    site: str | None = None
    group: str | None = None
    covariates: Sequence[str] | str | None = None
    kind: MatrixKind | None = None
    fisher_z: bool | None = None
    missing_regions: Literal["error", "mask"] | None = None
    select: Sequence[str] | str | None = None
    repeats: Repeats | None = None
    variable: str | None = None
    header: Literal["check", "ignore"] | None = None
    transpose: bool | None = None
    log1p: bool | None = None
    pattern: str | None = None
    pipeline: str | None = None
    strategy: str | None = None
    subjects: ListName | None = None
    schema: str | None = None
    positive: Sequence[str] | str | None = None
    drop: Sequence[str] | str | None = None
    missing: Sequence[str] | str | None = None
    form: Form | None = None
    masks: str | None = None
    mask_classes: Sequence[str] | str | None = None
    labels: Sequence[str] | str | None = None
    folders: FolderUse | None = None
    person: str | None = None
    damaged: Damaged | None = None
    empty_masks: EmptyMasks | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What was given, by name of the adapters' arguments."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("path", "atlas")}
        lists = {name: several(given[name]) for name in _LISTS if given[name] is not None}
        return {**given, **lists}


_LISTS = ("covariates", "select", "positive", "drop", "missing", "mask_classes", "labels")
OPTIONS = tuple(field.name for field in fields(Source) if field.name != "path")


@dataclass(frozen=True)
class Found:
    """What a look at a source gave.

    Args:
        layout: What it was recognised as.
        cohort: What it holds, or None where something has to be decided first.
        advice: What to do; the source can be built as it is where nothing is missing.
        complete: Whether the source can be built as it is.
    """

    layout: Layout
    cohort: Cohort | None
    advice: tuple[str, ...]
    complete: bool


def open_source(source: Source) -> Cohort:
    """Load a source as what it is recognised as.

    Raises:
        ConfigError: If an atlas is needed and none is given, or an option does not apply.
        DataError: If the files cannot be read.
    """
    layout, listing = recognised(source), list_files(source.path)
    atlases = _atlases(source, listing)
    if not atlases:
        needed = layout.stand_ins(listing, _choices(source))
        if needed:
            raise ConfigError(f"Expected the atlas of the regions for {layout.name} data, found none. {' '.join(map(atlas_advice, needed))}")
    return layout.load(source.path, atlases, **source.options)


def look(source: Source) -> Found:
    """Check a source as far as it goes: without an atlas with stand-ins for its regions, and up to the first thing that only the user can decide.

    Raises:
        InputError: If files cannot be read or do not fit.
    """
    layout, listing = recognised(source), list_files(source.path)
    try:
        atlases = _atlases(source, listing)
        needed = [] if atlases else layout.stand_ins(listing, _choices(source))
        cohort = layout.load(source.path, atlases or needed, **source.options)
    except ChoiceError as error:
        return Found(layout, None, (str(error),), False)
    dead = [] if listing.is_file else links_to_nothing(listing.root)
    absent = [f"{len(dead)} links lead to no file, such as {dead[0]}: {GET_CONTENT[0].lower()}{GET_CONTENT[1:-1]}"] if dead else []
    return Found(layout, cohort, (*map(atlas_advice, needed), *absent, *advice(cohort)), not needed)


def recognised(source: Source) -> Layout:
    """What layout a source is of.

    Raises:
        DataError: If there is nothing at its path, or nothing that is known.
    """
    return recognise(source.path, variable=source.variable, pattern=source.pattern)


def _choices(source: Source) -> Choices:
    names = {field.name for field in fields(Choices)}
    return Choices(**{name: value for name, value in source.options.items() if name in names and value is not None})


def _atlases(source: Source, listing: Listing) -> list[Atlas]:
    """The atlases that are given; else the one BrainNet Viewer's node file beside the matrices describes."""
    given = [load_atlas(entry) for entry in several(source.atlas)]
    nodes = listing.ending(".node")
    if not given and len(nodes) == 1 and listing.ending(".edge"):
        return [load_atlas(listing.root / nodes[0])]
    return given


@contextmanager
def told_as_options() -> Iterator[None]:
    """Errors in the words of the command line.

    Raises:
        InputError: Any that comes up inside, with `--name value` for `name=value`.
    """
    try:
        yield
    except InputError as error:
        raise type(error)(as_options(str(error), OPTIONS)) from error


def several(words: Sequence[str] | str) -> tuple[str, ...]:
    """One word or several, as the command line gives them."""
    return (words,) if isinstance(words, str) else tuple(words)
