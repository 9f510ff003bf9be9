"""Files of images, volumes and clips decoded: PNG, JPEG, TIFF, NIfTI, DICOM, arrays in NPZ, and video."""

import hashlib
import math
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graphssl.data.dicom import read_dicom, series_files
from graphssl.errors import DataError, GraphSSLError
from graphssl.extras import require

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUME_ENDINGS = (".nii", ".nii.gz")
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".mpg", ".mpeg", ".webm")


class Picture(NamedTuple):
    """What a file holds.

    Attributes:
        pixels: Values `[C, *S]`, in the type of the file; slices `[D, H, W]` of volumes run from foot to head, rows from back to front and columns
            from left to right (RAS), frames `[T, H, W]` of clips in time.
        spacing: Size of a voxel along each of the axes `S` in mm, of time in seconds; empty where unknown.
    """

    pixels: npt.NDArray[Any]
    spacing: tuple[float, ...]


def read_picture(place: Path, part: str, n_axes: int) -> Picture:
    """Decode one image, volume or clip.

    Args:
        place: The file, or the folder of a DICOM series.
        part: Which one it is of several: `name[12]` of an array in an NPZ file, the id of a series in a folder; empty otherwise.
        n_axes: Axes of space and time that it must have: 2 of images, 3 of volumes and clips.

    Raises:
        DataError: If there is no such file, it is damaged or of no known kind, or what it holds has other axes.
        MissingExtraError: If what reads it is not installed.
    """
    if not (place.is_file() or place.is_dir()):
        raise DataError(
            f"Expected an image at {place}, found nothing. Where files were moved, say where: "
            "cohort.images[name].at(folder), or model.builder.images_at(name, folder) of those that a population holds."
        )
    reader = _reader(place)
    try:
        pixels, spacing = reader(place, part, n_axes)
    except GraphSSLError:
        raise
    except Exception as error:  # damaged bytes make the readers of others fail in any way
        raise DataError(f"Expected a whole image in {place}, found a damaged or truncated file ({error or type(error).__name__}).") from error
    if pixels.ndim != n_axes + 1:
        raise DataError(_wrong_axes(place, part, pixels.shape[1:], n_axes))
    if pixels.size == 0 or pixels.dtype.kind not in "buif":
        raise DataError(f"Expected numbers in {place}, found {pixels.dtype} of shape {pixels.shape}.")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"Expected finite values in {place}, found {int((~np.isfinite(pixels)).sum())} that are NaN or infinite. Fill them first.")
    return Picture(pixels, spacing)


def content_hash(place: Path, part: str = "") -> str:
    """SHA-256 over the bytes of a file, or over those of the files of a DICOM series, in any order."""
    if place.is_dir():
        return hashlib.sha256("".join(sorted(content_hash(file) for file in series_files(place, part))).encode()).hexdigest()
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_names(place: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an NPZ file by name, without reading them.

    Raises:
        DataError: If the file is damaged, or an array holds Python objects, which are pickled and never read.
    """
    try:
        with place.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            shapes = {}
            for name in file.files:
                with file.zip.open(f"{name}.npy") as member:
                    version = np.lib.format.read_magic(member)
                    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, _, dtype = header(member)
                if dtype.hasobject:
                    raise DataError(f"Expected numbers and text in {place}, found Python objects in {name!r}, which are pickled and never read.")
                shapes[name] = tuple(int(n) for n in shape)
            return shapes
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"Expected whole arrays in {place}, found a damaged or truncated file ({error}).") from error


def array_of(place: Path, name: str) -> npt.NDArray[Any]:
    """An array of an NPZ file; those that were asked for last stay in memory.

    Raises:
        DataError: If the file has no such array, or is damaged.
    """
    status = place.stat()
    try:
        with _ONE_READER:
            return _array(str(place), name, status.st_mtime_ns, status.st_size)
    except KeyError as error:
        raise DataError(f"Expected the array {name!r} in {place}, found {sorted(array_names(place))}.") from error
    except Exception as error:  # damaged bytes make the reader fail in any way
        raise DataError(f"Expected whole arrays in {place}, found a damaged or truncated file ({error}).") from error


# Readers, one a kind of file: each gives values `[C, *S]` and spacing.


def _read_pillow(place: Path, part: str, n_axes: int) -> Picture:
    images, operations = (require(f"PIL.{name}", extra="imaging", purpose="read PNG, JPEG and TIFF images") for name in ("Image", "ImageOps"))
    # Given a name, it leaves the file of a damaged picture open.
    with place.open("rb") as file, images.open(file) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(_channels_first(np.asarray(_plain(operations.exif_transpose(image)))))
    return Picture(frames[0] if len(frames) == 1 else np.stack(frames, axis=1), ())


def _plain(image: Any) -> Any:
    """The image in gray or colour, without transparency and palettes."""
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "F", "I") or image.mode.startswith("I;") else image.convert("RGB")


def _read_nifti(place: Path, part: str, n_axes: int) -> Picture:
    import nibabel

    return volume_of(nibabel.load(place), place)


def volume_of(image: Any, place: Path) -> Picture:
    """A volume of nibabel in the order in which all are kept: axes turned and flipped to RAS, then slices first.

    A volume taken at a slant keeps its own axes, those nearest to RAS, and its voxels as they are, as with nibabel and MONAI: a mask on the same grid
    still fits. Spacing along the axes says all about distances as long as these stand at right angles.

    Raises:
        DataError: If it has a fourth axis, or its axes are sheared.
    """
    import nibabel

    shape = tuple(image.shape)
    n_axes = max([axis for axis, n in enumerate(shape) if n > 1], default=0) + 1
    if n_axes > 3:
        raise DataError(_wrong_axes(place, "", shape, 3))
    canonical = nibabel.as_closest_canonical(image)
    _check_right_angles(canonical.affine, place)
    values = np.asanyarray(canonical.dataobj)
    values = values.reshape((*values.shape, 1, 1)[:3] if values.ndim < 3 else values.shape[:3])
    spacing = nibabel.affines.voxel_sizes(canonical.affine)
    return Picture(np.ascontiguousarray(values.transpose(2, 1, 0))[None], tuple(float(mm) for mm in spacing[::-1]))


def _read_series(place: Path, part: str, n_axes: int) -> Picture:
    values, affine, spacing = read_dicom(place, part)
    if affine is None:
        return Picture(values, spacing)
    import nibabel

    return volume_of(nibabel.Nifti1Image(values, affine), place)


def _read_array(place: Path, part: str, n_axes: int) -> Picture:
    found = _PART.fullmatch(part)
    if found is None:
        raise DataError(f"Expected which array of {place} is meant, such as 'images[12]', found {part!r}.")
    whole = array_of(place, found["name"])
    number = None if found["number"] is None else int(found["number"])
    if number is not None and not 0 <= number < len(whole):
        raise DataError(f"Expected an entry of the {len(whole)} of {found['name']!r} in {place}, found number {number}.")
    values = whole if number is None else whole[number]
    if values.ndim == n_axes + 1 and values.shape[-1] in _CHANNELS:
        return Picture(np.moveaxis(values, -1, 0), ())
    return Picture(values[None] if values.ndim != n_axes + 1 or values.shape[0] not in _CHANNELS else values, ())


def _read_video(place: Path, part: str, n_axes: int) -> Picture:
    av = require("av", extra="imaging", purpose="read videos")
    # FFmpeg goes by content: a playlist that is called .avi would have it read other files, whose content no hash covers.
    with av.open(str(place), options={"format_whitelist": _VIDEO_FORMATS}) as container:
        stream = container.streams.video[0]
        gray = stream.format is not None and stream.format.name.startswith("gray")
        frames = [frame.to_ndarray(format="gray" if gray else "rgb24") for frame in container.decode(stream)]
        declared = stream.frames
    if not frames or len(frames) < declared:
        raise DataError(f"Expected {declared or 'some'} frames in {place}, found {len(frames)}: a damaged or truncated file.")
    clip = np.stack(frames)
    return Picture(clip[None] if gray else np.moveaxis(clip, -1, 0), ())


# Helpers

_PART = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<number>\d+)\])?")
_CHANNELS = (1, 2, 3, 4)
_VIDEO_FORMATS = "avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo"
_SHEAR = 0.02  # sine of the angle, one degree: registration and rounding leave less

# Threads that decode at once read an array once, not each; nor can Python 3.11 parse headers of arrays in two threads (python/cpython#106905).
_ONE_READER = Lock()


@lru_cache(maxsize=4)
def _array(place: str, name: str, modified: int, size: int) -> npt.NDArray[Any]:
    with open(place, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        return np.asarray(file[name])


def _reader(place: Path) -> Callable[[Path, str, int], Picture]:
    name = place.name.lower()
    if place.is_dir() or name.endswith(DICOM_ENDINGS):
        return _read_series
    readers = {PICTURE_ENDINGS: _read_pillow, VOLUME_ENDINGS: _read_nifti, (".npz",): _read_array, VIDEO_ENDINGS: _read_video}
    for endings, reader in readers.items():
        if name.endswith(endings):
            return reader
    known = ", ".join(ending for endings in (*readers, DICOM_ENDINGS) for ending in endings)
    raise DataError(f"Expected an image ending in {known}, found {place}.")


def _channels_first(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def _check_right_angles(affine: npt.NDArray[np.float64], place: Path) -> None:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    slant = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if slant > _SHEAR:
        off = math.degrees(math.asin(min(1.0, slant)))
        raise DataError(
            f"Expected axes at right angles in {place}, found two that are {off:.0f}° off, as of a tilted gantry. "
            "Resample it to a grid of right angles before loading, such as with nibabel.processing.conform."
        )


def _wrong_axes(place: Path, part: str, shape: tuple[int, ...], n_axes: int) -> str:
    meant = f"{place}, {part}" if part else str(place)
    hint = "Take one of its volumes, or average them, before loading." if len(shape) > 3 else "Load it as an image of another kind."
    return f"Expected {n_axes} axes of space and time in {meant}, found {len(shape)}, of lengths {' × '.join(map(str, shape))}. {hint}"
