"""Baselines with few labels: on the draws of the adaptation curve, and nothing learned from those who are scored."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulate_table import simulate_table
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation import few_shot_baselines, make_baseline
from graphssl.evaluation.baselines import reads_regions
from graphssl.training.meta import Source, TaskSampler, sources_by_site
from graphssl.training.meta.adaptation import labelled_and_others


@pytest.fixture(scope="module")
def sites(make_cohort):
    return sources_by_site(make_cohort(n_subjects=48, n_sites=3, effect=1.0), target="diagnosis")


def test_scores_are_those_of_the_baseline_fitted_on_the_draw_or_on_the_sources(sites):
    target, sources = sites[2], sites[:2]
    found = few_shot_baselines(["ridge_correlation"], target, sources, n_support=(3,), n_draws=2, seed=1)
    assert found["trained_on"].tolist() == ["target", "sources"] * 2
    labelled, others = labelled_and_others(target, TaskSampler([target], 3, 1, 1).draw(1)[0])
    truth = [target.labels[subject] for subject in others.ids]
    alone = make_baseline("ridge_correlation").fit(labelled, np.asarray([target.labels[subject] for subject in labelled.ids]))
    assert found["auroc"].iloc[2] == pytest.approx(roc_auc_score(truth, alone.predict_proba(others)[:, 1]))
    joined = sources[0].cohort | sources[1].cohort
    labels = np.asarray([{**sources[0].labels, **sources[1].labels}[subject] for subject in joined.ids])
    of_sources = make_baseline("ridge_correlation").fit(joined, labels)
    assert found["auroc"].iloc[3] == pytest.approx(roc_auc_score(truth, of_sources.predict_proba(others)[:, 1]))
    assert found["n_query"].tolist() == [10] * 4


def test_labels_of_those_who_are_scored_are_not_read(sites):
    """With their labels dealt anew a baseline makes the same of them: the mean over all ways to deal them is chance."""
    target, rng = sites[2], np.random.default_rng(0)
    drawn = [TaskSampler([target], 3, 1).draw(0)[0].support]
    others = [subject for subject in target.labels if subject not in drawn[0]]
    scores = []
    for _ in range(30):
        dealt = dict(zip(others, rng.permutation([target.labels[subject] for subject in others]), strict=True))
        changed = Source(target.name, target.cohort, target.target, target.classes)
        object.__setattr__(changed, "labels", {subject: int(dealt.get(subject, label)) for subject, label in target.labels.items()})
        draw = labelled_and_others(changed, TaskSampler([target], 3, 1).draw(0)[0])
        model = make_baseline("ridge_correlation").fit(draw[0], np.asarray([changed.labels[s] for s in draw[0].ids]))
        scores.append(roc_auc_score([changed.labels[s] for s in draw[1].ids], model.predict_proba(draw[1])[:, 1]))
    assert np.mean(scores) == pytest.approx(0.5, abs=0.1)


def test_sources_of_another_atlas_give_no_score_and_a_shared_one_does(sites):
    other = simulate([simulated_atlas(10)], n_subjects=24, sites=1).cohort
    source = Source("other", other, "diagnosis")
    assert set(few_shot_baselines(["ridge_correlation"], sites[2], [source], n_support=(3,), n_draws=1)["trained_on"]) == {"target"}
    both = Cohort(other.name, other.subjects, other.schema, {**other.regions, "toy": _renamed(sites[0], other)})
    found = few_shot_baselines(["ridge_correlation"], sites[2], [Source("both", both, "diagnosis")], n_support=(3,), n_draws=1)
    assert set(found["trained_on"]) == {"target", "sources"}


def _renamed(source, cohort):
    """Region data of some subjects of the source under the names of others."""

    data = source.cohort.regions["toy"]
    pairs = dict(zip(cohort.ids, list(data.values) * 2, strict=False))
    return replace(
        data, values={new: data.values[old] for new, old in pairs.items()}, observed={new: data.observed[old] for new, old in pairs.items()}
    )


def test_tables():
    hospitals = sources_by_site(simulate_table(n_subjects=150, columns=6, sites=3, effect=5.0).cohort, target="died")
    found = few_shot_baselines(["logistic_table", "boosting_table"], hospitals[2], hospitals[:2], n_support=(4,), n_draws=2)
    assert len(found) == 2 * 2 * 2
    assert found.loc[(found["trained_on"] == "sources") & (found["method"] == "logistic_table"), "auroc"].mean() > 0.6


def test_what_a_baseline_reads():
    assert reads_regions("ridge_correlation_tangent")
    assert not reads_regions("logistic_table")
    assert not reads_regions("covariates")


def test_bad_input_is_refused(sites):
    with pytest.raises(DataError, match="a target with labels to score baselines on, found none in 'bare'"):
        few_shot_baselines(["ridge_correlation"], Source("bare", sites[0].cohort))
    with pytest.raises(DataError, match="at least 21 subjects"):
        few_shot_baselines(["ridge_correlation"], sites[0], n_support=(20,))
    with pytest.raises(ConfigError, match="baselines among"):
        few_shot_baselines(["linear"], sites[0], n_support=(2,))
