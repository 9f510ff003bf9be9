"""Harmonised cohorts: held to the transformer of arrays on connections worked out by hand, on disk and back."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from graphssl.data import Cohort, Column, Provenance, RegionData, Schema, SiteHarmonizer
from graphssl.errors import AtlasError, CheckpointError, ConfigError, DataError, RunFolderError, SchemaError
from graphssl.graphs import CohortHarmonizer, ConnectivityFeatures


@pytest.fixture(scope="module")
def cohort(make_cohort):
    """Three sites; the series of the last one share a signal, which raises every correlation there."""
    made = make_cohort(n_subjects=36, n_regions=8, n_sites=3)
    rng = np.random.default_rng(0)
    data = made.regions["toy"]
    shared = {s: v + 1.5 * (made.sites[s] == "site-2") * rng.standard_normal((len(v), 1)) for s, v in data.values.items()}
    return with_regions(made, {"toy": RegionData(data.atlas, shared, replace(data.provenance, pipeline="filtered"))})


def with_regions(cohort, regions):
    return Cohort(cohort.name, cohort.subjects, cohort.schema, regions, cohort.excluded)


def with_missing(cohort, missing):
    """The cohort without signal in some regions, by subject."""
    data = cohort.regions["toy"]
    values = {s: v.copy() for s, v in data.values.items()}
    for subject, regions in missing.items():
        values[subject][:, regions] = np.nan
    return with_regions(cohort, {"toy": RegionData(data.atlas, values, data.provenance)})


def upper(cohort, name="toy"):
    """Upper triangles of numpy's Fisher-z correlations, or of stored matrices `[n, E]`."""
    data = cohort.regions[name]
    pairs = np.triu_indices(len(data.atlas), k=1)
    if data.provenance.kind != "timeseries":
        return np.stack([data.values[s][pairs] for s in cohort.ids])
    with np.errstate(invalid="ignore"):
        return np.stack([np.arctanh(np.corrcoef(data.values[s].T.astype(float))[pairs]) for s in cohort.ids])


def sex_and_age(cohort):
    return np.column_stack([cohort.subjects["age"], cohort.subjects["sex"] == "male"]).astype(float)


def test_connections_are_those_of_the_transformer_of_arrays(cohort):
    train = cohort.select(cohort.ids[:24])
    harmonizer = CohortHarmonizer(["age", "sex"]).fit(train)
    by_hand = SiteHarmonizer().fit(upper(train), sites=train.sites, covariates=sex_and_age(train))
    found = harmonizer.transform(cohort)
    assert_allclose(upper(found), by_hand.transform(upper(cohort), sites=cohort.sites, covariates=sex_and_age(cohort)), atol=1e-4)
    assert found.ids == cohort.ids
    assert found.regions["toy"].provenance == Provenance("correlation", True, "filtered, sites harmonized (ComBat)", "tests", "zero")
    matrix = found.regions["toy"].values["sub-000"]
    assert_array_equal(matrix, matrix.T)
    assert_array_equal(matrix.diagonal(), 0)


def test_matrices_give_what_their_time_series_give(cohort):
    data = cohort.regions["toy"]
    matrices = {s: np.corrcoef(v.T) for s, v in data.values.items()}
    other = with_regions(cohort, {"toy": RegionData(data.atlas, matrices, Provenance("correlation"))})
    found, expected = (CohortHarmonizer().fit_transform(one) for one in (other, cohort))
    assert_allclose(upper(found), upper(expected), atol=1e-4)
    assert found.regions["toy"].provenance.pipeline == "sites harmonized (ComBat)"


def test_site_differences_go(cohort):
    train = cohort.select(cohort.ids[:24])
    after = CohortHarmonizer().fit(train).transform(cohort)

    def apart(one):
        values, held = upper(one)[24:], (one.sites == "site-2").to_numpy()[24:]
        return abs(values[held].mean() - values[~held].mean())

    assert apart(after) < apart(cohort) / 4


def test_missing_regions_stay_missing(cohort):
    holes = with_missing(cohort, {"sub-000": [1, 2], "sub-004": [5]})
    found = CohortHarmonizer().fit_transform(holes)
    for subject in cohort.ids:
        assert_array_equal(found.regions["toy"].observed[subject], holes.regions["toy"].observed[subject])
    assert_array_equal(np.isnan(upper(found)), np.isnan(upper(holes)))
    assert np.isfinite(ConnectivityFeatures("toy").fit_transform(found)).all()


def test_a_region_that_no_training_subject_has_is_left_alone(cohort):
    train = with_missing(cohort.select(cohort.ids[:24]), {s: [3] for s in cohort.ids[:24]})
    found, before = CohortHarmonizer().fit(train).transform(cohort), upper(cohort)
    of_region = np.stack(np.triu_indices(8, k=1)) == 3
    assert_allclose(upper(found)[:, of_region.any(axis=0)], before[:, of_region.any(axis=0)], atol=1e-5)
    assert np.abs(upper(found) - before)[:, ~of_region.any(axis=0)].min(axis=1).max() > 0


def test_missing_and_unknown_values_count_as_the_mean(cohort):
    harmonizer = CohortHarmonizer(["age", "sex"]).fit(cohort)
    schema = Schema(
        [*[column for column in cohort.schema if column.name not in ("age", "sex")], Column("age", "continuous"), Column("sex", "categorical")]
    )
    blank = Cohort("blank", cohort.subjects.assign(age=np.nan, sex="other"), schema, cohort.regions)
    table = sex_and_age(cohort)
    by_hand = SiteHarmonizer().fit(upper(cohort), sites=cohort.sites, covariates=table)
    expected = by_hand.transform(upper(cohort), sites=cohort.sites, covariates=np.broadcast_to(table.mean(axis=0), table.shape))
    assert_allclose(upper(harmonizer.transform(blank)), expected, atol=1e-4)


@pytest.mark.parametrize("unseen", ["pooled", "estimate"])
def test_unseen_sites(cohort, unseen):
    train, test = cohort.select(cohort.sites != "site-2"), cohort.select(cohort.sites == "site-2")
    harmonizer = CohortHarmonizer(unseen=unseen).fit(train)
    by_hand = SiteHarmonizer(unseen).fit(upper(train), sites=train.sites)
    assert_allclose(upper(harmonizer.transform(test)), by_hand.transform(upper(test), sites=test.sites), atol=1e-4)


def test_the_policy_may_be_changed_after_the_fit(cohort):
    train, test = cohort.select(cohort.sites != "site-2"), cohort.select(cohort.sites == "site-2")
    harmonizer = CohortHarmonizer().fit(train)
    with pytest.raises(DataError, match="Expected subjects of the fitted sites"):
        harmonizer.transform(test)
    assert_allclose(upper(harmonizer.set_params(unseen="pooled").transform(test)), upper(test), atol=1e-5)


def test_labels_enter_the_fit_alone(cohort):
    y = (cohort.subjects["diagnosis"] == "patient").astype(int).to_numpy()
    found = CohortHarmonizer(keep_target=True).fit(cohort, y).transform(cohort)
    by_hand = SiteHarmonizer(keep_target=True).fit(upper(cohort), y, sites=cohort.sites)
    assert_allclose(upper(found), by_hand.transform(upper(cohort), sites=cohort.sites), atol=1e-4)


def test_several_atlases_of_which_a_subject_may_lack_one(cohort, make_cohort):
    small = make_cohort(n_subjects=36, n_regions=5, n_sites=3, seed=1).regions["toy"]
    atlas = replace(small.atlas, name="small")
    some = {s: small.values[s] for s in cohort.ids[:30]}
    both = with_regions(cohort, {**cohort.regions, "small": RegionData(atlas, some, Provenance("timeseries"))})
    found = CohortHarmonizer(["age"]).fit_transform(both)
    assert list(found.regions) == ["toy", "small"]
    assert list(found.regions["small"].values) == cohort.ids[:30]
    assert_allclose(upper(found), upper(CohortHarmonizer(["age"]).fit_transform(cohort)), atol=1e-5)
    assert list(CohortHarmonizer(atlases=["small"]).fit_transform(both).regions) == ["small"]


@pytest.mark.parametrize(
    ("unseen", "covariates", "keep_target"), [("error", (), False), ("pooled", ("age",), True), ("estimate", ("sex", "age"), False)]
)
def test_save_and_load(cohort, tmp_path, unseen, covariates, keep_target):
    folder = tmp_path / "harmonizer"
    train = cohort.select(cohort.sites != "site-2")
    y = (train.subjects["diagnosis"] == "patient").astype(int).to_numpy()
    harmonizer = CohortHarmonizer(covariates, unseen, keep_target=keep_target).fit(train, y)
    assert harmonizer.save(folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["harmonizer.json", "harmonizer.safetensors"]
    again = CohortHarmonizer.load(harmonizer.save(folder))
    asked = train if unseen == "error" else cohort
    assert again.transform(asked).hash == harmonizer.transform(asked).hash
    assert "sub-0" not in (folder / "harmonizer.json").read_text()


def test_the_estimator_contract(cohort):
    harmonizer = CohortHarmonizer(["age"], "pooled")
    assert clone(harmonizer).get_params() == harmonizer.get_params()
    assert CohortHarmonizer(["age"]).fit_transform(cohort).hash == CohortHarmonizer(["age"]).fit(cohort).transform(cohort).hash
    for call in (lambda: CohortHarmonizer().transform(cohort), lambda: CohortHarmonizer().state()):
        with pytest.raises(NotFittedError, match="This CohortHarmonizer instance is not fitted yet"):
            call()


# What is refused


def test_what_cannot_be_fitted(cohort):
    with pytest.raises(ConfigError, match="Expected the kind 'correlation' or 'partial correlation' to harmonise, found 'tangent'"):
        CohortHarmonizer(kind="tangent").fit(cohort)
    with pytest.raises(DataError, match="Expected 'toy' to have region data, found none"):
        CohortHarmonizer().fit(with_regions(cohort, {}))
    with pytest.raises(SchemaError, match=r"found the target 'diagnosis': .*keep_target=True"):
        CohortHarmonizer(["age", "diagnosis"]).fit(cohort)
    with pytest.raises(SchemaError, match=r"Expected one of the columns .*, found 'iq'"):
        CohortHarmonizer(["iq"]).fit(cohort)
    homeless = Cohort("homeless", cohort.subjects[["age"]], Schema([cohort.schema["age"]]), cohort.regions)
    with pytest.raises(DataError, match="Expected 'homeless' to have a column with the role 'site' to harmonise, found none"):
        CohortHarmonizer().fit(homeless)
    with pytest.raises(DataError, match="Expected subjects with data in atlas 'toy', found none among 36"):
        CohortHarmonizer().fit(with_regions(cohort, {"toy": cohort.regions["toy"].select([])}))


def test_cohorts_that_do_not_fit(cohort, make_cohort):
    harmonizer = CohortHarmonizer().fit(cohort)
    with pytest.raises(AtlasError, match="Expected atlas 'toy' with 8 regions .*, found 5 regions"):
        harmonizer.transform(make_cohort(n_subjects=6, n_regions=5))
    with pytest.raises(DataError, match=r"data in one of the atlases \['toy'\], found no region data"):
        harmonizer.transform(with_regions(cohort, {}))
    kept = CohortHarmonizer(["age"]).fit(cohort)
    ageless = Cohort("ageless", cohort.subjects.drop(columns="age"), Schema([c for c in cohort.schema if c.name != "age"]), cohort.regions)
    with pytest.raises(SchemaError, match="Expected the column 'age' of the training subjects"):
        kept.transform(ageless)


def test_damaged_folders(cohort, tmp_path):
    with pytest.raises(CheckpointError, match=r"Expected a saved harmoniser at .*nowhere \(with harmonizer.json\), found none"):
        CohortHarmonizer.load(tmp_path / "nowhere")
    folder = CohortHarmonizer().fit(cohort).save(tmp_path / "fitted")
    record, arrays = (folder / "harmonizer.json").read_text(), (folder / "harmonizer.safetensors").read_bytes()
    (folder / "harmonizer.safetensors").write_bytes(arrays[:50])
    with pytest.raises(CheckpointError, match="Expected a whole harmoniser at .*, found a damaged one"):
        CohortHarmonizer.load(folder)
    (folder / "harmonizer.safetensors").write_bytes(arrays)
    for changed, words in (
        ({"format": 9}, "harmoniser of format 1 at .*, found 9"),
        ({"harmonizers": {}}, "fitted state of a CohortHarmonizer, found none of 'toy'"),
    ):
        (folder / "harmonizer.json").write_text(json.dumps(json.loads(record) | changed))
        with pytest.raises(CheckpointError, match=words):
            CohortHarmonizer.load(folder)
    (folder / "harmonizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="found a damaged one"):
        CohortHarmonizer.load(folder)


def test_arrays_of_another_atlas(cohort, make_cohort):
    other = make_cohort(n_subjects=36, n_regions=5, n_sites=3)
    (record, _), (small, tensors) = (CohortHarmonizer().fit(one).state() for one in (cohort, other))
    with pytest.raises(CheckpointError, match="Expected the connections of the 8 regions of atlas 'toy', found 10"):
        CohortHarmonizer.from_state({**record, "harmonizers": small["harmonizers"]}, tensors)


def test_a_folder_of_other_files_is_not_written_over(cohort, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="absent, empty or a saved harmoniser; found other files"):
        CohortHarmonizer().fit(cohort).save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_numbers_for_categories(cohort):
    """A code is a category where the schema says so."""
    table = cohort.subjects.assign(scanner=pd.Series([1, 2, 3, 2] * 9, index=cohort.subjects.index))
    schema = Schema([*cohort.schema, Column("scanner", "categorical", "covariate", categories=("1", "2", "3"))])
    coded = Cohort("coded", table, schema, cohort.regions)
    found = CohortHarmonizer(["scanner"]).fit_transform(coded)
    columns = np.column_stack([table["scanner"] == 2, table["scanner"] == 3]).astype(float)
    assert_allclose(upper(found), SiteHarmonizer().fit_transform(upper(cohort), sites=cohort.sites, covariates=columns), atol=1e-4)
