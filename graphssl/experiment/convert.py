"""Convert scans from one atlas to another, one file or a cohort, and say how far the result can be believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphssl.atlases import (
    AtlasConverter,
    AtlasMap,
    LabelVolume,
    convert_cohort,
    geometry_map,
    load_parcellation,
    overlap_map,
)
from graphssl.atlases.label_volume import Parcellation, atlas_of
from graphssl.atlases.load import find_atlas_file, named_path
from graphssl.atlases.overlap import resampling
from graphssl.atlases.parcellation import parcellation_of, regions_in
from graphssl.atlases.volume import VOLUME_SUFFIXES, volume_stem
from graphssl.data.atlas import check_atlas
from graphssl.data.cohort import Cohort
from graphssl.data.regions import RegionData
from graphssl.datasets.array_writer import WRITTEN_ENDINGS, check_written_ending
from graphssl.errors import AtlasError, ConfigError
from graphssl.experiment.conversion_report import describe_conversion
from graphssl.experiment.convert_scans import is_saved_cohort, open_scans, write_scan
from graphssl.experiment.sources import Source, several, told_as_options
from graphssl.reports import conversion_facts, conversion_summary, write_conversion_report
from graphssl.reports.names import count


@dataclass(frozen=True)
class Conversion:
    """What to convert, how, and where to.

    Args:
        scans: What to convert: a file, a folder of files, or a cohort folder, and what its files do not say.
        out: File to write where one file is converted (.1D, .tsv, .csv, .txt or .npy), else cohort folder to write.
        source: Atlas of the data: a name, a file or NAME=FILE.
        target: Atlas of the result, likewise.
        method: overlap, geometry, transport, ridge, autoencoder or joint. When left out, joint with fit, else overlap where both atlases have voxels,
            else geometry.
        options: Arguments of the method, such as {"penalty": 0.1}.
        fit: Cohort folder with subjects in both atlases to learn the map from; geometry takes its parameters from those in the source atlas.
        map: Saved map to apply instead of making one; several, as a list, are applied one after the other.
        save_map: File to save the map to (.safetensors).
        repair: Whether matrices that are not positive semi-definite are replaced by the nearest that are.
        keep: Whether the cohort that is written keeps the data in the source atlas.
    """

    scans: Source
    out: str
    source: str | None = None
    target: str | None = None
    method: str | None = None
    options: dict[str, Any] | None = None
    fit: str | None = None
    map: Sequence[str] | str = ()
    save_map: str | None = None
    repair: bool = False
    keep: bool = False


def run_convert(settings: Conversion) -> tuple[str, dict[str, Any]]:
    """Write what was converted, its report and, where asked for, the map.

    Returns:
        What was done, as text for a person and as a record for a machine.

    Raises:
        ConfigError: If options do not go together.
        InputError: If scans, atlases or maps cannot be read or do not fit; nothing is written.
    """
    _check(settings)
    with told_as_options():
        made = _mapped(settings) if settings.map else _made(settings)
    if _writes_file(settings) and len(made.cohort) > 1:
        raise ConfigError(f"Expected one scan to write to {settings.out}, found {len(made.cohort)} subjects. Give a folder as --out.")
    converted = convert_cohort(made.map, made.cohort, keep=settings.keep, repair=settings.repair)
    before, after = _data_in(made.cohort, made.map), converted.regions[made.map.target.name]
    remarks = [*made.remarks, *_missing(before, after, made.map), *_indefinite(made.cohort, converted, len(after), settings.repair)]
    report = describe_conversion(made.map, before, back=made.back, method=made.said, volumes=made.volumes, remarks=remarks)
    out, folder = Path(settings.out), _report_folder(settings)
    if _writes_file(settings):
        page = write_conversion_report(folder, report)
        write_scan(out, after)
    else:
        converted.save(out)
        page = write_conversion_report(folder, report)
    saved = None if settings.save_map is None else str(made.map.save(settings.save_map))
    lines = [*conversion_facts(report), *([("Map", saved)] if saved else []), ("Report", str(page)), ("Written to", str(out))]
    record = {**conversion_summary(report), "n_subjects": len(before), "map": saved, "report": str(page), "written": str(out)}
    return "\n".join(f"{name:<16}{said}" for name, said in lines), record


@dataclass(frozen=True)
class _Made:
    """A map, the scans to apply it to, and how it came about."""

    map: AtlasMap
    cohort: Cohort
    back: AtlasMap
    said: str = ""
    volumes: str = ""
    remarks: tuple[tuple[str, str], ...] = ()


def _made(settings: Conversion) -> _Made:
    """A map made for the scans, from atlases and, where given, training subjects."""
    assert settings.source is not None
    assert settings.target is not None
    source, target = load_parcellation(settings.source), load_parcellation(settings.target)
    training = None if settings.fit is None else Cohort.load(settings.fit)
    saved = Cohort.load(settings.scans.path) if is_saved_cohort(settings.scans.path) else None
    source = _matched(source, training or saved, "--fit" if training else "the cohort")
    cohort = open_scans(settings.scans, atlas_of(source))
    method = settings.method or _default_method(source, target, training)
    converter = AtlasConverter(source, target, method, settings.options).fit(training)  # type: ignore[arg-type]
    remarks = () if training is None else _learned_from(training, cohort, converter)
    found, volumes = converter.map_, ""
    if isinstance(source, LabelVolume) and isinstance(target, LabelVolume):
        volumes = resampling(source, target)
    return _Made(found, cohort, _back(source, target, found), volumes=volumes, remarks=remarks)


def _mapped(settings: Conversion) -> _Made:
    """Saved maps, one after the other."""
    paths = several(settings.map)
    first, *rest = [AtlasMap.load(path) for path in paths]
    for following in rest:
        first = first.then(following)
    for given, atlas in ((settings.source, first.source), (settings.target, first.target)):
        if given is not None:
            check_atlas(atlas, atlas_of(load_parcellation(given)))
    cohort = open_scans(settings.scans, first.source)
    return _Made(first, cohort, _back(first.source, first.target, first), f"{first.method} (from {', '.join(paths)})")


def _check(settings: Conversion) -> None:
    """Check that options go together, before anything is read.

    Raises:
        ConfigError: If they do not, or OUT is where something is read.
    """
    makes = [name for name in ("method", "options", "fit") if getattr(settings, name) is not None]
    if settings.map and makes:
        raise ConfigError(f"Expected either --map or how to make one, found --map and --{makes[0]}. A saved map is applied as it is.")
    absent = [option for option, given in (("--from", settings.source), ("--to", settings.target)) if given is None]
    if absent and not settings.map:
        raise ConfigError(f"Expected the atlases --from and --to, found no {absent[0]}. Name them, or apply a saved map with --map FILE.")
    if settings.fit is not None and settings.method == "overlap":
        raise ConfigError(
            "Expected --fit for a method that learns from subjects, found the method 'overlap', which needs volumes only. Leave one out."
        )
    _check_places(settings)


def _check_places(settings: Conversion) -> None:
    out, read = Path(settings.out).resolve(), Path(settings.scans.path).resolve()
    if out == read or read in out.parents:
        raise ConfigError(
            f"Expected another place to write than the one that is read, found {settings.out} in {settings.scans.path}. Give another --out."
        )
    for given in (settings.scans.path, settings.fit, *several(settings.map)):
        if given is not None and (Path(given).resolve() == out or out in Path(given).resolve().parents):
            raise ConfigError(f"Expected another place to write than one that is read, found {settings.out} to hold {given}. Give another --out.")
    above = next((folder for folder in Path(settings.out).parents if folder.is_file()), None)
    if above is not None:
        raise ConfigError(f"Expected folders above {settings.out}, found the file {above}. Give another --out.")
    if _writes_file(settings):
        _check_file(settings, out)
    elif Path(settings.scans.path).is_file() and out.suffix:
        check_written_ending(out)


def _check_file(settings: Conversion, out: Path) -> None:
    if settings.keep:
        raise ConfigError(f"Expected --keep for a cohort folder, found {settings.out} to write: a file holds data in one atlas. Leave it out.")
    named = [given for given in (settings.source, settings.target) if given is not None and _would_name_regions(out, given)]
    if named:
        raise ConfigError(
            f"Expected another name, found {settings.out}, which would be read as the names of the regions of {named[0]}. Give another --out."
        )
    if out.exists():
        raise ConfigError(f"Expected no file at {settings.out} yet, found one. Remove it, or give another --out.")


def _would_name_regions(out: Path, atlas: str) -> bool:
    """Whether a file is a table of the name of an atlas' volume, beside it."""
    text = named_path(atlas)[1]
    volume = Path(text) if Path(text).is_file() else find_atlas_file(text)
    if volume is None or not volume.name.lower().endswith(VOLUME_SUFFIXES):
        return False
    return out.suffix.lower() in (".csv", ".tsv") and out.with_suffix("") == volume.resolve().with_name(volume_stem(volume))


def _writes_file(settings: Conversion) -> bool:
    return Path(settings.out).suffix.lower() in {ending.lower() for ending in WRITTEN_ENDINGS}


def _report_folder(settings: Conversion) -> Path:
    out = Path(settings.out)
    return out.with_name(f"{out.stem}_report") if _writes_file(settings) else out / "report"


def _matched(source: Parcellation, cohort: Cohort | None, whose: str) -> Parcellation:
    """The source atlas with just the regions that a cohort has, where there is one."""
    if cohort is None:
        return source
    data = regions_in(cohort, source)
    if data is None:
        held = ", ".join(f"{name} ({len(data.atlas)} regions)" for name, data in cohort.regions.items()) or "none"
        raise AtlasError(
            f"Expected {whose} to hold data in {atlas_of(source).name!r} ({len(atlas_of(source))} regions), found {held}. Name one of these --from."
        )
    return parcellation_of(source, data.atlas)


def _default_method(source: Parcellation, target: Parcellation, training: Cohort | None) -> str:
    if training is not None:
        return "joint"
    return "overlap" if isinstance(source, LabelVolume) and isinstance(target, LabelVolume) else "geometry"


def _back(source: Parcellation, target: Parcellation, there: AtlasMap) -> AtlasMap:
    """A map back that needs nobody: by volumes where the map was made of them, else by geometry."""
    if there.method == "overlap" and isinstance(source, LabelVolume) and isinstance(target, LabelVolume):
        return overlap_map(target, source)
    return geometry_map(parcellation_of(target, there.target), parcellation_of(source, there.source))


def _data_in(cohort: Cohort, atlas_map: AtlasMap) -> RegionData:
    return next(data for data in cohort.regions.values() if data.atlas.hash == atlas_map.source.hash)


def _learned_from(training: Cohort, cohort: Cohort, converter: AtlasConverter) -> tuple[tuple[str, str], ...]:
    n = converter.n_subjects_
    whom = f"{n} subjects of {training.name} with both atlases" if n else f"{len(training)} subjects of {training.name}, parameters only"
    lines = [("Learned from", whom)]
    shared = len(set(training.ids) & set(cohort.ids))
    if n and shared:
        lines.append(
            ("Same people", f"{shared} of the {len(cohort)} converted are among those learned from: theirs come out better than others’ would")
        )
    return tuple(lines)


def _missing(before: RegionData, after: RegionData, atlas_map: AtlasMap) -> list[tuple[str, str]]:
    lacking = {subject: int((~seen).sum()) for subject, seen in before.observed.items() if not seen.all()}
    if not lacking:
        return []
    lost = sum(int((atlas_map.served & ~seen).sum()) for seen in after.observed.values())
    what = f"{count(lost, 'more region')} masked for it" if lost else "no region is lost for it"
    return [
        (
            "Without signal",
            f"{count(sum(lacking.values()), 'source region')} in {len(lacking)} of {count(len(before), 'subject')}; the others stand in, {what}",
        )
    ]


def _indefinite(before: Cohort, after: Cohort, n_matrices: int, repaired: bool) -> list[tuple[str, str]]:
    told = after.excluded.iloc[len(before.excluded) :]
    n = int((told["what"] == "matrix").sum())
    if not n:
        return []
    what = "replaced by the nearest that are" if repaired else "left as they are (--repair gives the nearest that are)"
    return [("Not definite", f"{n} of {n_matrices} converted matrices are not positive semi-definite: {what}")]
