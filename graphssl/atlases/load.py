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
        text = os.fspath(source)
        given, path = _split_name(text)
        atlas = _read_file(Path(path)) if _is_path(path) else _by_name(path)
        name = name or given
    return atlas if name is None or name == atlas.name else replace(atlas, name=name)


def list_atlases(*, download: bool = False) -> tuple[str, ...]:
    """Names of the atlases that need no file.

    Args:
        download: Also those that [`fetch_atlas`][graphssl.atlases.fetch_atlas] would download.
    """
    return (*SHIPPED, *FETCHED) if download else SHIPPED


_SIMULATED = re.compile(r"simulated([1-9]\d*)(?:-(\d+))?")
_NAME = re.compile(r"[\w.-]+")


def _split_name(text: str) -> tuple[str | None, str]:
    """`NAME=PATH` cut in two; an equals sign within a folder's name does not count."""
    before, equals, after = text.partition("=")
    return (before, after) if equals and after and _NAME.fullmatch(before) and not Path(text).exists() else (None, text)


def _is_path(text: str) -> bool:
    return text.lower().endswith((*TABLE_SUFFIXES, *VOLUME_SUFFIXES)) or os.sep in text or "/" in text or Path(text).is_file()


def _read_file(path: Path) -> Atlas:
    if path.name.lower().endswith(VOLUME_SUFFIXES):
        return atlas_from_volume(path)
    if path.name.lower().endswith(TABLE_SUFFIXES):
        return atlas_from_table(path)
    raise AtlasError(f"Expected an atlas as {', '.join((*TABLE_SUFFIXES, *VOLUME_SUFFIXES))}, found {path}. Convert it to one of these.")


def _by_name(name: str) -> Atlas:
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
    raise AtlasError(f"Expected one of the atlases {', '.join(SHIPPED)}, simulated<N>, or a file ({files}); found {name!r}.{meant}")
