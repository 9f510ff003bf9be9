"""The builder against NumPy: what is learned is learned from training subjects, and data of another atlas are refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from graphssl.atlases import simulated_atlas
from graphssl.data import Atlas, Cohort, Column, ColumnTokenizer, Provenance, RegionData, Schema, StreamedCohort, write_shards
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.errors import AtlasError, CheckpointError, ConfigError, DataError, SchemaError
from graphssl.graphs import CohortHarmonizer, ConnectomeBuilder


@pytest.fixture(scope="module")
def two_atlases():
    """A cohort in two atlases of other sizes, with missing regions."""
    sites = [SimulatedSite(name, n_timepoints=40) for name in ("a", "b")]
    atlases = [simulated_atlas(12), simulated_atlas(9)]
    return simulate(atlases, n_subjects=12, sites=sites, n_sources=100, missing_region_rate=0.08).cohort


def with_regions(cohort, regions):
    return Cohort(cohort.name, cohort.subjects, cohort.schema, regions, cohort.excluded)


def fisher(series):
    """Fisher z of the correlations, by NumPy; zero on the diagonal."""
    correlation = np.corrcoef(np.asarray(series, dtype=np.float64).T)
    np.fill_diagonal(correlation, 0)
    return np.arctanh(correlation)


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


def test_mean_and_scale_are_those_of_the_training_subjects(make_cohort):
    cohort = make_cohort(n_subjects=10)
    train, test = cohort.select(cohort.ids[:6]), cohort.select(cohort.ids[6:])
    builder = ConnectomeBuilder().fit(train)
    stack = np.stack([fisher(train.regions["toy"].values[subject]) for subject in train.ids])
    mean = stack.mean(axis=0)
    scale = np.sqrt(np.mean([off_diagonal(matrix - mean) ** 2 for matrix in stack]))
    np.testing.assert_allclose(builder.mean_["toy"], mean, atol=1e-6)
    assert builder.scale_["toy"] == pytest.approx(scale, rel=1e-5)
    batch = builder.transform(test)
    expected = np.stack([(fisher(test.regions["toy"].values[subject]) - mean) / scale for subject in test.ids])
    np.testing.assert_allclose(batch.weights, expected, atol=1e-5)
    assert batch.subject_ids == tuple(test.ids)


def test_serving_new_subjects_teaches_nothing(make_cohort):
    cohort = make_cohort(n_subjects=10)
    builder = ConnectomeBuilder().fit(cohort.select(cohort.ids[:6]))
    before = builder.mean_["toy"].clone()
    alone = builder.transform(cohort.select(cohort.ids[6:7]))
    together = builder.transform(cohort.select(cohort.ids[6:]))
    assert torch.equal(builder.mean_["toy"], before)
    torch.testing.assert_close(alone.weights[0], together.weights[0])


def test_the_mean_leaves_missing_regions_out(two_atlases):
    builder = ConnectomeBuilder(atlases=["simulated12"]).fit(two_atlases)
    data = two_atlases.regions["simulated12"]
    assert not all(seen.all() for seen in data.observed.values())
    series = {s: data.values[s].astype(np.float64) for s in two_atlases.ids}
    expected, deviations = np.zeros((12, 12)), []
    for i in range(12):
        for j in range(12):
            if i == j:
                continue
            values = [
                np.arctanh(np.corrcoef(series[s][:, i], series[s][:, j])[0, 1])
                for s in two_atlases.ids
                if data.observed[s][i] and data.observed[s][j]
            ]
            expected[i, j] = np.mean(values)
            deviations += [(value - expected[i, j]) ** 2 for value in values]
    np.testing.assert_allclose(builder.mean_["simulated12"], expected, atol=1e-5)
    assert builder.scale_["simulated12"] == pytest.approx(np.sqrt(np.mean(deviations)), rel=1e-4)


def test_what_cannot_be_read_is_not_visible_and_zero(two_atlases):
    batch = ConnectomeBuilder().fit_transform(two_atlases)
    for row, (subject, atlas) in enumerate(zip(batch.subject_ids, batch.atlas, strict=True)):
        seen = np.zeros(12, dtype=bool)
        observed = two_atlases.regions[atlas].observed[subject]
        seen[: len(observed)] = observed
        assert batch.mask[row].tolist() == seen.tolist()
        assert batch.visible[row].tolist() == (np.outer(seen, seen) & ~np.eye(12, dtype=bool)).tolist()
    assert (batch.weights[~batch.visible] == 0).all()
    assert torch.equal(batch.weights, batch.weights.mT)
    assert torch.isfinite(batch.weights).all()


def test_a_silent_region_is_the_same_as_one_of_nan(make_cohort):
    cohort = make_cohort(n_subjects=8, n_regions=6)
    batches = []
    for value in (0.0, 5.0, np.nan):
        values = {s: array.copy() for s, array in cohort.regions["toy"].values.items()}
        values["sub-002"][:, 4] = value
        data = RegionData(cohort.atlas("toy"), values, Provenance("timeseries"))
        batches.append(ConnectomeBuilder().fit_transform(with_regions(cohort, {"toy": data})))
    assert not batches[0].mask[2, 4]
    for batch in batches[1:]:
        assert torch.equal(batch.weights, batches[0].weights)
        assert torch.equal(batch.visible, batches[0].visible)


def test_rows_go_atlas_by_atlas_and_only_where_there_are_data(two_atlases):
    ids = two_atlases.ids
    regions = dict(two_atlases.regions)
    regions["simulated9"] = regions["simulated9"].select(ids[3:])
    regions["simulated12"] = regions["simulated12"].select(ids[:10])
    batch = ConnectomeBuilder().fit_transform(with_regions(two_atlases, regions))
    assert batch.subject_ids == (*ids[:10], *ids[3:])
    assert batch.atlas == ("simulated12",) * 10 + ("simulated9",) * 9
    assert batch.mask.shape == (19, 12)
    assert not batch.mask[10:, 9:].any()
    alone = ConnectomeBuilder(atlases=["simulated9"]).fit_transform(with_regions(two_atlases, regions).select(ids[3:]))
    torch.testing.assert_close(batch[list(range(10, 19))].weights, alone.weights)


def test_atlases_can_be_chosen(two_atlases):
    batch = ConnectomeBuilder(atlases=["simulated9"]).fit_transform(two_atlases)
    assert set(batch.atlas) == {"simulated9"}
    assert batch.mask.shape == (12, 9)


def test_networks_are_indices_into_the_names_of_all_atlases(make_cohort):
    cohort = make_cohort(n_subjects=6, n_regions=5)
    atlas = cohort.atlas("toy")
    second = Atlas("other", [1, 2, 3], ("x", "y", "z"), atlas.centroids[:3], ("visual", "", "limbic"))
    series = {s: array[:, :3] for s, array in cohort.regions["toy"].values.items()}
    data = RegionData(second, series, Provenance("timeseries"))
    batch = ConnectomeBuilder().fit_transform(with_regions(cohort, {**cohort.regions, "other": data}))
    assert batch.network_names == ("default", "limbic", "motor", "visual")
    assert batch.networks[0].tolist() == [0, 3, 2, 0, 3]
    assert batch.networks[-1].tolist() == [3, -1, 1, -1, -1]
    np.testing.assert_array_equal(batch.centroids[0], atlas.centroids)
    np.testing.assert_array_equal(batch.centroids[-1], np.concatenate([second.centroids, np.zeros((2, 3))]))


def test_without_centring_the_connectivity_comes_as_it_is(make_cohort):
    cohort = make_cohort(n_subjects=6)
    batch = ConnectomeBuilder(center=False).fit_transform(cohort)
    np.testing.assert_allclose(batch.weights[1], fisher(cohort.regions["toy"].values["sub-001"]), atol=1e-5)
    plain = ConnectomeBuilder(center=False, fisher_z=False).fit_transform(cohort)
    np.testing.assert_allclose(plain.weights[1], np.tanh(fisher(cohort.regions["toy"].values["sub-001"])), atol=1e-5)


def test_a_single_subject_has_no_spread_and_gives_zeros(make_cohort):
    cohort = make_cohort(n_subjects=2).select(["sub-000"])
    builder = ConnectomeBuilder()
    assert (builder.fit_transform(cohort).weights == 0).all()
    assert builder.scale_ == {"toy": 1.0}


@pytest.mark.parametrize("kind", ["correlation", "partial correlation", "tangent", "covariance", "precision"])
def test_state_goes_through_json_and_tensors_and_back(make_cohort, kind):
    cohort = make_cohort(n_subjects=10, n_regions=6)
    builder = ConnectomeBuilder(kind=kind).fit(cohort.select(cohort.ids[:6]))
    record, tensors = builder.state()
    again = ConnectomeBuilder.from_state(json.loads(json.dumps(record)), {name: tensor.clone() for name, tensor in tensors.items()})
    assert again.get_params() == builder.get_params()
    assert again.scale_ == builder.scale_
    assert again.network_names_ == builder.network_names_
    found, expected = again.transform(cohort), builder.transform(cohort)
    assert torch.equal(found.weights, expected.weights)
    assert torch.equal(found.centroids, expected.centroids)
    assert torch.equal(found.networks, expected.networks)


def test_a_harmoniser_is_fitted_with_the_rest_and_goes_into_the_state(make_cohort):
    cohort = make_cohort(n_subjects=24, n_regions=6)
    train = cohort.select(cohort.ids[:16])
    builder = ConnectomeBuilder(harmonizer=CohortHarmonizer(["age"])).fit(train)
    by_hand = CohortHarmonizer(["age"]).fit(train)
    expected = ConnectomeBuilder().fit(by_hand.transform(train)).transform(by_hand.transform(cohort))
    assert torch.equal(builder.transform(cohort).weights, expected.weights)
    assert (builder.transform(cohort).weights - ConnectomeBuilder().fit(train).transform(cohort).weights).abs().max() > 0.01
    record, tensors = builder.state()
    again = ConnectomeBuilder.from_state(json.loads(json.dumps(record)), {name: tensor.clone() for name, tensor in tensors.items()})
    assert torch.equal(again.transform(cohort).weights, expected.weights)
    assert clone(builder).harmonizer.get_params() == builder.harmonizer.get_params()


def test_covariates_are_fitted_on_training_subjects_and_stand_beside_every_row(two_atlases):
    train = two_atlases.select(two_atlases.ids[:8])
    builder = ConnectomeBuilder(covariates=["sex", "age"]).fit(train)
    batch, table = builder.transform(two_atlases), ColumnTokenizer(["sex", "age"]).fit(train).transform(two_atlases)
    rows = [two_atlases.ids.index(subject) for subject in batch.subject_ids]
    assert sorted(rows) == sorted([*range(12), *range(12)]), "a row an atlas"
    for name in ("numbers", "pieces", "codes", "measured"):
        assert torch.equal(getattr(batch.covariates, name), getattr(table, name)[rows])
    assert torch.equal(batch.weights, ConnectomeBuilder().fit(train).transform(two_atlases).weights)
    fitted = builder.fit_transform(train)
    assert fitted.signature() == builder.transform(train).signature()
    assert builder.describe()["covariates"] == "age, sex"
    assert ConnectomeBuilder().fit_transform(train).covariates is None


def test_all_covariates_are_those_of_the_role(make_cohort):
    cohort = make_cohort(n_subjects=6).with_column(Column("iq", "continuous", "feature"), np.arange(6.0))
    builder = ConnectomeBuilder(covariates=True).fit(cohort)
    assert builder.covariates_.numbers == ("age",)
    assert list(builder.covariates_.categories) == ["sex"]


def test_covariates_that_training_subjects_had_not_are_told(make_cohort):
    cohort = make_cohort(n_subjects=6)
    other = cohort.with_column(Column("sex", "categorical", "covariate"), pd.Series(["x", *cohort.subjects["sex"][1:]], index=cohort.ids))
    assert ConnectomeBuilder(covariates=True).fit(cohort).unknown(other)["sex"].tolist() == [True] + [False] * 5
    assert ConnectomeBuilder().fit(cohort).unknown(other).shape == (6, 0)


def test_missing_covariates_are_marked(make_cohort):
    cohort = make_cohort(n_subjects=6)
    table = cohort.subjects.copy()
    table.loc[cohort.ids[1], "age"] = np.nan
    table.loc[cohort.ids[2], "sex"] = None
    batch = ConnectomeBuilder(covariates=True).fit_transform(replace(cohort, subjects=table))
    expected = torch.ones(6, 2, dtype=torch.bool)
    expected[1, 0] = expected[2, 1] = False
    assert torch.equal(batch.covariates.measured, expected)
    assert not batch.covariates.hidden.any()


def test_covariates_go_into_the_state(make_cohort):
    cohort = make_cohort(n_subjects=24, n_regions=6)
    builder = ConnectomeBuilder(covariates=True, harmonizer=CohortHarmonizer(["age"])).fit(cohort.select(cohort.ids[:16]))
    record, tensors = builder.state()
    again = ConnectomeBuilder.from_state(json.loads(json.dumps(record)), {name: tensor.clone() for name, tensor in tensors.items()})
    assert again.covariates is True
    assert again.describe() == builder.describe()
    assert again.transform(cohort).signature() == builder.transform(cohort).signature()
    assert torch.equal(again.transform(cohort).covariates.pieces, builder.transform(cohort).covariates.pieces)


def test_a_state_from_before_there_were_covariates_loads(make_cohort):
    builder = ConnectomeBuilder().fit(make_cohort())
    record, tensors = builder.state()
    assert "covariates" not in record
    del record["arguments"]["covariates"]
    again = ConnectomeBuilder.from_state(record, tensors)
    assert again.covariates_ is None
    assert again.transform(make_cohort()).signature() == builder.transform(make_cohort()).signature()


@pytest.mark.parametrize(("name", "role"), [("site", "site"), ("diagnosis", "target")])
def test_site_and_target_are_no_covariates(make_cohort, name, role):
    with pytest.raises(SchemaError, match=rf"Expected covariates to be columns with the role 'covariate', found {name} \({role}\). Name others"):
        ConnectomeBuilder(covariates=["age", name]).fit(make_cohort())


def test_subjects_without_the_column_are_refused(make_cohort):
    builder, cohort = ConnectomeBuilder(covariates=["age"]).fit(make_cohort()), make_cohort()
    bare = Cohort(cohort.name, cohort.subjects.drop(columns="age"), Schema([c for c in cohort.schema if c.name != "age"]), cohort.regions)
    with pytest.raises(SchemaError, match="Expected the column 'age' of the training subjects, found .*'sex'.*. Add it"):
        builder.transform(bare)


def test_a_state_without_its_covariates_is_refused(make_cohort):
    record, tensors = ConnectomeBuilder(covariates=True).fit(make_cohort()).state()
    with pytest.raises(CheckpointError, match="Expected the fitted state of a ConnectomeBuilder, found none of 'covariates'"):
        ConnectomeBuilder.from_state({key: value for key, value in record.items() if key != "covariates"}, tensors)


def test_state_holds_no_subject(make_cohort):
    record, tensors = ConnectomeBuilder().fit(make_cohort()).state()
    assert "sub-0" not in json.dumps(record)
    assert set(tensors) == {"mean.toy"}


def test_a_clone_is_not_fitted(make_cohort):
    builder = ConnectomeBuilder(kind="tangent").fit(make_cohort(n_subjects=6, n_regions=5))
    with pytest.raises(DataError, match="Expected a fitted builder, found one without training subjects. Call fit first"):
        clone(builder).transform(make_cohort(n_subjects=6, n_regions=5))


def changed_atlas(cohort, **changes):
    atlas = replace(cohort.atlas("toy"), **changes)
    return with_regions(cohort, {"toy": RegionData(atlas, dict(cohort.regions["toy"].values), Provenance("timeseries"))})


def test_other_labels_under_the_same_name_are_refused(make_cohort):
    cohort = make_cohort(n_subjects=6, n_regions=4)
    builder = ConnectomeBuilder().fit(cohort)
    with pytest.raises(AtlasError, match=r"Expected atlas 'toy' with 4 regions .*labels only in the model \[10\], only in the data \[11\]"):
        builder.transform(changed_atlas(cohort, labels=np.array([11, 20, 30, 40])))


@pytest.mark.parametrize("changes", [{"labels": np.array([20, 10, 30, 40])}, {"names": ("a", "b", "c", "d")}])
def test_the_same_labels_in_another_order_or_under_other_names_are_refused(make_cohort, changes):
    cohort = make_cohort(n_subjects=6, n_regions=4)
    with pytest.raises(AtlasError, match="the same labels in another order or under other names. Use the atlas of the training data"):
        ConnectomeBuilder().fit(cohort).transform(changed_atlas(cohort, **changes))


def test_the_same_labels_at_other_places_are_refused(make_cohort):
    cohort = make_cohort(n_subjects=6, n_regions=4)
    builder = ConnectomeBuilder().fit(cohort)
    moved = cohort.atlas("toy").centroids + np.float32([0.0, 30.0, 40.0])
    with pytest.raises(AtlasError, match="Expected the regions of atlas 'toy' where the model knows them, found them 50 mm away on average"):
        builder.transform(changed_atlas(cohort, centroids=moved))


def test_centroids_that_differ_by_little_are_those_of_the_model(make_cohort):
    cohort = make_cohort(n_subjects=6, n_regions=4)
    near = changed_atlas(cohort, centroids=cohort.atlas("toy").centroids + np.float32([3.0, 0.0, 0.0]))
    builder = ConnectomeBuilder().fit(cohort)
    assert torch.equal(builder.transform(near).centroids, builder.transform(cohort).centroids)


def test_another_number_of_regions_is_refused(make_cohort):
    with pytest.raises(AtlasError, match=r"Expected atlas 'toy' with 4 regions .*, found 5 regions"):
        ConnectomeBuilder().fit(make_cohort(n_subjects=6, n_regions=4)).transform(make_cohort(n_subjects=6, n_regions=5))


def test_a_subject_without_data_is_refused(two_atlases):
    ids = two_atlases.ids
    regions = {name: data.select(ids[1:]) for name, data in two_atlases.regions.items()}
    lacking = with_regions(two_atlases, regions)
    builder = ConnectomeBuilder().fit(lacking)
    with pytest.raises(DataError, match=rf"Expected every subject of 'simulated' to have data .*found none for 1: \['{ids[0]}'\]"):
        builder.transform(lacking)


def test_a_cohort_in_none_of_the_atlases_is_refused(make_cohort, two_atlases):
    with pytest.raises(DataError, match=r"to have data in one of the atlases \['toy'\], found none for 12"):
        ConnectomeBuilder().fit(make_cohort()).transform(two_atlases)


def test_a_cohort_without_region_data_is_refused():
    cohort = Cohort("table", pd.DataFrame({"age": [1.5, 2.5]}, index=["a", "b"]), Schema([]))
    with pytest.raises(DataError, match="Expected 'table' to have region data, found none. Load time series or matrices"):
        ConnectomeBuilder().fit(cohort)


def test_an_atlas_that_the_cohort_lacks_is_refused(make_cohort):
    with pytest.raises(DataError, match=r"Expected 'toy' to have data in atlas 'aal', found \['toy'\]"):
        ConnectomeBuilder(atlases=["aal"]).fit(make_cohort())


def test_an_atlas_without_training_subjects_is_refused(two_atlases):
    regions = dict(two_atlases.regions)
    regions["simulated9"] = regions["simulated9"].select(two_atlases.ids[:3])
    late = with_regions(two_atlases, regions).select(two_atlases.ids[3:])
    with pytest.raises(DataError, match="Expected training subjects with data in atlas 'simulated9', found none among 9"):
        ConnectomeBuilder().fit(late)


@pytest.mark.parametrize("lost", ["arguments", "atlases", "scale", "mean.toy"])
def test_a_state_with_something_missing_is_refused(make_cohort, lost):
    record, tensors = ConnectomeBuilder().fit(make_cohort()).state()
    record, tensors = ({key: value for key, value in part.items() if key != lost} for part in (record, tensors))
    with pytest.raises(CheckpointError, match=f"Expected the fitted state of a ConnectomeBuilder, found none of '{lost}'"):
        ConnectomeBuilder.from_state(record, tensors)


def test_a_state_with_unknown_arguments_is_refused(make_cohort):
    record, tensors = ConnectomeBuilder().fit(make_cohort()).state()
    with pytest.raises(CheckpointError, match="unexpected keyword argument 'smoothing'"):
        ConnectomeBuilder.from_state({**record, "arguments": {"smoothing": 1}}, tensors)


def test_a_state_mixed_from_two_models_is_refused(make_cohort):
    record, _ = ConnectomeBuilder().fit(make_cohort(n_regions=12)).state()
    _, tensors = ConnectomeBuilder().fit(make_cohort(n_regions=9)).state()
    with pytest.raises(CheckpointError, match=r"Expected a mean connectome of the 12 regions of atlas 'toy', found shape \(9, 9\)"):
        ConnectomeBuilder.from_state(record, tensors)


def test_a_state_whose_atlas_was_changed_is_refused(make_cohort):
    record, tensors = ConnectomeBuilder().fit(make_cohort()).state()
    record["atlases"][0]["labels"][0] = 11
    with pytest.raises(AtlasError, match="its labels or names were changed"):
        ConnectomeBuilder.from_state(record, tensors)


def test_series_are_kept_when_asked_for(two_atlases):
    builder = ConnectomeBuilder().fit(two_atlases)
    plain, batch = builder.transform(two_atlases), builder.transform(two_atlases, series=True)
    assert plain.scans is None
    assert torch.equal(plain.weights, batch.weights)
    scale = [builder.scale_[name] for name in batch.atlas]
    assert batch.scans.scale.tolist() == pytest.approx(scale)
    mean = torch.zeros_like(batch.weights)
    for row, name in enumerate(batch.atlas):
        n = len(builder.atlases_[name])
        mean[row, :n, :n] = builder.mean_[name]
    found = (batch.scans.connectivity()[0] - mean) / torch.tensor(scale)[:, None, None]
    torch.testing.assert_close(found.masked_fill(~batch.visible, 0.0), batch.weights, rtol=1e-4, atol=1e-4)


def test_series_of_other_kinds_cannot_be_cut(make_cohort):
    builder = ConnectomeBuilder(kind="covariance").fit(make_cohort())
    with pytest.raises(ConfigError, match="builder of the kind 'correlation' for views of a part of the time, found 'covariance'"):
        builder.transform(make_cohort(), series=True)


def test_series_of_harmonised_connectomes_cannot_be_cut(make_cohort):
    builder = ConnectomeBuilder(harmonizer=CohortHarmonizer()).fit(make_cohort())
    with pytest.raises(ConfigError, match="Expected a builder without a harmoniser for views of a part of the time"):
        builder.transform(make_cohort(), series=True)


@pytest.mark.parametrize("kind", ["correlation", "partial correlation", "covariance"])
def test_one_pass_over_shards_learns_what_all_subjects_at_once_teach(two_atlases, tmp_path, kind):
    streamed = StreamedCohort(write_shards(two_atlases, tmp_path / "shards", size=4), 1)
    chosen = two_atlases.ids[1:11]
    builder = ConnectomeBuilder(kind=kind, covariates=["age"])
    found, expected = clone(builder).fit_streamed(streamed.select(chosen)), clone(builder).fit(two_atlases.select(chosen))
    assert found.describe() == expected.describe()
    assert found.network_names_ == expected.network_names_
    for name, mean in expected.mean_.items():
        torch.testing.assert_close(found.mean_[name], mean, rtol=1e-5, atol=1e-6)
        assert found.scale_[name] == pytest.approx(expected.scale_[name], rel=1e-5)
    assert found.covariates_.state()[0] == expected.covariates_.state()[0]
    torch.testing.assert_close(found.transform(two_atlases).weights, expected.transform(two_atlases).weights, rtol=1e-4, atol=1e-5)


def test_what_one_pass_cannot_learn_is_refused(two_atlases, tmp_path):
    streamed = StreamedCohort(write_shards(two_atlases, tmp_path / "shards", size=4), 1)
    with pytest.raises(ConfigError, match=r"found a harmoniser, which needs all subjects\. Give a window of all 3 shards, or choose another kind"):
        ConnectomeBuilder(harmonizer=CohortHarmonizer()).fit_streamed(streamed)
    with pytest.raises(DataError, match="to have data in atlas 'other'"):
        ConnectomeBuilder(atlases=["other"]).fit_streamed(streamed)
