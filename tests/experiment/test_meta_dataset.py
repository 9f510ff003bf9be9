"""Datasets of a meta-training: one source or a source a site, by name."""

import pytest

from graphssl.errors import ConfigError
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.meta_dataset import Dataset


def test_sites_are_chosen_by_name():
    cohort = CohortSource("simulate", {"atlases": ["simulated16"], "n_subjects": 30, "sites": 3})
    dataset = Dataset(cohort, "diagnosis", without_sites=("site-2",), name="all")
    assert [source.name for source in dataset.load()] == ["all site-1", "all site-3"]
    one = Dataset(cohort, "diagnosis", sites=("site-2",))
    assert [source.name for source in one.load()] == ["site-2"]
    with pytest.raises(ConfigError, match=r"Expected sites of 'simulated' \(site-1, site-2, site-3\), found 'site2'\. Did you mean 'site-2'"):
        Dataset(cohort, "diagnosis", sites=("site2",)).load()


def test_a_cohort_is_one_source_where_sites_do_not_count():
    dataset = Dataset(CohortSource("simulate", {"atlases": ["simulated16"], "n_subjects": 30, "sites": 3}), "diagnosis", by_site=False)
    assert [(source.name, len(source.labels)) for source in dataset.load()] == [("simulated", 30)]
