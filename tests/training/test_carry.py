"""Weights taken to another cohort: what is kept, of which data, and what is refused by name."""

import pandas as pd
import pytest
import torch

from graphssl.data import ColumnTokenizer, ImageBuilder
from graphssl.datasets import simulate_images, simulate_table
from graphssl.encoders import BrainNetworkTransformer, PopulationTransformer, ResNet, TableTransformer, VisionTransformer
from graphssl.errors import AtlasError, CheckpointError
from graphssl.graphs import PopulationBuilder
from graphssl.objectives import BYOL, DINO, MaskedPatches, MaskedRegions, SwAV
from graphssl.training import untrained
from graphssl.training.carry import carried, load_weights, misfits, objective_weights, same_columns, take_objective, weights_hash

SMALL = {"width": 4, "blocks": (1, 1), "stem": "small"}
TABLE = {"width": 8, "depth": 1, "heads": 2}


def test_connectomes_of_another_cohort_take_all_weights(make_cohort, make_encoder, same_weights):
    model = untrained(make_cohort(), encoder=make_encoder(), seed=3)
    other = make_cohort(n_regions=10, seed=5)
    ready = carried(model, other, encoder=make_encoder())
    assert same_weights(model, ready)
    assert ready.encoder is not model.encoder
    assert len(ready.connectomes.atlases_["toy"]) == 10
    with pytest.raises(CheckpointError, match=r"of GraphTransformer and of no other, found .*\[8\] in place of \[16\]"):
        carried(model, other, encoder=make_encoder(width=16))
    with pytest.raises(CheckpointError, match=r"found no blocks\.1\..* and \d+ more"):
        carried(model, other, encoder=make_encoder(depth=2))


def test_regions_known_by_row_are_of_one_atlas(make_cohort, same_weights):
    encoder = BrainNetworkTransformer("toy", 12, width=8, depth=1, heads=2)
    model = untrained(make_cohort(), encoder=encoder)
    assert same_weights(model, carried(model, make_cohort(seed=1)))
    with pytest.raises(AtlasError, match="Expected atlas 'toy' with 12 regions"):
        carried(model, make_cohort(n_regions=10))


def test_images_are_carried_to_volumes():
    model = untrained(simulate_images(8, size=16), encoder=ResNet(**SMALL), builder=ImageBuilder())
    volumes = simulate_images(8, size=16, rank=3)
    ready = carried(model, volumes, encoder=ResNet(3, **SMALL), inflation="centre")
    assert torch.equal(ready.encoder.conv1.weight[:, :, 1], model.encoder.conv1.weight)
    with pytest.raises(CheckpointError, match="Expected conv1.weight of shape"):
        carried(model, volumes, encoder=ResNet(3, **{**SMALL, "width": 8}))


def test_columns_are_met_by_name(same_weights):
    cohort = simulate_table(n_subjects=40, columns=4).cohort
    names = list(cohort.schema.named("feature"))
    model = untrained(cohort, encoder=TableTransformer(**TABLE), builder=ColumnTokenizer())
    fewer = carried(model, cohort, encoder=TableTransformer(**TABLE), builder=ColumnTokenizer(columns=names[:2]))
    assert same_weights(carried(model, cohort), model)
    assert same_columns(model, carried(model, cohort))
    assert not same_columns(model, fewer)
    with pytest.raises(CheckpointError, match="Expected the TableTransformer .* found a TableTransformer with width 16 in place of 8"):
        carried(model, cohort, encoder=TableTransformer(**{**TABLE, "width": 16}), builder=ColumnTokenizer())


def test_a_population_of_other_columns_is_refused_by_their_names(same_weights):
    cohort = simulate_table(n_subjects=40, columns=4).cohort
    names = list(cohort.schema.named("feature"))
    tokens = [PopulationBuilder(tokenizer=ColumnTokenizer(columns=chosen), n_neighbors=3) for chosen in (names, names[1:])]
    model = untrained(cohort, encoder=PopulationTransformer(**TABLE), builder=tokens[0])
    assert same_weights(model, carried(model, cohort, encoder=PopulationTransformer(**TABLE), builder=tokens[0]))
    with pytest.raises(CheckpointError, match="Expected the columns, codes and categories that the weights belong to, found .* in place of"):
        carried(model, cohort, encoder=PopulationTransformer(**TABLE), builder=tokens[1])


def test_weights_go_in_all_or_none():
    network, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    load_weights(network, other.state_dict())
    assert torch.equal(network.weight, other.weight)
    wrong = {"weight": torch.zeros(4, 3), "scale": torch.zeros(1)}
    assert misfits(network.state_dict(), wrong) == ["no bias [2]", "weight [4, 3] in place of [2, 3]", "scale [1] in excess"]
    with pytest.raises(CheckpointError, match=r"found no bias \[2\]; weight \[4, 3\] in place of \[2, 3\]; scale \[1\] in excess\. Use the same"):
        load_weights(network, wrong)
    assert torch.equal(network.weight, other.weight)


def test_decoders_and_heads_go_on_and_memories_do_not(make_encoder):
    encoder = ResNet(**SMALL)
    swav = SwAV(n_prototypes=4, queue_size=8, width=8, hidden=8).prepare(encoder)
    names = set(objective_weights(swav).tensors)
    assert any(name.endswith("prototypes") or "prototypes" in name for name in names)
    assert not [name for name in names if "queue" in name or name == "progress"]
    byol = set(objective_weights(BYOL(width=8, hidden=8).prepare(encoder)).tensors)
    assert any("running_mean" in name for name in byol)
    assert any(name.startswith("teacher.encoder") for name in byol)
    assert "center" in objective_weights(DINO(n_prototypes=4, width=8, hidden=8).prepare(encoder)).tensors
    assert set(objective_weights(MaskedRegions(rank=4).prepare(make_encoder())).tensors)


def test_an_objective_takes_what_fits_and_says_what_does_not():
    encoder = VisionTransformer(patch_size=4, width=8, depth=1, heads=2, n_maps=1)
    first, second = (MaskedPatches(width=8, depth=1, heads=2).prepare(encoder) for _ in range(2))
    given = objective_weights(first)
    assert take_objective(second, given) == []
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    wider = MaskedPatches(width=16, depth=1, heads=2).prepare(encoder)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    assert any("[8" in sentence for sentence in take_objective(wider, given))
    assert all(torch.equal(value, wider.state_dict()[name]) for name, value in before.items())
    assert take_objective(BYOL(width=8).prepare(ResNet(**SMALL)), given) == ["weights of MaskedPatches in place of BYOL"]


def test_a_hash_tells_weights_apart():
    state = torch.nn.Linear(3, 2).state_dict()
    other = {**state, "bias": state["bias"] + 1e-7}
    assert weights_hash(state) == weights_hash(dict(reversed(list(state.items()))))
    assert len({weights_hash(state), weights_hash(other), weights_hash({"weight": state["weight"]})}) == 3
    assert pd.Series([weights_hash(state)]).str.fullmatch("[0-9a-f]{12}").all()
