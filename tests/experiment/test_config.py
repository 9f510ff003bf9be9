"""Configurations: read from YAML and command line, refused with the nearest known key, written so that they can be given back."""

from pathlib import Path

import pytest
import yaml

from graphssl.encoders import GraphTransformer
from graphssl.errors import ConfigError
from graphssl.experiment.config import experiment_parser, instantiate, read_experiment
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.methods import make_method
from graphssl.experiment.runs import RunFolder
from graphssl.graphs import CohortHarmonizer
from graphssl.objectives import MaskedConnections, MaskedRegions, NTXent, WeightedSum
from graphssl.views import Compose, TimeWindow, WeightNoise

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


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


def test_parsing_and_making_are_apart(write):
    parser = experiment_parser()
    parsed = parser.parse_args(["--config", write(), "--seed", "5"])
    experiment, text = instantiate(parser, parsed)
    assert experiment.seed == yaml.safe_load(text)["seed"] == 5
    assert "config" not in yaml.safe_load(text)


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
