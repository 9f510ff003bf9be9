"""The smallest run: one step of everything, on simulated data only where the real ones are absent."""

import pytest
import yaml

from graphssl.data import Cohort, Column, Schema
from graphssl.errors import ConfigError, DataError, SchemaError
from graphssl.experiment.config import experiment_parser
from graphssl.experiment.smoke import instantiate_small


@pytest.fixture
def small(write):
    """`small(cohort={…}, …)` gives the small experiment of a configuration and its text."""

    def make(**settings):
        parser = experiment_parser()
        return instantiate_small(parser, parser.parse_args(["--config", write(**settings)]))

    return make


@pytest.fixture(scope="module")
def saved(make_cohort, tmp_path_factory):
    """A saved cohort of three sites with 48 subjects."""
    return make_cohort(n_subjects=48, n_sites=3, n_timepoints=20).save(tmp_path_factory.mktemp("data") / "cohort")


def load_saved(folder: str) -> Cohort:
    """An adapter of a saved cohort."""
    return Cohort.load(folder)


@pytest.fixture
def adapter(monkeypatch):
    """Dotted name of an adapter that reads a saved cohort."""
    import sys

    monkeypatch.setitem(sys.modules, "smoke_adapters", sys.modules[__name__])
    return "smoke_adapters.load_saved"


def test_two_sites_six_of_each_class_one_epoch_one_seed(small, saved, adapter):
    experiment, text = small(
        cohort={"adapter": adapter, "arguments": {"folder": str(saved)}},
        pretraining={"max_epochs": 30, "batch_size": 8},
        evaluation={"seeds": [3, 4], "label_fractions": [0.1, 1.0], "n_splits": 5, "n_jobs": 2},
    )
    cohort, truth = experiment.cohort.load()
    assert cohort.subjects.groupby("site")["diagnosis"].value_counts().to_dict() == {
        (site, diagnosis): 6 for site in ("site-0", "site-1") for diagnosis in ("control", "patient")
    }
    assert truth is None
    assert experiment.name == "study-smoke"
    assert (experiment.pretraining.max_epochs, experiment.pretraining.batch_size, experiment.finetuning.max_epochs) == (1, 8, 1)
    settings = experiment.evaluation
    assert (settings.seeds, settings.label_fractions, settings.n_splits, settings.n_jobs) == ((3,), (1.0,), 2, 1)
    assert text.startswith("# one step of a run, by --smoke\nname: study\n")
    assert yaml.safe_load(text)["pretraining"]["max_epochs"] == 30, "the text is the configuration that was tested"


def test_absent_data_are_replaced_and_text_and_stderr_say_so(small, tmp_path, caplog):
    experiment, text = small(
        cohort={"adapter": "load_abide_arrays", "arguments": {"root": str(tmp_path / "none"), "atlases": [f"cc200={tmp_path / 'none.csv'}"]}},
        target="diagnosis",
        classes=["control", "autism"],
        builder={"kind": "correlation", "atlases": ["cc200"]},
    )
    cohort, truth = experiment.cohort.load()
    assert list(cohort.regions) == ["simulated24"]
    assert truth.affected
    assert (experiment.target, experiment.classes, experiment.builder.atlases) == (None, None, None)
    told = f"simulated data, for there is nothing at {tmp_path / 'none'}, {tmp_path / 'none.csv'}"
    assert f"# {told}\n" in text
    assert caplog.messages == [f"graphssl: {told}"]
    assert yaml.safe_load(text)["cohort"]["adapter"] == "simulate"


def test_absent_events_are_replaced_by_simulated_stays(small, tmp_path):
    experiment, text = small(
        cohort={"adapter": "load_physionet2012", "arguments": {"folder": str(tmp_path / "none")}, "summary": {"min_subjects": 5}},
        target="in_hospital_death",
        classes=["survived", "died"],
        encoder={"class_path": "graphssl.encoders.TimelineTransformer", "init_args": {"width": 8, "heads": 2}},
        timeline={"n_bins": 12, "treatments": ["MechVent"], "columns": ["height"], "codes": ["HR"]},
    )
    cohort, _ = experiment.cohort.load()
    assert len(cohort) == 24
    assert "heart rate mean" in cohort.subjects.columns, "events are summarised for whatever reads tables"
    assert (experiment.builder.n_bins, experiment.builder.treatments) == (12, ["ventilation", "vasopressor"])
    assert experiment.builder.fit(cohort).transform(cohort).values.shape == (24, 12, 6)
    assert yaml.safe_load(text)["cohort"]["adapter"] == "simulate_stays"


def test_a_population_of_absent_timelines_is_one_of_simulated_stays(small, tmp_path):
    tokenizer = {"class_path": "graphssl.data.TimelineTokenizer", "init_args": {"n_bins": 12, "treatments": ["MechVent"], "columns": ["height"]}}
    experiment, text = small(
        cohort={"adapter": "load_physionet2012", "arguments": {"folder": str(tmp_path / "none")}},
        population={"tokenizer": tokenizer, "groups": [{"name": "size", "columns": ["height"], "similarity": "rbf"}], "n_neighbors": 3},
    )
    cohort, _ = experiment.cohort.load()
    assert experiment.builder.groups is None
    assert (experiment.builder.tokenizer.n_bins, experiment.builder.tokenizer.treatments) == (12, ["ventilation", "vasopressor"])
    assert experiment.builder.fit(cohort).transform(cohort).values.shape == (24, 12, 6)
    assert yaml.safe_load(text)["cohort"]["adapter"] == "simulate_stays"


@pytest.mark.parametrize(
    "reader", [{"columns": {"n_pieces": 4, "columns": ["bun"]}}, {"population": {"n_neighbors": 3}}], ids=["columns", "population"]
)
def test_an_absent_table_is_replaced_by_a_simulated_one(small, tmp_path, reader):
    experiment, text = small(
        cohort={"adapter": "load_tables", "arguments": {"source": str(tmp_path / "none.csv"), "target": "died"}}, target="died", **reader
    )
    cohort, _ = experiment.cohort.load()
    assert len(cohort) == 24
    assert cohort.schema.named("feature")[:2] == ["lab00", "lab01"]
    assert yaml.safe_load(text)["cohort"]["adapter"] == "simulate_table"


def test_a_wrong_configuration_is_not_hidden_by_absent_data(small, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'load_abide_arrays'"):
        small(cohort={"adapter": "load_abide_array", "arguments": {"root": str(tmp_path / "none")}})
    with pytest.raises(ConfigError, match="found 'rot'"):
        small(cohort={"adapter": "load_abide_arrays", "arguments": {"rot": str(tmp_path / "none")}})


def test_data_that_are_there_and_damaged_are_not_hidden_either(small, tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="found none"):
        small(cohort={"adapter": "load_timeseries", "arguments": {"folder": str(tmp_path / "scans"), "atlas": "simulated20"}})


def test_pretraining_needs_no_target(small, adapter, make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=30, n_sites=2, n_timepoints=20)
    schema = type(cohort.schema)([column for column in cohort.schema if column.name != "diagnosis"])
    Cohort("bare", cohort.subjects.drop(columns="diagnosis"), schema, cohort.regions).save(tmp_path / "bare")
    source = {"adapter": adapter, "arguments": {"folder": str(tmp_path / "bare")}}
    experiment, _ = small(cohort=source)
    assert len(experiment.cohort.load()[0]) == 12
    with pytest.raises(SchemaError, match="'diagnose'"):
        small(cohort=source, target="diagnose")


def test_a_cohort_without_sites(small, adapter, make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=30, n_sites=2, n_timepoints=20)
    schema = type(cohort.schema)([column for column in cohort.schema if column.name != "site"])
    Cohort("placeless", cohort.subjects.drop(columns="site"), schema, cohort.regions).save(tmp_path / "placeless")
    experiment, _ = small(cohort={"adapter": adapter, "arguments": {"folder": str(tmp_path / "placeless")}})
    assert experiment.cohort.load()[0].subjects["diagnosis"].value_counts().to_dict() == {"control": 12, "patient": 12}, "as many as of two sites"


def test_few_subjects_are_of_several_groups(small, adapter, make_cohort, tmp_path):
    """Folds hold groups whole: of the first two pictures, each of one class, no fold would have both."""
    cohort = make_cohort(n_subjects=60, n_sites=1, n_timepoints=20)
    place = cohort.subjects.groupby("diagnosis").cumcount() // 15
    subjects = cohort.subjects.drop(columns="site").assign(picture=cohort.subjects["diagnosis"].astype(str) + place.astype(str))
    columns = [column for column in cohort.schema if column.name != "site"]
    Cohort("tiles", subjects, Schema([*columns, Column("picture", "categorical", "group")]), cohort.regions).save(tmp_path / "tiles")
    experiment, _ = small(cohort={"adapter": adapter, "arguments": {"folder": str(tmp_path / "tiles")}})
    assert experiment.cohort.load()[0].subjects["picture"].value_counts().to_dict() == {"control0": 6, "control1": 6, "patient0": 6, "patient1": 6}


def test_stages_are_small_and_absent_cohorts_of_them_are_simulated(small):
    experiment, text = small(
        cohort={"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 24, "sites": 2}},
        stages=[
            {"name": "public", "cohort": {"path": "nowhere"}, "epochs": 9},
            {"name": "task", "pretraining": {"max_epochs": 7}},
            {"name": "as-it-is", "epochs": 0},
        ],
    )
    public, task, last = experiment.chain
    assert (public.epochs, task.settings.max_epochs, last.epochs) == (1, 1, 0)
    assert public.cohort.name == "public"
    assert len(public.cohort) == 24
    assert public.cohort.hash != experiment.cohort.load()[0].hash
    assert "there is nothing at nowhere" in text
