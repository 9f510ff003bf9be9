"""A fake run folder in the true layout, written with the true writers where there are any."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphssl.results import Result, write_results
from graphssl.statistics.metrics import score_all

SITES = {"Ann Arbor": 40, "Leuven": 36, "NYU": 60, "Pitt": 30}
# How far apart the classes lie for each method, with all labels.
STRENGTHS = {
    "pretrained": 1.6, "pretrained_probe": 1.3, "scratch": 0.9, "no_edges": 0.5,
    "logistic_correlation": 1.1, "ridge_tangent": 1.2, "covariates": 0.0, "majority": None,
}  # fmt: skip
NETWORKS = ("default", "motor", "visual", "limbic")


class FakeRun:
    """A run folder that is filled as a test needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[Result] = []
        self.predictions: list[pd.DataFrame] = []
        folder.mkdir(parents=True, exist_ok=True)

    def method(self, name: str, values: dict[str, float], *, seeds: tuple[int, ...] = (0, 1, 2), n_test: int = 50, **changes: Any) -> "FakeRun":
        """Results of one method by split, the same for every seed."""
        for split, value in values.items():
            for seed in seeds:
                record = {"cohort": "toy", "task": "diagnosis", "protocol": "leave_one_site_out", "label_fraction": 1.0, "metric": "auroc", **changes}
                self.results.append(Result(method=name, split=split, seed=seed, value=value, n_train=150, n_test=n_test, seconds=1.5, **record))
        return self

    def predicted(
        self,
        strengths: dict[str, float | None],
        *,
        fraction: float = 1.0,
        seeds: tuple[int, ...] = (0, 1, 2),
        sites: dict[str, int] | None = None,
        task: str = "diagnosis",
        n_classes: int = 2,
    ) -> "FakeRun":
        """Predictions of methods, and results computed from them."""
        generator = np.random.default_rng(0)
        for split, n in (sites or SITES).items():
            y = np.arange(n) % n_classes
            shared = generator.normal(size=(n, n_classes))
            for method, strength in strengths.items():
                for seed in seeds:
                    logits = np.zeros((n, n_classes))
                    if strength is not None:
                        logits = strength * np.eye(n_classes)[y] + 0.6 * shared + 0.5 * generator.normal(size=(n, n_classes))
                    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                    self._predicted(method, split, seed, fraction, y, p, task)
        return self

    def write(self, **manifest: Any) -> Path:
        """Write results, predictions and manifest."""
        write_results(self.folder / "results.jsonl", self.results)
        if self.predictions:
            pd.concat(self.predictions).to_parquet(self.folder / "predictions.parquet", index=False)
        (self.folder / "manifest.json").write_text(json.dumps({**_manifest(), **manifest}), encoding="utf-8")
        return self.folder

    def _predicted(self, method: str, split: str, seed: int, fraction: float, y: np.ndarray, p: np.ndarray, task: str) -> None:
        shared = {"cohort": "toy", "task": task, "protocol": "leave_one_site_out", "label_fraction": fraction}
        n_train = round(fraction * (sum(SITES.values()) - len(y)))
        for metric, value in score_all(y, p).items():
            self.results.append(
                Result(method=method, split=split, seed=seed, metric=metric, value=value, n_train=n_train, n_test=len(y), seconds=1.5, **shared)
            )
        table = pd.DataFrame({"subject_id": [f"{split}-{k:03d}" for k in range(len(y))], "split": split, "seed": seed, "method": method})
        table["label_fraction"] = fraction
        table["y_true"] = y
        for k in range(p.shape[1]):
            table[f"p_{k}"] = p[:, k]
        self.predictions.append(table.assign(task=task, protocol="leave_one_site_out"))


def _manifest() -> dict[str, Any]:
    return {
        "name": "fake",
        "verb": "evaluate",
        "command": "graphssl evaluate --config fake.yaml",
        "created": "2026-11-24T10:00:00+00:00",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "seeds": [0, 1, 2],
        "device": "cpu",
        "threads": 1,
        "cohort": {
            "name": "toy",
            "hash": "abcdef012345",
            "n_subjects": sum(SITES.values()),
            "sites": SITES,
            "targets": {"diagnosis": {"control": 83, "patient": 83}},
            "atlases": {"cc200": {"n_regions": 200, "hash": "0123456789ab", "kind": "timeseries", "fisher_z": False}},
            "excluded_count": {},
        },
        "task": {"target": "diagnosis", "classes": ["control", "patient"]},
        "protocol": {"name": "leave_one_site_out", "splits_hash": "feedbeef0123", "n_splits": len(SITES)},
    }


def explained(rank_correlation: float = 0.9, random: float = 0.05) -> dict[str, Any]:
    """What the checks of an explanation found."""
    agreement = {"rank_correlation": rank_correlation, "top_overlap": 0.8, "n_top": 4}
    stages = [{"layer": "head", "rank_correlation": 0.6}, {"layer": "tokens", "rank_correlation": random}]
    stability = {"n_refits": 12, "regions": agreement, "connections": agreement}
    return {"atlas": "cc200", "n_subjects": 166, "randomisation": stages, "stability": stability, "attention_correlation": 0.31}


def write_explanation(folder: Path, n_regions: int = 40) -> None:
    """What `evaluate` writes about the fine-tuned model."""
    generator = np.random.default_rng(0)
    explain = folder / "explain"
    explain.mkdir()
    networks = np.asarray([NETWORKS[k % len(NETWORKS)] for k in range(n_regions)])
    same = networks[:, None] == networks[None]
    mean = np.clip(0.5 * same + 0.15 * generator.normal(size=(n_regions, n_regions)), -1, 1)
    edges = generator.normal(scale=0.01, size=(n_regions, n_regions)) + 0.08 * ((networks[:, None] == "default") & (networks[None] == "motor"))
    edges, mean = (edges + edges.T) / 2, (mean + mean.T) / 2
    labels = 10 * np.arange(1, n_regions + 1)
    centroids = generator.uniform([-60, -95, -35], [60, 60, 70], size=(n_regions, 3))
    saliency = np.abs(edges).mean(axis=1)
    np.savez(
        explain / "connectome.npz",
        atlas="cc200", labels=labels, centroids=centroids, mean_connectome=mean, region_saliency=saliency, edge_saliency=edges,
    )  # fmt: skip
    regions = pd.DataFrame({"label": labels, "name": [f"region <{k}>" for k in range(n_regions)], "network": networks, "saliency": saliency})
    regions[["x", "y", "z"]] = centroids
    regions = regions.sort_values("saliency", ascending=False)
    regions.assign(rank=range(1, n_regions + 1)).to_csv(explain / "regions.csv", index=False)
    pairs = [(a, b) for k, a in enumerate(NETWORKS) for b in NETWORKS[k:]]
    table = pd.DataFrame(pairs, columns=["network_a", "network_b"])
    table["saliency"] = [1.0 if pair == ("default", "motor") else 0.1 / (k + 1) for k, pair in enumerate(pairs)]
    table = table.sort_values("saliency", ascending=False).assign(rank=range(1, len(pairs) + 1))
    table.to_csv(explain / "network_pairs.csv", index=False)
    a, b = np.triu_indices(n_regions, k=1)
    ends = {"name_a": regions["name"].to_numpy()[a], "name_b": regions["name"].to_numpy()[b], "effect": edges[a, b], "saliency": np.abs(edges[a, b])}
    table = pd.DataFrame(ends).sort_values("saliency", ascending=False).assign(rank=range(1, len(a) + 1), stability=0.75)
    table.to_csv(explain / "edges.csv", index=False)
    (explain / "summary.json").write_text(json.dumps(explained()), encoding="utf-8")
    (explain / "truth.json").write_text(json.dumps({"affected": [["motor", "default"]]}), encoding="utf-8")


def write_course(folder: Path) -> None:
    """Configuration, history and what was left out."""
    (folder / "config.yaml").write_text("name: fake\ntarget: diagnosis # <b>&\n", encoding="utf-8")
    rows = [(stage, "all", 0, epoch, 1 / (epoch + 1), 1.1 / (epoch + 1) + 0.02 * epoch) for stage in ("pretrain", "finetune") for epoch in range(8)]
    pd.DataFrame(rows, columns=["stage", "split", "seed", "epoch", "train_loss", "validation_loss"]).to_csv(folder / "history.csv", index=False)
    left_out = [("subject", f"sub-{k:02d}", "no time series <file>") for k in range(7)] + [("region", "sub-99", "2 of 200 regions without signal")]
    pd.DataFrame(left_out, columns=["what", "id", "reason"]).to_csv(folder / "excluded.csv", index=False)


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[[], FakeRun]:
    """Factory of empty fake runs in folders of their own."""
    made: list[FakeRun] = []

    def make() -> FakeRun:
        made.append(FakeRun(tmp_path / f"run-{len(made)}"))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def rich_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run folder with everything in it; tests must not change it."""
    run = FakeRun(tmp_path_factory.mktemp("runs") / "fake")
    run.predicted(STRENGTHS)
    run.predicted({"pretrained": 0.8, "scratch": 0.45, "ridge_tangent": 0.6}, fraction=0.25)
    run.method("pretrained|shuffled_labels", dict.fromkeys(SITES, 0.51), seeds=(0,))
    for method, value in (("pretrained", 0.4), ("scratch", 0.35), ("connectivity", 0.7)):
        folds = {f"fold-{k}": value + 0.01 * k for k in range(5)}
        run.method(method, folds, seeds=(0,), task="site_probe", protocol="k_fold", metric="balanced_accuracy")
    folder = run.write()
    write_course(folder)
    write_explanation(folder)
    return folder
