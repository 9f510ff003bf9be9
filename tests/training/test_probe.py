"""The probe beside pre-training: it finds what is there, nothing where nothing is, and changes no model."""

import numpy as np
import pandas as pd
import pytest
import torch

from graphssl.data import Column
from graphssl.errors import DataError, SchemaError
from graphssl.training import Probe, untrained


def test_a_strong_effect_is_read_and_shuffled_labels_are_not(make_cohort, make_encoder):
    cohort = make_cohort(n_subjects=60, n_timepoints=80, effect=3.0)
    model = untrained(cohort, encoder=make_encoder(width=16))
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    assert Probe(cohort).score(model) > 0.9
    shuffled = np.random.default_rng(0).permutation(cohort.subjects["diagnosis"])
    other = cohort.with_column(cohort.schema["diagnosis"], pd.Series(shuffled, index=cohort.subjects.index))
    scores = [Probe(other, seed=seed).score(model) for seed in range(4)]
    assert 0.25 < np.mean(scores) < 0.75
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_subjects_without_a_label_are_left_out_and_the_seed_decides(make_cohort, make_encoder):
    cohort = make_cohort(n_subjects=40, effect=1.0)
    labels = cohort.subjects["diagnosis"].where(np.arange(40) < 30)
    some = cohort.with_column(Column("diagnosis", "categorical", "target"), labels)
    model = untrained(cohort, encoder=make_encoder())
    assert Probe(some).score(model) == Probe(some.select(some.ids[:30])).score(model)
    assert Probe(some).score(model) == Probe(some, target="diagnosis", classes=("control", "patient")).score(model)


def test_no_such_target_and_too_few_labels_are_refused(make_cohort, make_encoder):
    with pytest.raises(SchemaError, match="weight"):
        Probe(make_cohort(), target="weight")
    cohort = make_cohort(n_subjects=4)
    with pytest.raises(DataError, match="Expected at least"):
        Probe(cohort).score(untrained(cohort, encoder=make_encoder()))
