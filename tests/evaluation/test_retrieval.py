"""Retrieval between modalities: ranks against sorting, and found where there is something to find."""

import numpy as np
import pytest

from graphssl.atlases import simulated_atlas
from graphssl.data import ColumnTokenizer, ImageBuilder, MultimodalBuilder
from graphssl.datasets import simulate_multimodal
from graphssl.encoders import GraphTransformer, MultimodalEncoder, ResNet, TableMLP
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.retrieval import modality_retrieval, ranks_of_partners, vectors_of_both
from graphssl.training.model import Model
from graphssl.training.pretrain import untrained


@pytest.fixture(scope="module")
def cohort():
    return simulate_multimodal([simulated_atlas(20)], n_subjects=80, shares={"table": 0.9, "image": 0.8}, size=8)


@pytest.fixture(scope="module")
def model(cohort):
    builder = MultimodalBuilder({"table": ColumnTokenizer(n_pieces=4), "again": ColumnTokenizer(n_pieces=4), "image": ImageBuilder(images="image")})
    image = ResNet(width=4, blocks=(1, 1), stem="small", norm="group")
    encoder = MultimodalEncoder({"table": TableMLP(16, 1), "again": TableMLP(16, 1), "image": image})
    return untrained(cohort, encoder=encoder, builder=builder)


def test_ranks_are_those_of_sorting():
    rng = np.random.default_rng(0)
    told, truth = rng.standard_normal((7, 3)), rng.standard_normal((7, 3))
    expected = []
    for k, vector in enumerate(told):
        cosines = [vector @ other / np.linalg.norm(vector) / np.linalg.norm(other) for other in truth]
        expected.append(1 + sorted(range(7), key=lambda j: -cosines[j]).index(k))
    assert ranks_of_partners(told, truth).tolist() == expected


def test_who_tells_nothing_apart_is_in_the_middle():
    assert ranks_of_partners(np.ones((5, 2)), np.ones((5, 2))).tolist() == [3.0] * 5
    assert ranks_of_partners(np.zeros((4, 2)), np.eye(4, 2)).tolist() == [2.5] * 4


def test_the_same_table_read_twice_is_found_and_an_image_that_knows_little_is_not(cohort, model):
    train, test = cohort.select(cohort.ids[:60]), cohort.select(cohort.ids[60:])
    found = modality_retrieval(model, train, test, "again", "table", ks=(1, 3))
    n = found["n_subjects"]
    assert list(found.index) == ["recall_1", "recall_3", "chance_1", "chance_3", "median_rank", "n_subjects"]
    assert found["recall_1"] > 0.25
    assert found["chance_3"] == pytest.approx(3 / n)
    assert found["median_rank"] < modality_retrieval(model, train, test, "image", "table")["median_rank"]


def test_only_subjects_who_have_both_are_read(cohort, model):
    image, table = vectors_of_both(model, cohort, "image", "table")
    there = model.builder.transform(cohort).presence
    assert len(image) == len(table) == int((there[:, 0] & there[:, 2]).sum()) < 80
    assert image.shape[1] == model.encoder.encoders["image"].pooled_width


def test_what_makes_no_sense_is_refused(cohort, model):
    with pytest.raises(DataError, match="who are not among the training subjects, found"):
        modality_retrieval(model, cohort, cohort, "image", "table")
    with pytest.raises(ConfigError, match="Expected a MultimodalEncoder of image and ecg, found MultimodalEncoder"):
        vectors_of_both(model, cohort, "image", "ecg")
    with pytest.raises(ConfigError, match="found GraphTransformer"):
        vectors_of_both(Model(model.builder, GraphTransformer()), cohort, "image", "table")
    with pytest.raises(DataError, match="Expected two subjects or more of .* with image and table, found"):
        vectors_of_both(model, cohort.select(cohort.ids[:1]), "image", "table")
