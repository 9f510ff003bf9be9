"""Batches of sources: each centred on its own subjects, atlases side by side."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphssl.atlases import AtlasMap, convert_cohort, simulated_atlas
from graphssl.data import ColumnTokenizer, ConnectomeBatch, Schema
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulate_table import simulate_table
from graphssl.encoders import PopulationTransformer
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder
from graphssl.training.meta import Source, SourceBatches, TaskSampler, centred_on, sources_by_site
from graphssl.training.meta.source_batches import with_network_names


def by_atlas(n_regions, name):
    """Sites of different atlases, with the same subject ids."""
    cohort = simulate([simulated_atlas(n_regions)], n_subjects=24, sites=1, n_sources=100, seed=n_regions).cohort
    return Source(name, cohort, cohort.schema.named("target")[0])


@pytest.fixture(scope="module")
def mixed():
    return [by_atlas(14, "a"), by_atlas(10, "b")]


def test_a_task_gets_its_rows_and_labels(make_cohort):
    sources = sources_by_site(make_cohort(), target="diagnosis")
    batches = SourceBatches(sources, ConnectomeBuilder())
    for task in TaskSampler(sources, 2, 3).draw(0):
        batch, labels = batches.query(task)
        assert batch.subject_ids == task.query
        assert labels.tolist() == list(task.query_labels)
        support, _ = batches.support(task)
        assert support.subject_ids == task.support


def test_each_source_is_centred_on_its_own_subjects(make_cohort):
    cohort = make_cohort()
    sources = sources_by_site(cohort, target="diagnosis")
    batches = SourceBatches(sources, ConnectomeBuilder())
    for source in sources:
        batch = batches.batches[source.name]
        torch.testing.assert_close(batch.weights.mean(dim=0), torch.zeros(12, 12), atol=1e-5, rtol=0)
        alone = centred_on(ConnectomeBuilder(), source.cohort).transform(source.cohort)
        torch.testing.assert_close(batch.weights, alone.weights)
    together = batches.builder_.transform(cohort).weights
    torch.testing.assert_close(together.mean(dim=0), torch.zeros(12, 12), atol=1e-5, rtol=0)


def test_sources_of_several_atlases_with_the_same_ids_stand_side_by_side(mixed):
    batches = SourceBatches(mixed, ConnectomeBuilder())
    assert set(batches.builder_.atlases_) == {"simulated14", "simulated10"}
    tasks = TaskSampler(mixed, 3, 3).draw(0)
    joined = ConnectomeBatch.cat([batches.support(task)[0] for task in tasks])
    assert joined.mask.sum(dim=1).max() == 14
    assert set(joined.atlas) == {"simulated14", "simulated10"}
    # Networks are counted alike in both.
    for source in mixed:
        atlas = next(iter(source.cohort.regions.values())).atlas
        batch = batches.batches[source.name]
        assert [batch.network_names[k] for k in batch.networks[0].tolist()] == list(atlas.networks)


def test_an_atlas_map_brings_all_sources_to_one_atlas(mixed):
    coarse, fine = (next(iter(source.cohort.regions.values())).atlas for source in (mixed[1], mixed[0]))
    nearest = torch.cdist(torch.from_numpy(coarse.centroids), torch.from_numpy(fine.centroids)).argmin(dim=1)
    weights = torch.nn.functional.one_hot(nearest, len(fine)).double().numpy()
    atlas_map = AtlasMap(fine, coarse, weights, "nearest", np.full(len(coarse), np.nan))
    converted = replace(mixed[0], cohort=convert_cohort(atlas_map, mixed[0].cohort))
    batches = SourceBatches([converted, mixed[1]], ConnectomeBuilder())
    assert set(batches.builder_.atlases_) == {coarse.name}
    assert {batch.mask.shape[1] for batch in batches.batches.values()} == {len(coarse)}


def test_records_are_made_by_one_builder():
    cohort = simulate_table(n_subjects=60, columns=6, sites=2).cohort
    sources = sources_by_site(cohort, target=cohort.schema.named("target")[0])
    batches = SourceBatches(sources, ColumnTokenizer())
    expected = ColumnTokenizer().fit(cohort.select([s for source in sources for s in source.labels])).transform(sources[1].cohort)
    torch.testing.assert_close(batches.batches[sources[1].name].numbers, expected.numbers)
    other = sources[1].cohort
    dropped = other.schema.named("feature")[0]
    schema = Schema([column for column in other.schema if column.name != dropped])
    narrower = replace(sources[1], cohort=replace(other, subjects=other.subjects.drop(columns=dropped), schema=schema))
    with pytest.raises(SchemaError, match="same columns"):
        SourceBatches([sources[0], narrower], ColumnTokenizer())


@pytest.fixture(scope="module")
def hospitals():
    return sources_by_site(simulate_table(n_subjects=90, columns=6, sites=3).cohort, target="died")


def test_patients_of_a_population_learn_from_those_of_other_sources(hospitals):
    batches = SourceBatches(hospitals, PopulationBuilder(n_neighbors=4))
    assert batches.keeps_apart
    assert set(batches.builder_.population_.patients.subject_ids) == {subject for source in hospitals for subject in source.labels}
    for source in hospitals:
        batch = batches.batches[source.name]
        assert bool(batch.attached.all())
        heard = {batch.population.patients.subject_ids[place] for place in batch.neighbors.flatten().tolist()}
        assert heard
        assert not heard & set(source.labels)
        assert not set(batch.population.patients.subject_ids) & set(source.labels)
        shared = batches.builder_.tokenizer_.transform(source.cohort.select(list(source.labels)))
        torch.testing.assert_close(batch.numbers, shared.numbers)


def test_who_is_in_a_task_says_nothing_about_the_others(hospitals):
    """What an encoder makes of a patient is the same beside any others."""
    batches = SourceBatches(hospitals, PopulationBuilder(n_neighbors=4))
    encoder = PopulationTransformer(width=8, depth=2, heads=2).for_builder(batches.builder_).eval()
    task = TaskSampler(hospitals, 3, 3).draw(0)[0]
    query, _ = batches.query(task)
    support, _ = batches.support(task)
    together = encoder(batches.take(task.source, (*task.query, *task.support), (0,) * 12)[0]).pooled
    torch.testing.assert_close(together[:6], encoder(query).pooled)
    torch.testing.assert_close(together[6:], encoder(support).pooled)


def test_a_source_alone_is_its_own_population(hospitals):
    batches = SourceBatches(hospitals[:1], PopulationBuilder(n_neighbors=4))
    assert not batches.keeps_apart
    assert not batches.batches[hospitals[0].name].attached.any()


def test_a_transductive_population_is_refused(hospitals):
    with pytest.raises(ConfigError, match="attached one by one, found transductive=True"):
        SourceBatches(hospitals, PopulationBuilder(transductive=True))


def test_a_target_is_treated_as_a_source_is(hospitals, make_cohort):
    """Records by the builder fitted on the sources, connectomes centred on the target."""
    tables = SourceBatches(hospitals[:2], ColumnTokenizer())
    torch.testing.assert_close(tables.of_target(hospitals[2].cohort).numbers, tables.builder_.transform(hospitals[2].cohort).numbers)
    brains = sources_by_site(make_cohort())
    batches = SourceBatches(brains[:1], ConnectomeBuilder())
    expected = centred_on(batches.builder_, brains[1].cohort).transform(brains[1].cohort)
    torch.testing.assert_close(batches.of_target(brains[1].cohort).weights, expected.weights)


def test_covariates_are_scaled_alike_in_all_sources(make_cohort):
    cohort = make_cohort()
    sources = sources_by_site(cohort, target="diagnosis")
    batches = SourceBatches(sources, ConnectomeBuilder(covariates=["age"]))
    expected = ConnectomeBuilder(covariates=["age"]).fit(cohort.select([s for source in sources for s in source.labels])).transform(sources[0].cohort)
    torch.testing.assert_close(batches.batches["site-0"].covariates.numbers, expected.covariates.numbers)


def test_a_subject_without_a_row_is_named(make_cohort):
    batches = SourceBatches(sources_by_site(make_cohort()), ConnectomeBuilder())
    with pytest.raises(DataError, match=r"rows of every subject of a task of 'site-0', found none for \['nobody'\]"):
        batches.take("site-0", ["nobody"], [0])


def test_networks_that_are_not_named_are_refused(make_batch):
    batch = replace(make_batch(), network_names=("motor",))
    with pytest.raises(DataError, match=r"among \['visual'\], found \['motor'\] too"):
        with_network_names(batch, ("visual",))
