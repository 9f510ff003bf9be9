"""What pre-training on a few hundred ultrasound images is worth: a linear probe on seven objectives against random weights.

    python benchmarks/studies/image_objectives.py ../shared/data/image/medmnist/breastmnist_flatlabels.npz [--epochs 10] [--seeds 0 1 2]

BreastMNIST (546 training, 78 validation, 156 test images of 28² voxels, benign or malignant; Yang et al., 2023). A small residual network is
pre-trained on the training images without their labels, for a number of epochs that is the same for all and was not chosen on any score. Then it is
frozen: a logistic regression on its vectors, with the penalty chosen by cross-validation of the training images, is scored on test images (AUROC),
trained on all labels or on a tenth. The control is the same network with the random weights that pre-training started from. Beside it stands the same
regression on pixels. All run in one process on one thread; the loss of every epoch is in `--out`.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.data import Cohort, ImageBuilder
from graphssl.datasets import load_images
from graphssl.encoders import ResNet
from graphssl.objectives import BYOL, DINO, AbstractObjective, BarlowTwins, DeepCluster, MoCo, NTXent, SwAV
from graphssl.training import TrainingSettings, pretrain, untrained
from graphssl.views import Blur, Compose, Flip, IntensityJitter, MultiCrop, ResizedCrop

SIZE = 28


def main() -> None:
    """Run all objectives and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of objectives")
    parser.add_argument("--out", type=Path, default=Path("image_objectives.jsonl"), help="one line a run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cohort = load_images(arguments.file)
    names = [name for name in objectives() if arguments.only is None or name in arguments.only]
    with arguments.out.open("a", encoding="utf-8") as out:
        for seed in arguments.seeds:
            rows = [("pixels", pixels(cohort), {}), ("random weights", embedded(cohort, None, 0, seed)[0], {})]
            for name, vectors, history in rows:
                write(out, name, seed, scores(cohort, vectors, seed), history, 0.0)
            for name in names:
                start = time.process_time()
                vectors, history = embedded(cohort, objectives(arguments.epochs)[name], arguments.epochs, seed)
                write(out, name, seed, scores(cohort, vectors, seed), history, time.process_time() - start)
    table(arguments.out)


def crop(size: int, scale: tuple[float, float]) -> Compose:
    """A random crop with other intensities; left and right may be exchanged in an image of a breast."""
    return Compose([ResizedCrop(size, scale), Flip(), IntensityJitter(), Blur(p=0.3)])


def objectives(epochs: int = 1) -> dict[str, AbstractObjective]:
    """All of the same widths."""
    view, widths = crop(SIZE, (0.3, 1.0)), {"width": 64, "hidden": 128}
    crops = MultiCrop(crop(SIZE, (0.4, 1.0)), crop(SIZE // 2, (0.1, 0.4)), n_small=4)
    return {
        "MoCo v2": MoCo(view, queue_size=256, **widths),
        "SwAV": SwAV(crops, n_prototypes=32, queue_size=128, queue_from=0.1, frozen=0.03, **widths),
        "Barlow Twins": BarlowTwins(view, **widths),
        "DINO": DINO(crops, n_prototypes=128, first_teacher_temperature=0.04, teacher_temperature=0.07, warmup=0.3, frozen=0.03, **widths),
        "NT-Xent": NTXent(view, **widths),
        "BYOL": BYOL(view, **widths),
        "DeepCluster-v2": DeepCluster(view, n_clusters=(16, 16, 16), n_clusterings=epochs, **widths),
    }


def embedded(cohort: Cohort, objective: AbstractObjective | None, epochs: int, seed: int) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Vectors of all images, and the history of the pre-training."""
    train = cohort.select(cohort.subjects.index[split(cohort) == "train"])
    encoder, builder = ResNet(width=16, blocks=(1, 1, 1), stem="small"), ImageBuilder(size=SIZE)
    if objective is None:
        return untrained(train, encoder=encoder, builder=builder, seed=seed).embed(cohort).to_numpy(), {}
    settings = TrainingSettings(max_epochs=epochs, batch_size=64, learning_rate=2e-3, accelerator="cpu")
    model = pretrain(train, objective=objective, encoder=encoder, builder=builder, settings=settings, seed=seed)
    return model.embed(cohort).to_numpy(), {name: model.history[name].round(4).tolist() for name in ("train_loss", "train_pooled_spread")}


def pixels(cohort: Cohort) -> np.ndarray:
    """Images as they are, flattened."""
    batch = ImageBuilder(size=SIZE).fit(cohort.select(cohort.subjects.index[split(cohort) == "train"])).transform(cohort)
    return batch.images.flatten(start_dim=1).numpy()


def scores(cohort: Cohort, vectors: np.ndarray, seed: int) -> dict[str, float]:
    """AUROC on the test images with all training labels and with a tenth, drawn by the seed with every class in its share."""
    y, part = cohort.target().to_numpy(), split(cohort)
    positive = max(set(y))
    train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "test")
    few = train_test_split(train, train_size=0.1, stratify=y[train], random_state=seed)[0]
    found = {}
    for share, rows in (("all", train), ("tenth", few)):
        probe = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(Cs=np.logspace(-4, 1, 6), cv=3, scoring="roc_auc", l1_ratios=(0,), max_iter=2000, use_legacy_attributes=False),
        ).fit(vectors[rows], y[rows] == positive)
        found[share] = float(roc_auc_score(y[test] == positive, probe.decision_function(vectors[test])))
    return found


def split(cohort: Cohort) -> np.ndarray:
    """The official split of each image."""
    return cohort.subjects[cohort.schema.named("split")[0]].astype(str).to_numpy()


def write(out: object, name: str, seed: int, found: dict[str, float], history: dict[str, list[float]], seconds: float) -> None:
    print(json.dumps({"method": name, "seed": seed, **found, "seconds": round(seconds, 1), "history": history}), file=out, flush=True)  # type: ignore[call-overload]
    print(f"{name:<16} seed {seed}   all labels {found['all']:.3f}   a tenth {found['tenth']:.3f}   {seconds:.0f} s", flush=True)


def table(path: Path) -> None:
    """Mean and spread over seeds, and how often a method beats random weights with the same seed."""
    runs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    control = {run["seed"]: run for run in runs if run["method"] == "random weights"}
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == name]
        cells = []
        for share in ("all", "tenth"):
            values = np.asarray([run[share] for run in mine])
            better = sum(run[share] > control[run["seed"]][share] for run in mine)
            cells.append(f"{values.mean():.3f} ± {values.std(ddof=min(1, len(values) - 1)):.3f} ({better} of {len(values)})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
