"""Claims about what is learned, on simulated cohorts whose truth is known. The small versions run by default; the full ones are slow."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from graphssl.atlases import simulated_atlas
from graphssl.data.splits import label_fraction
from graphssl.datasets import simulate, simulate_table
from graphssl.encoders import GraphTransformer, TableMLP
from graphssl.evaluation import saliency
from graphssl.evaluation.audits import site_probe
from graphssl.objectives import MaskedColumns, MaskedRegions, Scarf, SiteAdversary, WeightedSum
from graphssl.training import TrainingSettings, finetune, pretrain, transfer, untrained

CLASSES = ("control", "patient")


def score(model, test):
    truth = test.subjects["diagnosis"] == "patient"
    return roc_auc_score(truth, model.predict_proba(test)[:, 1])


def gains_of_pretraining(seeds, *, n_subjects, n_regions, epochs, draws):
    """AUROC with 10 % of the labels, pre-trained minus scratch, one a seed: the cohort, the weights and the labels are all drawn anew."""
    gains = []
    for seed in seeds:
        cohort = simulate([simulated_atlas(n_regions)], n_subjects=n_subjects, seed=seed).cohort
        train, test = cohort.split(0.33, seed=seed)
        encoder = GraphTransformer(width=64, depth=1)
        settings = TrainingSettings(max_epochs=epochs, batch_size=16, learning_rate=3e-3, patience=epochs)
        starts = (
            pretrain(train, objective=MaskedRegions(), encoder=encoder, settings=settings, seed=seed),
            untrained(train, encoder=encoder, seed=seed),
        )
        labels = train.subjects["diagnosis"].tolist()
        scores = np.zeros((draws, 2))
        for draw in range(draws):
            few = train.select(label_fraction(train.ids, labels, 0.1, seed=draw))
            tuned = [finetune(start, few, target="diagnosis", classes=CLASSES, mode="probe", seed=draw) for start in starts]
            scores[draw] = [score(model, test) for model in tuned]
        gains.append(float(np.diff(scores[:, ::-1]).mean()))
    return np.asarray(gains)


def test_pretraining_beats_scratch_with_few_labels_in_the_small():
    gains = gains_of_pretraining([0], n_subjects=500, n_regions=40, epochs=25, draws=10)
    assert gains.mean() > 0


@pytest.mark.slow
def test_pretraining_beats_scratch_with_a_tenth_of_the_labels_over_five_seeds():
    gains = gains_of_pretraining(range(5), n_subjects=400, n_regions=80, epochs=60, draws=10)
    assert gains.mean() > 0
    assert ttest_1samp(gains, 0, alternative="greater").pvalue < 0.05


def site_read(objective, seed):
    """Balanced accuracy of a fresh probe of four sites on the embedding of subjects that pre-training has not seen."""
    train, others = simulate([simulated_atlas(80)], n_subjects=400, sites=4, seed=seed).cohort.split(0.3, seed=seed)
    settings = TrainingSettings(max_epochs=15, learning_rate=2e-3, patience=15)
    model = pretrain(train, objective=objective, encoder=GraphTransformer(width=32, depth=1), settings=settings, seed=seed)
    folds = site_probe({"embedding": model.embed(others).to_numpy()}, others.sites.tolist(), cohort="simulated", seed=seed)
    return np.mean([fold.value for fold in folds])


@pytest.mark.slow
def test_the_adversary_hides_most_of_the_site_from_a_fresh_probe():
    plain = [site_read(MaskedRegions(), seed) for seed in range(3)]
    both = [site_read(WeightedSum({"regions": MaskedRegions(), "sites": SiteAdversary()}, {"sites": 0.3}), seed) for seed in range(3)]
    chance = 0.25
    assert np.mean(plain) > chance + 0.1
    assert np.mean(both) - chance < 0.5 * (np.mean(plain) - chance)


def planted_and_found(n_subjects, n_regions, epochs, effect):
    simulation = simulate([simulated_atlas(n_regions)], n_subjects=n_subjects, effect=effect, seed=0)
    encoder = GraphTransformer(width=64, depth=1)
    settings = TrainingSettings(max_epochs=epochs, batch_size=16, learning_rate=3e-3, patience=epochs)
    start = pretrain(simulation.cohort, encoder=encoder, settings=settings, seed=0)
    model = finetune(
        start, simulation.cohort, target="diagnosis", classes=CLASSES, settings=TrainingSettings(max_epochs=10, batch_size=16, learning_rate=3e-4)
    )
    table = saliency(model, simulation.cohort).network_pairs
    found = [frozenset(pair) for pair in zip(table["network_a"], table["network_b"], strict=True)]
    return {frozenset(pair) for pair in simulation.truth.affected}, found


def test_saliency_ranks_a_planted_pair_of_networks_first_in_the_small():
    planted, found = planted_and_found(n_subjects=200, n_regions=48, epochs=25, effect=0.6)
    assert found[0] in planted


@pytest.mark.slow
def test_saliency_ranks_the_planted_pairs_of_networks_before_all_others():
    planted, found = planted_and_found(n_subjects=500, n_regions=80, epochs=50, effect=0.6)
    assert set(found[: len(planted)]) == planted


TABLE_SETTINGS = TrainingSettings(max_epochs=20, batch_size=64, learning_rate=3e-3, patience=20)


def death_read(start, train, test, draws=3, share=0.06):
    """Mean AUROC of a probe on a few labels, over draws of them."""
    labels, died = train.subjects["died"].tolist(), test.subjects["died"] == "yes"
    scores = []
    for draw in range(draws):
        few = train.select(label_fraction(train.ids, labels, share, seed=draw))
        tuned = finetune(start, few, target="died", mode="probe", seed=draw)
        scores.append(roc_auc_score(died, tuned.predict_proba(test)[:, 1]))
    return np.mean(scores)


@pytest.mark.parametrize("objective", [MaskedColumns(), Scarf()], ids=["masked", "scarf"])
def test_pretraining_on_a_table_beats_scratch_with_eighteen_labels(objective):
    """Paired over worlds: what columns mean, patients, weights and labels are all drawn anew."""
    gains = []
    for seed in range(3):
        train, test = simulate_table(n_subjects=500, world=seed, seed=seed).cohort.split(0.4, seed=seed)
        encoder = TableMLP(width=64, depth=1)
        starts = (
            pretrain(train, objective=objective, encoder=encoder, settings=TABLE_SETTINGS, seed=seed),
            untrained(train, encoder=encoder, seed=seed),
        )
        gains.append(np.subtract(*(death_read(start, train, test) for start in starts)))
    assert min(gains) > 0, gains


def test_what_one_hospital_taught_helps_another_with_other_columns():
    """Paired over worlds: a probe on 40 patients of a small hospital, of whose twenty columns the large one has fifteen."""
    gains = []
    for seed in range(3):
        large = simulate_table(n_subjects=500, columns=30, world=seed, seed=seed).cohort
        train, test = simulate_table(n_subjects=400, columns=range(15, 35), world=seed, seed=seed + 100).cohort.split(0.5, seed=0)
        encoder = TableMLP(width=64, depth=1)
        start = pretrain(large, encoder=encoder, settings=TABLE_SETTINGS, seed=seed)
        starts = (transfer(start, train, seed=seed).model, untrained(train, encoder=encoder, seed=seed))
        gains.append(np.subtract(*(death_read(each, train, test, share=0.2) for each in starts)))
    assert np.mean(gains) > 0.02, gains


def test_labels_that_mean_nothing_are_predicted_by_chance():
    """Pre-training and all choices on the same table leave nothing behind where the outcome has nothing to do with the columns."""
    scores = []
    for seed in range(4):
        train, test = simulate_table(n_subjects=400, effect=0.0, columns=10, seed=seed).cohort.split(0.5, seed=seed)
        settings = TrainingSettings(max_epochs=4, batch_size=64, learning_rate=3e-3)
        start = pretrain(train, encoder=TableMLP(width=32, depth=1), settings=settings, seed=seed)
        tuned = finetune(start, train, target="died", settings=settings, seed=seed)
        scores.append(roc_auc_score(test.subjects["died"] == "yes", tuned.predict_proba(test)[:, 1]))
    # The standard error of the mean of four AUROCs of 200 patients, 60 of whom died, is 0.022.
    assert abs(np.mean(scores) - 0.5) < 3 * 0.022
