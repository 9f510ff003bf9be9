"""Several modalities through the verbs: a run that trains, a model that says what it lacks, and comparisons by name."""

import pandas as pd
import pytest

from graphssl.data import ColumnTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.encoders import Concatenation, MultimodalEncoder, ResNet, TableTransformer
from graphssl.errors import CheckpointError, ConfigError
from graphssl.evaluation import EmbeddingBoosting, LateAverage, MissingAtTest, ModalityClassifier
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import Experiment
from graphssl.experiment.embed import embed
from graphssl.experiment.evaluation_settings import EvaluationSettings
from graphssl.experiment.finetune import run_finetune
from graphssl.experiment.methods import _with_missing, make_method, objective_of
from graphssl.objectives.masked_modality import MaskedModality
from graphssl.training import TrainingSettings, load_model, untrained

QUICK = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")
SOURCE = CohortSource("simulate_multimodal", {"atlases": ["simulated24"], "n_subjects": 24, "size": 8, "shares": {"table": 0.8, "image": 0.8}})


def experiment_in(output, **changes):
    modalities = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder()})
    encoders = {"table": TableTransformer(8, depth=1, heads=2), "image": ResNet(2, width=4, blocks=(1, 1), stem="small", norm="group")}
    settings = {"encoder": MultimodalEncoder(encoders, Concatenation(8)), "modalities": modalities, "pretraining": QUICK, "finetuning": QUICK}
    return Experiment("several", **{"cohort": SOURCE, **settings, "output": str(output), **changes})


@pytest.fixture(scope="module")
def cohort():
    return SOURCE.load()[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fine-tuned run."""
    output = tmp_path_factory.mktemp("runs")
    run_finetune(experiment_in(output), "name: several")
    return output / "several"


def test_a_run_keeps_a_model_that_answers_from_any_mix(run, cohort, tmp_path):
    model = load_model(run / "model")
    assert model.builder.counts_[""] == 21  # the others chose the epoch
    assert "table" in (run / "model" / "README.md").read_text()
    cohort.save(tmp_path / "cohort")
    table = embed(run / "model", tmp_path / "cohort", tmp_path / "embedded.csv")
    having = {subject: "; ".join(n for n in ("table", "image") if subject in model.builder.builders_[n].readable(cohort)) for subject in cohort.ids}
    assert table.set_index("subject_id")["modalities"].to_dict() == having
    assert pd.read_csv(tmp_path / "embedded.csv")["probability_patient"].between(0, 1).all()


def test_a_modality_that_nobody_has_at_test_is_said(run, cohort):
    model = load_model(run / "model")
    tables = cohort.select(model.builder.builders_["table"].readable(cohort))
    without = type(tables)(tables.name, tables.subjects, tables.schema)
    with pytest.warns(UserWarning, match="Nobody of 'multimodal' has image, which the training subjects had"):
        probability = model.predict_proba(without)
    assert probability.shape == (len(without), 2)


def test_a_modality_that_the_model_was_not_trained_on_is_refused(run, cohort, tmp_path):
    more = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder(), "second": ImageBuilder()})
    with pytest.raises(ConfigError, match=r"Expected the modalities of the model in .*model \(table, image\), found second too"):
        run_finetune(experiment_in(tmp_path, modalities=more), "name: several", model=str(run / "model"))
    alone = cohort.select(ColumnTokenizer().readable(cohort))
    untrained(alone, encoder=TableTransformer(8, depth=1, heads=2), builder=ColumnTokenizer(n_pieces=4)).save_pretrained(tmp_path / "table")
    with pytest.raises(ConfigError, match="Expected a model of table, image in .*table, found one of numbers, categories alone. Start a modality"):
        run_finetune(experiment_in(tmp_path), "name: several", model=str(tmp_path / "table"))


def test_a_model_whose_columns_are_of_another_is_refused(run, tmp_path):
    folder = tmp_path / "model"
    model = load_model(run / "model")
    other = model.encoder.arguments()
    other["encoders"]["table"]["arguments"]["numbers"] = ["height"]
    type(model)(model.builder, MultimodalEncoder(**other)).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"made for the numbers \['height'\]"):
        load_model(folder)


def test_comparisons_have_names(tmp_path):
    experiment = experiment_in(tmp_path)
    assert isinstance(objective_of(experiment), MaskedModality)
    kinds = {"only_image": ModalityClassifier, "late_average": LateAverage, "concatenated_boosting": EmbeddingBoosting}
    assert all(isinstance(make_method(name, experiment), kind) for name, kind in kinds.items())
    with pytest.raises(ConfigError, match="Expected methods of one modality among only_table, only_image; found 'only_text'"):
        make_method("only_text", experiment)
    with pytest.raises(ConfigError, match="Expected one of the methods to compare with, found 'gcn', which reads other data"):
        make_method("gcn", experiment)


def test_scratch_starts_from_nothing(tmp_path):
    arguments = {**experiment_in(tmp_path).encoder.arguments(), "frozen": ("image",), "initial": {"image": "runs/x/encoder"}}
    experiment = experiment_in(tmp_path, encoder=MultimodalEncoder(**arguments))
    assert make_method("scratch", experiment).encoder.initial == {}
    assert make_method("scratch", experiment).encoder.frozen == ()
    assert make_method("pretrained", experiment).encoder.initial == {"image": "runs/x/encoder"}


def test_missing_modalities_are_methods_beside_the_others(tmp_path):
    settings = EvaluationSettings(methods=("pretrained", "only_table"), baselines=(), audited=(), missing={"image": (0.5, 1.0)})
    experiment = experiment_in(tmp_path, evaluation=settings)
    methods = {name: make_method(name, experiment) for name in settings.methods}
    swept = _with_missing(experiment, methods)
    assert list(swept) == ["pretrained", "pretrained|missing_image_50", "pretrained|missing_image_100"]
    assert [method.share for method in swept.values()] == [0.0, 0.5, 1.0]
    assert all(isinstance(method, MissingAtTest) for method in swept.values())
    assert _with_missing(experiment_in(tmp_path), methods) == {}
    wrong = EvaluationSettings(methods=(), baselines=(), audited=(), missing={"text": (1.0,)})
    for changes in ({}, {"modalities": None, "columns": ColumnTokenizer()}):
        with pytest.raises(ConfigError, match="Expected missing to name modalities of the experiment"):
            _with_missing(experiment_in(tmp_path, evaluation=wrong, **changes), {})
