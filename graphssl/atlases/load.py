"""One door to all atlases at hand: by name, by file, or as they are."""

import os
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from graphssl.atlases.download import FETCHED
from graphssl.atlases.shipped import SHIPPED, atlas_from_nilearn
from graphssl.atlases.simulated import simulated_atlas
from graphssl.atlases.table import TABLE_SUFFIXES, atlas_from_table
from graphssl.atlases.volume import VOLUME_SUFFIXES, atlas_from_volume
from graphssl.data import Atlas
from graphssl.errors import AtlasError


def load_atlas(source: str | os.PathLike[str] | Atlas, *, name: str | None = None) -> Atlas:
    """Load an atlas; nothing is downloaded.

    Args:
        source: A name (see [`list_atlases`][graphssl.atlases.list_atlases]; `"simulated100"` makes a simulated one of 100 regions), the path of a
            table (`.csv`, `.tsv`, `.node`) or label volume (`.nii`, `.nii.gz`), `"NAME=PATH"` to name it at once, or an atlas, which is returned.
            A name is looked for in the folders of the environment variable `GRAPHSSL_ATLASES` first.
        name: Name of the atlas; that of the source when left out.

    Raises:
        AtlasError: If the name is unknown, or the file cannot be read as an atlas.

    Example:
        >>> len(load_atlas("power264"))
        264
    """
    if isinstance(source, Atlas):
        atlas = source
    else:
        given, path = named_path(os.fspath(source))
        atlas = _read_file(Path(path)) if _is_path(path) else _by_name(path)
        name = name or given
    return atlas if name is None or name == atlas.name else replace(atlas, name=name)


def list_atlases(*, download: bool = False) -> tuple[str, ...]:
    """Names of the atlases that need no file.

    Args:
        download: Also those that [`fetch_atlas`][graphssl.atlases.fetch_atlas] would download.
    """
    return (*SHIPPED, *FETCHED) if download else SHIPPED


def find_atlas_file(name: str) -> Path | None:
    """The file of an atlas of that name in the folders of `GRAPHSSL_ATLASES` and below; volumes before tables, earlier folders before later ones.

    Raises:
        AtlasError: If one folder holds several files of that name, or a folder is absent.
    """
    if not _NAME.fullmatch(name):
        return None
    for folder in filter(None, os.environ.get("GRAPHSSL_ATLASES", "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise AtlasError(f"Expected folders of atlases in GRAPHSSL_ATLASES, found {folder!r}, which is none. Mend or unset the variable.")
        for suffixes in (VOLUME_SUFFIXES, TABLE_SUFFIXES):
            found = sorted(path for suffix in suffixes for path in Path(folder).rglob(f"{name}{suffix}") if path.is_file())
            if len(found) > 1:
                raise AtlasError(
                    f"Expected one file of the atlas {name!r} below {folder}, found {', '.join(map(str, found))}. "
                    "They may be different parcellations of one name: give the path, or name the subfolder in GRAPHSSL_ATLASES."
                )
            if found:
                return found[0]
    return None


def named_path(text: str) -> tuple[str | None, str]:
    """`NAME=PATH` cut in two; an equals sign within a folder's name does not count."""
    before, equals, after = text.partition("=")
    return (before, after) if equals and after and _NAME.fullmatch(before) and not Path(text).exists() else (None, text)


_SIMULATED = re.compile(r"simulated([1-9]\d*)(?:-(\d+))?")
_NAME = re.compile(r"[\w.-]+")


def _is_path(text: str) -> bool:
    return text.lower().endswith((*TABLE_SUFFIXES, *VOLUME_SUFFIXES)) or os.sep in text or "/" in text or Path(text).is_file()


def _read_file(path: Path) -> Atlas:
    if path.name.lower().endswith(VOLUME_SUFFIXES):
        return atlas_from_volume(path)
    if path.name.lower().endswith(TABLE_SUFFIXES):
        return atlas_from_table(path)
    raise AtlasError(f"Expected an atlas as {', '.join((*TABLE_SUFFIXES, *VOLUME_SUFFIXES))}, found {path}. Convert it to one of these.")


def _by_name(name: str) -> Atlas:
    found = find_atlas_file(name)
    if found is not None:
        return replace(_read_file(found), name=name)
    simulated = _SIMULATED.fullmatch(name)
    if simulated:
        return simulated_atlas(int(simulated[1]), seed=int(simulated[2] or 0))
    if name in SHIPPED:
        return atlas_from_nilearn(name)
    if name in FETCHED:
        raise AtlasError(
            f"Expected an atlas at hand ({', '.join(SHIPPED)}, or a file), found {name!r}, which has to be downloaded. "
            f"Call graphssl.atlases.fetch_atlas({name!r}) once and give what it returns."
        )
    near = get_close_matches(name, list_atlases(download=True), n=1, cutoff=0.3)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    files = ", ".join((*TABLE_SUFFIXES, *VOLUME_SUFFIXES))
    raise AtlasError(
        f"Expected one of the atlases {', '.join(SHIPPED)}, simulated<N>, or a file ({files}); found {name!r}.{meant} "
        "Names of files are looked for in the folders of GRAPHSSL_ATLASES."
    )
