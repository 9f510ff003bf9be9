"""ABIDE I: tiny files in the true layouts, and the real ones where they are."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from graphssl.data import Atlas, Cohort
from graphssl.datasets import fetch_abide, load_abide, load_abide_arrays
from graphssl.datasets.abide import FILE_TOKENS, PHENOTYPIC_FILE, atlases_of_files
from graphssl.datasets.listing import list_files
from graphssl.errors import AtlasError, ChoiceError, ConfigError, DataError, SchemaError

CC200 = Atlas("cc200", np.array([1, 2, 5, 9]), ("",) * 4, np.arange(12.0).reshape(4, 3), ("Visual", "Default", "", "Visual"))
AAL116 = Atlas("aal116", np.array([2001, 2002, 9170]), ("Precentral_L", "Precentral_R", "Vermis"), np.zeros((3, 3)), ("",) * 3)

# A row a subject as the project writes them: one without a scan, one IQ of -9999, one empty motion.
PHENOTYPIC = pd.DataFrame(
    {
        "SUB_ID": ["50102", "50103", "50104", "51456", "51457"],
        "X": range(5),
        "SITE_ID": ["OLIN", "OLIN", "OLIN", "CALTECH", "CALTECH"],
        "FILE_ID": ["Olin_0050102", "Olin_0050103", "no_filename", "Caltech_0051456", "Caltech_0051457"],
        "DX_GROUP": [2, 1, 1, 1, 2],
        "AGE_AT_SCAN": [14, 15.5, 9, 55.4, 22.9],
        "SEX": [1, 2, 1, 1, 2],
        "FIQ": ["103", "-9999", "", "126", "107.5"],
        "EYE_STATUS_AT_SCAN": [1, 1, 1, 2, 2],
        "func_mean_fd": ["0.16", "", "0.1", "0.2", "0.05"],
        # The free text of the original holds quoted commas.
        "qc_notes_rater_1": ["", "cuts, badly", "", "", ""],
        "qc_rater_1": ["OK", "OK", "OK", "fail", "OK"],
        "qc_anat_rater_2": ["OK"] * 5,
        "qc_func_rater_2": ["OK"] * 5,
        "qc_anat_rater_3": ["OK"] * 5,
        "qc_func_rater_3": ["OK"] * 5,
    }
)
FILE_IDS = ("Olin_0050102", "Olin_0050103", "Caltech_0051456", "Caltech_0051457")
IDS = ["0050102", "0050103", "0051456", "0051457"]


def series_of(file_id, atlas, n_timepoints=20):
    rng = np.random.default_rng([FILE_IDS.index(file_id), len(atlas)])
    return rng.normal(size=(n_timepoints, len(atlas))).round(6).astype(np.float32)


def write_file(folder, file_id, atlas, series=None, labels=None):
    series = series_of(file_id, atlas) if series is None else series
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(f"#{label}" for label in (atlas.labels if labels is None else labels)), *("\t".join(map(str, row)) for row in series.tolist())]
    (folder / f"{file_id}_rois_{FILE_TOKENS[atlas.name]}.1D").write_text("\n".join(lines) + "\n")


@pytest.fixture
def root(tmp_path):
    PHENOTYPIC.to_csv(tmp_path / PHENOTYPIC_FILE, index=False)
    for file_id in FILE_IDS:
        write_file(tmp_path / "cpac" / "filt_global" / "rois_cc200", file_id, CC200)
    return tmp_path


# Text files


def test_columns(root):
    cohort = load_abide(root, atlases=[CC200])
    assert cohort.name == "abide1"
    assert cohort.ids == IDS
    assert cohort.subjects["diagnosis"].tolist() == ["control", "autism", "autism", "control"]
    assert cohort.subjects["site"].tolist() == ["OLIN", "OLIN", "CALTECH", "CALTECH"]
    assert cohort.subjects["sex"].tolist() == ["male", "female", "male", "female"]
    assert cohort.subjects["eye_status"].tolist() == ["open", "open", "closed", "closed"]
    np.testing.assert_array_equal(cohort.subjects["age"], [14, 15.5, 55.4, 22.9])
    np.testing.assert_array_equal(cohort.subjects["fiq"], [103, np.nan, 126, 107.5])
    np.testing.assert_array_equal(cohort.subjects["mean_fd"], [0.16, np.nan, 0.2, 0.05])
    assert {column.name: (column.kind, column.role, column.unit) for column in cohort.schema} == {
        "diagnosis": ("binary", "target", None),
        "site": ("categorical", "site", None),
        "age": ("continuous", "covariate", "years"),
        "sex": ("binary", "covariate", None),
        "fiq": ("continuous", "feature", "IQ points"),
        "eye_status": ("binary", "covariate", None),
        "mean_fd": ("continuous", "covariate", "mm"),
    }
    assert cohort.schema["diagnosis"].categories == ("control", "autism"), "the condition is the second class"


def test_series_and_what_is_left_out(root):
    (root / "cpac/filt_global/rois_cc200/Caltech_0051457_rois_cc200.1D").unlink()
    stranger = root / "cpac/filt_global/rois_cc200/Pitt_0050003_rois_cc200.1D"
    stranger.write_text("")
    cohort = load_abide(root, atlases=[CC200])
    data = cohort.regions["cc200"]
    assert cohort.ids == IDS[:3]
    for subject, file_id in zip(IDS[:3], FILE_IDS, strict=False):
        np.testing.assert_allclose(data.values[subject], series_of(file_id, CC200), rtol=1e-6)
    assert (data.provenance.kind, data.provenance.pipeline, data.provenance.source) == ("timeseries", "cpac filt_global", "abide")
    assert cohort.excluded.to_numpy().tolist() == [
        ["subject", "0050104", "no preprocessed scan (no_filename)"],
        ["subject", stranger.name, "a file, without a row in the table"],
        ["subject", "0051457", "no file, or no region with a signal"],
    ]


@pytest.mark.parametrize(
    "place",
    [
        "Outputs/cpac/filt_global/rois_cc200",
        "ABIDE_pcp/cpac/filt_global",
        "cpac/filt_global",
        "Outputs/cpac/filt_global",
        "ABIDE_pcp/cpac/filt_global/rois_cc200",
    ],
)
def test_layouts(root, place):
    source = root / "cpac/filt_global/rois_cc200"
    (root / place).mkdir(parents=True, exist_ok=True)
    for path in list(source.iterdir()):
        path.rename(root / place / path.name)
    assert load_abide(root, atlases=[CC200]).ids == IDS


def test_table_lies_in_the_folder_above_it_or_where_it_is_said_to(root, tmp_path_factory):
    below = root / "rois"
    (root / "cpac").rename(root / "moved")
    below.mkdir()
    (root / "moved").rename(below / "cpac")
    assert load_abide(below, atlases=[CC200]).ids == IDS
    elsewhere = tmp_path_factory.mktemp("table") / "phenotypic.csv"
    (root / PHENOTYPIC_FILE).rename(elsewhere)
    with pytest.raises(DataError, match=f"Expected {PHENOTYPIC_FILE} in .*, found none. Pass its place as phenotypic="):
        load_abide(below, atlases=[CC200])
    assert load_abide(below, atlases=[CC200], phenotypic=elsewhere).ids == IDS


@pytest.mark.parametrize("below", ["Outputs", "Outputs/cpac", "Outputs/cpac/filt_global", "Outputs/cpac/filt_global/rois_cc200"])
def test_table_lies_beside_the_outputs_wherever_one_stands_in_them(root, below):
    (root / "Outputs").mkdir()
    (root / "cpac").rename(root / "Outputs" / "cpac")
    assert load_abide(root / below, atlases=[CC200]).ids == IDS


def test_two_atlases_of_two_pipelines(root):
    for file_id in FILE_IDS[1:]:
        write_file(root / "dparsf/filt_noglobal/rois_aal", file_id, AAL116)
    kwargs = {"pipeline": {"cc200": "cpac", "aal116": "dparsf"}, "strategy": {"cc200": "filt_global", "aal116": "filt_noglobal"}}
    cohort = load_abide(root, atlases=[CC200, AAL116], **kwargs)
    assert cohort.ids == IDS
    assert list(cohort.regions["aal116"].values) == IDS[1:]
    assert cohort.regions["aal116"].provenance.pipeline == "dparsf filt_noglobal"
    assert ["region", "0050102", "no data in atlas aal116"] in cohort.excluded.to_numpy().tolist()
    with pytest.raises(ConfigError, match="Expected a pipeline for atlas 'aal116', found one for cc200"):
        load_abide(root, atlases=[CC200, AAL116], pipeline={"cc200": "cpac"})
    with pytest.raises(ConfigError, match="Expected a strategy for atlas 'cc200', found one for none"):
        load_abide(root, atlases=[CC200], strategy={})


def test_regions_without_signal(root):
    flat = series_of(FILE_IDS[0], CC200)
    flat[:, 2] = 0
    folder = root / "cpac/filt_global/rois_cc200"
    write_file(folder, FILE_IDS[0], CC200, flat)
    write_file(folder, FILE_IDS[1], CC200, np.zeros((20, 4)))
    cohort = load_abide(root, atlases=[CC200])
    assert cohort.ids == ["0050102", "0051456", "0051457"]
    assert cohort.regions["cc200"].observed["0050102"].tolist() == [True, True, False, True]
    assert cohort.excluded.to_numpy().tolist()[1:] == [
        ["region", "0050102", "1 of 4 regions of cc200 without signal: 5"],
        ["subject", "0050103", "no file, or no region with a signal"],
    ]
    with pytest.raises(DataError, match=r"found constant or NaN regions in 2 of 4 subjects: '0050102' in labels 5;"):
        load_abide(root, atlases=[CC200], missing_regions="error")


def test_another_target(root):
    cohort = load_abide(root, atlases=[CC200], target="sex")
    assert cohort.schema.named("target") == ["sex"]
    assert cohort.schema["diagnosis"].role == "feature"
    with pytest.raises(SchemaError, match="Expected the target to be one of diagnosis, site, age, .*; found 'iq'"):
        load_abide(root, atlases=[CC200], target="iq")


def test_labels_of_the_header_are_checked(root):
    folder = root / "cpac/filt_global/rois_cc200"
    write_file(folder, FILE_IDS[3], CC200, labels=[1, 2, 5, 10])
    with pytest.raises(DataError, match=r"found 1 that does not\. Caltech_0051457_rois_cc200\.1D: .*only in the file: 10; only in the atlas: 9\."):
        load_abide(root, atlases=[CC200])
    write_file(folder, FILE_IDS[3], CC200)
    larger = Atlas("cc200", np.array([1, 2, 5, 9, 11]), ("",) * 5, np.zeros((5, 3)), ("",) * 5)
    with pytest.raises(AtlasError, match=r"Expected the 4 files in .* to fit.*only in the file: none; only in the atlas: 11\. .*atlas\.select"):
        load_abide(root, atlases=[larger])


def test_no_files_there(root):
    with pytest.raises(
        DataError,
        match=r"Expected files \*_rois_cc200\.1D in .*niak/<strategy>/rois_cc200 .*There are some in cpac/filt_global: name that",
    ):
        load_abide(root, atlases=[CC200], pipeline="niak")
    with pytest.raises(DataError, match=r"Expected files \*_rois_aal\.1D .*Check the folder, or use fetch_abide"):
        load_abide(root, atlases=[AAL116])


def test_one_of_several_pipelines_has_to_be_named(root):
    for file_id in FILE_IDS:
        write_file(root / "ccs" / "nofilt_global", file_id, CC200)
    with pytest.raises(ChoiceError, match="one pipeline and strategy for rois_cc200, found ccs/nofilt_global, cpac/filt_global. Name one with"):
        load_abide(root, atlases=[CC200])
    assert load_abide(root, atlases=[CC200], pipeline="ccs").regions["cc200"].provenance.pipeline == "ccs nofilt_global"


def test_files_in_one_folder_say_nothing_of_their_pipeline(root):
    for path in (root / "cpac/filt_global/rois_cc200").iterdir():
        path.rename(root / path.name)
    cohort = load_abide(root, atlases=[CC200])
    assert (cohort.ids, cohort.regions["cc200"].provenance.pipeline) == (IDS, "")


def test_named_lists(root):
    cohort = load_abide(root, atlases=[CC200], subjects="abide1-1035")
    assert (cohort.name, cohort.ids) == ("abide1-1035", IDS)
    passed = load_abide(root, atlases=[CC200], subjects="abide1-871")
    assert (passed.name, passed.ids) == ("abide1-871", [IDS[0], IDS[1], IDS[3]]), "rater 1 failed one of them"
    assert ["subject", IDS[2], "not in the list abide1-871"] in passed.excluded.to_numpy().tolist()
    assert ["subject", "Caltech_0051456_rois_cc200.1D", "a file, not in the list abide1-871"] in passed.excluded.to_numpy().tolist()
    with pytest.raises(ConfigError, match="Expected subjects to be one of 'abide1-1035', 'abide1-871'; found 'abide1-100'"):
        load_abide(root, atlases=[CC200], subjects="abide1-100")


def test_stand_ins_have_the_labels_of_the_files(root):
    for file_id in FILE_IDS:
        write_file(root / "dparsf/filt_global/rois_aal", file_id, AAL116)
    found = {atlas.name: atlas.labels.tolist() for atlas in atlases_of_files(list_files(root))}
    assert found == {"cc200": [1, 2, 5, 9], "aal116": [2001, 2002, 9170]}


def test_an_atlas_the_project_does_not_have(root):
    schaefer = Atlas("schaefer100", np.array([1]), ("",), np.zeros((1, 3)), ("",))
    with pytest.raises(AtlasError, match=r"Expected an atlas of the Preprocessed Connectomes Project \(aal116, cc200, .*\), found 'schaefer100'"):
        load_abide(root, atlases=[schaefer])


def test_tables_that_do_not_fit(root):
    PHENOTYPIC.drop(columns=["FIQ", "SEX"]).to_csv(root / PHENOTYPIC_FILE, index=False)
    with pytest.raises(SchemaError, match=r"Expected the columns \['SEX', 'FIQ'\] in .*Give the project's own table"):
        load_abide(root, atlases=[CC200])
    pd.concat([PHENOTYPIC, PHENOTYPIC.head(1)]).to_csv(root / PHENOTYPIC_FILE, index=False)
    with pytest.raises(SchemaError, match=r"Expected each subject id once, found 1 repeated: \['0050102'\]"):
        load_abide(root, atlases=[CC200])
    with pytest.raises(DataError, match="Expected the table of subjects at .*nowhere.csv, found no such file"):
        load_abide(root, atlases=[CC200], phenotypic=root / "nowhere.csv")


# Download


@pytest.fixture
def nilearn_data(tmp_path):
    """What nilearn's fetcher leaves behind; what lies there is not fetched again, so that the true fetcher runs without a network."""
    base = tmp_path / "ABIDE_pcp"
    base.mkdir()
    PHENOTYPIC.to_csv(base / PHENOTYPIC_FILE)
    for file_id in FILE_IDS:
        write_file(base / "cpac" / "filt_global", file_id, CC200)
        write_file(base / "cpac" / "nofilt_noglobal", file_id, AAL116)
    return tmp_path


def test_fetch(nilearn_data):
    cohort = fetch_abide(nilearn_data, atlases=[CC200], verbose=0)
    assert cohort.ids == IDS
    np.testing.assert_allclose(cohort.regions["cc200"].values[IDS[1]], series_of(FILE_IDS[1], CC200), rtol=1e-6)
    assert cohort.regions["cc200"].provenance.pipeline == "cpac filt_global"


def test_fetch_of_some_subjects(nilearn_data):
    cohort = fetch_abide(nilearn_data, atlases=[CC200], n_subjects=3, verbose=0)
    assert cohort.ids == IDS[:3]
    assert ["subject", "0051457", "not fetched"] in cohort.excluded.to_numpy().tolist()
    cohort = fetch_abide(nilearn_data, atlases=[AAL116], band_pass_filtering=False, global_signal_regression=False, quality_checked=True, verbose=0)
    assert cohort.ids == [IDS[0], IDS[1], IDS[3]], "one failed the quality control"
    assert cohort.regions["aal116"].provenance.pipeline == "cpac nofilt_noglobal"


def test_fetch_that_fails(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"Expected to download ABIDE I with nilearn, found no way (.|\n)*use load_abide"):
        fetch_abide(tmp_path / "file" / "below", atlases=[CC200], verbose=0)


def test_fetch_of_an_unknown_atlas():
    with pytest.raises(AtlasError, match="found 'toy'"):
        fetch_abide(atlases=[Atlas("toy", np.array([1]), ("",), np.zeros((1, 3)), ("",))])


# The real files


def real_atlas(shared_data, name):
    table = pd.read_csv(shared_data / "brain" / "atlases" / "coords" / f"pcp_{name}.csv", keep_default_na=False)
    networks = tuple("" if network == "none" else network for network in table["yeo7"])
    return Atlas(name, table["code"].to_numpy(), tuple(table["name"]), table[["x", "y", "z"]].to_numpy(), networks)


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "pipeline"), [("cc200", "cpac"), ("aal116", "dparsf")])
def test_real_text_files_and_arrays_agree(shared_data, name, pipeline):
    folder = shared_data / "brain" / "abide1"
    atlas = real_atlas(shared_data, name)
    texts = load_abide(folder / "pcp_layout", atlases=[atlas], pipeline=pipeline)
    arrays = load_abide_arrays(folder, atlases=[atlas], cohort="all").select(texts.ids)
    assert len(texts) == 8
    pd.testing.assert_frame_equal(texts.subjects, arrays.subjects)
    for subject in texts.ids:
        seen = texts.regions[name].observed[subject]
        np.testing.assert_array_equal(seen, arrays.regions[name].observed[subject])
        text, packed = (np.corrcoef(cohort.regions[name].values[subject][:, seen].T) for cohort in (texts, arrays))
        assert np.abs(text - packed).max() < 0.01


@pytest.mark.shared_data
def test_real_arrays(shared_data):
    atlases = [real_atlas(shared_data, name) for name in ("cc200", "ho111", "aal116")]
    start = time.process_time()
    cohort = load_abide_arrays(shared_data / "brain" / "abide1", atlases=atlases)
    assert time.process_time() - start < 5
    assert isinstance(cohort, Cohort)
    assert len(cohort) == 809
    assert cohort.subjects["site"].nunique() == 15
    assert cohort.target().value_counts().to_dict() == {"control": 422, "autism": 387}
    assert all(len(data) == 809 for data in cohort.regions.values())
    assert all(data.values[subject].dtype == np.float32 for data in cohort.regions.values() for subject in cohort.ids[:5])


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "known"), [("cc200", 0.741), ("ho111", 0.746), ("aal116", 0.697)])
def test_a_linear_model_scores_what_is_known_of_these_data(shared_data, name, known):
    """Leave-one-site-out AUROC of a linear support vector machine on Fisher-z correlations; another figure means another reading of the files."""
    cohort = load_abide_arrays(shared_data / "brain" / "abide1", atlases=[real_atlas(shared_data, name)])
    above = np.triu_indices(len(cohort.atlas(name)), 1)
    features = []
    for subject in cohort.ids:
        seen = cohort.regions[name].observed[subject]
        matrix = np.zeros((len(seen), len(seen)), dtype=np.float32)
        matrix[np.ix_(seen, seen)] = np.corrcoef(cohort.regions[name].values[subject][:, seen].T)
        features.append(np.arctanh(matrix[above].clip(-0.999999, 0.999999)))
    gram = (np.stack(features) @ np.stack(features).T).astype(np.float64)
    autism, site = (cohort.target() == "autism").to_numpy(), cohort.subjects["site"].to_numpy()
    scores = []
    for left_out in np.unique(site):
        test = site == left_out
        train = ~test
        to_mean = gram[:, train].mean(axis=1)
        kernel = gram - to_mean[:, None] - to_mean[None, :] + gram[np.ix_(train, train)].mean()
        # Scaled as a whole, by the mean squared length of a training subject: with C = 1 the penalty depends on it.
        kernel /= kernel.diagonal()[train].mean()
        machine = SVC(kernel="precomputed", class_weight="balanced").fit(kernel[np.ix_(train, train)], autism[train])
        scores.append(roc_auc_score(autism[test], machine.decision_function(kernel[np.ix_(test, train)])))
    assert len(scores) == 15
    assert np.mean(scores) == pytest.approx(known, abs=0.005)
