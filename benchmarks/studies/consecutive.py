"""What each stage of consecutive pre-training adds: general images, images of the same modality, and the task's own training images.

    python benchmarks/studies/consecutive.py ../shared/data/image [--lengths 24 48] [--seeds 0 1 2] [--out consecutive.jsonl]

The task is BreastMNIST (546 training, 78 validation, 156 test images of 28² voxels, ultrasound, benign or malignant; Yang et al., 2023). General
images are of other modalities, pooled: chest X-rays (PneumoniaMNIST), slices of chest CT (LUNA16) and of heart MR (Medical Segmentation Decathlon),
2,240 of them. Images of the same modality are 528 frames of 44 clips of lung ultrasound. All are brought to 28² voxels; none is an image of the
task.

A masked autoencoder of patches (He et al., CVPR 2022) with a small vision transformer is pre-trained in chains of stages, encoder and decoder going
on from one to the next: none, general, domain, task, general to domain, general to domain to task. Chains of one length take the same number of
steps of the optimiser: a chain of several stages divides it evenly among them, and an epoch of general images is four of the others. The length is
in epochs of the task's images. Nothing is chosen on a score.

Every encoder is judged on the test images (AUROC) by a linear probe and by fine-tuning with layer-wise learning-rate decay, with all training
labels and with a tenth of them, drawn by the seed with every class in its share. Differences from random weights, and from what the chain is to
improve on, are paired by seed. With three seeds and 156 test images, differences of a few hundredths are not to be told from chance; the table
shows every one of them.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from graphssl.data import Cohort, ImageBuilder
from graphssl.datasets import load_images
from graphssl.encoders import VisionTransformer
from graphssl.objectives import MaskedPatches
from graphssl.training import Model, Stage, TrainingSettings, finetune, pretrain_stages, untrained

SIZE, BATCH = 28, 64
N_GENERAL, EVERY = 2240, 2  # general images; every second frame of the clips
STEPS = {"general": 32, "domain": 8, "task": 8}  # of an epoch, nine tenths of the images being trained on
CHAINS = {
    "general": ("general",),
    "domain": ("domain",),
    "task": ("task",),
    "general → domain": ("general", "domain"),
    "general → domain → task": ("general", "domain", "task"),
}
# What a chain is to improve on, beside random weights.
AGAINST = {"general → domain": ("general", "domain"), "general → domain → task": ("general → domain", "task")}
NONE = "none"


def main() -> None:
    """Run all chains and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with medmnist/, lung_ultrasound_ccby/, luna16_slices/ and msd_heart_slices/")
    parser.add_argument("--lengths", type=int, nargs="+", default=[24, 48], help="multiples of 24, so that every stage has whole epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of chains")
    parser.add_argument("--finetuning", type=int, default=10, help="epochs of fine-tuning at most")
    parser.add_argument("--out", type=Path, default=Path("consecutive.jsonl"), help="one line a run; runs that it holds are not repeated")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cohorts = pools(arguments.folder)
    done = {(run["chain"], run["length"], run["seed"]) for run in read(arguments.out)}
    wanted = [(NONE, 0), *((name, length) for length in arguments.lengths for name in CHAINS if arguments.only is None or name in arguments.only)]
    for seed in arguments.seeds:
        for name, length in wanted:
            if (name, length, seed) not in done:
                start = time.process_time()
                model, n_steps = pretrained(cohorts, name, length, seed)
                found = {"steps": n_steps, "start": time.process_time() - start, **scores(model, cohorts, seed, arguments.finetuning)}
                write(arguments.out, {"chain": name, "length": length, "seed": seed, **found, "seconds": time.process_time() - start})
    table(read(arguments.out))


def pools(folder: Path) -> dict[str, Cohort]:
    """Images of 28² voxels by stage, and those to test on."""
    breast = load_images(folder / "medmnist" / "breastmnist_flatlabels.npz")
    part = breast.subjects[breast.schema.named("split")[0]].astype(str)
    with np.load(folder / "lung_ultrasound_ccby" / "lus_ccby_clips_24x96x96.npz") as held:
        clips = held["clips"][:, ::EVERY]
    frames = small(clips.reshape(-1, *clips.shape[2:]))
    names = np.repeat([f"clip {k}" for k in range(len(clips))], clips.shape[1])
    return {
        "general": as_cohort("general", general(folder)),
        "domain": as_cohort("domain", frames, clip=names),
        "task": breast.select(part.index[part == "train"]),
        "test": breast.select(part.index[part == "test"]),
    }


def general(folder: Path) -> np.ndarray:
    """X-rays, and all slices of CT and MR; the same ones whatever the seed."""
    slices = [path for name in ("luna16_slices", "msd_heart_slices") for path in sorted((folder / name).rglob("*.png"))]
    pictures = np.concatenate([small(np.asarray(Image.open(path).convert("L"))[None]) for path in slices])
    with np.load(folder / "medmnist" / "pneumoniamnist_train388n3494p.npz") as held:
        xrays = held["train_images"]
    chosen = np.random.default_rng(0).choice(len(xrays), N_GENERAL - len(pictures), replace=False)
    return np.concatenate([pictures, xrays[np.sort(chosen)]])


def small(images: np.ndarray) -> np.ndarray:
    """Images of 28² voxels, by areas."""
    resized = torch.nn.functional.interpolate(torch.from_numpy(images.astype(np.float32))[:, None], size=(SIZE, SIZE), mode="area")
    return resized[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()


def as_cohort(name: str, images: np.ndarray, **columns: np.ndarray) -> Cohort:
    """Images as a cohort, in a file that lasts as long as this process."""
    place = Path(_SCRATCH.name) / f"{name}.npz"
    np.savez(place, images=images, **columns)
    return load_images(place, name=name)


_SCRATCH = tempfile.TemporaryDirectory(prefix="consecutive")


def pretrained(cohorts: dict[str, Cohort], name: str, length: int, seed: int) -> tuple[Model, int]:
    """The model of a chain, its builder fitted on the task's training images, and how many steps it took."""
    encoder, builder = VisionTransformer(patch_size=4, width=64, depth=3, heads=4, n_maps=1), ImageBuilder(size=SIZE)
    if name == NONE:
        return untrained(cohorts["task"], encoder=encoder, builder=builder, seed=seed), 0
    share = length * STEPS["task"] // len(CHAINS[name])
    stages = [Stage(part, cohorts[part], epochs=share // STEPS[part]) for part in CHAINS[name]]
    chain = pretrain_stages(
        [*stages, Stage("ready", cohorts["task"], epochs=0)],
        objective=MaskedPatches(width=48, depth=1, heads=4),
        encoder=encoder,
        builder=builder,
        settings=TrainingSettings(batch_size=BATCH, learning_rate=2e-3, patience=10_000, accelerator="cpu"),
        seed=seed,
    )
    n_steps = sum(row.epochs * -(-row.n_train // BATCH) for row in chain.stages.itertuples())
    if n_steps != length * STEPS["task"]:
        raise ValueError(f"Expected {length * STEPS['task']} steps of the chain {name!r}, found {n_steps}. Take lengths that are multiples of 24.")
    return chain.model, n_steps


def scores(model: Model, cohorts: dict[str, Cohort], seed: int, epochs: int) -> dict[str, float]:
    """AUROC on the test images of a probe and of the fine-tuned network, with all labels and a tenth."""
    task, test = cohorts["task"], cohorts["test"]
    y = task.target().astype(str)
    few = train_test_split(list(task.ids), train_size=0.1, stratify=y.to_numpy(), random_state=seed)[0]
    positive = max(y)
    found = {}
    for share, ids, batch in (("all", task.ids, BATCH), ("tenth", few, 16)):
        some = task.select(ids)
        settings = TrainingSettings(max_epochs=epochs, batch_size=batch, learning_rate=1e-3, layer_decay=0.65, patience=5, accelerator="cpu")
        for mode in ("probe", "full"):
            tuned = finetune(model, some, mode=mode, settings=settings, seed=seed)
            found[f"{mode} {share}"] = float(roc_auc_score(test.target().astype(str) == positive, tuned.predict_proba(test)[:, -1]))
    return found


COLUMNS = {
    "probe all": "probe, all labels",
    "probe tenth": "probe, a tenth",
    "full all": "fine-tuned, all labels",
    "full tenth": "fine-tuned, a tenth",
}


def read(path: Path) -> list[dict[str, float | int | str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write(path: Path, run: dict[str, float | int | str]) -> None:
    with path.open("a", encoding="utf-8") as out:
        print(json.dumps(run), file=out, flush=True)
    shown = "  ".join(f"{name} {run[name]:.3f}" for name in COLUMNS)
    print(f"{run['chain']:<24} length {run['length']:<3} seed {run['seed']}  {shown}  {run['seconds']:.0f} s", flush=True)


def table(runs: list[dict[str, float | int | str]]) -> None:
    """Means and spreads over seeds, then paired differences: from random weights, and from what a chain is to improve on."""
    by = {(run["chain"], run["length"], run["seed"]): run for run in runs}
    kinds = sorted({(length, chain) for chain, length, _ in by}, key=lambda kind: (kind[0], [NONE, *CHAINS].index(kind[1])))
    print(f"\n| chain | epochs | {' | '.join(COLUMNS.values())} |\n|---|---|{'---|' * len(COLUMNS)}")
    for length, chain in kinds:
        mine = [run for (name, epochs, _), run in by.items() if (name, epochs) == (chain, length)]
        print(f"| {chain} | {length} | " + " | ".join(spread([run[column] for run in mine]) for column in COLUMNS) + " |")
    print(f"\n| difference | epochs | {' | '.join(COLUMNS.values())} |\n|---|---|{'---|' * len(COLUMNS)}")
    for length, chain in kinds:
        for other in () if chain == NONE else (NONE, *AGAINST.get(chain, ())):
            pairs = [
                (run, by.get((other, 0 if other == NONE else length, seed)))
                for (name, epochs, seed), run in by.items()
                if (name, epochs) == (chain, length)
            ]
            known = [(run, control) for run, control in pairs if control is not None]
            if known:
                cells = [differences([run[column] - control[column] for run, control in known]) for column in COLUMNS]
                print(f"| {chain} less {other} | {length} | {' | '.join(cells)} |")


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f}"


def differences(values: list[float]) -> str:
    """Mean and spread, and how often it is above zero."""
    return f"{np.mean(values):+.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f} ({sum(value > 0 for value in values)} of {len(values)})"


if __name__ == "__main__":
    main()
