"""ABIDE I as packed arrays: a tiny bundle in the true layout. The real ones are compared with the text files in test_abide.py."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Atlas
from graphssl.datasets import load_abide_arrays
from graphssl.datasets.abide_arrays import atlases_of_arrays
from graphssl.datasets.listing import list_files
from graphssl.errors import AtlasError, ConfigError, DataError, SchemaError

CC200 = Atlas("cc200", np.array([1, 2, 5, 9]), ("",) * 4, np.arange(12.0).reshape(4, 3), ("Visual", "Default", "", "Visual"))
AAL116 = Atlas("aal116", np.array([2001, 2002, 9170]), ("Precentral_L", "Precentral_R", "Vermis"), np.zeros((3, 3)), ("",) * 3)
IDS = ["0050102", "0050103", "0051456", "0051457"]


def series_of(subject, n_timepoints):
    rng = np.random.default_rng(int(subject))
    return rng.normal(size=(n_timepoints, len(CC200))).astype(np.float32)


@pytest.fixture
def packed(tmp_path):
    """The subjects as a bundle, with a region less than the atlas, a subject more than the list, and one flat region."""
    table = pd.DataFrame(
        {
            "SUB_ID": IDS,
            "SITE_ID": ["UM_1", "UM_2", "NYU", "NYU"],
            "site17": ["UM", "UM", "NYU", "NYU"],
            "DX_GROUP": [2, 1, 1, 2],
            "age": [14, 15.5, 55.4, 22.9],
            "sex": [1, 2, 1, 2],
            "fiq": [103, np.nan, 126, 107.5],
            "eye_status": [1, 1, 2, 2],
            "func_mean_fd": [0.16, np.nan, 0.2, 0.05],
            "pcp1035": [1, 1, 1, 0],
            "parisot871": [1, 0, 0, 1],
        }
    )
    table.to_csv(tmp_path / "subjects.csv", index=False)
    write_bundle(tmp_path / "timeseries_cc200_cpac_filt_global.npz")
    return tmp_path


def write_bundle(path, **changes):
    series = [series_of(subject, 20 + k)[:, [3, 0, 2]] for k, subject in enumerate(IDS)]
    series[1][:, 2] = 0
    content = {
        "series": np.concatenate([(values / 0.04).round().clip(-127, 127).astype(np.int8) for values in series]),
        "scale": np.float32(0.04),
        "offsets": np.cumsum([0, *map(len, series)]),
        "region_label": CC200.labels[[3, 0, 2]],
        "subject_id": np.array(IDS),
        "tr_seconds": np.full(4, 2.0, np.float32),
    }
    np.savez_compressed(path, **{name: value for name, value in {**content, **changes}.items() if value is not None})


def test_packed_arrays(packed):
    cohort = load_abide_arrays(packed, atlases=[CC200])
    data = cohort.regions["cc200"]
    assert cohort.name == "abide1-pcp1035"
    assert cohort.ids == IDS[:3]
    assert data.atlas.labels.tolist() == [9, 1, 5]
    assert data.atlas.networks == ("Visual", "Visual", "")
    assert data.values[IDS[2]].dtype == np.float32
    np.testing.assert_allclose(data.values[IDS[2]], series_of(IDS[2], 22)[:, [3, 0, 2]], atol=0.0201)
    assert data.observed[IDS[1]].tolist() == [True, True, False]
    assert (data.provenance.pipeline, data.provenance.source) == ("cpac filt_global", "abide_arrays")
    assert data.provenance.n_timepoints == (20, 22)
    assert cohort.excluded.to_numpy().tolist() == [
        ["subject", "0051457", "not in the list pcp1035"],
        ["region", "0050103", "1 of 3 regions of cc200 without signal: 5"],
    ]
    with pytest.raises(DataError, match=r"found constant or NaN regions in 1 of 3 subjects: '0050103' in labels 5\. Pass"):
        load_abide_arrays(packed, atlases=[CC200], missing_regions="error")


def test_lists_and_sites(packed):
    assert load_abide_arrays(packed, atlases=[CC200], cohort="parisot871").ids == [IDS[0], IDS[3]]
    assert load_abide_arrays(packed, atlases=[CC200], cohort="all").ids == IDS
    assert sorted(load_abide_arrays(packed, atlases=[CC200]).subjects["site"].unique()) == ["NYU", "UM_1", "UM_2"]
    assert sorted(load_abide_arrays(packed, atlases=[CC200], site_column="site17").subjects["site"].unique()) == ["NYU", "UM"]
    for option in ("cohort", "site_column", "missing_regions"):
        with pytest.raises(ConfigError, match=f"Expected {option} to be one of .*; found 'x'"):
            load_abide_arrays(packed, atlases=[CC200], **{option: "x"})


def test_columns_are_those_of_the_text_files(packed):
    cohort = load_abide_arrays(packed, atlases=[CC200], cohort="all")
    assert [(column.name, column.role) for column in cohort.schema] == [
        ("diagnosis", "target"),
        ("site", "site"),
        ("age", "covariate"),
        ("sex", "covariate"),
        ("fiq", "feature"),
        ("eye_status", "covariate"),
        ("mean_fd", "covariate"),
    ]
    assert cohort.subjects["diagnosis"].tolist() == ["control", "autism", "autism", "control"]
    assert cohort.subjects["fiq"].isna().tolist() == [False, True, False, False]


def test_packed_arrays_that_do_not_fit(packed):
    with pytest.raises(DataError, match=r"Expected one file timeseries_aal116_\*\.npz in .*, found none"):
        load_abide_arrays(packed, atlases=[AAL116])
    with pytest.raises(AtlasError, match=r"Expected labels of atlas 'cc200' \(3 regions\), found 1 unknown: \[9\]"):
        load_abide_arrays(packed, atlases=[CC200.select([1, 2, 5])])
    path = packed / "timeseries_cc200_cpac_filt_global.npz"
    write_bundle(path, scale=None)
    with pytest.raises(DataError, match="Expected a bundle of time series in .*, found a damaged file .*scale"):
        load_abide_arrays(packed, atlases=[CC200])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="Expected a bundle of time series in .*, found a damaged file"):
        load_abide_arrays(packed, atlases=[CC200])
    write_bundle(path)
    write_bundle(packed / "timeseries_cc200_niak_filt_global.npz")
    with pytest.raises(DataError, match=r"found \['timeseries_cc200_cpac_filt_global\.npz', 'timeseries_cc200_niak_filt_global\.npz'\]"):
        load_abide_arrays(packed, atlases=[CC200])


def test_stand_ins_have_the_labels_of_the_bundles(packed):
    [found] = atlases_of_arrays(list_files(packed))
    assert (found.name, found.labels.tolist()) == ("cc200", [9, 1, 5])
    (packed / "timeseries_cc200_cpac_filt_global.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="Expected a bundle of time series in .*, found a damaged file"):
        atlases_of_arrays(list_files(packed))


def test_a_list_of_subjects_that_is_no_list(packed):
    table = pd.read_csv(packed / "subjects.csv", dtype="str")
    table.assign(pcp1035=["1", "yes", "1", "0"]).to_csv(packed / "subjects.csv", index=False)
    with pytest.raises(SchemaError, match="numbers for pcp1035, found text"):
        load_abide_arrays(packed, atlases=[CC200])
