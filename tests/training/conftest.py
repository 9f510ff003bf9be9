"""Small models and short trainings, shared by the tests of this folder."""

from collections.abc import Callable
from typing import Any

import pytest

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.training import Model, TrainingSettings, finetune, pretrain


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., TrainingSettings]:
    """Factory of settings for a few small epochs."""

    def make(**changes: Any) -> TrainingSettings:
        return TrainingSettings(**{"max_epochs": 4, "batch_size": 8, "learning_rate": 3e-3, "patience": 50, "accelerator": "cpu", **changes})

    return make


@pytest.fixture(scope="session")
def families() -> Cohort:
    """Twenty-eight simulated subjects of two sites in two atlases, half of them with a sibling."""
    sites = [SimulatedSite("a", n_timepoints=40), SimulatedSite("b", n_timepoints=50)]
    atlases = [simulated_atlas(14), simulated_atlas(10)]
    return simulate(atlases, n_subjects=28, sites=sites, n_sources=100, share_siblings=0.5, missing_region_rate=0.03, seed=3).cohort


@pytest.fixture(scope="session")
def pretrained(make_cohort: Callable[..., Cohort], make_encoder: Callable[..., Any], make_settings: Callable[..., Any]) -> Model:
    """A model pre-trained for two epochs on the small cohort; do not change it."""
    return pretrain(make_cohort(effect=2.0), encoder=make_encoder(), settings=make_settings(max_epochs=2))


@pytest.fixture(scope="session")
def tuned(pretrained: Model, make_cohort: Callable[..., Cohort]) -> Model:
    """The pre-trained model with a probe for the diagnosis; do not change it."""
    return finetune(pretrained, make_cohort(effect=2.0), mode="probe")
