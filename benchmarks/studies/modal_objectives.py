"""What pre-training across modalities is worth on simulated patients with a table and an image, and when the table is missing at test.

    python benchmarks/studies/modal_objectives.py [--seeds 0 1 2] [--epochs 15]

Twelve hundred simulated patients, nine tenths with a table, four fifths with an image, half of them for pre-training and a logistic probe on the
pooled vector, half to score. Every objective has the same encoder, epochs and probe; random weights are the control. About a minute a row.
"""

import argparse
import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort, ColumnTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.datasets import simulate_multimodal
from graphssl.encoders import Concatenation, MultimodalEncoder, ResNet, TableTransformer
from graphssl.objectives import AbstractObjective, CrossModalContrast, MaskedModality, NTXent
from graphssl.training import Model, TrainingSettings, pretrain
from graphssl.training.model import embed_rows
from graphssl.training.pretrain import untrained
from graphssl.views import HideModalities

OBJECTIVES: dict[str, AbstractObjective | None] = {
    "random weights": None,
    "CrossModalContrast": CrossModalContrast(),
    "NTXent, modalities out of sight": NTXent(HideModalities()),
    "MaskedModality": MaskedModality(),
    "MaskedModality, visible_weight 1": MaskedModality(visible_weight=1.0),
}
MISSING: dict[str, tuple[str, ...]] = {"all there": (), "no table": ("table",), "no image": ("image",)}


def main() -> None:
    """Print a row an objective and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    asked = parser.parse_args()
    rows = []
    for seed in asked.seeds:
        train, test = halves(seed)
        for name, objective in OBJECTIVES.items():
            rows.append({"objective": name, "seed": seed, **scores(trained(objective, train, seed, asked.epochs), train, test)})
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).groupby("objective", sort=False)[list(MISSING)].mean().round(3))


def halves(seed: int) -> tuple[Cohort, Cohort]:
    """Patients to learn from, and others to score."""
    cohort = simulate_multimodal([simulated_atlas(20)], n_subjects=1200, shares={"table": 0.9, "image": 0.8}, size=12, seed=seed)
    order = np.random.default_rng(9).permutation(len(cohort))
    first, second = (cohort.select([cohort.ids[k] for k in part]) for part in np.split(order, 2))
    return first, second


def trained(objective: AbstractObjective | None, cohort: Cohort, seed: int, epochs: int) -> Model:
    """A model after pre-training, or with random weights."""
    builder = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=8), "image": ImageBuilder(images="image")})
    image = ResNet(width=8, blocks=(1, 1), stem="small", norm="group")
    encoder = MultimodalEncoder({"table": TableTransformer(32, 1), "image": image}, Concatenation(32))
    if objective is None:
        return untrained(cohort, encoder=encoder, builder=builder, seed=seed)
    settings = TrainingSettings(max_epochs=epochs, batch_size=64, learning_rate=0.002)
    return pretrain(cohort, objective=objective, encoder=encoder, builder=builder, settings=settings, seed=seed)


def scores(model: Model, train: Cohort, test: Cohort) -> dict[str, float]:
    """AUROC of a probe, with all that there is at test and with one modality missing of everybody."""
    batches = [model.builder.transform(cohort) for cohort in (train, test)]
    labels = [(cohort.subjects["diagnosis"] == "patient").to_numpy() for cohort in (train, test)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(embed_rows(model.encoder, batches[0]).numpy(), labels[0])
    found = {}
    for what, names in MISSING.items():
        left = batches[1].without(*names)
        answerable = left.presence.any(dim=1).numpy()
        told = probe.decision_function(embed_rows(model.encoder, left).numpy()[answerable])
        found[what] = float(roc_auc_score(labels[1][answerable], told))
    return found


if __name__ == "__main__":
    main()
