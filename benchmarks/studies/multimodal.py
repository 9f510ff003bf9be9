"""What several modalities are worth together, and what is left when one is missing at test: fusions, boosting, late average, each alone.

    python benchmarks/studies/multimodal.py ../shared/data hippocampus lung abide [--seeds 0 1 2] [--folds 3] [--out multimodal]
    python benchmarks/studies/multimodal.py --table multimodal/hippocampus.jsonl    (prints the tables of an earlier run)

Three cohorts, none of which was made for this:

- `hippocampus`: 131 MR volumes and morphometry **derived** from their masks (volume, extents, surface, brightness). The target is derived as
  well: whether the anterior part of the hippocampus has more of its volume than in the median person. The volumes of the parts are not in the table.
- `lung`: 44 ultrasound clips and their metadata (probe, length of the source); regular against any finding. Clips of a patient stay together.
- `abide`: functional connectomes, phenotype (age, sex, intelligence, eyes, motion) and site; autism against control. Folds cut through sites,
  since the site is a modality here. Four hundred subjects, drawn once.

In every fold and for every seed, the encoder of images or connectomes is pre-trained without labels on the training subjects alone, then frozen;
all methods stand on it: each modality alone, the mean of these, gradient boosting on embeddings side by side (HAIM), and each fusion, whose weights
are trained with the table's encoder. The last two put patients, fused by attention over sources, into a population graph of their columns, with
its edges and without. Fine-tuning takes about the same number of steps in every cohort, however few are labelled, and chooses its epoch on
validation subjects of the training side. Then a share of the test subjects loses the images (connectomes), the same for all methods. Differences are
paired over folds, seeds averaged first.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import binary_erosion

from graphssl.atlases import load_atlas
from graphssl.data import Cohort, Column, ColumnTokenizer, ImageBuilder, MultimodalBuilder, Schema
from graphssl.data.builder import AbstractBuilder
from graphssl.datasets import load_abide_arrays, load_images
from graphssl.encoders import (
    AbstractEncoder,
    AbstractFusion,
    Bilinear,
    Concatenation,
    CrossAttention,
    DynamicMetaEmbedding,
    FiLM,
    FrameEncoder,
    GatedSum,
    GraphTransformer,
    Mean,
    MultimodalEncoder,
    PopulationTransformer,
    ResNet,
    TableTransformer,
)
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation import EmbeddingBoosting, LateAverage, MissingAtTest, ModalityClassifier, make_baseline
from graphssl.evaluation.fit_and_score import fit_and_score
from graphssl.evaluation.missing_modality import missing_name
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.task import make_task
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder
from graphssl.objectives import AbstractObjective, NTXent
from graphssl.results import Result, read_results, write_results
from graphssl.statistics import paired_comparison
from graphssl.training import TrainingSettings, pretrain
from graphssl.views import Blur, Compose, Flip, HideConnections, HideRegions, IntensityJitter, ResizedCrop

SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
WIDTH, BATCH = 32, 16


class Study:
    """A cohort, what reads its modalities, and which of them goes missing.

    Args:
        cohort: The cohort, with one target.
        builders: Builder of each modality.
        encoders: Encoder of each modality.
        lost: The modality that goes missing; its encoder is pre-trained and frozen.
        objective: What it is pre-trained on.
        epochs: For how long.
        folds: Folds of cross-validation.
    """

    def __init__(
        self,
        cohort: Cohort,
        builders: dict[str, AbstractBuilder],
        encoders: dict[str, AbstractEncoder],
        lost: str,
        objective: AbstractObjective,
        epochs: int,
        folds: int,
    ) -> None:
        self.cohort, self.builders, self.encoders = cohort, builders, encoders
        self.lost, self.objective, self.epochs, self.folds = lost, objective, epochs, folds

    def fusions(self) -> dict[str, AbstractFusion]:
        """All fusions at one width; the table asks, and conditions what goes missing."""
        asks = next(name for name in self.encoders if name != self.lost)
        return {
            "concatenation": Concatenation(WIDTH),
            "mean": Mean(WIDTH),
            "gated_sum": GatedSum(WIDTH),
            "film": FiLM(WIDTH, self.lost, dynamic=False),
            "daft": FiLM(WIDTH, self.lost),
            "cross_attention": CrossAttention(WIDTH, asks, depth=1),
            "bilinear": Bilinear(WIDTH),
            "dvme": DynamicMetaEmbedding(WIDTH, heads=4),
        }

    def methods(self, folder: str, steps: int) -> dict[str, object]:
        """All methods, each with the lost modality there, and missing in every share of the test subjects; fitted once."""
        builder = MultimodalBuilder(self.builders)
        n_labelled = len(self.cohort) * (self.folds - 1) // self.folds
        epochs = max(1, steps * BATCH // n_labelled)
        settings = TrainingSettings(max_epochs=epochs, batch_size=BATCH, learning_rate=1e-3, patience=max(3, epochs // 4), accelerator="cpu")
        fused = {
            name: ConnectomeClassifier(
                encoder=MultimodalEncoder(self.encoders, fusion, 0.3, (self.lost,), {self.lost: folder}), builder=builder, finetuning=settings
            )
            for name, fusion in self.fusions().items()
        }
        first = fused["concatenation"]
        patient = MultimodalEncoder(self.encoders, DynamicMetaEmbedding(WIDTH, heads=4), 0.3, (self.lost,), {self.lost: folder})
        fused |= {
            name: ConnectomeClassifier(
                encoder=PopulationTransformer(WIDTH, depth=1, heads=4, patient=patient, edges=edges),
                builder=PopulationBuilder(builder),
                finetuning=settings,
            )
            for name, edges in (("dvme_and_graph", True), ("dvme_and_no_edges", False))
        }
        alone = {f"only_{name}": ModalityClassifier(first, name) for name in self.builders}
        rest = {
            "late_average": LateAverage(first),
            "concatenated_boosting": EmbeddingBoosting(first),
            "boosting_table": make_baseline("boosting_table"),
        }
        swept = {}
        for name, method in {**alone, **rest, **fused}.items():
            for share in SHARES if name != "boosting_table" else (0.0,):
                key = missing_name(name, self.lost, share) if share else name
                swept[key] = MissingAtTest(method, builder, self.lost, share)
        return swept

    def run(self, seeds: list[int], steps: int, out: Path) -> None:
        """All seeds and folds; what was finished before is read back from the file."""
        task = make_task(self.cohort, None, None, "k_fold")
        splits = make_splits(self.cohort, task, "k_fold", self.folds)
        results = list(_known(out))
        done = {(result.split, result.seed) for result in results}
        for seed in seeds:
            for split in splits:
                if (split.name, seed) in done:
                    continue
                start = time.process_time()
                with tempfile.TemporaryDirectory() as folder:
                    train = self.cohort.select(split.train)
                    settings = TrainingSettings(max_epochs=self.epochs, batch_size=32, accelerator="cpu")
                    there = train.select(self.builders[self.lost].readable(train))
                    model = pretrain(
                        there,
                        objective=self.objective,
                        encoder=self.encoders[self.lost],
                        builder=self.builders[self.lost],
                        settings=settings,
                        seed=seed,
                    )
                    model.save_pretrained(Path(folder) / "encoder")
                    for name, method in self.methods(str(Path(folder) / "encoder"), steps).items():
                        seeded = [key for key in method.get_params() if key == "seed" or key.endswith("__seed")]
                        found, _ = fit_and_score(method.set_params(**dict.fromkeys(seeded, seed)), self.cohort, task, split, seed, 1.0, name)
                        results += found
                write_results(out, results)
                print(f"{self.cohort.name} seed {seed} {split.name}: {time.process_time() - start:.0f} s of CPU", flush=True)


def hippocampus(data: Path, folds: int) -> Study:
    """Volumes of the hippocampus and what can be measured in their masks."""
    source = data / "image" / "msd_hippocampus"
    cohort = load_images(source, mask_classes=["background", "anterior", "posterior"], name="hippocampus")
    name = next(iter(cohort.images))
    table = pd.DataFrame.from_dict(
        {row.subject_id: _morphometry(source, Path(row.path).name) for row in cohort.images[name].table.itertuples()}, "index"
    )
    high = table.pop("anterior_share")
    labels = pd.Series(np.where(high > high.median(), "anterior", "posterior"), index=table.index, dtype="str").reindex(cohort.ids)
    for column in table:
        cohort = cohort.with_column(Column(str(column), "continuous", "feature"), table[column].reindex(cohort.ids))
    cohort = cohort.with_column(Column("larger_part", "categorical", "target", categories=("posterior", "anterior")), labels)
    return Study(
        cohort,
        {"volume": ImageBuilder(name, size=(16, 24, 16)), "table": ColumnTokenizer(list(table.columns), n_pieces=8)},
        {"volume": ResNet(3, width=8, blocks=(1, 1), stem="small", norm="group"), "table": _table_encoder()},
        "volume",
        NTXent(Compose([ResizedCrop((16, 24, 16), (0.5, 1.0)), Flip(axes=(-1,)), IntensityJitter()])),
        epochs=8,
        folds=folds,
    )


def _morphometry(source: Path, file: str) -> dict[str, float]:
    """Measures of one mask; the share of the anterior part is the target and no measure."""
    mask = nib.load(source / "labels" / file)
    image = np.asarray(nib.load(source / "images" / file).dataobj, dtype=np.float64)
    values, spacing = np.asarray(mask.dataobj), np.asarray(mask.header.get_zooms()[:3], dtype=np.float64)
    whole = values > 0
    extents = np.ptp(np.argwhere(whole), axis=0) * spacing
    surface = whole & ~binary_erosion(whole)
    return {
        "volume_mm3": float(whole.sum() * spacing.prod()),
        **{f"extent_{axis}_mm": float(extent) for axis, extent in zip("xyz", extents, strict=True)},
        "surface_share": float(surface.sum() / whole.sum()),
        "brightness": float(image[whole].mean() / image.mean()),
        "roughness": float(image[whole].std() / image[whole].mean()),
        "anterior_share": float((values == 1).sum() / whole.sum()),
    }


def lung(data: Path, folds: int) -> Study:
    """Ultrasound clips and their metadata."""
    source = data / "image" / "lung_ultrasound_ccby"
    cohort = load_images(source / "lus_ccby_clips_24x96x96.npz", name="lung")
    regular = pd.Series(np.where(cohort.subjects["label"] == "regular", "regular", "finding"), index=cohort.subjects.index, dtype="str")
    frames = pd.read_json(source / "clips.json", typ="series")
    entries = next(value for value in frames if isinstance(value, list) and len(value) == len(cohort))
    length = pd.Series([float(entry["frames_in_source"]) for entry in entries], index=cohort.subjects.index)
    schema = Schema([column if column.name != "label" else replace(column, role="identifier") for column in cohort.schema])
    cohort = replace(cohort, schema=schema)
    cohort = cohort.with_column(Column("length", "continuous", "feature", unit="frames"), length)
    cohort = cohort.with_column(Column("findings", "categorical", "target", categories=("regular", "finding")), regular)
    return Study(
        cohort,
        {"clip": ImageBuilder(size=(6, 48, 48)), "metadata": ColumnTokenizer(["probe", "length"], n_pieces=4)},
        {"clip": FrameEncoder(width=8, blocks=(1, 1), stem="small", norm="group"), "metadata": _table_encoder()},
        "clip",
        NTXent(Compose([ResizedCrop(48, (0.5, 1.0)), Flip(axes=(-1,)), IntensityJitter(), Blur(p=0.3)])),
        epochs=8,
        folds=folds,
    )


def abide(data: Path, folds: int, n_subjects: int = 400) -> Study:
    """Connectomes, phenotype and site."""
    brain = data / "brain"
    atlas = load_atlas(f"ho111={brain / 'atlases' / 'coords' / 'pcp_ho111.csv'}")
    cohort = load_abide_arrays(brain / "abide1", atlases=[atlas], cohort="pcp1035")
    chosen = np.random.default_rng(0).permutation(len(cohort))[:n_subjects]
    cohort = cohort.select([cohort.ids[k] for k in sorted(chosen)])
    return Study(
        cohort,
        {
            "connectome": ConnectomeBuilder(),
            "phenotype": ColumnTokenizer(["age", "sex", "fiq", "eye_status", "mean_fd"], n_pieces=8),
            "site": ColumnTokenizer(["site"]),
        },
        {"connectome": GraphTransformer(WIDTH, depth=1, heads=2, dropout=0.0), "phenotype": _table_encoder(), "site": _table_encoder()},
        "connectome",
        NTXent(Compose([HideRegions(0.3), HideConnections(0.5)])),
        epochs=4,
        folds=folds,
    )


def _table_encoder() -> TableTransformer:
    return TableTransformer(WIDTH, depth=1, heads=4)


COHORTS = {"hippocampus": hippocampus, "lung": lung, "abide": abide}


def _known(path: Path) -> list[Result]:
    return [Result(**row) for row in read_results(path).to_dict("records")] if path.is_file() else []


def table(path: Path) -> None:
    """AUROC by method and share, and paired differences from boosting and from the best modality alone."""
    results = read_results(path)
    results = results[results["metric"] == "auroc"]
    lost = next(name.rpartition("_")[0].partition("|missing_")[2] for name in results["method"] if "|missing_" in name)
    names = [name for name in results["method"].unique() if "|" not in name]
    mean = results.groupby("method")["value"].mean()
    best = max((name for name in names if name.startswith("only_")), key=lambda name: mean[name])
    n_seeds, n_splits = results["seed"].nunique(), results["split"].nunique()
    print(f"\n{results['cohort'].iloc[0]}: AUROC, {n_splits} folds, {n_seeds} seeds; share of the test subjects who lose the {lost}\n")
    print(f"| method | {' | '.join(f'{share:.0%}' for share in SHARES)} | against boosting | against {best} |")
    print("|---" * (len(SHARES) + 3) + "|")
    for name in names:
        cells = []
        for share in SHARES:
            rows = results[results["method"] == (missing_name(name, lost, share) if share else name)]
            by_fold = rows.groupby("split")["value"].mean()
            cells.append("–" if rows.empty else f"{by_fold.mean():.3f} ± {by_fold.std():.3f}" if share in (0.0, 1.0) else f"{by_fold.mean():.3f}")
        print(f"| {name} | {' | '.join(cells)} | {_difference(results, name, 'concatenated_boosting')} | {_difference(results, name, best)} |")


def _difference(results: pd.DataFrame, name: str, other: str) -> str:
    if name == other:
        return "–"
    found = paired_comparison(results, name, other, "auroc")
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def main() -> None:
    """Run the cohorts that are named, or print the tables of what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with image and brain")
    parser.add_argument("cohorts", nargs="*", default=[], help=f"some of {', '.join(COHORTS)}; all when left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of the optimiser in fine-tuning, about, at most")
    parser.add_argument("--subjects", type=int, help="at most as many subjects of a cohort, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("multimodal"), help="folder of the results")
    parser.add_argument("--table", type=Path, nargs="+", help="results whose tables to print")
    arguments = parser.parse_args()
    if arguments.table:
        for path in arguments.table:
            table(path)
        return
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.cohorts or COHORTS:
        study = COHORTS[name](arguments.data, arguments.folds)
        if arguments.subjects and len(study.cohort) > arguments.subjects:
            study.cohort = study.cohort[: arguments.subjects]
        out = arguments.out / f"{name}.jsonl"
        study.run(arguments.seeds, arguments.steps, out)
        table(out)


if __name__ == "__main__":
    main()
