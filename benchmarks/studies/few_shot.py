"""What sources are worth to a small target, by number of its labelled subjects: strategies of meta-learning and linear baselines on the same draws.

    python benchmarks/studies/few_shot.py sites --data ../shared/data --select --out selection.csv
    python benchmarks/studies/few_shot.py sites --data ../shared/data --out sites.csv

`sites`: ABIDE I; sites with at least `--min_source` subjects of each class are sources, each smaller one is a target in turn. `large_sites`: each
source is the target of the others in turn, for numbers of labelled subjects that small sites do not have. `atlases`: as `sites`, but half of the
sources are in AAL116 and half in HO111, the targets in CC200: `--way places` reads all by coordinates, `converted` brings sources to CC200 by maps
fitted on their subjects with both atlases, and `native` has them in CC200, which is what the other two are to reach. `hospitals`: UCI heart disease;
each of four hospitals is the target in turn, the others are its sources.

A strategy learns from the sources once a seed; the model is then adapted to k labelled subjects of each class of a target and scored on its other
subjects, draw by draw, the same draws for all.

How each strategy trains and adapts is chosen on sources alone, each (of at most 100 subjects) in turn a pseudo-target of the others (`--select` for
`sites`, whose choice stands below in `SITES` and serves `large_sites` and `atlases` too; anew for each target of `hospitals`). Targets are scored
once, with that.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.atlases import AtlasMap, LabelVolume, convert_cohort, joint_map, load_label_volume, paired_subjects
from graphssl.data import Cohort, ColumnTokenizer
from graphssl.data.builder import AbstractBuilder
from graphssl.datasets import load_abide_arrays, load_tables
from graphssl.encoders import LinearEncoder, PlaceEncoder, TableMLP
from graphssl.encoders.base import AbstractEncoder
from graphssl.evaluation.baselines import LabelledOnly, make_baseline
from graphssl.evaluation.calibrated import RidgeProbability
from graphssl.graphs import ConnectomeBuilder
from graphssl.statistics.metrics import auroc
from graphssl.training.meta import (
    AbstractWeighting,
    DirectLearning,
    GradientStep,
    JointTraining,
    MetaLearning,
    MetaSettings,
    SingleSource,
    Source,
    SourceBatches,
    TaskSampler,
    UncertaintyWeights,
    adapt_and_score,
    centred_on,
    meta_train,
    sources_by_site,
)
from graphssl.training.meta.adaptation import builder_for, labelled_and_others
from graphssl.training.meta.strategies import Algorithm, Strategy
from graphssl.training.model import Model

Floats = npt.NDArray[np.float64]
N_STEPS = 10  # of adaptation, at most
N_REHEARSED = 10


@dataclass(frozen=True)
class Training:
    """How a strategy learns from the sources.

    Args:
        name: Name of the strategy in tables.
        strategy: The strategy.
        learning_rate: Highest learning rate.
        n_steps: Steps.
    """

    name: str
    strategy: Strategy
    learning_rate: float = 1e-3
    n_steps: int = 30


@dataclass(frozen=True)
class Adaptation:
    """How a model is adapted to the labelled subjects of a target.

    Args:
        rate: Learning rate of the steps; None for the steps that were learned with the model.
        head_only: Whether the encoder is left as it is.
        n_steps: Steps.
        rehearse: Whether subjects of the sources are learned from beside the target's, `N_REHEARSED` of each class of each.
    """

    rate: float | None
    head_only: bool = False
    n_steps: int = N_STEPS
    rehearse: bool = False


@dataclass(frozen=True)
class Grid:
    """What is chosen among.

    Args:
        lengths: Learning rates and numbers of steps of training.
        inner: Learning rates of inner steps.
        algorithms: Algorithms of meta-learning without generated rates.
        reweighted: Those with generated rates.
        weightings: Weightings of their sources.
        rates: Learning rates of adaptation, all weights.
        head_rates: Of the head alone.
        direct_rates: The first of both for random weights, which need larger ones.
        direct_head_rates: The second.
        rehearsal_rates: Learning rates of adaptation of all weights with rehearsal.
    """

    lengths: Sequence[tuple[float, int]] = ((1e-3, 30), (3e-4, 100))
    inner: Sequence[float] = (0.01, 0.1)
    algorithms: Sequence[Algorithm] = ("first_order",)
    reweighted: Sequence[Algorithm] = ("first_order",)
    weightings: Sequence[AbstractWeighting | None] = (None,)
    rates: Sequence[float] = (0.001, 0.003, 0.01)
    head_rates: Sequence[float] = (0.03,)
    direct_rates: Sequence[float] = (0.03, 0.1, 0.3, 1.0)
    direct_head_rates: Sequence[float] = (0.3, 1.0, 3.0)
    rehearsal_rates: Sequence[float] = (0.003, 0.01, 0.03)


@dataclass(frozen=True)
class Study:
    """Data of a study.

    Args:
        encoder: The encoder whose arguments to use.
        builder: How batches are made.
        groups: Sources, with the targets that have them.
        n_support: Subjects of each class in the support of a task.
        n_query: In its query.
        baselines: Scores of baselines, of sources, target, labelled and other subjects.
        grid: What is chosen among.
    """

    encoder: AbstractEncoder
    builder: AbstractBuilder
    groups: Sequence[tuple[list[Source], list[Source]]]
    n_support: int
    n_query: int
    baselines: Callable[[list[Source], Source, Cohort, Cohort], Mapping[str, Floats]]
    grid: Grid = Grid()


# What `sites --select` chose.
_REWEIGHTED = MetaLearning("first_order", 0.1, adaptive=True)
SITES: dict[str, tuple[Training, Adaptation]] = {
    "direct": (Training("direct", DirectLearning()), Adaptation(0.1, n_steps=3)),
    "single_source": (Training("single_source", SingleSource(), 1e-3), Adaptation(0.001, n_steps=2)),
    "joint": (Training("joint", JointTraining(), 1e-3), Adaptation(0.003, n_steps=1, rehearse=True)),
    "meta": (Training("meta", MetaLearning("first_order", 0.1), 3e-4, 100), Adaptation(0.01, n_steps=7, rehearse=True)),
    "meta_reweighted": (Training("meta_reweighted", _REWEIGHTED, 3e-4, 100), Adaptation(0.03, n_steps=3, rehearse=True)),
}


def main() -> None:
    """Choose, or score the targets and print the tables."""
    options = parsed()
    torch.set_num_threads(1)
    study = {"sites": sites, "large_sites": large_sites, "atlases": atlases, "hospitals": hospitals}[options.study](options)
    if options.select:
        sources = study.groups[0][0]
        print_selection(selection(study, sources, options, options.out, at_most=100))
        return
    parts: list[pd.DataFrame] = []
    for sources, targets in study.groups:
        print("sources", sources, "\ntargets", targets, flush=True)
        chosen = SITES if options.study != "hospitals" else choice(selection(study, sources, options))
        for row in scored(study, sources, targets, chosen, options):
            parts.append(row)
            pd.concat(parts).to_csv(options.out, index=False)
    print_tables(pd.concat(parts))


def sites(options: argparse.Namespace) -> Study:
    """Sites of ABIDE I in one atlas."""
    cohort, _ = _abide(options, options.atlas)
    large, small = _large_and_small(cohort, options)
    return Study(_linear(cohort, options.atlas), ConnectomeBuilder(), [(large, small)], 10, options.min_source - 10, _connectome_baselines)


def large_sites(options: argparse.Namespace) -> Study:
    """The large sites of ABIDE I, each in turn the target of the others."""
    study = sites(options)
    large = study.groups[0][0]
    return replace(study, groups=[([other for other in large if other is not one], [one]) for one in large])


def atlases(options: argparse.Namespace) -> Study:
    """Sites of ABIDE I, sources in two atlases and targets in a third."""
    there, volume = _abide(options, "cc200")
    large, small = _large_and_small(there, options)
    n_query = options.min_source - 10
    if options.way == "native":
        return Study(_linear(there, "cc200"), ConnectomeBuilder(), [(large, small)], 10, n_query, _connectome_baselines)
    elsewhere = {name: _abide(options, name) for name in ("aal116", "ho111")}
    sources = []
    for place, source in enumerate(large):
        cohort, of_source = elsewhere[("aal116", "ho111")[place % 2]]
        members = cohort.select([subject for subject in source.labels if subject in set(cohort.ids)])
        if options.way == "converted":
            known = [subject for one in large for subject in one.labels]
            members = convert_cohort(_map(of_source, volume, cohort, there, tuple(known)), members)
        sources.append(Source(source.name, members, source.target, source.classes))
    if options.way == "converted":
        return Study(_linear(there, "cc200"), ConnectomeBuilder(), [(sources, small)], 10, n_query, _connectome_baselines)
    return Study(PlaceEncoder(width=16), ConnectomeBuilder(), [(sources, small)], 10, n_query, _target_alone)


def hospitals(options: argparse.Namespace) -> Study:
    """Four hospitals of the UCI heart disease data."""
    cohort = load_tables(
        Path(options.data) / "ehr/multi_site/heart_disease/heart_all_sites.csv",
        target="num",
        positive=["1", "2", "3", "4"],
        site="site",
        missing={"chol": [0], "trestbps": [0]},
    )
    found = sources_by_site(cohort, target="num", classes=("no", "yes"))
    groups = [([other for other in found if other is not one], [one]) for one in found]
    grid = Grid(
        lengths=((3e-3, 100),),
        inner=(0.05,),
        algorithms=("maml", "first_order", "anil"),
        reweighted=("maml",),
        weightings=(None, UncertaintyWeights()),
        rates=(0.01, 0.03, 0.1),
        head_rates=(0.03, 0.3),
        direct_rates=(0.03, 0.1, 0.3),
        direct_head_rates=(0.1, 0.3, 1.0),
        rehearsal_rates=(),
    )
    return Study(TableMLP(width=32, depth=1), ColumnTokenizer(), groups, 4, 4, _table_baselines, grid)


def candidates(name: str, grid: Grid) -> Iterator[Training]:
    """What is chosen among, of one strategy."""
    inner = [(rate, *length) for rate in grid.inner for length in grid.lengths]
    if name == "direct":
        yield Training(name, DirectLearning())
    if name == "single_source":
        yield from (Training(name, SingleSource(), *length) for length in grid.lengths)
    if name == "joint":
        yield from (Training(name, JointTraining(), *length) for length in grid.lengths)
    if name == "meta":
        yield from (Training(name, MetaLearning(algorithm, rate), *length) for rate, *length in inner for algorithm in grid.algorithms)
    if name == "meta_reweighted":
        for rate, *length in inner:
            for algorithm in grid.reweighted:
                yield from (Training(name, MetaLearning(algorithm, rate, adaptive=True, weighting=by), *length) for by in grid.weightings)


def adaptations(training: Training, grid: Grid) -> list[Adaptation]:
    """What is chosen among for a strategy."""
    direct = training.name == "direct"
    rates, head_rates = (grid.direct_rates, grid.direct_head_rates) if direct else (grid.rates, grid.head_rates)
    plain = [*(Adaptation(rate) for rate in rates), *(Adaptation(rate, head_only=True) for rate in head_rates)]
    if not direct:
        plain += [Adaptation(rate, rehearse=True) for rate in grid.rehearsal_rates]
    learns = isinstance(training.strategy, MetaLearning) and (training.strategy.adaptive or training.strategy.algorithm == "meta_sgd")
    return [*plain, Adaptation(None)] if learns else plain


STRATEGIES = ("direct", "single_source", "joint", "meta", "meta_reweighted")


def selection(study: Study, sources: list[Source], options: argparse.Namespace, out: str | None = None, at_most: int = 1000) -> pd.DataFrame:
    """AUROC of every candidate and adaptation on each source, of models of the others; a row a pseudo-target, step and way.

    Sources of more subjects than `at_most` are no pseudo-targets: they are unlike the targets, and the others cannot do without them.
    """
    rows = []
    for held in (source for source in sources if len(source.labels) <= at_most):
        k = min(options.select_k, min(held.counts) - 3)
        others = [source for source in sources if source is not held]
        for training in (training for name in STRATEGIES for training in candidates(name, study.grid)):
            started = time.process_time()
            model = _trained(study, others, training, seed=0)
            for way in adaptations(training, study.grid):
                curve = np.mean(_curves(model, others, training, way, _tasks(model, held, k, options.select_draws)), axis=0)
                rows += [(held.name, training, way.rate, way.head_only, way.rehearse, step, value) for step, value in enumerate(curve)]
            print(held.name, training, f"{time.process_time() - started:.0f} CPU-seconds", flush=True)
        found = pd.DataFrame(rows, columns=["held", "training", "rate", "head_only", "rehearse", "step", "auroc"])
        if out is not None:
            found.to_csv(out, index=False)
    return found


def choice(rows: pd.DataFrame) -> dict[str, tuple[Training, Adaptation]]:
    """The best training and adaptation of each strategy, by the mean over pseudo-targets."""
    means = rows.groupby(["training", "rate", "head_only", "rehearse", "step"], dropna=False, sort=False)["auroc"].mean()
    chosen = {}
    for name in STRATEGIES:
        of_name = means[[training.name == name for training in means.index.get_level_values("training")]]
        training, rate, head_only, rehearse, step = of_name.index[int(of_name.to_numpy().argmax())]
        chosen[name] = (training, Adaptation(None if np.isnan(rate) else rate, bool(head_only), int(step), bool(rehearse)))
    return chosen


def print_selection(rows: pd.DataFrame) -> None:
    """What was chosen, with its score on the pseudo-targets, and the best of every candidate."""
    for training, of_training in rows.groupby("training", sort=False):
        table = of_training.groupby(["rate", "head_only", "rehearse", "step"], dropna=False)["auroc"].mean()
        print(f"{table.max():.3f}", training, "rate, head only, rehearsal, step", *table.idxmax())
    for name, (training, way) in choice(rows).items():
        print(f'    "{name}": ({training}, {way}),')


def scored(
    study: Study, sources: list[Source], targets: list[Source], chosen: Mapping[str, tuple[Training, Adaptation]], options: argparse.Namespace
) -> Iterator[pd.DataFrame]:
    """AUROC of strategies and baselines, a table a seed, target and method."""
    for seed in range(options.seeds):
        for name, (training, way) in chosen.items():
            model = _trained(study, sources, training, seed)
            for target in targets:
                for k in _numbers(target, options.k):
                    values = _curves(model, sources, training, way, _tasks(model, target, k, options.draws))[:, -1]
                    yield _rows(name, target, k, seed, values)
        print("seed", seed, f"{time.process_time():.0f} CPU-seconds", flush=True)
    for target in targets:
        for k in _numbers(target, options.k):
            found: dict[str, list[float]] = {}
            for labelled, others in _draws(target, k, options.draws):
                y = [target.labels[subject] for subject in others.ids]
                for name, score in study.baselines(sources, target, labelled, others).items():
                    found.setdefault(name, []).append(auroc(y, score))
            yield from (_rows(name, target, k, 0, values) for name, values in found.items())


def print_tables(rows: pd.DataFrame, against: Sequence[str] = ("direct", "joint")) -> None:
    """Mean AUROC over targets, its spread, and differences paired over targets with intervals and tests."""
    for k, of_k in rows.groupby("k"):
        table = of_k.pivot_table(index="target", columns="method", values="auroc")
        print(f"\n{k} labelled subjects of each class, {len(table)} targets: {', '.join(table.index)}")
        for method in table.mean().sort_values(ascending=False).index:
            print(f"  {method:<18} {table[method].mean():.3f}  spread {table[method].std():.3f}")
        for other in against:
            for method in table.columns.drop(other):
                print(f"  {method:<18} - {other:<7}", difference(of_k, method, other))


def difference(rows: pd.DataFrame, method: str, other: str, n_resamples: int = 2000) -> str:
    """Mean difference over targets: Student's interval over them, a bootstrap of targets and draws within them, and Wilcoxon's test over targets."""
    table = rows.pivot_table(index="target", columns=["method", "draw"], values="auroc")
    by_draw = (table[method] - table[other]).to_numpy()  # [targets, draws], of means over seeds
    by_target = by_draw.mean(axis=1)
    n, n_draws = by_draw.shape
    if n < 2:
        return f"{by_target.mean():+.3f}, one target"
    half = stats.t.ppf(0.975, n - 1) * by_target.std(ddof=1) / np.sqrt(n)
    generator = np.random.default_rng(0)
    targets = generator.integers(n, size=(n_resamples, n, 1))
    draws = generator.integers(n_draws, size=(n_resamples, n, n_draws))
    low, high = np.quantile(by_draw[targets, draws].mean(axis=(1, 2)), [0.025, 0.975])
    test = f", Wilcoxon p {stats.wilcoxon(by_target).pvalue:.3f}" if n > 5 else ""
    return f"{by_target.mean():+.3f} ({by_target.mean() - half:+.3f} to {by_target.mean() + half:+.3f}; bootstrap {low:+.3f} to {high:+.3f}){test}"


def _abide(options: argparse.Namespace, name: str) -> tuple[Cohort, LabelVolume]:
    """The cohort in one atlas, and the voxels of its regions."""
    brain = Path(options.data) / "brain"
    volume = load_label_volume(brain / f"atlases/nifti_pcp_3mm/{name}.nii.gz")
    cohort = load_abide_arrays(brain / "abide1", atlases=[volume.atlas], cohort="pcp1035")
    return cohort, volume.select(cohort.atlas(name).labels)


def _large_and_small(cohort: Cohort, options: argparse.Namespace) -> tuple[list[Source], list[Source]]:
    found = sources_by_site(cohort, target="diagnosis", classes=("control", "autism"), min_subjects=min(options.k) + 3)
    large = [site for site in found if min(site.counts) >= options.min_source]
    return large, [site for site in found if site not in large]


def _linear(cohort: Cohort, name: str) -> LinearEncoder:
    return LinearEncoder(name, len(cohort.atlas(name)), width=16)


@cache
def _map(source: LabelVolume, target: LabelVolume, cohort: Cohort, other: Cohort, subjects: tuple[str, ...]) -> AtlasMap:
    """A map fitted on those of some subjects who have both atlases."""
    pairs = paired_subjects(cohort.regions[source.atlas.name], other.regions[target.atlas.name], subjects)
    return joint_map(source, target, pairs)


def _trained(study: Study, sources: list[Source], training: Training, seed: int) -> Model:
    smallest = min(min(source.counts) for source in sources)
    assert smallest >= study.n_support + study.n_query, sources
    settings = MetaSettings(
        max_epochs=1,
        steps_per_epoch=training.n_steps,
        n_support=study.n_support,
        n_query=study.n_query,
        learning_rate=training.learning_rate,
        weight_decay=0.1,
        accelerator="cpu",
    )
    return meta_train(sources, encoder=study.encoder, strategy=training.strategy, builder=study.builder, settings=settings, seed=seed)


def _curves(model: Model, sources: list[Source], training: Training, way: Adaptation, tasks: list[tuple[tuple, tuple]]) -> Floats:
    """AUROC of each draw before any step and after each."""
    update = model.update if way.rate is None else GradientStep(way.rate)
    assert update is not None
    known = tuple([training.strategy.choose(sources)] if isinstance(training.strategy, SingleSource) else sources)
    curves = []
    for draw, (support, query) in enumerate(tasks):
        learned = _beside(support, _rehearsed(known, draw)) if way.rehearse else support
        curves.append(adapt_and_score(model, learned, query, update, n_steps=way.n_steps, head_only=way.head_only)["auroc"])
    return np.asarray(curves)


def _beside(support: tuple, rehearsed: list[tuple]) -> tuple:
    batches, labels = zip(support, *rehearsed, strict=True)
    return type(batches[0]).cat(batches), torch.cat(labels)


@cache
def _rehearsed(sources: tuple[Source, ...], draw: int) -> list[tuple]:
    """Some subjects of each source, others in each draw."""
    batches = _source_batches(sources)
    return [batches.support(task) for task in TaskSampler(sources, N_REHEARSED, 1, 0).draw(draw)]


@cache
def _source_batches(sources: tuple[Source, ...]) -> SourceBatches:
    return SourceBatches(sources, ConnectomeBuilder())


def _numbers(target: Source, numbers: Sequence[int]) -> list[int]:
    """Numbers of labelled subjects of each class that leave at least three of each to score."""
    return [k for k in numbers if min(target.counts) >= k + 3]


def _draws(target: Source, k: int, n_draws: int) -> Iterator[tuple[Cohort, Cohort]]:
    sampler = TaskSampler([target], k, 1, 0)
    for draw in range(n_draws):
        yield labelled_and_others(target, sampler.draw(draw)[0])


_MADE: dict[tuple[str, int, int], list[tuple[tuple, tuple]]] = {}


def _tasks(model: Model, target: Source, k: int, n_draws: int) -> list[tuple[tuple, tuple]]:
    """Support and query of each draw, made once where every model's builder makes the same of them."""
    key = (target.name, k, n_draws)
    if key in _MADE and isinstance(model.builder, ConnectomeBuilder):
        return _MADE[key]
    made = []
    for labelled, others in _draws(target, k, n_draws):
        builder = builder_for(model, labelled)
        batches = [builder.transform(cohort) for cohort in (labelled, others)]
        made.append(tuple((batch, torch.tensor([target.labels[subject] for subject in batch.subject_ids])) for batch in batches))
    _MADE[key] = made
    return made


def _rows(method: str, target: Source, k: int, seed: int, values: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame({"target": target.name, "k": k, "method": method, "seed": seed, "draw": range(len(values)), "auroc": values})


def _connectome_baselines(sources: list[Source], target: Source, labelled: Cohort, others: Cohort) -> dict[str, Floats]:
    """Logistic regression on the labelled, a ridge on all sources, and one on both; all connections, centred as the encoder's."""
    features, labels, ridge = _source_edges(tuple(sources))
    builder = centred_on(ConnectomeBuilder(), labelled)
    train, test = (_edges(builder.transform(cohort)) for cohort in (labelled, others))
    y = np.asarray([target.labels[subject] for subject in labelled.ids])
    alone = _logistic().fit(train, y)
    both = RidgeProbability().fit(np.concatenate([features, train]), np.concatenate([labels, y]))
    return {name: model.predict_proba(test)[:, 1] for name, model in (("logistic_target", alone), ("ridge_sources", ridge), ("ridge_both", both))}


def _target_alone(sources: list[Source], target: Source, labelled: Cohort, others: Cohort) -> dict[str, Floats]:
    """Logistic regression on the labelled: sources in other atlases have no connections in common with the target."""
    builder = centred_on(ConnectomeBuilder(), labelled)
    train, test = (_edges(builder.transform(cohort)) for cohort in (labelled, others))
    y = np.asarray([target.labels[subject] for subject in labelled.ids])
    return {"logistic_target": _logistic().fit(train, y).predict_proba(test)[:, 1]}


@cache
def _source_edges(sources: tuple[Source, ...]) -> tuple[Floats, npt.NDArray[np.int64], RidgeProbability]:
    batches = _source_batches(sources)
    parts = [batches.take(source.name, list(source.labels), list(source.labels.values())) for source in sources]
    features, labels = np.concatenate([_edges(batch) for batch, _ in parts]), np.concatenate([np.asarray(y) for _, y in parts])
    return features, labels, RidgeProbability().fit(features, labels)


def _logistic() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def _edges(batch) -> Floats:
    upper = torch.triu_indices(batch.weights.shape[1], batch.weights.shape[1], 1)
    return np.asarray(batch.weights[:, upper[0], upper[1]].double())


def _table_baselines(sources: list[Source], target: Source, labelled: Cohort, others: Cohort) -> dict[str, Floats]:
    """Logistic regression on the labelled, on all sources, and on both."""
    y = [target.labels[subject] for subject in labelled.ids]
    joined, known, there = _joined(tuple(sources))
    alone = make_baseline("logistic_table").fit(labelled, np.asarray(y))
    both = make_baseline("logistic_table").fit(joined | labelled, np.asarray([*known, *y]))
    models = {"logistic_target": alone, "logistic_sources": there, "logistic_both": both}
    return {name: model.predict_proba(others)[:, 1] for name, model in models.items()}


@cache
def _joined(sources: tuple[Source, ...]) -> tuple[Cohort, list[int], LabelledOnly]:
    joined = sources[0].cohort
    for source in sources[1:]:
        joined = joined | source.cohort
    labels = {subject: label for source in sources for subject, label in source.labels.items()}
    known = [labels[subject] for subject in joined.ids]
    return joined, known, make_baseline("logistic_table").fit(joined, np.asarray(known))


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of a command line, of this one when left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["sites", "large_sites", "atlases", "hospitals"])
    parser.add_argument("--way", choices=["places", "converted", "native"], default="places")
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--out", default="few_shot.csv")
    parser.add_argument("--select", action="store_true")
    parser.add_argument("--atlas", default="ho111")
    parser.add_argument("--k", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--select_k", type=int, default=10)
    parser.add_argument("--select_draws", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--min_source", type=int, default=22)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
