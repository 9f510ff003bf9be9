"""What sources are worth to a small site: strategies of meta-learning and linear baselines on the sites of ABIDE I, by number of labelled subjects.

Sites with at least `--min_source` subjects of each class are sources, every smaller one is a target in turn. A model learns from the sources once; it
is then adapted to k labelled subjects of each class of a target by gradient steps and scored on its other subjects, draw by draw. Baselines see the
same draws: logistic regression on the k, and a ridge on all sources. Everything of a target is centred on its labelled subjects alone.

    python benchmarks/studies/few_shot_sites.py --data ../shared/data/brain --out few_shot.csv
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.atlases import load_atlas
from graphssl.datasets import load_abide_arrays
from graphssl.encoders import GraphTransformer
from graphssl.evaluation.calibrated import RidgeProbability
from graphssl.graphs import ConnectomeBuilder
from graphssl.training.meta import STRATEGIES, MetaSettings, SourceBatches, TaskSampler, adaptation_curve, centred_on, meta_train, sources_by_site
from graphssl.training.meta.adaptation import labelled_and_others

CLASSES = ("control", "autism")


def main() -> None:
    """Run the study, write a row a target, number, draw and method, and print the table."""
    options = _options()
    torch.set_num_threads(1)
    sites = _sites(Path(options.data))
    sources = [site for site in sites if min(site.counts) >= options.min_source]
    targets = [site for site in sites if site not in sources and min(site.counts) >= min(options.k) + 3]
    print("sources", sources, "\ntargets", targets, flush=True)
    settings = MetaSettings(max_epochs=options.epochs, steps_per_epoch=10, n_support=8, n_query=8, accelerator="cpu")
    encoder, models = GraphTransformer(width=32, depth=1, heads=4), {}
    for name, strategy in STRATEGIES.items():
        started = time.process_time()
        models[name] = meta_train(sources, encoder=encoder, strategy=strategy, settings=settings, builder=ConnectomeBuilder(), seed=options.seed)
        print(f"{name}: {time.process_time() - started:.0f} CPU-seconds", flush=True)
    ridge = _ridge(sources)
    rows: list[pd.DataFrame] = []
    for target in targets:
        numbers = [k for k in options.k if min(target.counts) >= k + 3]
        how = {"n_support": numbers, "n_draws": options.draws, "n_steps": options.steps, "learning_rate": options.rate, "seed": options.seed}
        for name, model in models.items():
            curve = adaptation_curve(model, target, **how)
            rows.append(curve[curve["step"] == options.steps].assign(method=name, target=target.name))
        rows.append(_baselines(target, ridge, numbers, options.draws, options.seed))
        pd.concat(rows).to_csv(options.out, index=False)
        print(target.name, f"{time.process_time():.0f} CPU-seconds", flush=True)
    print_tables(pd.concat(rows))


def print_tables(rows: pd.DataFrame) -> None:
    """Mean AUROC over targets, its spread, and paired tests over targets against the target alone and against joint training."""
    means = rows.groupby(["n_support", "method", "target"])["auroc"].mean()
    for k in sorted(rows["n_support"].unique()):
        table = means[k].reset_index().pivot_table(index="target", columns="method", values="auroc")
        print(f"\n{k} labelled subjects of each class, {len(table)} targets")
        for method in table.mean().sort_values(ascending=False).index:
            others = [other for other in ("direct", "joint") if other != method and len(table) > 5]
            tests = {other: stats.wilcoxon(table[method] - table[other]).pvalue for other in others}
            said = ", ".join(f"{(table[method] - table[other]).mean():+.3f} against {other} (p {p:.3f})" for other, p in tests.items())
            print(f"  {method:<20} {table[method].mean():.3f}  spread {table[method].std():.3f}  {said}")


def _sites(data: Path) -> list:
    atlas = load_atlas(f"ho111={data / 'atlases/coords/pcp_ho111.csv'}")
    cohort = load_abide_arrays(data / "abide1", atlases=[atlas], cohort="pcp1035")
    return sources_by_site(cohort, target="diagnosis", classes=CLASSES, min_subjects=2)


def _ridge(sources: list) -> RidgeProbability:
    batches = SourceBatches(sources, ConnectomeBuilder())
    parts = [batches.take(source.name, list(source.labels), list(source.labels.values())) for source in sources]
    features, labels = np.concatenate([_edges(batch) for batch, _ in parts]), np.concatenate([np.asarray(y) for _, y in parts])
    return RidgeProbability().fit(features, labels)


def _baselines(target, ridge: RidgeProbability, numbers: list[int], n_draws: int, seed: int) -> pd.DataFrame:
    rows = []
    for k in numbers:
        sampler = TaskSampler([target], k, 1, seed)
        for draw in range(n_draws):
            labelled, others = labelled_and_others(target, sampler.draw(draw)[0])
            builder = centred_on(ConnectomeBuilder(), labelled)
            train, test = (_edges(builder.transform(cohort)) for cohort in (labelled, others))
            y_train, y_test = ([target.labels[subject] for subject in cohort.ids] for cohort in (labelled, others))
            alone = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000)).fit(train, y_train)
            for name, model in (("logistic_target", alone), ("ridge_sources", ridge)):
                rows.append((k, draw, roc_auc_score(y_test, model.predict_proba(test)[:, 1]), len(others), name, target.name))
    return pd.DataFrame(rows, columns=["n_support", "draw", "auroc", "n_query", "method", "target"])


def _edges(batch) -> np.ndarray:
    upper = torch.triu_indices(batch.weights.shape[1], batch.weights.shape[1], 1)
    return np.asarray(batch.weights[:, upper[0], upper[1]].double())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data/brain")
    parser.add_argument("--out", default="few_shot.csv")
    parser.add_argument("--k", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--min_source", type=int, default=22)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
