"""Every reader on damaged files: an error of ours or a result that is as sound as any, never a hang, a crash or another error."""

import contextlib
import gzip
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import AtlasMap, load_atlas
from graphssl.data import Cohort, ImageBuilder, Schema, write_shards
from graphssl.datasets import (
    load_physionet2012,
    load_tadpole,
    load_tiles,
    read_array,
    read_participants,
    simulate,
    simulate_images,
    simulate_stays,
    simulate_table,
)
from graphssl.errors import DataError, GraphSSLError
from graphssl.experiment.audit import audit_run
from graphssl.experiment.sources import Source, open_source
from graphssl.initializers import HyperInitializer, HyperNetwork, initialize
from graphssl.reports.meta import read_meta_run
from graphssl.reports.run_folder import read_run
from graphssl.reports.selection import read_selection
from graphssl.reports.study import read_study_run
from graphssl.results import read_results
from graphssl.training import load_model

TESTS = Path(__file__).resolve().parents[1]
SECONDS, MEMORY = 5, 3 << 30
N_SEEDS = 3


# What there is to read: a writer of a whole folder, and a reader of it


def module_of(path: str) -> Any:
    """Another module of the tests, for the files it writes."""
    spec = importlib.util.spec_from_file_location(f"written_by_{Path(path).stem}", TESTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options_of(words: list[str]) -> dict[str, Any]:
    """Arguments of `Source` from words of a command line."""
    return {name.removeprefix("--"): yaml.safe_load(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def of_layout(name: str, **more: Any) -> "Case":
    writer = LAYOUTS.WRITERS[name]

    def write(folder: Path) -> None:
        options.update(options_of(writer(folder, load_atlas("simulated20"))))

    options: dict[str, Any] = {"atlas": None if name == "brainnet_viewer" else "simulated20", **more}
    return Case(write, lambda folder: opened(folder, **{key: value for key, value in options.items() if value is not None}))


def of_texts(tables: dict[str, str], **options: Any) -> "Case":
    def write(folder: Path) -> None:
        for name, text in tables.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return Case(write, lambda folder: opened(folder, **options))


@dataclass(frozen=True)
class Case:
    """Files, and what reads them."""

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]


def opened(folder: Path, **options: Any) -> Any:
    """A cohort, its pixels too."""
    return decoded(open_source(Source(str(folder), **options)))


def decoded(cohort: Cohort) -> list[Any]:
    """What a cohort says of itself, with every image read."""
    pixels = [ImageBuilder(images=name, size=8).fit(cohort).transform(cohort).images.numpy() for name, data in cohort.images.items() if len(data)]
    for data in cohort.regions.values():
        for values in data.values.values():
            off_diagonal = ~np.eye(*values.shape, dtype=bool) if data.provenance.kind != "timeseries" else np.ones(values.shape, dtype=bool)
            assert not np.isinf(values[off_diagonal]).any(), "infinite values pass for connectivity"
    return [cohort.hash, *pixels]


def write_table(folder: Path) -> None:
    cohort = simulate_table(n_subjects=40, columns=8, sites=2).cohort
    cohort.subjects.rename_axis("id").to_csv(folder / "table.csv")
    cohort.schema.save(folder / "schema.yaml")


def write_parquet(folder: Path) -> None:
    cohort = simulate_table(n_subjects=40, columns=6, sites=2).cohort
    for k in range(2):
        cohort.subjects.iloc[20 * k : 20 * k + 20].rename_axis("id").reset_index().to_parquet(folder / f"{k}.parquet", index=False)


def write_cohort(folder: Path) -> None:
    (folder / "cohort").mkdir()
    brains = simulate(atlases=[load_atlas("simulated20")], n_subjects=8, sites=2).cohort
    brains.save(folder / "cohort")


def write_brains_in_shards(folder: Path) -> None:
    write_shards(simulate(atlases=[load_atlas("simulated20")], n_subjects=8, sites=2).cohort, folder, size=4)


def write_stays(folder: Path) -> None:
    simulate_stays(n_patients=20, n_sites=2).save(folder / "cohort")


def write_image_cohort(folder: Path) -> None:
    simulate_images(6, size=12, folder=folder / "source").save(folder / "cohort", copy_images=True)


def write_pictures(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for k, ending in enumerate(("png", "jpg", "tif", "bmp", "png", "tiff")):
        place = folder / ("ill" if k % 2 else "well")
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 12), dtype=np.uint8)).save(place / f"p{k}.{ending}")


def write_volumes(folder: Path) -> None:
    import nibabel

    rng = np.random.default_rng(0)
    for k, ending in enumerate(("nii", "nii.gz", "nii.gz")):
        nibabel.save(nibabel.Nifti1Image(rng.normal(size=(6, 7, 5)).astype(np.float32), np.eye(4)), folder / f"sub-{k}.{ending}")


def write_dicoms(folder: Path) -> None:
    values = np.random.default_rng(0).integers(-900, 900, (3, 4, 6)).astype(np.int16)
    for k in range(2):
        module_of("conftest.py").dicom_slices(folder / f"p{k}", values, series=f"1.2.{k}", patient=f"p{k}")


def write_clips(folder: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 16, 16), dtype=np.uint8)
    for k in range(2):
        module_of("data/test_image_files.py").write_video(folder / f"p{k}.avi", frames, "yuv420p")


def write_image_arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {f"{part}_images": rng.integers(0, 255, (4, 8, 8), dtype=np.uint8) for part in ("train", "val", "test")}
    np.savez_compressed(folder / "medmnist.npz", **parts, **{f"{part}_labels": np.array([[0], [1], [0], [1]]) for part in ("train", "val", "test")})


def write_meds(folder: Path) -> None:
    written = module_of("datasets/test_meds.py")
    for split, rows in (("train", written.TRAIN), ("held_out", written.HELD_OUT)):
        (folder / "data" / split).mkdir(parents=True)
        written.shard(rows).to_parquet(folder / "data" / split / "0.parquet", index=False)
    (folder / "metadata").mkdir()
    pd.DataFrame({"subject_id": [1, 20], "split": ["train", "held_out"]}).to_parquet(folder / "metadata" / "subject_splits.parquet", index=False)


def write_2012(folder: Path) -> None:
    written = module_of("datasets/test_physionet2012.py")
    (folder / "set-a").mkdir()
    for record, (age, sex, unit, weight, rows, _) in written.STAYS.items():
        (folder / "set-a" / f"{record}.txt").write_text(written.STAY.format(id=record, age=age, sex=sex, unit=unit, weight=weight) + rows)
    lines = [f"{record},6,1,5,-1,{died}\n" for record, (*_, died) in written.STAYS.items()]
    (folder / "Outcomes-a.txt").write_text(written.OUTCOMES + "".join(lines))


def write_2019(folder: Path) -> None:
    written = module_of("datasets/test_physionet2019.py")
    stay = written.stay
    written.write(folder, "A", {"p000001": stay(30), "p000002": stay(30, 20), "p000003": stay(8), "p000004": stay(20, 4, units="NaN|NaN")})
    written.write(folder, "B", {"p100001": stay(40, age=80, units="0|1")})


def write_tadpole(folder: Path) -> None:
    written = module_of("datasets/test_tadpole.py")
    (folder / "TADPOLE_D1_D2.csv").write_text(f"{written.HEAD}\n{written.ROWS}")


def write_abide(folder: Path) -> None:
    written = module_of("datasets/test_abide.py")
    written.PHENOTYPIC.to_csv(folder / written.PHENOTYPIC_FILE, index=False)
    for file_id in written.FILE_IDS:
        written.write_file(folder / "cpac" / "filt_global" / "rois_cc200", file_id, written.CC200)


def read_abide(folder: Path) -> Any:
    from graphssl.datasets import load_abide

    return decoded(load_abide(folder, atlases=[module_of("datasets/test_abide.py").CC200]))


def write_abide_arrays(folder: Path) -> None:
    written = module_of("datasets/test_abide_arrays.py")
    table = {"SUB_ID": written.IDS, "SITE_ID": ["UM_1", "UM_2", "NYU", "NYU"], "site17": ["UM", "UM", "NYU", "NYU"], "DX_GROUP": [2, 1, 1, 2]}
    more = {"age": [14, 15.5, 55.4, 22.9], "sex": [1, 2, 1, 2], "fiq": [103, 1, 126, 107.5], "eye_status": [1, 1, 2, 2], "func_mean_fd": [0.1] * 4}
    pd.DataFrame({**table, **more, "pcp1035": [1, 1, 1, 0], "parisot871": [1, 0, 0, 1]}).to_csv(folder / "subjects.csv", index=False)
    written.write_bundle(folder / "timeseries_cc200_cpac_filt_global.npz")


def read_abide_arrays(folder: Path) -> Any:
    from graphssl.datasets import load_abide_arrays

    return decoded(load_abide_arrays(folder, atlases=[module_of("datasets/test_abide_arrays.py").CC200]))


def write_atlas_table(folder: Path) -> None:
    atlas = load_atlas("simulated20")
    table = pd.DataFrame({"label": atlas.labels, "name": atlas.names, "network": atlas.networks})
    table[["x", "y", "z"]] = atlas.centroids
    table.to_csv(folder / "atlas.csv", index=False)


def write_atlas_volume(folder: Path) -> None:
    import nibabel

    labels = np.kron(np.arange(1, 9).reshape(2, 2, 2), np.ones((3, 3, 3))).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([4.0, 4, 4, 1])), folder / "atlas.nii.gz")
    pd.DataFrame({"index": range(1, 9), "name": list("abcdefgh")}).to_csv(folder / "atlas.tsv", sep="\t", index=False)


def described_atlas(atlas: Any) -> list[Any]:
    return [atlas.hash, atlas.centroids]


def write_map(folder: Path) -> None:
    from graphssl.atlases import geometry_map

    geometry_map(load_atlas("simulated20"), load_atlas("simulated24")).save(folder / "map.safetensors")


def read_map(folder: Path) -> Any:
    found = AtlasMap.load(folder / "map.safetensors")
    return [found.source.hash, found.target.hash, found.weights]


def write_model(folder: Path) -> None:
    from graphssl.encoders import GraphTransformer
    from graphssl.training.pretrain import untrained

    cohort = simulate(atlases=[load_atlas("simulated20")], n_subjects=6, sites=2).cohort
    untrained(cohort, encoder=GraphTransformer(8, 1, 2), seed=0).save_pretrained(folder / "model")


def read_model(folder: Path) -> Any:
    model = load_model(folder / "model")
    return [repr(model), *(value.numpy() for value in model.encoder.state_dict().values())]


def write_schema(folder: Path) -> None:
    simulate_table(n_subjects=20, columns=6).cohort.schema.save(folder / "schema.yaml")


def write_harmonizer(folder: Path) -> None:
    from graphssl.graphs import CohortHarmonizer

    cohort = simulate(atlases=[load_atlas("simulated20")], n_subjects=12, sites=2).cohort
    CohortHarmonizer().fit(cohort).save(folder / "harmonizer")


def read_harmonizer(folder: Path) -> Any:
    from graphssl.graphs import CohortHarmonizer

    return [sorted(map(str, vars(CohortHarmonizer.load(folder / "harmonizer"))))]


def write_participants(folder: Path) -> None:
    LAYOUTS.write_participants(folder)


def read_people(folder: Path) -> Any:
    return [str(read_participants(folder / "participants.tsv", roles={"site": "site"}))]


def write_run(folder: Path) -> None:
    """What a report reads, as a run would have written it."""
    from graphssl.results import Result, write_results

    subjects = [f"s{k}" for k in range(8)]
    (folder / "manifest.json").write_text(json.dumps({"name": "run", "cohort": {"hash": "0"}, "versions": {}, "task": {"target": "y"}}))
    where = ("c", "y", "k_fold", "m", "fold-0", 0, 1.0)
    write_results(folder / "results.jsonl", [Result(*where, "auroc", 0.5, 8, 8, 0.1), Result(*where, "brier", 0.25, 8, 8, 0.1)])
    rows = {"subject_id": subjects, "split": "fold-0", "seed": 0, "method": "m", "label_fraction": 1.0, "y_true": [0, 1] * 4}
    table = pd.DataFrame({**rows, "p_0": 0.5, "p_1": 0.5, "task": "y", "protocol": "k_fold"})
    table.to_parquet(folder / "predictions.parquet", index=False)
    (folder / "history.csv").write_text("stage,epoch,train_loss\npretrain,0,1.5\n")
    (folder / "excluded.csv").write_text("what,id,reason\nsubject,a,no file\n")


def read_run_folder(folder: Path) -> Any:
    run = read_run(folder)
    return [run.results.to_csv(), str(run.predictions)]


def write_initializer(folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    HyperInitializer(HyperNetwork(width=8, depth=1, heads=2, side=3), {"trained on": "nothing"}).save_pretrained(folder / "initializer")


def read_initializer(folder: Path) -> Any:
    """What is read, and what it gives a layer."""
    from torch import nn

    layer = nn.Linear(4, 6)
    initialize(layer, folder / "initializer", noise=0, leave_out=())
    return [repr(HyperInitializer.from_pretrained(folder / "initializer")), layer.weight.detach().numpy()]


def write_tissue(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for k, ending in enumerate(("png", "tif")):
        Image.fromarray(rng.integers(0, 200, (20, 27, 3), dtype=np.uint8)).save(folder / f"picture{k}-level{k}.{ending}")


def write_study_run(folder: Path) -> None:
    axes = {"start": ["scratch", "contrast"]}
    rows = [
        {"part": "p", "start": start, "split": f"fold-{fold}", "seed": 0, "metric": "auroc", "value": 0.5 + 0.1 * fold + 0.05 * (start == "contrast")}
        for start in axes["start"]
        for fold in range(3)
    ]
    counts = {"n_labelled": 8, "n_rarest": 4, "n_pretrained": 0, "n_train": 100, "n_test": 50, "seconds": 1.0}
    pd.DataFrame(rows).assign(**counts).to_csv(folder / "study.csv", index=False)
    curves = pd.DataFrame(rows).drop(columns=["metric", "value"]).assign(step=10, train_loss=1.0, validation_score=0.5)
    curves.to_csv(folder / "curves.csv", index=False)
    pd.DataFrame(columns=["part", "start", "why"]).to_csv(folder / "left_out.csv", index=False)
    question = {"title": "Does it help?", "axes": {"start": None}, "compare": {"start": "scratch"}, "along": None}
    question |= {"metrics": None, "law": None, "curves": False}
    shown = {"name": "study", "parts": {"p": {"metrics": ["auroc"], "axes": axes, "questions": [question]}}}
    (folder / "study.json").write_text(json.dumps(shown))
    (folder / "manifest.json").write_text(json.dumps({"command": "graphssl evaluate", "versions": {"graphssl": "0.1"}}))


def read_study_folder(folder: Path) -> Any:
    run = read_study_run(folder)
    return [run.table.to_csv(), str(run.shown)]


def write_audited(folder: Path) -> None:
    from graphssl.seal import seal

    write_run(folder)
    (folder / "config.yaml").write_text("name: run\ncohort: {path: nowhere}\n")
    (folder / "splits.json").write_text(json.dumps([{"name": "fold-0", "hash": "0", "train": ["a"], "test": ["b"]}]))
    seal(folder)


LAYOUTS = module_of("datasets/conftest.py")
RECORDS = module_of("datasets/test_records.py")
CASES: dict[str, Case] = {
    **{name: of_layout(name) for name in LAYOUTS.WRITERS},
    "table": Case(write_table, lambda folder: opened(folder / "table.csv", target="died", site="site")),
    "table with schema": Case(write_table, lambda folder: opened(folder / "table.csv", schema=str(folder / "schema.yaml"))),
    "parquet": Case(write_parquet, lambda folder: opened(folder, target="died", site="site")),
    "cohort": Case(write_cohort, lambda folder: decoded(Cohort.load(folder / "cohort"))),
    "cohort of stays": Case(write_stays, lambda folder: decoded(Cohort.load(folder / "cohort"))),
    "cohort of images": Case(write_image_cohort, lambda folder: decoded(Cohort.load(folder / "cohort"))),
    "shards": Case(write_brains_in_shards, opened),
    "pictures": Case(write_pictures, lambda folder: opened(folder, folders="class", target=None)),
    "volumes": Case(write_volumes, lambda folder: opened(folder, form="volume")),
    "dicom": Case(write_dicoms, opened),
    "clips": Case(write_clips, lambda folder: opened(folder, form="clip")),
    "image arrays": Case(write_image_arrays, lambda folder: opened(folder / "medmnist.npz")),
    "meds": Case(write_meds, opened),
    "eicu": of_texts(RECORDS.EICU),
    "mimic3": of_texts(RECORDS.MIMIC),
    "omop": of_texts(RECORDS.OMOP),
    "physionet2012": Case(write_2012, lambda folder: decoded(load_physionet2012(folder, subsets=["a"]))),
    "physionet2019": Case(write_2019, opened),
    "tadpole": Case(write_tadpole, lambda folder: decoded(load_tadpole(folder))),
    "abide": Case(write_abide, read_abide),
    "abide arrays": Case(write_abide_arrays, read_abide_arrays),
    "atlas table": Case(write_atlas_table, lambda folder: described_atlas(load_atlas(folder / "atlas.csv"))),
    "atlas volume": Case(write_atlas_volume, lambda folder: described_atlas(load_atlas(folder / "atlas.nii.gz"))),
    "atlas map": Case(write_map, read_map),
    "model": Case(write_model, read_model),
    "schema": Case(write_schema, lambda folder: [str(Schema.load(folder / "schema.yaml").to_dict())]),
    "harmonizer": Case(write_harmonizer, read_harmonizer),
    "participants": Case(write_participants, read_people),
    "run folder": Case(write_run, read_run_folder),
    "study": Case(write_study_run, read_study_folder),
    "meta-training": Case(lambda folder: module_of("reports/test_meta.py").make_run(folder), lambda folder: [read_meta_run(folder).sources.to_csv()]),
    "selection": Case(lambda folder: module_of("reports/test_selection.py").make_selection(folder), lambda folder: [str(read_selection(folder))]),
    "audit": Case(write_audited, lambda folder: [check.about for check in audit_run(folder)]),
    "initialiser": Case(write_initializer, read_initializer),
    "tiles": Case(write_tissue, lambda folder: decoded(load_tiles(folder, size=8, label=r"(level\d)", folder=f"{folder} in tiles"))),
}


# What is done to a file


def rewritten(change: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, random.Random], None]:
    """Damage as a function of the bytes of a file."""

    def damage(path: Path, rng: random.Random) -> None:
        path.write_bytes(change(path.read_bytes(), rng))

    return damage


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flipped(data: bytes, rng: random.Random) -> bytes:
    return with_bytes(data, rng, 1)


def scrambled(data: bytes, rng: random.Random) -> bytes:
    return with_bytes(data, rng, 1 + len(data) // 50)


def scrambled_head(data: bytes, rng: random.Random) -> bytes:
    """Headers are where sizes stand."""
    return with_bytes(data[:256], rng, rng.randrange(1, 12)) + data[256:]


def with_bytes(data: bytes, rng: random.Random, n: int) -> bytes:
    changed = bytearray(data)
    for _ in range(n if data else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def maximal(data: bytes, rng: random.Random) -> bytes:
    """Four bytes of the head that say a great number."""
    place = rng.randrange(max(1, min(len(data), 400) - 4))
    return data[:place] + rng.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x40", b"9999"]) + data[place + 4 :]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice([1, 16, 512]))
    return data[:start] + b"\0" * (end - start) + data[end:]


def longer(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice([b"\0" * 100, b"PK\x03\x04", rng.randbytes(50), data])


def emptied(data: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"\n", b"\0"])


def of_another_kind(data: bytes, rng: random.Random) -> bytes:
    """What somebody may have given the name of the file."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 3)))
    return rng.choice(
        [buffer.getvalue(), b"\x80\x04N.", b"%PDF-1.4", b"<html>404</html>", gzip.compress(b"a,b\n1,2\n"), b"PAR1PAR1", b"\x89HDF\r\n\x1a\n"]
    )


def repacked(change: Callable[[str, bytes, random.Random], tuple[str, bytes]]) -> Callable[[bytes, random.Random], bytes]:
    """Damage inside of a zip archive, such as NPZ, whose checksums are right."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            return flipped(data, rng)
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(*change(name, old.read(name), rng))
        return buffer.getvalue()

    return damage


def inside(change: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    return repacked(lambda name, content, rng: (name, change(content, rng) if rng.random() < 0.5 else content))


def huge_array(data: bytes, rng: random.Random) -> bytes:
    """The header of an array that claims to be of terabytes, or of a negative size, or of objects."""
    shape = rng.choice(["(1000000, 1000000)", "(-1, 20)", "(2305843009213693952, 8)", "(0, 20)", "()"])
    text = f"{{'descr': '{rng.choice(['<f8', '<f4', '|O', '<c16', '<U100000', '<M8[D]', '|b1'])}', 'fortran_order': False, 'shape': {shape}, }}"
    head = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + b"\0" * 64


def bomb(data: bytes, rng: random.Random) -> bytes:
    """An archive of a few megabytes at most that unpacks to gigabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        hit = rng.choice(names)
        for name in names:
            new.writestr(name, _ZEROS() if name == hit else old.read(name))
    return buffer.getvalue()


def _ZEROS() -> bytes:
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (50000, 5000), }".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(2_000_000_000 // 16)


def with_paths(name: str, content: bytes, rng: random.Random) -> tuple[str, bytes]:
    return rng.choice(["../", "/", "..\\", "C:\\", "a/../../", ""]) + name, content


def cells(change: Callable[[list[list[str]], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    """Damage to the cells of a text table, of whatever delimiter."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return scrambled(data, rng)
        mark = max("\t,|; ", key=text[:2000].count)
        rows = [line.split(mark) for line in text.split("\n")]
        change(rows, rng)
        return "\n".join(mark.join(row) for row in rows).encode("utf-8", "surrogatepass")

    return damage


WORDS = [
    "",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "1e999",
    "1e-400",
    "0x10",
    "1_000",
    "\u0661",
    "1,5",
    "n/a",
    "None",
    "true",
    '"',
    "'",
    "\0",
    "-0",
    "1e5",
    "99999999999999999999",
]
WORDS += [
    "2262-04-12",
    "9999-12-31 25:00",
    "1677-09-21",
    "=1+1",
    "a" * 70000,
    "\ud800",
    "\u2028",
    "../x",
    "\ufeff",
    "1" * 5000,
    "[[[[",
    "{}",
    "&",
    "<x>",
    "!!python/object/apply:os.getcwd []",
]


def one_cell(rows: list[list[str]], rng: random.Random) -> None:
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice(WORDS)


def one_column(rows: list[list[str]], rng: random.Random) -> None:
    place, word = rng.randrange(max(map(len, rows))), rng.choice(WORDS)
    for row in rows[rng.randrange(2) :]:
        if place < len(row):
            row[place] = word


def swapped_columns(rows: list[list[str]], rng: random.Random) -> None:
    a, b = (rng.randrange(max(map(len, rows))) for _ in range(2))
    for row in rows:
        if max(a, b) < len(row):
            row[a], row[b] = row[b], row[a]


def lost_cell(rows: list[list[str]], rng: random.Random) -> None:
    rng.choice(rows).pop()


def lost_column(rows: list[list[str]], rng: random.Random) -> None:
    place = rng.randrange(max(map(len, rows)))
    for row in rows:
        del row[place : place + 1]


def moved_rows(rows: list[list[str]], rng: random.Random) -> None:
    rng.shuffle(rows)


def repeated_row(rows: list[list[str]], rng: random.Random) -> None:
    rows.insert(rng.randrange(len(rows)), list(rng.choice(rows)))


def lost_header(rows: list[list[str]], rng: random.Random) -> None:
    del rows[0]


def same_names(rows: list[list[str]], rng: random.Random) -> None:
    rows[0] = [rows[0][0]] * len(rows[0])


def another_mark(data: bytes, rng: random.Random) -> bytes:
    return data.replace(rng.choice([b"\t", b",", b" "]), rng.choice([b";", b",", b"\t", b"  "]))


def another_code(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("latin-1")
    return rng.choice([text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r"), data + b"\xe9\xff"])


def nested(data: bytes, rng: random.Random) -> bytes:
    """Text that a parser descends into until its stack ends."""
    return rng.choice(
        [b"[" * 100_000, b'{"a":' * 100_000, b"- " * 20_000, b"9" * 10_000, b'{"a": NaN}', b"[1e999]", b"&a [*a, *a]", b'{"a": 1, "a": 2}', b"null"]
    )


def json_entry(data: bytes, rng: random.Random) -> bytes:
    """JSON with one entry of another kind, missing, or huge."""
    try:
        record = json.loads(data)
    except ValueError:
        return scrambled(data, rng)
    places = list(entries(record))
    if not places:
        return b"[]"
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice([None, -1, 0, 10**12, 1e308, float("nan"), "", "x", "../../x", [], {}, [[1]], {"a": 1}, True, "a" * 10_000])
    return json.dumps(record).encode()


def entries(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from entries(value[key])


def as_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(["absent", path.name, "/dev/null", "/dev/zero", ".", "/etc/hostname", "/proc/self/mem"]))


def as_pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def gone(path: Path, rng: random.Random) -> None:
    path.unlink()


def renamed(path: Path, rng: random.Random) -> None:
    path.rename(path.with_name(rng.choice(["\n", "é", "a" * 200, "-", " ", "x%s", "sub-\u202e", "~"]) + path.name[-50:]))


def copied(path: Path, rng: random.Random) -> None:
    shutil.copy(path, path.with_name(rng.choice(["copy of ", "._", "sub-", "0"]) + path.name))


TEXTS = (".csv", ".tsv", ".txt", ".1D", ".psv", ".edge", ".node", ".edgelist", ".graphml", ".json", ".jsonl", ".yaml", "spatial-ds")
ANY = [
    *map(rewritten, (truncated, flipped, scrambled, scrambled_head, maximal, zeroed, longer, emptied, of_another_kind)),
    as_folder,
    as_link,
    as_pipe,
    gone,
    renamed,
    copied,
]
OF_TEXT = [
    *map(
        rewritten,
        map(
            cells,
            (one_cell, one_cell, one_cell, one_column, swapped_columns, lost_cell, lost_column, moved_rows, repeated_row, lost_header, same_names),
        ),
    ),
    *map(rewritten, (another_mark, another_code, nested)),
]
OF_ARRAY = [rewritten(huge_array)]
OF_ARCHIVE = [*map(rewritten, map(inside, (truncated, flipped, scrambled_head, huge_array))), rewritten(repacked(with_paths)), rewritten(bomb)]


def damage_one(folder: Path, rng: random.Random) -> str:
    """Damage one file of a folder; gives what was done to which."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    ways = list(ANY)
    if path.name.endswith(TEXTS):
        ways += OF_TEXT
    if path.suffix == ".json":
        ways += [rewritten(json_entry)] * 6
    if path.suffix == ".npy":
        ways += OF_ARRAY * 3
    if path.suffix == ".npz":
        ways += OF_ARCHIVE
    way = rng.choice(ways)
    way(path, rng)
    return f"{path.relative_to(folder)}: {called(way)}"


def called(way: Callable[..., Any]) -> str:
    """Name of a damage, with those of what it is made of."""
    inner = [cell.cell_contents for cell in way.__closure__ or () if callable(cell.cell_contents)]
    return " of ".join([*(way.__name__ for _ in range(not inner)), *map(called, inner)])


# What may come of it


class HangError(BaseException):
    """Not an Exception, so that no reader can catch it."""


@contextmanager
def limits(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """A limit of processor time and, above what is in use, of memory."""

    def stop(*_: Any) -> None:
        raise HangError

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    handlers = {signal.SIGPROF: signal.signal(signal.SIGPROF, stop), signal.SIGALRM: signal.signal(signal.SIGALRM, stop)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 4 * seconds)
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def watched_pipes(folder: Path) -> Iterator[None]:
    """Nobody may wait at a named pipe, for there nobody writes; whoever does is let go, and that is a hang."""
    pipes, done, waited = [path for path in folder.rglob("*") if path.is_fifo()], threading.Event(), []

    def let_go() -> None:
        while not done.wait(0.02):
            for pipe in pipes:
                with contextlib.suppress(OSError):  # nobody is waiting
                    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                    waited.append(pipe)

    watcher = threading.Thread(target=let_go, daemon=True)
    if pipes:
        watcher.start()
    try:
        yield
    finally:
        done.set()
        if pipes:
            watcher.join()
    assert not waited, f"waits for a writer of {waited[0].name}"


def outcome(case: Case, folder: Path) -> Any:
    """What a reader gives, or the error of ours it raises; anything else is raised."""
    with warnings.catch_warnings(), watched_pipes(folder), limits():
        warnings.simplefilter("ignore")
        try:
            return case.read(folder)
        except GraphSSLError as error:
            return error


# The tests


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the whole files of a case, written once."""
    written: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in written:
            written[name] = tmp_path_factory.mktemp("whole")
            CASES[name].write(written[name])
        return written[name]

    return folder


def damaged(name: str, whole: Path, target: Path, seed: int) -> None:
    """One case: a copy is damaged in a way that the seed decides, and read."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(whole, target)
    what = damage_one(target, random.Random(f"{name} {seed}"))
    try:
        outcome(CASES[name], target)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AssertionError(f"{name}, seed {seed}: {what}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("name", CASES)
def test_whole_files_are_read_twice_alike(name: str, whole: Callable[[str], Path]) -> None:
    first, second = (outcome(CASES[name], whole(name)) for _ in range(2))
    assert not isinstance(first, Exception), first
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_give_an_error_of_ours_or_a_result(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    for seed in range(N_SEEDS):
        damaged(name, whole(name), tmp_path / "damaged", seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_files_give_an_error_of_ours_or_a_result(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    for seed in range(N_SEEDS, 200):
        damaged(name, whole(name), tmp_path / "damaged", seed)


@pytest.mark.parametrize("name", ["cohort", "cohort of stays"])
def test_what_knows_its_hash_is_read_as_it_was_or_not_at_all(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    """No flipped byte of a saved cohort gives other numbers."""
    rng, expected = random.Random(0), CASES[name].read(whole(name))
    for _ in range(10):
        shutil.rmtree(tmp_path / "flipped", ignore_errors=True)
        shutil.copytree(whole(name), tmp_path / "flipped")
        path = rng.choice(sorted(path for path in (tmp_path / "flipped").rglob("*") if path.is_file() and path.name != "cohort.json"))
        path.write_bytes(flipped(path.read_bytes(), rng))
        found = outcome(CASES[name], tmp_path / "flipped")
        assert isinstance(found, GraphSSLError) or found == expected, path.name


def test_named_columns_in_another_order_are_the_same_regions(whole: Callable[[str], Path], tmp_path: Path) -> None:
    """Rows of participants and named columns may stand in any order: no number may move to another region or person."""

    def sorted_cohort(folder: Path) -> str:
        cohort = open_source(Source(str(folder), atlas="simulated20"))
        return cohort.select(sorted(cohort.ids)).hash

    expected = sorted_cohort(whole("xcpd"))
    shutil.copytree(whole("xcpd"), tmp_path / "turned")
    people = pd.read_csv(tmp_path / "turned" / "participants.tsv", sep="\t")
    people.iloc[::-1].to_csv(tmp_path / "turned" / "participants.tsv", sep="\t", index=False)
    for path in (tmp_path / "turned").rglob("*_timeseries.tsv"):
        if "confounds" not in path.name:
            table = pd.read_csv(path, sep="\t")
            table[table.columns[::-1]].to_csv(path, sep="\t", index=False, na_rep="n/a")
    assert sorted_cohort(tmp_path / "turned") == expected


ENDINGS = {
    ".tsv": read_array,
    ".csv": read_array,
    ".1D": read_array,
    ".npy": read_array,
    ".npz": read_array,
    ".mat": read_array,
    ".edgelist": read_array,
}
ENDINGS |= {".graphml": read_array, ".edge": read_array, ".yaml": Schema.load, ".jsonl": read_results, ".node": load_atlas, "_atlas.csv": load_atlas}
STARTS = [b"", b"\x93NUMPY\x01\x00v\x00", b"PK\x03\x04", b"MATLAB 5.0 MAT-file", b"1\t2\n", b"a,b\n1,", b"<graphml>", b"{"]


@settings(max_examples=80, deadline=None)
@given(
    ending=st.sampled_from(sorted(ENDINGS)),
    start=st.sampled_from(STARTS),
    rest=st.binary(max_size=60) | st.text("0123456789.,;\t\n -+eEnaif#\"'", max_size=60).map(str.encode),
)
def test_any_bytes_give_an_error_of_ours_or_a_result(tmp_path_factory: pytest.TempPathFactory, ending: str, start: bytes, rest: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"file{ending}"
    path.write_bytes(start + rest)
    outcome(Case(lambda folder: None, lambda folder: ENDINGS[ending](path)), path.parent)


def test_entities_of_xml_are_not_expanded_to_gigabytes(tmp_path: Path) -> None:
    """A billion laughs (CWE-776)."""
    levels = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
    path = tmp_path / "sub-01.graphml"
    path.write_text(f'<?xml version="1.0"?><!DOCTYPE g [<!ENTITY l0 "ha">{levels}]><graphml><graph><node id="&l11;"/></graph></graphml>')
    found = outcome(Case(lambda folder: None, lambda folder: read_array(path)), tmp_path)
    assert isinstance(found, DataError)


def test_an_archive_that_unpacks_to_more_than_there_is_memory_for_is_an_error(tmp_path: Path) -> None:
    """Seventeen megabytes of zeros behind a header that claims two gigabytes, and one that claims terabytes."""
    for shape in ((50_000, 5_000), (2**40, 20)):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("series.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(1 << 24))
        assert isinstance(outcome(Case(lambda folder: None, lambda folder: read_array(tmp_path / "bomb.npz")), tmp_path), DataError)


def test_names_in_archives_lead_nowhere(tmp_path: Path) -> None:
    """Arrays are read from an archive, and nothing of it is written anywhere, whatever its entries are called."""
    buffer = io.BytesIO()
    np.save(buffer, np.ones((4, 3)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../../escaped.npy", buffer.getvalue())
    before = sorted(tmp_path.parent.rglob("*"))
    assert read_array(tmp_path / "a.npz")[0].shape == (4, 3)
    assert sorted(tmp_path.parent.rglob("*")) == before
