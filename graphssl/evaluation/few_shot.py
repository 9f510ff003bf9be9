"""Baselines with few labels: what is worth learning from other datasets has to beat these on the same draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.errors import DataError
from graphssl.evaluation.baselines import make_baseline, reads_regions
from graphssl.objectives.supervised import ClassWeight
from graphssl.statistics.metrics import score_all
from graphssl.training.meta.adaptation import labelled_and_others
from graphssl.training.meta.source_batches import together
from graphssl.training.meta.tasks import Source, TaskSampler


def few_shot_baselines(
    names: Sequence[str],
    target: Source,
    sources: Sequence[Source] = (),
    *,
    n_support: Sequence[int] = (5, 10, 20),
    n_draws: int = 10,
    atlases: Sequence[str] | None = None,
    class_weight: ClassWeight = "balanced",
    seed: int = 0,
) -> pd.DataFrame:
    """Score baselines on a target, trained on its few labelled subjects alone, and once more on all sources; draws are those of `adaptation_curve`.

    Args:
        names: Names of baselines, of `BASELINES`.
        target: The dataset to score on.
        sources: Datasets to learn from. Where they have no atlas of the target's, connectivity cannot be learned from them, and there is no such
            score.
        n_support: Numbers of labelled subjects of each class.
        n_draws: Draws of labelled subjects.
        atlases: Atlases whose connectivity to use; all of the target when left out.
        class_weight: See `make_baseline`.
        seed: Seed of the draws.

    Returns:
        One row a baseline, training set (`trained_on`: `target`, `sources`), number and draw, with the AUROC on those who were not drawn, and how
        many these are.

    Raises:
        ConfigError: If there is no baseline of a name.
        DataError: If the target has no labels, or too few subjects of a class for a number.
    """
    if target.classes is None:
        raise DataError(f"Expected a target with labels to score baselines on, found none in {target.name!r}. Name the column to predict.")
    of_sources = {name: _of_sources(name, target, sources, atlases, class_weight) for name in names}
    rows = []
    for k in n_support:
        sampler = TaskSampler([target], k, 1, seed)
        for draw in range(n_draws):
            labelled, others = labelled_and_others(target, sampler.draw(draw)[0])
            truth = _labels(target, others.ids)
            for name in names:
                alone = make_baseline(name, atlases, class_weight).fit(labelled, _labels(target, labelled.ids))
                rows.append((name, "target", k, draw, _auroc(truth, alone.predict_proba(others)), len(others)))
                known = of_sources[name]
                if known is not None:
                    rows.append((name, "sources", k, draw, _auroc(truth, known.loc[others.ids].to_numpy()), len(others)))
    return pd.DataFrame(rows, columns=["method", "trained_on", "n_support", "draw", "auroc", "n_query"])


def _of_sources(
    name: str, target: Source, sources: Sequence[Source], atlases: Sequence[str] | None, class_weight: ClassWeight
) -> pd.DataFrame | None:
    """Class probabilities of all subjects of a target by the baseline trained on the sources; None where there are none, or in other atlases."""
    of_regions = reads_regions(name)
    wanted = [atlas for atlas in target.cohort.regions if atlases is None or atlas in atlases]
    shared = [atlas for atlas in wanted if all(atlas in source.cohort.regions for source in sources)]
    if not sources or (of_regions and not shared):
        return None
    cohort = together(sources, of_regions=of_regions)
    labels = np.concatenate([_labels(source, list(source.labels)) for source in sources])
    model = make_baseline(name, shared if of_regions else None, class_weight).fit(cohort, labels)
    scored = target.cohort.select(list(target.labels))
    return pd.DataFrame(model.predict_proba(scored), index=scored.ids)


def _labels(source: Source, subjects: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.asarray([source.labels[subject] for subject in subjects])


def _auroc(truth: npt.NDArray[np.int64], probability: npt.NDArray[Any]) -> float:
    return float(score_all(truth, probability[:, 1] if probability.shape[1] == 2 else probability)["auroc"])
