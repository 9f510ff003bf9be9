"""What a cell starts from: stages that are shared, and never a subject of the cohort from elsewhere."""

import json

import pytest

from graphssl.datasets import simulate_images
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.cell_start import subjects_of_source, without_subjects
from graphssl.evaluation.studies import run_study


def test_an_encoder_goes_from_the_source_to_the_cohort(make_cell, image_source, tmp_path):
    chain = make_cell({"start": "both"}, pretrain_on=("source", "cohort"), source=image_source, source_size=20, mode="probe", label_fraction=0.5)
    first = make_cell({"start": "source"}, pretrain_on=("source",), source=image_source, source_size=20, mode="probe", label_fraction=0.5)
    table = run_study([chain, first], folder=tmp_path, n_folds=1).table
    assert table.groupby("start", sort=False)["n_pretrained"].first().tolist() == [44, 20]
    stages = {stage["stage"]: stage for stage in (json.loads(path.read_text()) for path in (tmp_path / "starts").rglob("provenance.json"))}
    assert len(list((tmp_path / "starts").iterdir())) == 2  # both begin with the same source
    assert stages["source"]["initialisation"]["from"] == "random weights"
    assert stages["cohort"]["initialisation"]["weights"] == stages["source"]["weights"]
    assert stages["cohort"]["objective_weights"] == "kept"


def test_a_source_is_learned_from_once_for_all_splits(make_cell, image_source, tmp_path):
    cell = make_cell({}, pretrain_on=("source",), source=image_source, mode="probe")
    table = run_study([cell], folder=tmp_path, n_folds=2).table
    assert table["split"].nunique() == 2
    assert len(list((tmp_path / "starts").iterdir())) == 1


def test_subjects_of_the_cohort_are_never_taken_from_the_source(make_cell, image_cohort):
    """A source of the same name holds the same subjects."""
    cell = make_cell({}, pretrain_on=("source",), source=image_cohort)
    with pytest.raises(DataError):
        subjects_of_source(cell, 0)
    kept = without_subjects(image_cohort, image_cohort.select(image_cohort.ids[:5]))
    assert kept.ids == image_cohort.ids[5:]
    other = simulate_images(10, size=8, n_sites=1, seed=2, name="other")
    assert without_subjects(other, image_cohort) is other
    too_many = make_cell({}, pretrain_on=("source",), source=other, source_size=11)
    with pytest.raises(ConfigError, match="Expected at most the 10 subjects of the source"):
        subjects_of_source(too_many, 0)
