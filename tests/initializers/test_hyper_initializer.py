"""The initialiser in use: what it fills, what it leaves, what it says, and on disk."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import graphssl
from graphssl.encoders import GraphTransformer, ResNet
from graphssl.errors import CheckpointError, DataError, RunFolderError
from graphssl.initializers import HyperInitializer, HyperNetwork, architecture_of


@pytest.fixture
def initializer():
    torch.manual_seed(0)
    return HyperInitializer(HyperNetwork(width=8, depth=1, heads=2, side=3), {"trained on": "nothing"})


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_module_is_filled_in_place(initializer):
    network = ResNet(width=4, blocks=(1, 1)).train()
    network(graphssl.data.ImageBatch(("a", "b"), torch.randn(2, 1, 16, 16)))
    assert int(network.bn1.num_batches_tracked) == 1
    found = graphssl.initialize(network, initializer, noise=0)
    (weights,) = initializer.hypernetwork.predict([architecture_of(network)])
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name].detach())
        assert parameter.requires_grad
    assert set(found.predicted) == {name for name, _ in network.named_parameters()}
    assert found.left_alone == {}
    assert str(found) == f"{len(found.predicted)} tensors predicted, 0 of them by repetition; left alone: none"
    assert int(network.bn1.num_batches_tracked) == 0  # statistics of other weights


def test_the_classifier_stays_as_it_is(initializer):
    network = nn.ModuleDict({"body": nn.Linear(4, 40), "head": nn.Linear(40, 2)})
    before = state(network)
    found = initializer.initialize(network)
    assert found.predicted == ("body.weight", "body.bias")
    assert found.left_alone == {"head.weight": "left out", "head.bias": "left out"}
    assert found.n_repeated == 2
    assert network["head"].weight.equal(before["head.weight"])
    assert not network["body"].weight.equal(before["body.weight"])
    initializer.initialize(network, leave_out=())
    assert not network["head"].weight.equal(before["head.weight"])


def test_noise_tells_repeated_channels_apart_and_comes_from_the_seed(initializer):
    one, same, other, plain = (nn.Linear(4, 40) for _ in range(4))
    for network, seed in ((one, 0), (same, 0), (other, 1)):
        initializer.initialize(network, noise=0.1, seed=seed)
    initializer.initialize(plain, noise=0)
    assert plain.weight[16:32].equal(plain.weight[:16])
    assert not one.weight[16:32].allclose(one.weight[:16])
    assert one.weight.equal(same.weight)
    assert not one.weight.equal(other.weight)
    share = (one.weight - plain.weight).std() / plain.weight.std()
    assert share.item() == pytest.approx(0.1, rel=0.2)
    assert one.bias.equal(plain.bias)


def test_the_rest_is_initialised_only_when_asked(initializer):
    network = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.Linear(4, 4))
    before = state(network)
    with pytest.raises(DataError, match=r"found 1.weight_ih_l0 \(LSTM\)"):
        initializer.initialize(network)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    found = initializer.initialize(network, partial=True)
    assert found.left_alone["1.weight_ih_l0"] == "not supported: LSTM"
    assert network[1].weight_ih_l0.equal(before["1.weight_ih_l0"])
    assert not network[2].weight.equal(before["2.weight"])
    assert "1.weight_ih_l0" in initializer.initialize(network, leave_out=("1.",)).left_alone  # left out, so no error


def test_an_encoder_of_brains_is_initialised_too(initializer):
    encoder = GraphTransformer(width=8, depth=1, heads=2)
    found = initializer.initialize(encoder, partial=True)
    assert set(found.left_alone) == {"tokens.unseen"}
    assert "tokens.unseen (not supported: SpatialTokens)" in str(found)


def test_a_saved_initialiser_predicts_the_same(initializer, tmp_path):
    folder = initializer.save_pretrained(tmp_path / "initializer")
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "trained on" in (folder / "README.md").read_text()
    loaded = HyperInitializer.from_pretrained(folder)
    assert loaded.card == {"trained on": "nothing"}
    assert repr(loaded) == repr(initializer)
    networks = [nn.Conv2d(1, 4, 3) for _ in range(3)]
    for network, given in zip(networks, (initializer, folder, loaded.hypernetwork), strict=True):
        graphssl.initialize(network, given)
    assert networks[0].weight.equal(networks[1].weight)
    assert networks[0].weight.equal(networks[2].weight)


def test_a_folder_with_other_files_is_not_replaced(initializer, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="Expected .* to be absent, empty or a saved initialiser"):
        initializer.save_pretrained(tmp_path)


def test_a_folder_that_is_none_or_truncated_is_refused(initializer, tmp_path):
    with pytest.raises(CheckpointError, match=r"Expected config.json and model.safetensors of an initialiser at .*nowhere"):
        HyperInitializer.from_pretrained(tmp_path / "nowhere")
    folder = initializer.save_pretrained(tmp_path / "initializer")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="found one absent or damaged"):
        HyperInitializer.from_pretrained(folder)
    weights.write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "model"}))
    with pytest.raises(CheckpointError, match="Expected an initialiser of format 1 at .*, found another kind of folder"):
        HyperInitializer.from_pretrained(folder)


def test_a_model_folder_says_what_it_was_trained_on(initializer, tmp_path):
    folder = initializer.save_pretrained(tmp_path / "encoder")
    record = {"format": 2, "encoder": {"class": "HyperNetwork", "arguments": initializer.hypernetwork.arguments()}}
    (folder / "config.json").write_text(json.dumps(record))
    weights = load_file(folder / "model.safetensors")
    save_file({f"encoder.{name}": value for name, value in weights.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="Expected schema.json in the model folder .*, found it absent or damaged"):
        HyperInitializer.from_pretrained(folder)
    (folder / "schema.json").write_text(json.dumps({"card": {"pre-trained on": "images"}}))
    loaded = HyperInitializer.from_pretrained(folder)
    assert loaded.card == {"trained on": "images"}
    assert all(value.equal(weights[name]) for name, value in loaded.hypernetwork.state_dict().items())


def test_weights_that_do_not_fit_the_configuration_are_refused(initializer, tmp_path):
    folder = initializer.save_pretrained(tmp_path / "initializer")
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != "norm.weight"}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="Expected weights that fit the configuration in .*norm.weight"):
        HyperInitializer.from_pretrained(folder)
