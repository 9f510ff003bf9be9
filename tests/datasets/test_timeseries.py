"""Time series from a folder, as tiny files in the layouts of the field."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from graphssl.data import Atlas
from graphssl.datasets import load_timeseries
from graphssl.errors import AtlasError, ConfigError, DataError, SchemaError

LABELS = (2001, 2002, 2101, 9081)
ATLAS = Atlas("aal4", np.array(LABELS), ("Precentral_L", "Precentral_R", "Frontal_L", "Cerebellum"), np.arange(12.0).reshape(4, 3), ("motor",) * 4)
IDS = ("0050102", "0050103", "0050104")
SERIES = {subject: np.random.default_rng(k).normal(size=(12 + k, 4)).round(5).astype(np.float32) for k, subject in enumerate(IDS)}
TABLE = pd.DataFrame(
    {
        "participant_id": IDS,
        "dx": ["asd", "td", "asd"],
        "centre": ["1", "1", "2"],
        "family": ["f1", "f1", "f2"],
        "age": ["9.5", "n/a", "12"],
        "iq": ["n/a"] * 3,
    }
)


def write_1d(path, series, labels=LABELS):
    path.write_text("\t".join(f"#{label}" for label in labels) + "\n" + "\n".join("\t".join(map(str, row)) for row in series.tolist()) + "\n")


WRITERS = {
    "1D": write_1d,
    "tsv": lambda path, series: pd.DataFrame(series, columns=list(ATLAS.names)).to_csv(path, sep="\t", index=False),
    "csv": lambda path, series: pd.DataFrame(series).to_csv(path, header=False, index=False),
    "npy": np.save,
    "npz": lambda path, series: np.savez(path, series=series),
    "mat": lambda path, series: savemat(path, {"ROISignals": series, "tr": 2.0}),
}


@pytest.fixture
def folder(tmp_path):
    """Three subjects in the manner of the preprocessed connectomes, and their table."""
    for subject, series in SERIES.items():
        write_1d(tmp_path / f"Olin_{subject}_rois_aal.1D", series)
    TABLE.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    return tmp_path


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_cohort(tmp_path, ending):
    for subject, series in SERIES.items():
        WRITERS[ending](tmp_path / f"{subject}.{ending}", series)
    cohort = load_timeseries(tmp_path, atlas=ATLAS, name="olin")
    assert cohort.name == "olin"
    assert cohort.ids == list(IDS)
    for subject, series in SERIES.items():
        found = cohort.regions["aal4"].values[subject]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, series, rtol=1e-6)
    assert len(cohort.excluded) == 0
    assert len(cohort.schema) == 0


def test_table_and_roles(folder):
    cohort = load_timeseries(folder, atlas=ATLAS, target="dx", site="centre", group="family", covariates=["age"], pipeline="cpac filt_global")
    assert cohort.name == folder.name
    assert {column.name: (column.kind, column.role) for column in cohort.schema} == {
        "dx": ("binary", "target"),
        "centre": ("categorical", "site"),
        "family": ("categorical", "group"),
        "age": ("continuous", "covariate"),
    }
    assert cohort.subjects.loc["0050103"].isna().tolist() == [False, False, False, True]
    assert cohort.groups.tolist() == ["0050102", "0050102", "0050104"]
    assert cohort.sites is not None
    assert cohort.sites.tolist() == ["1", "1", "2"]
    provenance = cohort.regions["aal4"].provenance
    assert (provenance.kind, provenance.pipeline, provenance.source) == ("timeseries", "cpac filt_global", "timeseries")
    assert cohort.excluded.to_numpy().tolist() == [["column", "iq", "no subject has a value"]]


def test_table_may_lie_elsewhere(folder, tmp_path_factory):
    (folder / "participants.tsv").rename(folder / "demographics.csv")
    table = pd.read_csv(folder / "demographics.csv", sep="\t", dtype=str)
    table.rename(columns={"participant_id": "SUB_ID"}).to_parquet(folder / "table.parquet")
    for source in (folder / "demographics.csv", folder / "table.parquet", table.rename(columns={"participant_id": "SUB_ID"})):
        id_column = "participant_id" if str(source).endswith(".csv") else "SUB_ID"
        chosen = "*.1D" if isinstance(source, pd.DataFrame) else None
        cohort = load_timeseries(folder, atlas=ATLAS, participants=source, id_column=id_column, target="dx", pattern=chosen)
        assert cohort.target().tolist() == ["asd", "td", "asd"]


def test_order_of_the_header_becomes_that_of_the_atlas(folder):
    order = [2, 0, 3, 1]
    write_1d(folder / "Olin_0050103_rois_aal.1D", SERIES["0050103"][:, order], [LABELS[k] for k in order])
    cohort = load_timeseries(folder, atlas=ATLAS)
    np.testing.assert_allclose(cohort.regions["aal4"].values["0050103"], SERIES["0050103"], rtol=1e-6)


def test_an_atlas_with_more_regions_is_selected_from(folder):
    larger = Atlas("aal4", np.array([*LABELS, 9170]), ("",) * 5, np.zeros((5, 3)), ("",) * 5)
    with pytest.raises(AtlasError, match=r"Expected the 3 files in .* to fit.*only in the atlas: 9170\. .*pass atlas\.select"):
        load_timeseries(folder, atlas=larger)
    assert load_timeseries(folder, atlas=larger.select(LABELS)).atlas("aal4").labels.tolist() == list(LABELS)


def test_transposed_named_and_ignored_headers(tmp_path):
    for subject, series in SERIES.items():
        np.savez(tmp_path / f"{subject}.npz", rest=series.T, motion=series)
    cohort = load_timeseries(tmp_path, atlas=ATLAS, transpose=True, variable="rest")
    np.testing.assert_array_equal(cohort.regions["aal4"].values[IDS[2]], SERIES[IDS[2]])
    pd.DataFrame(SERIES[IDS[0]], columns=list("wxyz")).to_csv(tmp_path / "a.csv", index=False)
    assert load_timeseries(tmp_path, atlas=ATLAS, pattern="a.csv", header="ignore").ids == ["a"]


def test_bids_derivatives(tmp_path):
    for k, series in enumerate(SERIES.values(), start=1):
        path = tmp_path / f"sub-0{k}" / "func" / f"sub-0{k}_task-rest_run-1_atlas-AAL_timeseries.tsv"
        path.parent.mkdir(parents=True)
        WRITERS["tsv"](path, series)
        path.with_suffix(".json").write_text("{}")
    pd.DataFrame({"participant_id": ["sub-03", "sub-01", "sub-02"], "sex": ["M", "F", "M"]}).to_csv(
        tmp_path / "participants.tsv", sep="\t", index=False
    )
    cohort = load_timeseries(tmp_path, atlas=ATLAS, pattern="**/*_timeseries.*")
    assert cohort.ids == ["sub-03", "sub-01", "sub-02"]
    np.testing.assert_allclose(cohort.regions["aal4"].values["sub-01"], SERIES[IDS[0]], rtol=1e-6)


def test_subjects_without_files_and_files_without_subjects(folder):
    table = TABLE.replace("0050104", "absent")
    cohort = load_timeseries(folder, atlas=ATLAS, participants=table)
    assert cohort.ids == list(IDS[:2])
    assert cohort.excluded[cohort.excluded["what"] == "subject"].to_numpy().tolist() == [
        ["subject", "absent", "in the table, without a file"],
        ["subject", "Olin_0050104_rois_aal.1D", "a file, without a row in the table"],
    ]
    with pytest.raises(
        DataError,
        match=r"found 1 subjects without a file \('absent'\) and 1 files without a subject \('Olin_0050104_rois_aal\.1D'\)\. Mend the table",
    ):
        load_timeseries(folder, atlas=ATLAS, participants=table, on_unmatched="error")
    assert len(load_timeseries(folder, atlas=ATLAS, on_unmatched="error")) == 3


def test_regions_without_signal(folder):
    dead = np.zeros_like(SERIES["0050102"])
    flat = SERIES["0050103"].copy()
    flat[:, 3] = 0
    write_1d(folder / "Olin_0050102_rois_aal.1D", dead)
    write_1d(folder / "Olin_0050103_rois_aal.1D", flat)
    with pytest.raises(DataError, match=r"constant or NaN regions in 2 of 3 subjects: .*'0050103' in labels 9081\. Pass missing_regions=\"mask\""):
        load_timeseries(folder, atlas=ATLAS)
    cohort = load_timeseries(folder, atlas=ATLAS, missing_regions="mask")
    assert cohort.ids == ["0050103", "0050104"], "nothing can be read from a subject without any signal"
    assert cohort.excluded[cohort.excluded["what"] != "column"].to_numpy().tolist() == [
        ["subject", "0050102", "no region of aal4 has a signal"],
        ["region", "0050103", "1 of 4 regions of aal4 without signal: 9081"],
    ]
    for subject in IDS:
        write_1d(folder / f"Olin_{subject}_rois_aal.1D", dead)
    with pytest.raises(DataError, match="Expected a signal in some region of aal4 for some subject, found none in 3 files"):
        load_timeseries(folder, atlas=ATLAS, missing_regions="mask")


def test_bad_files_are_named(folder):
    (folder / "Olin_0050102_rois_aal.1D").write_text("")
    with pytest.raises(DataError, match=r"Expected the 3 files in .* to fit, found 1 that does not\. Olin_0050102_rois_aal\.1D: .*an empty file"):
        load_timeseries(folder, atlas=ATLAS)


def test_unequal_region_counts(tmp_path):
    for subject, series in SERIES.items():
        np.save(tmp_path / f"{subject}.npy", series[:, :3] if subject == IDS[1] else series)
    with pytest.raises(DataError, match=r"found 1 that does not\. 0050103\.npy: Expected 4 regions of atlas 'aal4', found 3"):
        load_timeseries(tmp_path, atlas=ATLAS)


def test_lost_zeros(folder):
    with pytest.raises(SchemaError, match="found id '50102' in the table and '0050102' in Olin_0050102_rois_aal.1D"):
        load_timeseries(folder, atlas=ATLAS, participants=TABLE.assign(participant_id=["50102", "50103", "50104"]))
    with pytest.raises(SchemaError, match="numbers lose their leading zeros"):
        load_timeseries(folder, atlas=ATLAS, participants=TABLE.assign(participant_id=[50102, 50103, 50104]))


def test_columns_that_are_not_there(folder):
    with pytest.raises(SchemaError, match=r"Expected a column 'diagnosis' in the table, found dx"):
        load_timeseries(folder, atlas=ATLAS, target="diagnosis")
    (folder / "participants.tsv").unlink()
    with pytest.raises(SchemaError, match=r"Expected a table with the columns \['dx'\], found no participants\.tsv or \.csv in"):
        load_timeseries(folder, atlas=ATLAS, target="dx")


@pytest.mark.parametrize("option", ["missing_regions", "on_unmatched", "header"])
def test_unknown_options(folder, option):
    with pytest.raises(ConfigError, match=f"Expected {option} to be one of .*; found 'maybe'"):
        load_timeseries(folder, atlas=ATLAS, **{option: "maybe"})


def test_nothing_is_written(folder):
    before = sorted(folder.rglob("*"))
    load_timeseries(folder, atlas=ATLAS)
    assert sorted(folder.rglob("*")) == before


def test_a_table_with_a_row_a_session(tmp_path, atlas):
    rng = np.random.default_rng(0)
    for subject in ("0012", "0013"):
        for session in ("baseline", "month12"):
            np.save(tmp_path / f"{subject}_{session}.npy", rng.standard_normal((30, 20)))
    rows = ["participant_id,session_id,age", "0012,baseline,30.5", "0012,month12,31.5", "0013,baseline,40.5", "0013,month12,41.5"]
    (tmp_path / "participants.csv").write_text("\n".join(rows))
    cohort = load_timeseries(tmp_path, atlas=atlas, covariates=["age"])
    assert cohort.ids == ["0012_ses-baseline", "0012_ses-month12", "0013_ses-baseline", "0013_ses-month12"]
    assert cohort.subjects["age"].tolist() == [30.5, 31.5, 40.5, 41.5]
    assert cohort.schema.named("group") == ["person"]
    train, test = cohort.split(0.5)
    assert not set(train.groups) & set(test.groups)
