"""Simulated multimodal patients: shares, one seed one cohort, each kind of data knows of the diagnosis, and nothing without an effect."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from graphssl.atlases import load_atlas
from graphssl.datasets import simulate_multimodal
from graphssl.errors import ConfigError


@pytest.fixture(scope="module")
def make():
    return lambda **changes: simulate_multimodal([load_atlas("simulated24")], **{"n_subjects": 60, "size": 8, **changes})


def test_shares_hold_and_nobody_lacks_everything(make):
    shares = {"connectome": 0.5, "table": 0.4, "image": 0.3, "volume": 0.3, "events": 0.2}
    cohort = make(shares=shares)
    tables = cohort.subjects.index[cohort.subjects["lab0"].notna() | cohort.subjects["age"].notna()]
    having = [set(cohort.regions["simulated24"].values), set(tables), *(set(data.values) for data in cohort.images.values()), set(cohort.events.ids)]
    assert set().union(*having) == set(cohort.ids)
    assert all(abs(len(there) - 60 * share) <= 8 for there, share in zip(having, shares.values(), strict=True))
    assert [data.rank for data in cohort.images.values()] == [2, 3]
    assert cohort.prediction_times is not None


def test_what_is_not_named_is_left_out_and_a_seed_gives_one_cohort(make):
    table = make(shares={"table": 1.0})
    assert not table.regions
    assert not table.images
    assert table.events is None
    assert set(make(shares={"image": 0.8, "connectome": 0.2}).subjects["age"].isna()) == {True}
    hashes = [make(seed=seed, shares={"table": 0.9, "events": 0.8}).hash for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_each_kind_says_a_part_and_nothing_without_an_effect(make):
    for effect, low, high in ((2.0, 0.75, 1.0), (0.0, 0.35, 0.65)):
        cohort = make(effect=effect, n_subjects=200, shares={"table": 1.0, "events": 1.0})
        ill = cohort.subjects["diagnosis"] == "patient"
        labs = cohort.subjects[[f"lab{k}" for k in range(6)]]
        pulse = cohort.events.table.query("code == 'pulse'").groupby("subject_id", observed=True)["numeric_value"].mean().reindex(cohort.ids)
        direction = np.sign(labs[ill].mean() - labs[~ill].mean())
        score = ((labs - labs.mean()) / labs.std() * direction).mean(axis=1) if effect else labs.mean(axis=1)
        assert low <= roc_auc_score(ill, score.fillna(0.0)) <= high
        assert low - 0.1 <= roc_auc_score(ill[pulse.notna().to_numpy()], pulse.dropna()) <= high


def test_kinds_and_shares_must_be_possible(make):
    for shares in ({}, {"speech": 0.5}, {"table": 0.0}, {"table": 1.5}):
        with pytest.raises(ConfigError, match=r"Expected shares in \(0, 1\] of kinds among connectome, table, events, image, volume"):
            make(shares=shares)
