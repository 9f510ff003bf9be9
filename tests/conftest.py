"""Fixtures of the whole suite: one thread, the small cohort, a tiny encoder, and the real data where they lie beside the checkout."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.atlases import load_atlas
from graphssl.data import Atlas, Cohort, Column, ConnectomeBatch, Events, Provenance, RegionData, Schema, TableBatch
from graphssl.datasets import simulate_multimodal
from graphssl.encoders import GraphTransformer

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("default", "visual", "motor")
DAY = pd.Timestamp("2020-01-01")

# Sums over threads come in any order; with one thread the last bit is the same every time.
torch.set_num_threads(1)
# No test depends on how busy the machine is.
hypothesis.settings.register_profile("graphssl", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("graphssl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets (`GRAPHSSL_SHARED`, else `../shared/data` beside the checkout), or a skip that says why."""
    folder = Path(os.environ.get("GRAPHSSL_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set GRAPHSSL_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def make_cohort() -> Callable[..., Cohort]:
    """Factory of small cohorts of time series: `make_cohort(n_subjects=24, n_regions=12, n_sites=2, n_timepoints=40, seed=0, effect=0.0)`."""
    return small_cohort


@pytest.fixture(scope="session")
def patients() -> Cohort:
    """Forty patients of two sites of whom 32 have a connectome, 36 a table and 24 an image of eight by eight pixels."""
    shares = {"connectome": 0.8, "table": 0.9, "image": 0.6}
    return simulate_multimodal([load_atlas("simulated24")], n_subjects=40, size=8, shares=shares)


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., ConnectomeBatch]:
    """Factory of random connectomes: `make_batch(n_rows=4, n_regions=10, seed=0, missing={}, padding=0)`."""
    return random_batch


@pytest.fixture(scope="session")
def with_covariates() -> Callable[..., ConnectomeBatch]:
    """The batch with random covariates, a third of them missing and a fifth hidden: `with_covariates(batch, seed=0)`.

    They are two numbers of three pieces and two columns of two and three categories.
    """
    return random_covariates


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., GraphTransformer]:
    """Factory of tiny encoders, always with the same weights: `make_encoder(width=8, …)`."""

    def make(**changes: Any) -> GraphTransformer:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return GraphTransformer(**{"width": 8, "depth": 1, "heads": 2, "spacing_mm": 40.0, **changes})

    return make


@pytest.fixture(scope="session")
def ward() -> Callable[..., Cohort]:
    """Factory of patients with pulses at random hours, a temperature of every other, a ventilator of every third, and one without events.

    `ward(n=12, seed=0, planted=(), predicted=True)`: planted rows are `(subject, hour, code, number, text)`, with the hour None for events without a
    time; the prediction time is hour 24.
    """
    return make_ward


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    """Writer of DICOM slices: `write_dicom(folder, values, series="1.2.3", patient="p", spacing=(3.0, 0.5, 0.75), name="slice", **entries)`.

    The values `[D, H, W]` lie head first, supine: columns to the left, rows to the back, slices to the head. Names of files are in another order.
    """
    return dicom_slices


def dicom_slices(
    folder: Path,
    values: np.ndarray,
    series: str = "1.2.3",
    patient: str = "p",
    spacing: Sequence[float] = (3.0, 0.5, 0.75),
    name: str = "slice",
    skip: Sequence[int] = (),
    **entries: Any,
) -> Path:
    """Write one file a slice, as a scanner does."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    for number, values_of_slice in enumerate(values):
        if number in skip:
            continue
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{series}.{number + 1}"
        image.PatientID, image.SeriesInstanceUID, image.Modality = patient, series, "CT"
        image.Rows, image.Columns = values_of_slice.shape
        image.PixelSpacing, image.SliceThickness = list(spacing[1:]), spacing[0]
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10.0, -20.0, 30.0 + spacing[0] * number]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.PixelData = np.ascontiguousarray(values_of_slice, dtype="<i2").tobytes()
        image.update({} if not entries else _dicom_entries(entries))
        image.save_as(folder / f"{name}-{(number * 7) % 11:02d}.dcm", enforce_file_format=True)
    return folder


def _dicom_entries(entries: Mapping[str, Any]) -> Any:
    from pydicom.dataset import Dataset

    changed = Dataset()
    for name, value in entries.items():
        setattr(changed, name, value)
    return changed


def random_batch(
    n_rows: int = 4,
    n_regions: int = 10,
    seed: int = 0,
    missing: Mapping[int, Sequence[int]] | None = None,
    padding: int = 0,
) -> ConnectomeBatch:
    """Connectomes of independent normal weights, each row with places of its own.

    Args:
        n_rows: Connectomes; their subjects are `sub-000`, `sub-001`, …
        n_regions: Regions of each.
        seed: Seed of weights and places.
        missing: Regions that were not observed, by row.
        padding: Columns of padding.
    """
    generator = torch.Generator().manual_seed(seed)
    upper = torch.randn(n_rows, n_regions, n_regions, generator=generator).triu(diagonal=1)
    low, high = torch.tensor([-60.0, -90.0, -40.0]), torch.tensor([60.0, 55.0, 70.0])
    centroids = low + (high - low) * torch.rand(n_rows, n_regions, 3, generator=generator)
    mask = torch.ones(n_rows, n_regions, dtype=torch.bool)
    for row, regions in (missing or {}).items():
        mask[row, list(regions)] = False
    visible = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(n_regions, dtype=torch.bool)
    pad = torch.nn.functional.pad
    return ConnectomeBatch(
        tuple(f"sub-{row:03d}" for row in range(n_rows)),
        pad((upper + upper.mT).masked_fill(~visible, 0.0), (0, padding, 0, padding)),
        pad(visible, (0, padding, 0, padding)),
        pad(mask, (0, padding)),
        pad(centroids, (0, 0, 0, padding)),
        torch.full((n_rows, n_regions + padding), -1),
        ("toy",) * n_rows,
    )


def random_covariates(batch: ConnectomeBatch, seed: int = 0) -> ConnectomeBatch:
    """A batch with random covariates, independent of everything else."""
    generator, n = torch.Generator().manual_seed(seed), len(batch)
    measured = torch.rand(n, 4, generator=generator) > 1 / 3
    numbers = torch.randn(n, 2, generator=generator) * measured[:, :2]
    pieces = torch.rand(n, 2, 3, generator=generator) * measured[:, :2, None]
    codes = torch.stack([torch.randint(0, k, (n,), generator=generator) for k in (2, 3)], dim=1) * measured[:, 2:]
    hidden = torch.rand(n, 4, generator=generator) < 0.2
    return replace(batch, covariates=TableBatch(batch.subject_ids, numbers, pieces, codes, measured).hide(hidden))


def small_cohort(
    n_subjects: int = 24,
    n_regions: int = 12,
    n_sites: int = 2,
    n_timepoints: int = 40,
    seed: int = 0,
    effect: float = 0.0,
) -> Cohort:
    """A cohort of time series with a diagnosis, a site, age and sex; sites and classes are balanced.

    Regions of one network share a signal, so there is something to reconstruct. In patients the first network's signal leaks into the second
    with the weight `effect`, so with a positive one there is something to predict; with zero the labels mean nothing.

    Args:
        n_subjects: Subjects; ids are `sub-000`, `sub-001`, …
        n_regions: Regions of the atlas `"toy"`, in three networks by turns.
        n_sites: Sites, named `site-0`, `site-1`, …; subjects are dealt to them in turn.
        n_timepoints: Time points of every subject (at least 10).
        seed: Seed of the noise, the ages and the sexes.
        effect: Weight of the planted difference between patients and controls.
    """
    rng = np.random.default_rng(seed)
    atlas = toy_atlas(n_regions)
    ids = [f"sub-{index:03d}" for index in range(n_subjects)]
    patient = np.asarray([(index // n_sites) % 2 == 0 for index in range(n_subjects)], dtype=bool)
    table = pd.DataFrame(
        {
            "diagnosis": np.where(patient, "patient", "control"),
            "site": [f"site-{index % n_sites}" for index in range(n_subjects)],
            "age": rng.uniform(8.0, 60.0, n_subjects).round(1),
            "sex": rng.choice(["female", "male"], n_subjects),
        },
        index=pd.Index(ids, dtype="str"),
    )
    member = np.asarray([[network == name for network in atlas.networks] for name in NETWORKS], dtype=np.float32)
    series = {}
    for subject, ill in zip(ids, patient, strict=True):
        signals = rng.standard_normal((n_timepoints, len(NETWORKS)))
        signals[:, 1] += effect * ill * signals[:, 0]
        series[subject] = (signals @ member + rng.standard_normal((n_timepoints, n_regions))).astype(np.float32)
    return Cohort("toy", table, toy_schema(n_sites), {"toy": RegionData(atlas, series, Provenance("timeseries", source="tests"))})


def toy_atlas(n_regions: int) -> Atlas:
    """Regions at fixed places in three networks by turns; label ids have gaps, as those of the field do."""
    centroids = np.random.default_rng(n_regions).uniform([-65, -100, -40], [65, 65, 75], (n_regions, 3)).astype(np.float32)
    names = tuple(f"region {index}" for index in range(n_regions))
    return Atlas("toy", 10 * np.arange(1, n_regions + 1), names, centroids, tuple(NETWORKS[index % 3] for index in range(n_regions)))


def toy_schema(n_sites: int) -> Schema:
    """Columns of the small cohort."""
    return Schema(
        [
            Column("diagnosis", "binary", "target", categories=("control", "patient")),
            Column("site", "categorical", "site", categories=tuple(f"site-{index}" for index in range(n_sites))),
            Column("age", "continuous", "covariate", unit="years", valid_range=(0.0, 120.0)),
            Column("sex", "binary", "covariate", categories=("female", "male")),
        ]
    )


def make_ward(n: int = 12, seed: int = 0, planted: tuple[Any, ...] = (), predicted: bool = True) -> Cohort:
    """See `ward`."""
    rng = np.random.default_rng(seed)
    rows: list[Any] = [(f"p{k}", hour, "pulse", 80 + 10 * rng.standard_normal(), None) for k in range(n) for hour in rng.uniform(0, 24, 9)]
    rows += [(f"p{k}", 12.0 + k % 5, "temp", 37 + 0.1 * k, None) for k in range(0, n, 2)]
    rows += [(f"p{k}", 13.5 + hour, "ventilator", np.nan, "mask") for k in range(0, n, 3) for hour in range(4)]
    rows += [(f"p{k}", None, "height", 170.0 + k, None) for k in range(n)]
    rows += [(f"p{k}", None, "ward", np.nan, "a" if k % 2 else "b") for k in range(n - 1)]
    rows += [(f"p{k}", None, "smokes", np.nan, None) for k in range(0, n, 2)]
    table = pd.DataFrame([*rows, *planted], columns=["subject_id", "hour", "code", "numeric_value", "text_value"])
    table["time"] = (DAY + pd.to_timedelta(table["hour"].astype("float64"), unit="h")).dt.floor("us")
    ids = [f"p{k}" for k in range(n)] + ["nobody"]
    subjects = pd.DataFrame({"age": [50.5 + k for k in range(n + 1)], "sex": ["f", "m"] * (n // 2) + ["f"] * (n % 2 + 1)}, index=ids)
    schema = Schema([Column("age", "continuous"), Column("sex", "binary", categories=("f", "m"))])
    cohort = Cohort("ward", subjects, schema, events=Events.of(table))
    return cohort.predict_at(pd.Series(DAY + pd.Timedelta(hours=24), index=ids)) if predicted else cohort
