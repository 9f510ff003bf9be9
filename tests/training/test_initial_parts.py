"""Encoders of modalities start from models of one kind of data: their weights and their preparation are taken over."""

import pytest
import torch

from graphssl.data import ColumnTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.encoders import GraphTransformer, Mean, MultimodalEncoder, PopulationTransformer, ResNet, TableTransformer
from graphssl.errors import CheckpointError
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder
from graphssl.training import load_model
from graphssl.training.pretrain import untrained

TABLE = ColumnTokenizer(n_pieces=4)


@pytest.fixture(scope="module")
def saved(patients, tmp_path_factory):
    """Models of one kind of data each, of the first thirty patients."""
    folder, first = tmp_path_factory.mktemp("models"), patients.select(patients.ids[:30])
    parts = {
        "table": (TableTransformer(8, depth=1, heads=2), TABLE),
        "connectome": (GraphTransformer(8, depth=1, heads=2, spacing_mm=40.0), ConnectomeBuilder()),
        "image": (ResNet(2, width=4, blocks=(1, 1)), ImageBuilder("image")),
    }
    for name, (encoder, builder) in parts.items():
        there = first.select(builder.readable(first))
        untrained(there, encoder=encoder, builder=builder, seed=7).save_pretrained(folder / name)
    return folder


def make(initial, **changes):
    encoders = {
        "table": TableTransformer(8, depth=1, heads=2),
        "connectome": GraphTransformer(8, depth=1, heads=2, spacing_mm=40.0),
        "image": ResNet(2, width=4, blocks=(1, 1)),
    }
    return MultimodalEncoder({**encoders, **changes}, Mean(8), initial={name: str(folder) for name, folder in initial.items()})


def builder():
    return MultimodalBuilder({"table": TABLE, "connectome": ConnectomeBuilder(), "image": ImageBuilder("image")})


def test_weights_and_preparation_are_those_of_the_saved_models(patients, saved):
    names = ("table", "connectome", "image")
    model = untrained(patients, encoder=make({name: saved / name for name in names}), builder=builder(), seed=0)
    for name in names:
        start = load_model(saved / name)
        assert all(torch.equal(weight, model.encoder.encoders[name].state_dict()[key]) for key, weight in start.encoder.state_dict().items())
        assert f"{saved / name} (" in model.card[f"{name} started from"]
    assert model.builder.builders_["table"].encoder_.mean_.tolist() == load_model(saved / "table").builder.encoder_.mean_.tolist()
    assert model.embed(patients).shape == (40, 8)


def test_without_a_folder_weights_are_random_and_the_same_for_a_seed(patients, saved):
    plain, again = (untrained(patients, encoder=make({}), builder=builder(), seed=0) for _ in range(2))
    started = untrained(patients, encoder=make({"image": saved / "image"}), builder=builder(), seed=0)
    for key, weight in plain.encoder.state_dict().items():
        assert torch.equal(weight, again.encoder.state_dict()[key])
        if key.startswith("encoders.table"):
            assert torch.equal(weight, started.encoder.state_dict()[key])


def test_a_saved_model_needs_no_folder_that_it_started_from(patients, saved, tmp_path):
    model = untrained(patients, encoder=make({"image": saved / "image"}), builder=builder(), seed=0)
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.encoder.initial == {"image": str(saved / "image")}
    assert torch.equal(torch.tensor(again.embed(patients).to_numpy()), torch.tensor(model.embed(patients).to_numpy()))


def test_patients_of_a_population_start_from_saved_models_too(patients, saved):
    population = PopulationBuilder(builder(), n_neighbors=2)
    encoder = PopulationTransformer(8, depth=1, heads=2, patient=make({"image": saved / "image"}))
    model = untrained(patients, encoder=encoder, builder=population, seed=0)
    start = load_model(saved / "image")
    image = model.encoder.reader.encoders["image"]
    assert all(torch.equal(weight, image.state_dict()[key]) for key, weight in start.encoder.state_dict().items())
    assert model.builder.population_.patients.subject_ids == tuple(patients.ids)
    assert model.embed(patients.select(patients.ids[:4])).shape == (4, 8)


def test_a_model_of_other_data_or_of_another_encoder_is_refused(patients, saved):
    with pytest.raises(CheckpointError, match="Expected a ResNet behind a ImageBuilder in .*table, to start image from, found a TableTransformer"):
        untrained(patients, encoder=make({"image": saved / "table"}), builder=builder())
    with pytest.raises(CheckpointError, match="Expected a model folder"):
        untrained(patients, encoder=make({"image": saved / "nothing"}), builder=builder())


def test_an_atlas_that_the_cohort_has_not_is_refused(patients, saved, make_cohort):
    other = make_cohort(n_subjects=8)
    encoder = MultimodalEncoder(
        {"connectome": GraphTransformer(8, depth=1, heads=2, spacing_mm=40.0)}, Mean(8), initial={"connectome": str(saved / "connectome")}
    )
    with pytest.raises(CheckpointError, match=r"Expected data in an atlas of the model in .*connectome \(simulated24\), found"):
        untrained(other, encoder=encoder, builder=MultimodalBuilder({"connectome": ConnectomeBuilder()}))
