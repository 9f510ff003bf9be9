"""Configurations: read from YAML and command line, refused with the nearest known key, written so that they can be given back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl.cli import main
from graphssl.data import Atlas, Cohort, Column, Schema, StreamedCohort, write_shards
from graphssl.datasets import GroundTruth
from graphssl.encoders import GraphTransformer
from graphssl.errors import AtlasError, ConfigError, DataError
from graphssl.estimators import ConnectomeClassifier
from graphssl.experiment.config import OURS, CohortSource, EvaluationSettings, experiment_parser, instantiate, read_experiment
from graphssl.experiment.methods import make_method, make_tuned
from graphssl.experiment.runs import RunFolder
from graphssl.graphs import CohortHarmonizer
from graphssl.objectives import MaskedConnections, MaskedRegions, NTXent, WeightedSum
from graphssl.views import Compose, TimeWindow, WeightNoise

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIMULATED = {"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2}}


@pytest.fixture
def write(tmp_path):
    """Writer of configurations: `write(name="study", …)` gives the path."""

    def writer(**settings):
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"name": "study", "cohort": SIMULATED, **settings}), encoding="utf-8")
        return str(path)

    return writer


def read(path, *words):
    return read_experiment(["--config", path, *words])


# Those that come along


# Meta-learning has sources and a target in place of a cohort, a study has parts; tests/test_configs.py runs both.
OF_ONE_COHORT = sorted(set(CONFIGS.rglob("*.yaml")) - set(CONFIGS.rglob("*_meta.yaml")) - set(CONFIGS.glob("studies/*.yaml")))


@pytest.mark.parametrize("path", OF_ONE_COHORT, ids=lambda path: path.stem)
def test_every_shipped_configuration_can_be_read(path):
    experiment, _ = read(str(path))
    assert experiment.evaluation.methods
    assert make_method(experiment.evaluation.methods[0], experiment).get_params()


def test_the_label_fractions_are_those_of_the_field():
    settings = read(str(CONFIGS / "abide" / "label_fractions.yaml"))[0].evaluation
    assert settings.label_fractions == (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
    assert len(settings.seeds) >= 5


# What is tuned


def test_what_is_tuned_becomes_an_estimator_that_chooses(write):
    grids = {
        "pretrained": {
            "objective": [
                {"class_path": "graphssl.objectives.MaskedConnections", "init_args": {"ratio": 0.4}},
                {"class_path": "graphssl.objectives.MaskedRegions"},
            ],
            "finetuning__learning_rate": [0.1, 0.01],
            "mode": ["probe"],
        },
        "svm_partial": {"classifier__model__C": [0.1, 1.0]},
    }
    experiment, text = read(write(evaluation={"tuned": grids, "n_inner": 4}))
    ours = make_tuned("pretrained", experiment)
    assert isinstance(ours.estimator, ConnectomeClassifier)
    assert [type(objective).__name__ for objective in ours.grid["objective"]] == ["MaskedConnections", "MaskedRegions"]
    assert ours.grid["objective"][0].ratio == 0.4
    assert (ours.grid["finetuning__learning_rate"], ours.n_inner, ours.inner) == ([0.1, 0.01], 4, "site")
    experiment.evaluation = replace(experiment.evaluation, protocol="k_fold")
    svm = make_tuned("svm_partial", experiment)
    assert (svm.grid, svm.inner) == (grids["svm_partial"], "subject")
    written = yaml.safe_load(text)["evaluation"]["tuned"]["pretrained"]
    assert written["objective"][0]["init_args"]["ratio"] == 0.4
    assert written["mode"] == ["probe"]


def test_scores_must_be_known(write):
    assert read(write(evaluation={"scores": ["physionet2012_event2"]}))[0].evaluation.scores == ("physionet2012_event2",)
    with pytest.raises(ConfigError, match="Expected scores among .*found 'physionet2012_event3'.*Did you mean 'physionet2012_event2'"):
        read(write(evaluation={"scores": ["physionet2012_event3"]}))


def test_what_is_to_be_tuned_must_be_known(write):
    with pytest.raises(ConfigError, match="methods or baselines to tune, found 'svm_tangents'. Did you mean 'svm_tangent'"):
        read(write(evaluation={"tuned": {"svm_tangents": {"classifier__model__C": [1.0]}}}))


# Reading


def test_a_configuration_becomes_objects(write):
    path = write(
        target="diagnosis",
        encoder={"class_path": "graphssl.encoders.GraphTransformer", "init_args": {"width": 16, "heads": 2}},
        objective={"class_path": "graphssl.objectives.MaskedConnections", "init_args": {"ratio": 0.4}},
        builder={"kind": "partial correlation"},
        pretraining={"max_epochs": 3},
        evaluation={"seeds": [4], "methods": ["scratch"], "audited": []},
    )
    experiment, _ = read(path)
    assert (experiment.name, experiment.target, experiment.output) == ("study", "diagnosis", "runs")
    assert isinstance(experiment.encoder, GraphTransformer)
    assert (experiment.encoder.width, experiment.encoder.depth) == (16, 2)
    assert isinstance(experiment.objective, MaskedConnections)
    assert experiment.objective.ratio == 0.4
    assert experiment.builder.kind == "partial correlation"
    assert (experiment.pretraining.max_epochs, experiment.pretraining.batch_size) == (3, 32)
    assert experiment.evaluation.seeds == (4,)
    assert experiment.cohort.arguments["n_subjects"] == 24


def test_how_the_classes_count(write):
    assert read(write())[0].class_weight == "balanced"
    experiment, text = read(write(class_weight=None))
    assert experiment.class_weight is None
    assert yaml.safe_load(text)["class_weight"] is None
    with pytest.raises(ConfigError, match=r'"class_weight": Expected a typing.Literal\[.balanced.\]'):
        read(write(class_weight="equal"))


def test_a_harmoniser_before_the_encoder(write):
    harmonizer = {"class_path": "graphssl.graphs.CohortHarmonizer", "init_args": {"covariates": ["age", "sex"], "unseen": "pooled"}}
    experiment, text = read(write(builder={"harmonizer": harmonizer}))
    assert experiment.builder.harmonizer.get_params() == CohortHarmonizer(["age", "sex"], "pooled").get_params()
    assert yaml.safe_load(text)["builder"]["init_args"]["harmonizer"]["init_args"]["unseen"] == "pooled"
    with pytest.raises(ConfigError, match="'?unsen'? is not (accepted|expected)"):
        read(write(builder={"harmonizer": {**harmonizer, "init_args": {"unsen": "pooled"}}}))


def test_stages_become_a_chain_and_can_be_given_back(write, tmp_path):
    stages = [
        {"name": "public", "cohort": {"adapter": "simulate", "arguments": {**SIMULATED["arguments"], "seed": 3}}, "epochs": 5, "anchor": 0.1},
        {"name": "task", "objective": {"class_path": "graphssl.objectives.MaskedConnections"}, "pretraining": {"max_epochs": 2}},
    ]
    experiment, text = read(write(stages=stages))
    public, task = experiment.chain
    assert (public.name, public.epochs, public.anchor, len(public.cohort), task.cohort) == ("public", 5, 0.1, 24, None)
    assert (type(task.objective), task.settings.max_epochs, public.settings) == (MaskedConnections, 2, None)
    assert make_method("pretrained", experiment).stages == experiment.chain
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    again, same = read(str(tmp_path / "again.yaml"))
    assert same == text
    assert [stage.described() for stage in again.chain] == [stage.described() for stage in experiment.chain]
    assert "stages" not in read(write())[1]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"name": "a b"}, "Expected a name of a stage of letters"),
        ({"name": "a", "epochs": -1}, "Expected epochs ≥ 0"),
        ({"name": "a", "columns": {}, "images": {}}, "found columns and images"),
        ({"name": "a", "anker": 1.0}, "anchor"),
    ],
)
def test_stages_that_do_not_fit(write, stage, message):
    with pytest.raises(ConfigError, match=message):
        read(write(stages=[stage]))


def test_what_is_left_out_has_the_defaults_of_the_constructors(write):
    experiment, _ = read(write())
    assert (experiment.encoder, experiment.objective, experiment.builder) == (None, None, None)
    assert experiment.evaluation == EvaluationSettings()


def test_the_command_line_goes_over_the_file(write):
    path = write(pretraining={"max_epochs": 30, "batch_size": 8})
    experiment, _ = read(
        path, "--pretraining.max_epochs", "3", "--cohort.arguments.n_subjects", "40", "--name", "other", "--evaluation.seeds", "[7, 8]"
    )
    assert (experiment.pretraining.max_epochs, experiment.pretraining.batch_size) == (3, 8)
    assert experiment.cohort.arguments == {"atlases": ["simulated20"], "n_subjects": 40, "sites": 2}
    assert (experiment.name, experiment.evaluation.seeds) == ("other", (7, 8))


def test_an_encoder_may_be_named_on_the_command_line(write):
    experiment, _ = read(write(), "--encoder", "MLP", "--encoder.width", "8")
    assert type(experiment.encoder).__name__ == "MLP"
    assert experiment.encoder.width == 8


def test_the_resolved_configuration_can_be_given_back(write, tmp_path):
    path = write(
        encoder={"class_path": "graphssl.encoders.GraphTransformer", "init_args": {"width": 16}},
        builder={"kind": "correlation"},
        pretraining={"max_epochs": 30},
    )
    _, text = read(path, "--pretraining.max_epochs", "3")
    written = tmp_path / "config.yaml"
    written.write_text(text, encoding="utf-8")
    again, same = read(str(written))
    assert same == text
    assert again.pretraining.max_epochs == 3
    hashes = [RunFolder(tmp_path / "run", "evaluate", configuration).hash for configuration in (text, same)]
    assert hashes[0] == hashes[1]
    assert yaml.safe_load(text)["encoder"]["init_args"]["depth"] == 2, "defaults are written out"


def test_what_does_not_change_the_numbers_does_not_change_the_run(write, tmp_path):
    def run_hash(*words):
        return RunFolder(tmp_path / "run", "evaluate", read(path, *words)[1]).hash

    path = write()
    same = ["--output", "elsewhere", "--evaluation.n_jobs", "2", "--pretraining.progress", "true", "--finetuning.accelerator", "cpu"]
    assert run_hash(*same) == run_hash()
    for words in (["--seed", "1"], ["--pretraining.max_epochs", "3"], ["--cohort.arguments.n_subjects", "40"], ["--evaluation.seeds", "[0]"]):
        assert run_hash(*words) != run_hash()


def test_objectives_and_views_may_stand_inside_one_another(write, tmp_path):
    window = {"class_path": "graphssl.views.TimeWindow", "init_args": {"share": 0.4}}
    noise = {"class_path": "graphssl.views.WeightNoise"}
    view = {"class_path": "graphssl.views.Compose", "init_args": {"views": [window, noise]}}
    parts = {"regions": {"class_path": "graphssl.objectives.MaskedRegions"}, "views": {"class_path": "NTXent", "init_args": {"view": view}}}
    path = write(objective={"class_path": "graphssl.objectives.WeightedSum", "init_args": {"objectives": parts, "weights": {"views": 0.5}}})
    experiment, text = read(path)
    expected = WeightedSum({"regions": MaskedRegions(), "views": NTXent(Compose((TimeWindow(0.4), WeightNoise())))}, {"views": 0.5})
    assert repr(experiment.objective) == repr(expected)
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    again, same = read(str(tmp_path / "config.yaml"))
    assert same == text
    assert repr(again.objective) == repr(expected)


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nam": "x"}, r"'nam' is not accepted\. Did you mean 'name'"),
        ({"objectiv": None}, r"'objectiv' is not accepted\. Did you mean 'objective'"),
        ({"pretraining": {"epochs": 3}}, r"'pretraining' does not accept option 'epochs'\. Did you mean 'max_epochs'"),
        ({"evaluation": {"seed": [0]}}, r"does not accept option 'seed'"),
        ({"evaluation": {"protocl": "k_fold"}}, r"option 'protocl'\. Did you mean 'protocol'"),
        ({"cohort": {"adaptor": "simulate"}}, r"option 'adaptor'\. Did you mean 'adapter'"),
        ({"encoder": {"class_path": "GraphTransformer", "init_args": {"widht": 3}}}, r"'widht' is not accepted\. Did you mean 'width'"),
        ({"objective": {"class_path": "MaskedRegions", "init_args": {"ration": 0.3}}}, r"'ration' is not accepted\. Did you mean 'ratio'"),
        ({"objective": {"class_path": "NTXent", "init_args": {"temprature": 0.3}}}, r"'temprature' is not accepted\. Did you mean 'temperature'"),
        (
            {"objective": {"class_path": "NTXent", "init_args": {"view": {"class_path": "graphssl.views.TimeWindow", "init_args": {"shar": 0.3}}}}},
            "Did you mean 'share'",
        ),
        ({"builder": {"knid": "correlation"}}, r"'knid'.*Did you mean 'kind'"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_known_one(write, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(write(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pretraning.max_epochs", "3"], r"--pretraning\.max_epochs 3\. Did you mean 'pretraining'"),
        (["--pretraining.max_epoch", "3"], "Did you mean 'max_epochs'"),
        (["--encoder", "GraphTransformer", "--encoder.widht", "3"], "Did you mean 'width'"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest_known_one(write, words, message):
    with pytest.raises(ConfigError, match=message):
        read(write(), *words)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretraining": {"max_epochs": "many"}}, r"\"pretraining\.max_epochs\": Expected a <class 'int'>"),
        ({"pretraining": {"max_epochs": 0}}, "max_epochs above 0, found 0"),
        ({"evaluation": {"protocol": "loso"}}, r"'leave_one_site_out', 'k_fold'.*loso"),
        ({"evaluation": {"seeds": "all"}}, r"\"evaluation\.seeds\""),
        ({"seed": 1.5}, r"\"seed\": Expected a <class 'int'>"),
        ({"classes": "patient"}, r"\"classes\""),
        ({"encoder": {"class_path": "graphssl.encoders.Nope"}}, "has no attribute 'Nope'"),
        ({"encoder": {"class_path": "graphssl.objectives.MaskedRegions"}}, "MaskedRegions"),
        ({"encoder": {"class_path": "GraphTransformer", "init_args": {"width": 16, "heads": 3}}}, "width to be a multiple of the 3 heads, found 16"),
        ({"objective": {"class_path": "MaskedRegions", "init_args": {"ratio": 1.5}}}, "0 < ratio < 1"),
    ],
)
def test_values_that_do_not_fit(write, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(write(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "name: [x\n", "\x00"])
def test_a_file_that_is_no_configuration(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="configuration that fits"):
        read(str(tmp_path / "study.yaml"))


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"File does not exist: .*none\.yaml"):
        read(str(tmp_path / "none.yaml"))


def test_a_cohort_is_needed():
    with pytest.raises(ConfigError, match="Expected the cohort to have a path or an adapter, found neither"):
        read_experiment(["--name", "study"])


# How to evaluate


@pytest.mark.parametrize("name", OURS)
def test_known_methods(name):
    assert EvaluationSettings(methods=(name,), audited=(name,)).methods == (name,)


def test_unknown_methods_baselines_and_audits():
    with pytest.raises(ConfigError, match=r"methods among pretrained, .*; found 'pretrain'\. Did you mean 'pretrained'\?"):
        EvaluationSettings(methods=("pretrain",))
    with pytest.raises(ConfigError, match=r"baselines among .*; found 'logistic'\. Did you mean 'logistic_\w+'\?"):
        EvaluationSettings(baselines=("logistic",))
    with pytest.raises(ConfigError, match=r"audited methods to be among the methods and baselines, found \['gat'\]"):
        EvaluationSettings(audited=("gat",))


# The cohort


def test_an_adapter_is_called_with_atlases_made_of_names():
    cohort, truth = CohortSource("simulate", {"atlases": ["simulated20", "small=simulated10"], "n_subjects": 8, "sites": 2}).load()
    assert isinstance(cohort, Cohort)
    assert isinstance(truth, GroundTruth)
    assert [(name, len(data.atlas)) for name, data in cohort.regions.items()] == [("simulated20", 20), ("small", 10)]


def saved_cohort(folder: str, size: int = 8) -> Cohort:
    """An adapter of somebody's own."""
    return Cohort.load(folder).select(Cohort.load(folder).ids[:size])


def whole_atlas(atlas: Atlas) -> Cohort:
    """An adapter that wants one atlas."""
    assert isinstance(atlas, Atlas)
    raise DataError(f"found {len(atlas)} regions")


def test_an_adapter_may_be_any_function_by_its_dotted_name(make_cohort, tmp_path, monkeypatch):
    import sys

    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "own_adapters", module)
    make_cohort().save(tmp_path / "cohort")
    cohort, truth = CohortSource("own_adapters.saved_cohort", {"folder": str(tmp_path / "cohort"), "size": 6}).load()
    assert (len(cohort), truth) == (6, None)
    with pytest.raises(DataError, match="found 12 regions"):
        CohortSource("own_adapters.whole_atlas", {"atlas": "simulated12"}).load()


def test_errors_of_the_data_stay_what_they_are(tmp_path):
    with pytest.raises(DataError, match="Expected a folder at"):
        CohortSource("load_timeseries", {"folder": str(tmp_path / "none"), "atlas": "simulated20"}).load()
    with pytest.raises(AtlasError, match="simulated<N>"):
        CohortSource("load_timeseries", {"folder": str(tmp_path), "atlas": "cc2000"}).load()


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("load_timeserie", r"found 'load_timeserie'\. Did you mean 'load_timeseries'\?"),
        ("zzz", "function of graphssl.datasets or a dotted name, found 'zzz'"),
        ("no_such_package.load", "found 'no_such_package.load'"),
        ("os.environ", "found 'os.environ'"),
        ("", "found ''"),
    ],
)
def test_unknown_adapters(adapter, message):
    with pytest.raises(ConfigError, match=message):
        CohortSource(adapter).load()


def test_sources_of_the_same_subjects_are_put_side_by_side(make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=8)
    cohort.save(tmp_path / "scans")
    more = pd.DataFrame({"height": range(8)}, index=cohort.subjects.index)
    Cohort("table", more.astype(float), Schema([Column("height", "continuous")])).save(tmp_path / "table")
    source = CohortSource(path=str(tmp_path / "scans"), beside=[{"path": str(tmp_path / "table")}])
    both = source.load()[0]
    assert both.subjects["height"].tolist() == list(range(8))
    assert set(both.regions) == set(cohort.regions)
    assert source.absent() == []
    assert CohortSource(path=str(tmp_path / "scans"), beside=[{"path": str(tmp_path / "none")}]).absent() == [str(tmp_path / "none")]
    with pytest.raises(ConfigError, match="Expected sources beside the first with adapter, arguments, path.*found 'paht'. Did you mean 'path'"):
        CohortSource(path=str(tmp_path / "scans"), beside=[{"paht": "x"}]).load()


def test_sites_of_a_source(make_cohort, tmp_path):
    simulated = {"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 12, "sites": 3}}
    whole = CohortSource(**simulated).load()[0]
    two = CohortSource(**simulated, sites=["site-1", "site-3"]).load()[0]
    other = CohortSource(**simulated, without_sites=["site-1", "site-3"]).load()[0]
    assert set(two.sites) == {"site-1", "site-3"}
    assert set(other.sites) == {"site-2"}
    assert {*two.ids, *other.ids} == set(whole.ids)
    assert two.name == whole.name
    with pytest.raises(ConfigError, match=r"Expected sites of 'simulated' \(site-1, site-2, site-3\), found 'site_2'\. Did you mean 'site-2'"):
        CohortSource(**simulated, sites=["site_2"]).load()


def test_a_path_is_opened_as_what_it_is_recognised_as(write, make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=8)
    folder = str(cohort.save(tmp_path / "saved"))
    experiment, text = read(write(cohort={"path": folder}))
    assert experiment.cohort.load()[0].hash == cohort.hash
    assert yaml.safe_load(text)["cohort"] == {"path": folder, "arguments": {}}
    plain = yaml.safe_load(read(write())[1])
    assert not {"path", "beside"} & set(plain["cohort"]), "runs of adapters keep their hash"
    assert "modalities" not in plain, "and so do those of one kind of data"
    assert "missing" not in plain["evaluation"]
    np.savetxt(tmp_path / "01.csv", np.full((20, 20), 0.3), delimiter=",")
    matrices = {"path": str(tmp_path / "01.csv"), "arguments": {"atlas": "simulated20"}}
    experiment, _ = read(write(cohort=matrices), "--cohort.arguments.fisher_z", "true")
    assert experiment.cohort.load()[0].regions["simulated20"].provenance.fisher_z


def test_options_of_a_path_are_those_of_the_command_line(write, tmp_path):
    with pytest.raises(ConfigError, match=r"options, found 'atlases'\. Did you mean 'atlas'\?"):
        CohortSource(path=str(tmp_path), arguments={"atlases": ["simulated20"]}).load()
    with pytest.raises(DataError, match="Expected a folder or a file at .*none, found nothing"):
        CohortSource(path=str(tmp_path / "none")).load()
    for settings, found in (({}, "neither"), ({"path": "x", "adapter": "simulate"}, "both")):
        with pytest.raises(ConfigError, match=f"Expected the cohort to have a path or an adapter, found {found}"):
            read(write(cohort=settings))


def test_arguments_of_the_adapter():
    with pytest.raises(ConfigError, match=r"arguments of simulate, found 'n_subject'\. Did you mean 'n_subjects'\?"):
        CohortSource("simulate", {"atlases": ["simulated20"], "n_subject": 8}).load()
    with pytest.raises(ConfigError, match=r"arguments that simulate needs, found none for one of them: missing a required argument: 'atlases'"):
        CohortSource("simulate", {"n_subjects": 8}).load()


def test_the_address_of_a_database(write, tmp_path, capsys):
    plain, with_password = "postgresql://reader@host/omop", "postgresql://reader:s3cret@host/omop"
    assert CohortSource("load_omop", {"source": plain}).absent() == []
    path = write(cohort={"adapter": "load_omop", "arguments": {"source": with_password}})
    with pytest.raises(ConfigError, match="Expected the address of a database without a password") as caught:
        read(path)
    assert "s3cret" not in str(caught.value)
    assert main(["pretrain", "--config", str(path), "--output", str(tmp_path / "runs")]) == 2
    assert "s3cret" not in "".join(capsys.readouterr())
    assert not (tmp_path / "runs").exists()


def test_absent_files_are_named(tmp_path):
    (tmp_path / "scans").mkdir()
    here, table = str(tmp_path / "scans"), str(tmp_path / "atlas.tsv")
    source = CohortSource("load_timeseries", {"folder": here, "atlas": f"own={table}", "participants": str(tmp_path / "none.tsv")})
    assert source.absent() == [str(tmp_path / "none.tsv"), table]
    assert CohortSource("load_timeseries", {"folder": here, "atlas": "simulated20"}).absent() == []
    assert CohortSource("load_abide_arrays", {"root": "no/such", "atlases": ["cc200=no/such.csv", "simulated20"]}).absent() == [
        "no/such",
        "no/such.csv",
    ]
    assert CohortSource("simulate", {"atlases": ["simulated20"]}).absent() == []
    assert CohortSource(path=here, arguments={"atlas": f"own={table}", "participants": "none.tsv"}).absent() == ["none.tsv", table]
    assert CohortSource(path="no/such").absent() == ["no/such"]
    with pytest.raises(ConfigError, match="Did you mean 'folder'"):
        CohortSource("load_timeseries", {"foldr": here}).absent()


def test_parsing_and_making_are_apart(write):
    parser = experiment_parser()
    parsed = parser.parse_args(["--config", write(), "--seed", "5"])
    experiment, text = instantiate(parser, parsed)
    assert experiment.seed == yaml.safe_load(text)["seed"] == 5
    assert "config" not in yaml.safe_load(text)


def test_a_window_streams_shards_and_stands_beside_a_path_alone(make_cohort, tmp_path):
    path = str(write_shards(make_cohort(n_subjects=8), tmp_path / "shards", size=3))
    streamed = CohortSource(path=path, window=2).open()
    assert isinstance(streamed, StreamedCohort)
    assert streamed.window == 2
    assert CohortSource(path=path).open().hash == CohortSource(path=path).load()[0].hash == make_cohort(n_subjects=8).hash
    with pytest.raises(ConfigError, match="Expected a cohort in memory, found window=2"):
        CohortSource(path=path, window=2).load()
    with pytest.raises(ConfigError, match="a window beside the path of a cohort in shards alone, found sites too"):
        CohortSource(path=path, window=2, sites=["site-0"])
