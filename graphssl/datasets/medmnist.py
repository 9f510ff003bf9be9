"""MedMNIST v2: eighteen sets of small medical images and volumes with official splits, downloaded from Zenodo when asked for."""

import hashlib
import os
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO, Literal
from urllib.request import urlopen

from graphssl.data import Cohort
from graphssl.datasets.images import load_images
from graphssl.errors import DataError, GraphSSLError
from graphssl.folders import file_written_whole
from graphssl.progress import tracked

_RECORD = "https://zenodo.org/records/10519652/files"
_CHUNK = 1 << 20
_ORGANS = ("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right", "pancreas", "spleen")
_BLOOD = ("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil", "platelet")
_CHEST = (
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax", "consolidation", "edema"),
    *("emphysema", "fibrosis", "pleural", "hernia"),
)
_LESIONS = ("actinic keratosis", "basal cell carcinoma", "benign keratosis", "dermatofibroma", "melanoma", "nevus", "vascular lesion")
_KIDNEY = (
    *("collecting duct", "distal convoluted tubule", "glomerular endothelium", "interstitial endothelium", "leukocyte", "podocyte"),
    *("proximal tubule", "thick ascending limb"),
)
_TISSUES = ("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal mucosa", "stroma", "adenocarcinoma")
_ORGANS_3D = (
    "liver",
    "kidney-right",
    "kidney-left",
    "femur-right",
    "femur-left",
    "bladder",
    "heart",
    "lung-right",
    "lung-left",
    "spleen",
    "pancreas",
)
# MD5 of the file, as the project publishes it, and names of the classes in the order of their numbers.
_SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "adrenalmnist3d": ("bbd3c5a5576322bc4cdfea780653b1ce", ("normal", "hyperplasia")),
    "bloodmnist": ("7053d0359d879ad8a5505303e11de1dc", _BLOOD),
    "breastmnist": ("750601b1f35ba3300ea97c75c52ff8f6", ("malignant", "normal or benign")),
    "chestmnist": ("02c8a6516a18b556561a56cbdd36c4a8", _CHEST),
    "dermamnist": ("0744692d530f8e62ec473284d019b0c7", _LESIONS),
    "fracturemnist3d": ("6aa7b0143a6b42da40027a9dda61302f", ("buckle", "nondisplaced", "displaced")),
    "nodulemnist3d": ("8755a7e9e05a4d9ce80a24c3e7a256f3", ("benign", "malignant")),
    "octmnist": ("c68d92d5b585d8d81f7112f81e2d0842", ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")),
    "organamnist": ("866b832ed4eeba67bfb9edee1d5544e6", _ORGANS),
    "organcmnist": ("0afa5834fb105f7705a7d93372119a21", _ORGANS),
    "organmnist3d": ("21f0a239e7f502e6eca33c3fc453c0b6", _ORGANS_3D),
    "organsmnist": ("e5c39f1af030238290b9557d9503af9d", _ORGANS),
    "pathmnist": ("a8b06965200029087d5bd730944a56c1", _TISSUES),
    "pneumoniamnist": ("28209eda62fecd6e6a2d98b1501bb15f", ("normal", "pneumonia")),
    "retinamnist": ("bd4c0672f1bba3e3a89f0e4e876791e4", ("0", "1", "2", "3", "4")),
    "synapsemnist3d": ("1235b78a3cd6280881dd7850a78eadb6", ("inhibitory", "excitatory")),
    "tissuemnist": ("ebe78ee8b05294063de985d821c1c34b", _KIDNEY),
    "vesselmnist3d": ("2ba5b80617d705141f3f85627108fce8", ("vessel", "aneurysm")),
}


def fetch_medmnist(
    name: str,
    data_dir: str | os.PathLike[str] = "datasets/medmnist",
    *,
    split: Literal["train", "val", "test"] | None = None,
) -> Cohort:
    """Download a set of MedMNIST v2 (Yang et al., Scientific Data 2023) and load it; a file that is there already is not fetched again.

    Images have 28 × 28 pixels, volumes 28 × 28 × 28 voxels. The file is compared with the MD5 that the project publishes, whoever put it there. Sets
    are CC BY 4.0, but `dermamnist` CC BY-NC 4.0; each asks for the citation of its own source too.

    Args:
        name: Name of the set, such as `breastmnist` or `adrenalmnist3d`.
        data_dir: Folder of the files.
        split: The official part to take; all, with the part as a column, when left out.

    Raises:
        DataError: If there is no such set or part, it cannot be downloaded, or its file is not the published one.
    """
    if name not in _SETS:
        raise DataError(f"Expected one of the sets of MedMNIST ({', '.join(_SETS)}), found {name!r}.")
    if split not in (None, "train", "val", "test"):
        raise DataError(f"Expected one of the official parts train, val and test, found {split!r}.")
    md5, classes = _SETS[name]
    place = Path(data_dir) / f"{name}.npz"
    if not place.is_file():
        _download(f"{_RECORD}/{name}.npz", place, md5)
    _check(place, md5, f"Remove {place} to download it anew.")
    cohort = load_images(place, labels=classes, name=name)
    return cohort if split is None else cohort.select((cohort.subjects["split"] == split).to_numpy())


def _download(url: str, place: Path, md5: str) -> None:
    """The whole, checked file, or none."""
    try:
        with urlopen(url, timeout=60) as answer, file_written_whole(place) as aside:  # noqa: S310 - https, from above
            length = answer.headers.get("Content-Length")
            with aside.open("wb") as file:
                for chunk in tracked(_chunks(answer), f"Downloading {place.name}", int(length) if length else None, size=len):
                    file.write(chunk)
            _check(aside, md5, "Ask again; if it stays so, the file was changed at its source.")
    except GraphSSLError:
        raise
    except (OSError, HTTPException) as error:
        raise DataError(f"Expected {url} to answer, found {error}. Without a network, put the file at {place}.") from error


def _chunks(answer: IO[bytes]) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK):
        yield chunk


def _check(place: Path, md5: str, advice: str) -> None:
    with place.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError(f"Expected the published file with MD5 {md5}, found one with {found}. {advice}")
