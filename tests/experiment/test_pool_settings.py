"""A pool of a configuration: what is chosen by, and numbers that cannot be."""

import pytest

from graphssl.errors import ConfigError
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.pool_settings import PoolSettings
from graphssl.training import SelectionSettings

POOLS = {"near": CohortSource("simulate_table", {"n_subjects": 20})}


def test_what_is_chosen_by():
    settings = PoolSettings(POOLS, 12, k=5, rule="votes", balance="site", seed=3)
    assert settings.chosen_by() == SelectionSettings(12, 5, "votes", "site", 3)


def test_pools_and_numbers_that_cannot_be():
    with pytest.raises(ConfigError, match=r"one or more pools.*subset in \(0, 1\], found \[\] and 0.1"):
        PoolSettings({}, 12)
    with pytest.raises(ConfigError, match=r"found \['near'\] and 1.5"):
        PoolSettings(POOLS, 12, subset=1.5)
    with pytest.raises(ConfigError, match="budget"):
        PoolSettings(POOLS, 0)
