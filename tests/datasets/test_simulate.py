"""The simulated cohort: what was put in comes out, in every atlas."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from graphssl.atlases import simulated_atlas
from graphssl.data import Atlas, Cohort
from graphssl.data.splits import label_fraction, leave_one_site_out
from graphssl.datasets import SimulatedSite, Simulation, simulate
from graphssl.datasets.sources import NETWORKS
from graphssl.errors import AtlasError, DataError

PAIRS = list(combinations(NETWORKS, 2))


def make_atlas(name: str, n_regions: int, seed: int) -> Atlas:
    """Regions anywhere in the brain: the simulation takes any atlas, not only a simulated one."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(n_regions, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centroids = np.array([0, -17.5, 15]) + direction * rng.uniform(0.6, 0.95, (n_regions, 1)) * [70, 87.5, 65]
    return Atlas(name, 3 * np.arange(1, n_regions + 1), ("",) * n_regions, centroids, ("",) * n_regions)


FIRST, SECOND, SMALL = make_atlas("first", 100, 0), make_atlas("second", 80, 1), make_atlas("small", 12, 2)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate([FIRST, SECOND], n_subjects=300)


def correlations(cohort: Cohort, atlas: str) -> np.ndarray:
    """Correlation matrices `[n, R, R]`, zero where a region is missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([np.nan_to_num(np.corrcoef(cohort.regions[atlas].values[subject].T)) for subject in cohort.ids])


def between_networks(simulation: Simulation, atlas: str, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Mean correlation between two networks, one column a pair `[n, pairs]`."""
    networks = np.array(simulation.truth.region_networks[atlas])
    matrices = correlations(simulation.cohort, atlas)
    return np.stack([matrices[:, networks == a][:, :, networks == b].mean(axis=(1, 2)) for a, b in pairs], axis=1)


def leave_one_site_out_auroc(cohort: Cohort, atlas: str, fraction: float = 1.0) -> float:
    """Mean AUROC over sites of a logistic regression on the vectorised correlations."""
    matrices = correlations(cohort, atlas)
    upper = np.triu_indices(matrices.shape[1], k=1)
    features = np.arctanh(np.clip(matrices[:, upper[0], upper[1]], -0.99, 0.99))
    labels = (cohort.target() == "patient").to_numpy()
    row = {subject: k for k, subject in enumerate(cohort.ids)}
    scores = []
    for split in leave_one_site_out(cohort.ids, cohort.sites):
        train = label_fraction(split.train, [labels[row[s]] for s in split.train], fraction)
        fit, score = [row[s] for s in train], [row[s] for s in split.test]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features[fit], labels[fit])
        scores.append(roc_auc_score(labels[score], model.decision_function(features[score])))
    return float(np.mean(scores))


def test_the_cohort_has_subjects_sites_and_typed_columns(simulation: Simulation) -> None:
    cohort = simulation.cohort
    assert cohort.name == "simulated"
    assert len(cohort) == 300
    assert cohort.sites is not None
    assert cohort.sites.value_counts().tolist() == [75] * 4
    assert cohort.target().value_counts().to_dict() == {"patient": 150, "control": 150}
    assert cohort.schema["age"].unit == "years"
    assert cohort.schema.named("covariate") == ["age", "sex", "motion"]
    assert cohort.schema.named("group") == []
    for site in simulation.truth.sites:
        members = cohort.select(cohort.subjects.index[cohort.subjects["site"] == site.name])
        assert members.subjects["age"].between(*site.age_range).all()
        assert {len(series) for series in members.regions["first"].values.values()} == {site.n_timepoints}


def test_one_seed_gives_one_cohort_and_another_gives_another() -> None:
    runs = [simulate([SMALL], n_subjects=8, sites=2, seed=seed).cohort.hash for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_the_number_of_threads_does_not_matter() -> None:
    hashes = set()
    for n_threads in (1, 2):
        with threadpool_limits(limits=n_threads, user_api="blas"):
            hashes.add(simulate([SMALL], n_subjects=4, sites=2).cohort.hash)
    assert len(hashes) == 1


def test_another_atlas_changes_nothing_in_the_first() -> None:
    alone = simulate([SMALL], n_subjects=6, sites=2).cohort
    beside = simulate([make_atlas("other", 9, 5), SMALL], n_subjects=6, sites=2).cohort
    assert alone.subjects.equals(beside.subjects)
    for subject in alone.ids:
        np.testing.assert_array_equal(alone.regions["small"].values[subject], beside.regions["small"].values[subject])


def test_one_subject_is_consistent_in_every_atlas() -> None:
    atlases = [simulated_atlas(200, name="fine"), simulated_atlas(150, seed=1, name="coarse")]
    one = simulate(atlases, n_subjects=80)
    fine, coarse = (between_networks(one, atlas.name, PAIRS) for atlas in atlases)
    fine, coarse = fine - fine.mean(axis=0), coarse - coarse.mean(axis=0)
    assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.9
    # A subject is most like itself in the other atlas.
    alike = np.corrcoef(fine, coarse)[:80, 80:]
    assert (alike.argmax(axis=1) == np.arange(80)).all()


def test_planted_pairs_of_networks_show_the_largest_difference(simulation: Simulation) -> None:
    patient = (simulation.cohort.target() == "patient").to_numpy()
    planted = {frozenset(pair) for pair in simulation.truth.affected}
    for atlas in ("first", "second"):
        coupling = between_networks(simulation, atlas, PAIRS)
        difference = np.abs(coupling[patient].mean(axis=0) - coupling[~patient].mean(axis=0))
        largest = {frozenset(PAIRS[k]) for k in np.argsort(difference)[::-1][: len(planted)]}
        assert largest == planted


def test_region_pairs_of_the_planted_networks_differ_most(simulation: Simulation) -> None:
    patient = (simulation.cohort.target() == "patient").to_numpy()
    matrices = correlations(simulation.cohort, "first")
    difference = matrices[patient].mean(axis=0) - matrices[~patient].mean(axis=0)
    upper = np.triu_indices(len(FIRST), k=1)
    assert roc_auc_score(simulation.truth.affected_connections["first"][upper], difference[upper]) > 0.8


def test_affected_connections_follow_from_the_networks_of_the_regions(simulation: Simulation) -> None:
    networks = simulation.truth.region_networks["second"]
    planted = {frozenset(pair) for pair in simulation.truth.affected}
    slow = np.array([[frozenset((a, b)) in planted for b in networks] for a in networks])
    np.testing.assert_array_equal(simulation.truth.affected_connections["second"], slow)
    assert simulation.cohort.atlas("second").networks == networks
    assert slow.any()


def test_network_of_a_region_is_the_one_it_sees_most_of(simulation: Simulation) -> None:
    truth = simulation.truth
    for weights, network in zip(truth.region_weights["first"], truth.region_networks["first"], strict=True):
        share = [weights[truth.source_networks == k].sum() for k in range(len(NETWORKS))]
        assert network == NETWORKS[int(np.argmax(share))]


def test_covariance_of_the_networks_adds_up(simulation: Simulation) -> None:
    truth, table = simulation.truth, simulation.cohort.subjects
    possible = 0
    for k, (_, person) in enumerate(table.iterrows()):
        expected = (
            truth.base_covariance + (person["age"] - 30) / 10 * truth.age_effect + truth.variation_scores[k] @ truth.variation_patterns.swapaxes(0, 1)
        )
        expected = expected + (person["sex"] == "male") * truth.sex_effect + (person["diagnosis"] == "patient") * truth.disease_effect
        assert np.linalg.eigvalsh(truth.network_covariance[k]).min() > 0.049
        if np.linalg.eigvalsh(expected).min() > 0.05:
            possible += 1
            np.testing.assert_allclose(truth.network_covariance[k], expected, atol=1e-10)
    assert possible > 150


def test_people_differ_along_the_disease_and_each_other_pair_of_networks(simulation: Simulation) -> None:
    patterns = simulation.truth.variation_patterns
    np.testing.assert_array_equal(patterns[0] != 0, simulation.truth.disease_effect != 0)
    np.testing.assert_array_equal(np.abs(patterns).sum(axis=0), 1 - np.eye(len(NETWORKS)))
    assert (simulation.truth.variation_scores.std(axis=0) > 0.05).all()


def test_latent_covariance_can_be_read_from_the_connectivity(simulation: Simulation) -> None:
    coupling = between_networks(simulation, "first", PAIRS)
    covariance = simulation.truth.network_covariance
    latent = np.stack([covariance[:, NETWORKS.index(a), NETWORKS.index(b)] for a, b in PAIRS], axis=1)
    readable = [spearmanr(coupling[:, k], latent[:, k]).statistic for k in range(len(PAIRS))]
    assert min(readable) > 0.2
    assert np.mean(readable) > 0.4


def test_logistic_regression_scores_within_the_documented_bounds(simulation: Simulation) -> None:
    assert 0.72 < leave_one_site_out_auroc(simulation.cohort, "first") < 0.92
    assert 0.58 < leave_one_site_out_auroc(simulation.cohort, "first", fraction=0.1) < 0.78


def test_without_an_effect_the_diagnosis_cannot_be_read() -> None:
    null = simulate([FIRST], n_subjects=240, effect=0.0)
    assert not null.truth.disease_effect.any()
    assert 0.35 < leave_one_site_out_auroc(null.cohort, "first") < 0.65


def test_site_can_be_read_and_cannot_without_what_makes_sites_differ(simulation: Simulation) -> None:
    def accuracy(cohort: Cohort) -> float:
        matrices = correlations(cohort, "second")
        upper = np.triu_indices(matrices.shape[1], k=1)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        return float(cross_val_score(model, matrices[:, upper[0], upper[1]], cohort.sites, cv=3).mean())

    alike = [SimulatedSite(f"twin-{k}", offset=0.0) for k in range(4)]
    assert accuracy(simulation.cohort) > 0.7
    assert accuracy(simulate([SECOND], n_subjects=160, sites=alike).cohort) < 0.45


def test_age_changes_the_coupling_it_was_put_into() -> None:
    site = SimulatedSite("only", age_range=(10.0, 80.0), n_timepoints=200)
    aged = simulate([FIRST], n_subjects=200, sites=[site])
    first, second = np.unravel_index(np.abs(aged.truth.age_effect).argmax(), aged.truth.age_effect.shape)
    coupling = between_networks(aged, "first", [(NETWORKS[first], NETWORKS[second])])[:, 0]
    slope = spearmanr(coupling, aged.cohort.subjects["age"]).statistic
    assert slope * np.sign(aged.truth.age_effect[first, second]) > 0.3


def test_motion_ties_near_regions_more_than_far_ones() -> None:
    still = simulate([FIRST], n_subjects=40, sites=[SimulatedSite("lab", motion=0.0)])
    moving = simulate([FIRST], n_subjects=40, sites=[SimulatedSite("lab", motion=0.4)])
    distance = np.linalg.norm(FIRST.centroids[:, None] - FIRST.centroids[None], axis=2)

    def excess(one: Simulation) -> float:
        mean = correlations(one.cohort, "first").mean(axis=0)
        return float(mean[(distance > 0) & (distance < 35)].mean() - mean[distance > 90].mean())

    assert excess(moving) > excess(still) + 0.1
    assert (moving.cohort.subjects["motion"] > 0).all()
    assert (still.cohort.subjects["motion"] == 0).all()


def test_a_slow_scanner_remembers_less_from_volume_to_volume() -> None:
    def memory(tr: float) -> float:
        one = simulate([SMALL], n_subjects=4, sites=[SimulatedSite("lab", tr=tr, noise=0.0, motion=0.0)], missing_region_rate=0.0)
        series = np.concatenate(list(one.cohort.regions["small"].values.values()), axis=1)
        return float(np.mean([np.corrcoef(column[1:], column[:-1])[0, 1] for column in series.T]))

    assert memory(0.7) > memory(2.0) + 0.1 > memory(4.0) + 0.2


def test_missing_regions_are_those_of_the_truth(simulation: Simulation) -> None:
    cohort, missing = simulation.cohort, simulation.truth.missing
    for atlas, data in cohort.regions.items():
        for subject in cohort.ids:
            absent = data.atlas.labels[~data.observed[subject]]
            assert tuple(absent) == missing[atlas].get(subject, ())
            np.testing.assert_array_equal(np.isnan(data.values[subject]).all(axis=0), ~data.observed[subject])
    n_missing = sum(len(labels) for labels in missing["first"].values())
    assert 200 < n_missing < 400
    assert len(cohort.excluded) == sum(len(subjects) for subjects in missing.values())


def test_two_regions_always_remain() -> None:
    tiny = make_atlas("tiny", 2, 0)
    cohort = simulate([tiny], n_subjects=20, sites=1, missing_region_rate=0.5).cohort
    assert all(seen.all() for seen in cohort.regions["tiny"].observed.values())


@pytest.mark.parametrize("n_regions", [1, 5])
def test_small_atlases_can_be_simulated(n_regions: int) -> None:
    one = simulate([make_atlas("tiny", n_regions, 0)], n_subjects=4, sites=2, missing_region_rate=0.0)
    assert all(series.shape[1] == n_regions for series in one.cohort.regions["tiny"].values.values())


def test_labels_can_be_withheld_and_stay_in_the_truth() -> None:
    full = simulate([SMALL], n_subjects=40, sites=2, n_sources=100)
    some = simulate([SMALL], n_subjects=40, sites=2, label_fraction=0.25, n_sources=100)
    labels = some.cohort.subjects["diagnosis"]
    assert labels.value_counts().to_dict() == {"patient": 5, "control": 5}
    assert some.truth.diagnosis.equals(full.cohort.subjects["diagnosis"])
    assert (labels.dropna() == some.truth.diagnosis[labels.notna()]).all()


def test_siblings_share_a_family_a_site_and_a_part_of_their_wiring() -> None:
    sites = [SimulatedSite(name, n_timepoints=20) for name in ("one", "two")]  # nobody looks at the scans
    one = simulate([SMALL], n_subjects=300, sites=sites, share_siblings=0.8, missing_region_rate=0.0, n_sources=100)
    table = one.cohort.subjects
    sizes = table["family"].value_counts()
    assert set(sizes) == {1, 2}
    assert (sizes == 2).sum() == 120
    assert (table.groupby("family")["site"].nunique() == 1).all()
    assert one.cohort.groups.nunique() == table["family"].nunique()
    pairs = np.array([np.flatnonzero(table["family"] == family) for family in sizes.index[sizes == 2]])
    scores = one.truth.variation_scores / one.truth.variation_scores.std(axis=0)
    assert np.corrcoef(scores[pairs[:, 0]].ravel(), scores[pairs[:, 1]].ravel())[0, 1] == pytest.approx(0.5, abs=0.1)
    assert scores.std() == pytest.approx(1.0, abs=0.05)


def test_sites_may_have_their_own_share_of_patients() -> None:
    sites = [SimulatedSite("clinic", patient_share=0.9), SimulatedSite("school", patient_share=0.0), SimulatedSite("lab")]
    table = simulate([SMALL], n_subjects=60, sites=sites, share_patients=0.25, n_sources=100).cohort.subjects
    shares = (table["diagnosis"] == "patient").groupby(table["site"]).mean()
    assert shares.to_dict() == {"clinic": 0.9, "lab": 0.25, "school": 0.0}


@pytest.mark.parametrize(("n_subjects", "n_sites", "share"), [(20, 4, 0.5), (9, 3, 0.4), (13, 2, 0.3), (6, 3, 1.0), (6, 3, 0.0)])
def test_the_share_of_patients_holds_for_the_cohort_and_nearly_for_each_site(n_subjects: int, n_sites: int, share: float) -> None:
    table = simulate([SMALL], n_subjects=n_subjects, sites=n_sites, share_patients=share, n_sources=100).cohort.subjects
    patient = table["diagnosis"] == "patient"
    assert patient.sum() == pytest.approx(share * n_subjects, abs=0.5)
    assert ((patient.groupby(table["site"]).sum() - share * table["site"].value_counts()).abs() <= 1).all()


def test_affected_pairs_can_be_chosen_or_none() -> None:
    one = simulate([SMALL], n_subjects=8, sites=2, affected=[("Limbic", "Visual")], effect=-0.2)
    i, j = NETWORKS.index("Limbic"), NETWORKS.index("Visual")
    assert np.argwhere(one.truth.disease_effect == -0.2).tolist() == sorted([[i, j], [j, i]])
    none = simulate([SMALL], n_subjects=8, sites=2, affected=[])
    assert not none.truth.affected_connections["small"].any()
    assert "no pairs of networks" in repr(none.truth)


def test_the_truth_prints_in_one_line(simulation: Simulation) -> None:
    assert repr(simulation.truth).startswith("GroundTruth(600 sources; disease acts on Default–Frontoparietal")
    assert "\n" not in repr(simulation.truth)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"atlases": []}, AtlasError, "at least one atlas .* found none"),
        ({"atlases": [SMALL, SMALL]}, AtlasError, r"different names, found \['small'\]"),
        ({"n_subjects": 7}, DataError, "two subjects a site, found 7 for 4 sites"),
        ({"sites": 0}, DataError, r"at least one site .* found \[\]"),
        ({"sites": [SimulatedSite("a"), SimulatedSite("a")]}, DataError, "different names for them"),
        ({"share_patients": 1.5}, DataError, r"share_patients in \[0, 1\], found 1.5"),
        ({"share_siblings": -0.1}, DataError, r"share_siblings in \[0, 1\], found -0.1"),
        ({"missing_region_rate": 0.9}, DataError, r"missing_region_rate in \[0, 0.5\], found 0.9"),
        ({"affected": [("Default", "Salience")]}, DataError, r"two different networks out of Visual, .*found \('Default', 'Salience'\)"),
        ({"affected": [("Default", "Default")]}, DataError, "two different networks"),
        ({"n_sources": 10}, DataError, "at least 100 sources"),
        ({"label_fraction": 0.0}, DataError, r"label fraction in \(0, 1\]"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    call: Callable[..., Simulation] = simulate
    with pytest.raises(error, match=message):
        call(**{"atlases": [SMALL], "n_subjects": 8} | arguments)
