"""Simulated images, volumes and clips of patients: a lesion on smooth tissue, whose brightness tells the diagnosis."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import gaussian_filter

from graphssl.data.cohort import Cohort
from graphssl.data.image_files import content_hash
from graphssl.data.images import ImageData
from graphssl.data.schema import Column, Schema
from graphssl.errors import ConfigError

CLASSES = ("benign", "malignant")
_COLUMNS = [Column("diagnosis", "categorical", "target", categories=CLASSES), Column("site", "categorical", "site")]
_TINT = (1.0, 0.7, 0.85, 0.6)  # of the first channels


def simulate_images(
    n_subjects: int = 80,
    *,
    size: int = 24,
    rank: int = 2,
    n_frames: int | None = None,
    n_channels: int = 1,
    images_per_subject: int = 1,
    n_sites: int = 2,
    effect: float = 1.0,
    seed: int = 0,
    name: str = "images",
    folder: str | os.PathLike[str] | None = None,
) -> Cohort:
    """Simulate patients with images of a lesion on smooth tissue, and a mask of the lesion.

    Lesions of malignant patients are rougher and brighter. Tissue, place and size of the lesion say nothing, sites differ in contrast. The lesion of
    a clip moves from frame to frame. Pixels are of eight bits, in one NPZ file.

    Args:
        n_subjects: Number of patients, in turn of either class.
        size: Voxels along each axis of space; volumes have half as many slices.
        rank: 2 for images, 3 for volumes.
        n_frames: Frames of a clip; images or volumes when left out.
        n_channels: Channels, 1 to 4.
        images_per_subject: Images of a patient.
        n_sites: Number of sites, dealt to patients in turn.
        effect: How much lesions differ by class; 0 makes the diagnosis chance.
        seed: Seed of everything random.
        name: Name of the cohort and of its images.
        folder: Where the file goes; a temporary folder, removed when Python ends, when left out.

    Raises:
        ConfigError: If a number is too small, or clips of volumes are asked for.
    """
    if min(n_subjects, images_per_subject, n_sites) < 1 or size < 8 or not 1 <= n_channels <= len(_TINT):
        raise ConfigError(
            f"Expected at least one subject, image and site, a size from 8 and 1 to {len(_TINT)} channels; "
            f"found n_subjects={n_subjects}, images_per_subject={images_per_subject}, n_sites={n_sites}, size={size}, n_channels={n_channels}."
        )
    if rank not in (2, 3) or (n_frames is not None and (rank == 3 or n_frames < 2)):
        raise ConfigError(f"Expected rank 2 or 3, or clips of rank 2 with two frames or more; found rank={rank}, n_frames={n_frames}.")
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"patient-{k:04d}" for k in range(n_subjects)], dtype="str")
    malignant, site = np.arange(n_subjects) // n_sites % 2, np.arange(n_subjects) % n_sites
    every = np.repeat(range(n_subjects), images_per_subject)
    shape = (size, size) if rank == 2 else (size // 2, size, size)
    place = images_folder(folder) / f"{name}.npz"
    images = draw_images(ids[every], effect * malignant[every], site[every] / n_sites, shape, place, rng, n_frames=n_frames, n_channels=n_channels)
    table = pd.DataFrame({"diagnosis": np.asarray(CLASSES)[malignant], "site": [f"site-{k}" for k in site]}, index=ids)
    return Cohort(name, table, Schema(_COLUMNS), images={name: images})


def draw_images(
    subjects: pd.Index,
    effect: npt.NDArray[np.float64],
    contrast: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    place: Path,
    rng: np.random.Generator,
    *,
    n_frames: int | None = None,
    n_channels: int = 1,
) -> ImageData:
    """Draw lesions on smooth tissue and write them, with their masks, to one file.

    Args:
        subjects: Subject of each image `[n]`.
        effect: How rough and bright each lesion is `[n]`; 0 of benign ones.
        contrast: How strong the contrast of each image is, in [0, 1] `[n]`.
        shape: Voxels along each axis of space.
        place: The NPZ file to write.
        rng: Source of randomness.
        n_frames: Frames of a clip; images or volumes when left out.
        n_channels: Channels, 1 to 4.
    """
    pictures = [_picture(rng, shape, n_frames, float(strong), float(light)) for strong, light in zip(effect, contrast, strict=True)]
    values, masks = (np.stack(parts) for parts in zip(*pictures, strict=True))
    if n_channels > 1:
        values = values[..., None] * np.asarray(_TINT[:n_channels])
    np.savez_compressed(place, images=(255 * values).round().astype(np.uint8), masks=masks.astype(np.uint8))
    data = _references(place, subjects, masks.shape[1:], n_channels)
    return ImageData(data, len(shape), clip=n_frames is not None, root=place.parent, classes=("tissue", "lesion"))


def _picture(
    rng: np.random.Generator, shape: tuple[int, ...], n_frames: int | None, effect: float, contrast: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Brightness from 0 to 1 and the mask of the lesion, `[*S]`, of clips `[T, H, W]`."""
    tissue, rough = (_noise(rng, shape, sigma) for sigma in (max(shape) / 8, 1.0))
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centre, radius = rng.uniform(-0.4, 0.4, len(shape)), rng.uniform(0.3, 0.5, len(shape))
    drift = rng.uniform(-0.3, 0.3, len(shape))
    frames = []
    for moment in np.linspace(-0.5, 0.5, n_frames or 1):
        lesion = sum(((axis - c - moment * d) / r) ** 2 for axis, c, d, r in zip(grid, centre, drift, radius, strict=True)) < 1
        bright = 0.4 + 0.08 * tissue + lesion * (0.1 + 0.05 * effect + (0.03 + 0.07 * effect) * rough)
        frames.append((np.clip((0.8 + 0.4 * contrast) * (bright + 0.02 * rng.standard_normal(shape)), 0, 1), lesion))
    values, masks = (np.stack(parts) for parts in zip(*frames, strict=True))
    return (values[0], masks[0]) if n_frames is None else (values, masks)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> npt.NDArray[np.float64]:
    """Smooth noise of unit spread."""
    smooth = gaussian_filter(rng.standard_normal(shape), sigma)
    return np.asarray((smooth - smooth.mean()) / smooth.std())


def _references(place: Path, subjects: pd.Index, shape: tuple[int, ...], n_channels: int) -> pd.DataFrame:
    content, rows = content_hash(place), range(len(subjects))
    return pd.DataFrame(
        {
            "subject_id": subjects,
            "path": place.name,
            "part": [f"images[{row}]" for row in rows],
            "hash": content,
            "channels": n_channels,
            "shape": [shape] * len(subjects),
            "spacing": [()] * len(subjects),
            "mask_path": place.name,
            "mask_part": [f"masks[{row}]" for row in rows],
            "mask_hash": content,
        }
    )


def images_folder(folder: str | os.PathLike[str] | None) -> Path:
    """The folder for simulated images, made where it is absent; a temporary one, removed when Python ends, when left out."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return Path(folder)
    made = tempfile.mkdtemp(prefix="graphssl-images-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)
