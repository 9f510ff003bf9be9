"""What parts of encoders and objectives are worth on simulated cohorts: structure and readouts, two atlases, the site adversary.

    python benchmarks/studies/ablations.py [--studies encoder atlases adversary] [--seeds 0 1 2] [--json]

Each seed has a cohort of four sites, a split (30 % for the test), weights and label draws of its own; what is compared shares all of these. Every
variant is pre-trained without labels, and a linear probe predicts the diagnosis from a tenth of the training labels (three draws) and from all.
Printed are rows of a Markdown table a study: the AUROC of both, the lowest and highest difference of the first from the study's first row over the
seeds, and the balanced accuracy of a probe of the site fitted on test subjects (chance 0.25). Takes about five minutes a study on a free core.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort
from graphssl.data.splits import label_fraction
from graphssl.datasets import simulate
from graphssl.encoders import GraphTransformer
from graphssl.evaluation.audits import site_probe
from graphssl.objectives import AbstractObjective, AtlasAlignment, MaskedRegions, SiteAdversary, WeightedSum
from graphssl.training import Model, TrainingSettings, finetune, pretrain, untrained

N_SITES, TEST_SHARE, N_DRAWS, FEW = 4, 0.3, 3, 0.1
CLASSES = ("control", "patient")


class Variant(NamedTuple):
    """What is trained: an encoder, and an objective unless its weights stay random."""

    encoder: dict[str, object]
    objective: Callable[[], AbstractObjective] | None = MaskedRegions


class Study(NamedTuple):
    """Variants that are compared with the first of them, on so many subjects in atlases of so many regions."""

    n_subjects: int
    n_regions: tuple[int, ...]
    n_epochs: int
    variants: Mapping[str, Variant]


ENCODERS: dict[str, dict[str, object]] = {
    "weight, distance; anchors (default)": {},
    "none": {"biases": ()},
    "weight": {"biases": ("weight",)},
    "distance": {"biases": ("distance",)},
    "weight, distance, network": {"biases": ("weight", "distance", "network")},
    "weight, distance; spectral": {"encodings": ("spectral",)},
    "weight, distance; random walk": {"encodings": ("random_walk",)},
    "all of these": {"biases": ("weight", "distance", "network"), "encodings": ("spectral", "random_walk")},
    "readout mean": {"readout": "mean"},
    "readout attention": {"readout": "attention"},
    "readout clusters": {"readout": "clusters"},
}

STUDIES = {
    "encoder": Study(
        300, (60,), 10, {name: Variant(changes) for name, changes in ENCODERS.items()} | {"default with random weights": Variant({}, None)}
    ),
    "atlases": Study(
        400,
        (80, 60),
        15,
        {
            "random weights": Variant({}, None),
            "MaskedRegions": Variant({}),
            "AtlasAlignment": Variant({}, AtlasAlignment),
            "MaskedRegions + 0.2 AtlasAlignment": Variant(
                {}, lambda: WeightedSum({"regions": MaskedRegions(), "atlases": AtlasAlignment()}, {"atlases": 0.2})
            ),
        },
    ),
    "adversary": Study(
        400,
        (80,),
        15,
        {
            "MaskedRegions": Variant({}),
            "MaskedRegions + 0.3 SiteAdversary": Variant(
                {}, lambda: WeightedSum({"regions": MaskedRegions(), "sites": SiteAdversary()}, {"sites": 0.3})
            ),
        },
    ),
}


def trained(variant: Variant, train: Cohort, n_epochs: int, seed: int) -> Model:
    encoder = GraphTransformer(**{"width": 32, "depth": 1, **variant.encoder})  # type: ignore[arg-type]
    if variant.objective is None:
        return untrained(train, encoder=encoder, seed=seed)
    rows = 32 * len(train.regions)  # as many subjects a step in two atlases as in one
    settings = TrainingSettings(max_epochs=n_epochs, batch_size=rows, learning_rate=2e-3, patience=n_epochs, accelerator="cpu")
    return pretrain(train, objective=variant.objective(), encoder=encoder, settings=settings, seed=seed)


def scores(model: Model, train: Cohort, test: Cohort, seed: int) -> tuple[float, float, float]:
    """AUROC with few labels, AUROC with all, and how well the site is read."""
    labels, truth = train.subjects["diagnosis"].tolist(), test.subjects["diagnosis"] == "patient"

    def auroc(subjects: Cohort, draw: int) -> float:
        tuned = finetune(model, subjects, target="diagnosis", classes=CLASSES, mode="probe", seed=draw)
        return float(roc_auc_score(truth, tuned.predict_proba(test)[:, 1]))

    draws = [seed * N_DRAWS + draw for draw in range(N_DRAWS)]
    few = [auroc(train.select(label_fraction(train.ids, labels, FEW, seed=draw)), draw) for draw in draws]
    assert test.sites is not None
    sites = site_probe({"embedding": model.embed(test).to_numpy()}, test.sites.tolist(), cohort=test.name, seed=seed)
    return float(np.mean(few)), auroc(train, seed), float(np.mean([fold.value for fold in sites]))


def measured(study: Study, seeds: list[int]) -> dict[str, list[tuple[float, float, float]]]:
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in study.variants}
    for seed in seeds:
        atlases = [simulated_atlas(n) for n in study.n_regions]
        train, test = simulate(atlases, n_subjects=study.n_subjects, sites=N_SITES, seed=seed).cohort.split(TEST_SHARE, seed=seed)
        for name, variant in study.variants.items():
            found[name].append(scores(trained(variant, train, study.n_epochs, seed), train, test, seed))
            print(f"seed {seed}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def table(found: Mapping[str, list[tuple[float, float, float]]]) -> str:
    first = np.asarray(next(iter(found.values())))
    lines = ["| variant | AUROC, 10 % | against the first row, lowest to highest seed | AUROC, 100 % | site |", "|---|---|---|---|---|"]
    for number, (name, values) in enumerate(found.items()):
        few, everything, site = np.mean(values, axis=0)
        gaps = np.asarray(values)[:, 0] - first[:, 0]
        against = f"{gaps.min():+.3f} to {gaps.max():+.3f}" if number else "–"
        lines.append(f"| {name} | {few:.3f} | {against} | {everything:.3f} | {site:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="print every number of every seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.studies:
        found = measured(STUDIES[name], options.seeds)
        print(json.dumps({"study": name, "seeds": options.seeds, "scores": found}) if options.json else f"{name}\n\n{table(found)}\n", flush=True)


if __name__ == "__main__":
    main()
