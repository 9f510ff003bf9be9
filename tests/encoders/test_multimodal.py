"""An encoder of several modalities: each patient is embedded from what it has, in training and outside of it."""

import pytest
import torch

from graphssl.data import ColumnTokenizer, EmbeddedBatch, ImageBuilder, MultimodalBatch, MultimodalBuilder
from graphssl.encoders import Concatenation, Embedding, GatedSum, GraphTransformer, MultimodalEncoder, ResNet, TableTransformer
from graphssl.encoders.multimodal import of_patients, visible_rows
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder
from graphssl.training.model import fresh


@pytest.fixture(scope="module")
def builder(patients):
    modalities = {"connectome": ConnectomeBuilder(), "table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")}
    return MultimodalBuilder(modalities).fit(patients)


@pytest.fixture(scope="module")
def batch(builder, patients):
    return builder.transform(patients)


@pytest.fixture(scope="module")
def make(builder):
    def made(**changes):
        encoders = {
            "image": ResNet(2, width=4, blocks=(1, 1)),
            "connectome": GraphTransformer(8, depth=1, heads=2, spacing_mm=40.0),
            "table": TableTransformer(8, depth=1, heads=2, dropout=0.0),
        }
        return fresh(MultimodalEncoder(**{"encoders": encoders, "fusion": GatedSum(8), **changes}).for_builder(builder), 0)

    return made


def test_each_modality_alone_has_a_row_a_patient(make, batch):
    encoder = make().eval()
    parts = encoder.separate(batch)
    assert list(parts) == ["image", "connectome", "table"]
    for name, number in (("image", 2), ("connectome", 0), ("table", 1)):
        there = batch.presence[:, number]
        assert torch.equal(parts[name].mask.any(dim=1), there)
        assert bool((parts[name].pooled[~there] == 0).all())
        direct = encoder.encoders[name](batch.parts[name]).pooled
        assert torch.equal(parts[name].pooled[there], direct[batch.rows[name][there, 0]])


def test_a_patient_is_embedded_the_same_in_any_company(make, batch):
    encoder = make().eval()
    everybody = encoder(batch)
    some = [11, 2, 30, 2]
    assert torch.allclose(encoder(batch[some]).pooled, everybody.pooled[some], atol=1e-5)
    assert everybody.pooled.shape == (40, 8)
    assert encoder.token_width == encoder.pooled_width == 8


def test_hidden_says_what_missing_says(make, batch):
    encoder = make().eval()
    hidden = batch.hide(torch.tensor([False, False, True]).expand(40, 3))
    assert torch.allclose(encoder(hidden).pooled, encoder(batch.without("image")).pooled, atol=1e-6)
    changed = (encoder(hidden).pooled - encoder(batch).pooled).abs().amax(dim=1) > 1e-6
    assert torch.equal(changed, batch.presence[:, 2])


def test_what_is_hidden_is_neither_decoded_nor_embedded(make, batch, monkeypatch):
    encoder, lengths = make().eval(), []
    network = encoder.encoders["image"]
    plain = network.forward
    monkeypatch.setattr(network, "forward", lambda part: lengths.append(len(part)) or plain(part))
    has_image = batch.presence[:, 2].nonzero().squeeze(1)
    hidden = torch.zeros(40, 3, dtype=torch.bool)
    hidden[has_image[5:], 2] = True
    everybody, few = encoder.separate(batch)["image"], encoder.separate(batch.hide(hidden))["image"]
    assert lengths == [len(has_image), 5]
    torch.testing.assert_close(few.pooled[has_image[:5]], everybody.pooled[has_image[:5]])
    assert not few.mask[has_image[5:]].any()


def test_rows_that_are_nobodys_are_left_out_unless_too_few_stay(batch):
    part = batch.parts["image"]
    rows = torch.tensor([[4, -1], [-1, -1], [2, 4]])
    kept, places = visible_rows(part, rows)
    assert places.tolist() == [[1, -1], [-1, -1], [0, 1]]
    assert kept.subject_ids == (part.subject_ids[2], part.subject_ids[4])
    alone = torch.tensor([[4], [-1]])
    kept, places = visible_rows(part, alone, least=2)
    assert kept.subject_ids == (part.subject_ids[4],) * 2
    assert places.tolist() == [[0], [-1]]
    everybody = torch.arange(len(part)).unsqueeze(1)
    assert visible_rows(part, everybody, least=2) == (part, everybody)


def test_what_is_hidden_passes_no_batch_normalisation_even_where_one_row_is_left(make, batch, monkeypatch):
    encoder, read = make().train(), []
    network = encoder.encoders["image"]
    plain = network.forward
    monkeypatch.setattr(network, "forward", lambda part: read.append(part.subject_ids) or plain(part))
    has_image = batch.presence[:, 2].nonzero().squeeze(1)
    hidden = torch.zeros(40, 3, dtype=torch.bool)
    hidden[has_image[1:], 2] = True
    found = encoder.separate(batch.hide(hidden))["image"]
    assert read == [(batch.subject_ids[has_image[0]],) * 2]
    assert found.mask.any(dim=1).nonzero().squeeze(1).tolist() == [int(has_image[0])]


def test_modalities_are_left_out_in_training_but_never_the_last(make, batch, monkeypatch):
    encoder = make(dropout_modality=0.9).train()
    seen = []
    monkeypatch.setattr(
        encoder.fusion, "forward", lambda parts, presence: seen.append(presence) or Embedding(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    )
    torch.manual_seed(0)
    encoder(batch)
    encoder(batch)
    encoder.eval()(batch)
    there = encoder.presence(batch)
    assert torch.equal(seen[2], there)
    assert not torch.equal(seen[0], seen[1])
    for kept in seen[:2]:
        assert bool((kept <= there).all())
        assert bool(kept.any(dim=1).all())
        assert kept.sum() < 60
    assert make(dropout_modality=0.0).train()._dropped(there).equal(there)


def test_several_rows_of_a_patient_give_all_tokens_and_a_mean():
    rows = torch.tensor([[0, 2], [1, -1], [-1, -1]])
    embedding = Embedding(
        torch.arange(6.0).view(3, 2, 1), torch.tensor([[True, False], [True, True], [True, True]]), torch.tensor([[1.0], [2.0], [5.0]])
    )
    patients = of_patients(embedding, rows)
    assert patients.pooled.flatten().tolist() == [3.0, 2.0, 0.0]
    assert patients.mask.tolist() == [[True, False, True, True], [True, True, False, False], [False] * 4]
    assert patients.tokens[0].flatten().tolist() == [0.0, 1.0, 4.0, 5.0]


def test_frozen_encoders_are_not_trained_and_run_once(make, batch, monkeypatch):
    encoder = make(frozen=("image", "table")).train()
    assert not encoder.encoders["image"].training
    assert encoder.encoders["connectome"].training
    encoder(batch).pooled.sum().backward()
    with_gradient = {name.split(".")[1] for name, weight in encoder.named_parameters() if weight.grad is not None and name.startswith("encoders")}
    assert with_gradient == {"connectome"}
    known = encoder.once(batch)
    assert {name for name, part in known.parts.items() if isinstance(part, EmbeddedBatch)} == {"image", "table"}
    encoder.eval()
    expected = encoder(batch[[5, 0, 9]]).pooled
    monkeypatch.setattr(encoder.encoders["image"], "forward", lambda images: pytest.fail("an image was read again"))
    assert torch.allclose(encoder(known[[5, 0, 9]]).pooled, expected, atol=1e-6)
    assert torch.allclose(encoder(encoder.once(batch[[9, 5, 0]])).pooled, expected[[2, 0, 1]], atol=1e-6)  # each row is kept by itself
    assert encoder.once(known).parts["image"] is known.parts["image"]
    assert make().once(batch.parts["table"]) is batch.parts["table"]


def test_it_is_made_for_the_builders_of_its_modalities(make, builder, batch):
    encoder = make()
    assert encoder.encoders["table"].numbers == builder.builders_["table"].numbers
    again = MultimodalEncoder(**encoder.arguments()).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(batch).pooled, encoder.eval()(batch).pooled)
    assert {name: type(each) for name, each in encoder.default_builder().builders.items()} == {
        "image": ImageBuilder,
        "connectome": ConnectomeBuilder,
        "table": ColumnTokenizer,
    }
    assert isinstance(make(fusion=None).fusion, Concatenation)


def test_a_modality_that_it_was_not_trained_on_is_refused(make, batch, patients):
    more = MultimodalBatch.of({**batch.parts, "second": batch.parts["image"]}, batch.subject_ids)
    with pytest.raises(ConfigError, match="Expected the modalities image, connectome, table, which the model was trained on, found second too"):
        make()(more)
    with pytest.raises(ConfigError, match="Expected patients by modality before a MultimodalEncoder, found a TableBatch"):
        make()(batch.parts["table"])
    less = MultimodalBatch.of({"table": batch.parts["table"]})
    assert make().eval()(less).pooled.shape == (36, 8)


def test_modalities_of_builder_and_encoder_are_the_same(make, patients):
    with pytest.raises(ConfigError, match="found encoders of image, connectome, table and builders of table"):
        make().for_builder(MultimodalBuilder({"table": ColumnTokenizer()}).fit(patients.select(list(patients.ids)[:3])))
    with pytest.raises(ConfigError, match="Expected MultimodalBuilder before MultimodalEncoder, found ColumnTokenizer"):
        make().for_builder(ColumnTokenizer())


def test_impossible_arguments_are_refused(make):
    for wrong in ({"encoders": {}}, {"frozen": ("text",)}, {"initial": {"text": "runs/x"}}, {"dropout_modality": 1.0}):
        with pytest.raises(
            ConfigError, match="Expected an encoder of one modality or more, frozen and initial ones among them, and dropout_modality in"
        ):
            make(**wrong)
