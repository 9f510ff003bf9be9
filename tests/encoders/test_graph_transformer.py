"""The graph transformer: laws of permutation and padding, attention against loops, and what its options change."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from graphssl.data import ColumnTokenizer, ConnectomeBatch
from graphssl.encoders import GraphTransformer
from graphssl.encoders.biases import AttentionBias
from graphssl.encoders.graph_transformer import Block
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder
from graphssl.views import HideRegions


def make_encoder(**changes):
    torch.manual_seed(0)
    arguments = {"width": 12, "depth": 2, "heads": 3, "spacing_mm": 40.0, **changes}
    return GraphTransformer(**arguments).eval()


@pytest.fixture(scope="module")
def make_batch(make_batch, with_covariates):
    """Every batch has covariates, whether or not the encoder reads them."""
    return lambda *arguments, **options: with_covariates(make_batch(*arguments, **options))


COVARIATES = {"age": 3, "motion": 3, "sex": ("female", "male"), "eyes": ("both", "closed", "open")}
OPTIONS = [
    {},
    {"readout": "mean"},
    {"readout": "attention"},
    {"readout": "clusters"},
    {"learn_bias": True},
    {"edges": False},
    {"heads": 1},
    {"biases": ()},
    {"biases": ("network", "distance", "weight")},
    {"encodings": ("spectral",)},
    {"encodings": ("random_walk",)},
    {"biases": ("network",), "encodings": ("random_walk", "spectral"), "learn_bias": True, "readout": "clusters"},
    {"covariates": COVARIATES},
    {"covariates": COVARIATES, "readout": "mean", "biases": ()},
    {"covariates": COVARIATES, "edges": False},
]


@pytest.mark.parametrize("options", OPTIONS)
@given(seed=st.integers(0, 999), n_regions=st.integers(1, 9))
@settings(max_examples=8, deadline=None)
def test_permuting_regions_permutes_tokens_and_leaves_the_pooled_vector(make_batch, regions_taken, options, seed, n_regions):
    encoder = make_encoder(**options)
    batch = make_batch(2, n_regions, seed, missing={0: [0]})
    order = torch.randperm(n_regions, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found, moved = encoder(batch), encoder(regions_taken(batch, order))
    assert_close(moved.tokens[moved.mask], found.tokens[:, order][moved.mask], rtol=1e-4, atol=1e-5)
    assert_close(moved.pooled, found.pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_each_connectome_alone_equals_its_row_in_a_batch_of_several_atlases(make_batch, options):
    encoder = make_encoder(**options)
    parts = [make_batch(2, 11, seed=0, missing={1: [10, 3]}), make_batch(2, 5, seed=1), make_batch(1, 1, seed=2)]
    batch = ConnectomeBatch.cat(parts)
    with torch.no_grad():
        together = encoder(batch)
        for row in range(len(batch)):
            alone = encoder(batch[[row]])
            n = alone.mask.shape[1]
            assert_close(alone.pooled[0], together.pooled[row], rtol=1e-4, atol=1e-5)
            assert_close(alone.tokens[0][alone.mask[0]], together.tokens[row, :n][alone.mask[0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_missing_region_is_as_good_as_absent(make_batch, regions_taken, options):
    encoder = make_encoder(**options)
    batch = make_batch(3, 8, missing={row: [2, 6] for row in range(3)})
    kept = [0, 1, 3, 4, 5, 7]
    with torch.no_grad():
        found, expected = encoder(batch), encoder(regions_taken(batch, kept))
    assert_close(found.tokens[:, kept], expected.tokens, rtol=1e-4, atol=1e-5)
    assert_close(found.pooled, expected.pooled, rtol=1e-4, atol=1e-5)


def test_where_a_missing_region_lies_changes_nothing(make_batch):
    encoder = make_encoder()
    batch = make_batch(2, 8, missing={0: [4]})
    centroids = batch.centroids.clone()
    centroids[0, 4] += 50.0
    with torch.no_grad():
        found, moved = encoder(batch), encoder(replace(batch, centroids=centroids))
    assert torch.equal(found.tokens[batch.mask], moved.tokens[batch.mask])
    assert torch.equal(found.pooled, moved.pooled)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_hidden_region_stays_and_its_weights_are_not_read(make_batch, options):
    encoder = make_encoder(**options)
    batch, other = make_batch(2, 8), make_batch(2, 8, seed=1)
    hidden = HideRegions(0.3).draw(batch, torch.Generator().manual_seed(0))
    changed = replace(batch, weights=torch.where(hidden, other.weights, batch.weights))
    with torch.no_grad():
        found = encoder(batch.hide(hidden))
        again = encoder(changed.hide(hidden))
        assert torch.equal(found.tokens, again.tokens)
        assert torch.equal(found.pooled, again.pooled)
        assert found.mask.all()
        assert (found.pooled - encoder(batch).pooled).abs().max() > 1e-4


def test_without_edges_every_token_is_made_on_its_own(make_batch):
    encoder = make_encoder(edges=False)
    batch = make_batch(2, 6, missing={1: [5]}, padding=1)
    with torch.no_grad():
        tokens = encoder.tokens(batch)
        for block in encoder.blocks:
            value = block.qkv(block.norm_attention(tokens))[..., 2 * encoder.width :]
            tokens = tokens + block.out(value)
            tokens = tokens + block.feed(block.norm_feed(tokens))
        found = encoder(batch).tokens
    assert_close(found[batch.mask], encoder.norm(tokens)[batch.mask], rtol=1e-4, atol=1e-5)
    assert (make_encoder(edges=True)(batch).tokens - found)[batch.mask].abs().max() > 1e-2


def slow_attention(block, tokens, bias):
    """Softmax attention of one connectome, head by head and region by region, in double precision."""
    n_regions, width = tokens.shape
    size = width // block.heads
    query, key, value = block.qkv(block.norm_attention(tokens)).double().chunk(3, dim=-1)
    mixed = torch.zeros(n_regions, width, dtype=torch.float64)
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(n_regions):
            logits = [float(query[i, part] @ key[j, part]) / math.sqrt(size) + float(bias[head, i, j]) for j in range(n_regions)]
            shares = [math.exp(logit) for logit in logits]
            for j in range(n_regions):
                mixed[i, part] += shares[j] / sum(shares) * value[j, part]
    return mixed.float()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_equals_softmax_written_out(make_batch, heads):
    torch.manual_seed(0)
    block = Block(8, heads, dropout=0.5).eval()
    batch = make_batch(2, 5, missing={1: [3]}, padding=1)
    bias = AttentionBias(heads)(batch)
    tokens = torch.randn(2, 6, 8)
    with torch.no_grad():
        found = block(tokens, bias)
        for row in range(2):
            mixed = slow_attention(block, tokens[row], bias[row])
            middle = tokens[row] + block.out(mixed)
            assert_close(found[row], middle + block.feed(block.norm_feed(middle)), rtol=1e-4, atol=1e-5)


def test_slopes_learn_only_when_asked(make_batch):
    fixed, learned = make_encoder(), make_encoder(learn_bias=True)
    assert "bias.slopes" not in dict(fixed.named_parameters())
    assert "bias.slopes" not in fixed.state_dict()
    probe = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0))
    (learned(make_batch(2, 8)).tokens * probe).sum().backward()
    assert torch.isfinite(learned.bias.slopes.grad).all()
    assert (learned.bias.slopes.grad != 0).all()


def test_the_gradient_of_a_slope_is_that_of_finite_differences(make_batch):
    encoder = make_encoder(learn_bias=True, depth=1).double()
    batch = make_batch(1, 6)
    batch = replace(batch, weights=batch.weights.double(), centroids=batch.centroids.double())
    probe = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0)).double()

    def value():
        return (encoder(batch).tokens * probe).sum()

    value().backward()
    gradient = encoder.bias.slopes.grad.clone()
    for which, head in ((0, 1), (1, 1), (0, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                encoder.bias.slopes[which, head] += step
                ends.append(float(value()))
                encoder.bias.slopes[which, head] -= step
        assert float(gradient[which, head]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_gradient_reaches_every_parameter(make_batch, in_networks, options):
    encoder = make_encoder(**options).train()
    batch = in_networks(make_batch(3, 8, missing={0: [1]}, padding=1))
    hidden = HideRegions(0.3).draw(batch, torch.Generator().manual_seed(0))
    found = encoder(batch.hide(hidden))
    generator = torch.Generator().manual_seed(1)
    probe = torch.randn(found.tokens.shape, generator=generator) * found.mask.unsqueeze(-1)
    ((found.tokens * probe).sum() + (found.pooled * torch.randn(found.pooled.shape, generator=generator)).sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_evaluation_is_deterministic_and_training_drops_by_the_seed(make_batch):
    encoder, batch = make_encoder(dropout=0.3), make_batch()
    with torch.no_grad():
        assert torch.equal(encoder(batch).pooled, encoder(batch).pooled)
        encoder.train()
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(encoder(batch).pooled)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("n_regions", [0, 1, 2])
def test_tiny_connectomes_give_finite_numbers(make_batch, n_regions):
    batch = make_batch(2, max(1, n_regions), missing={} if n_regions else {0: [0]})
    found = make_encoder()(batch)
    assert torch.isfinite(found.pooled).all()
    assert torch.isfinite(found.tokens).all()


def test_without_biases_attention_has_no_preference(make_batch):
    torch.manual_seed(0)
    block, batch = Block(8, 2, dropout=0.0).eval(), make_batch(2, 5, missing={1: [3]}, padding=1)
    allowed = AttentionBias(2, ())(batch)
    logits = torch.zeros(2, 2, 6, 6).masked_fill(~allowed, -math.inf)
    tokens = torch.randn(2, 6, 8)
    with torch.no_grad():
        found = block(tokens, allowed)
        for row in range(2):
            middle = tokens[row] + block.out(slow_attention(block, tokens[row], logits[row]))
            assert_close(found[row], middle + block.feed(block.norm_feed(middle)), rtol=1e-4, atol=1e-5)


BIASES = ("weight", "distance", "network")
SWITCHES = [
    *({"biases": tuple(kind for kind in BIASES if kind != left_out)} for left_out in BIASES),
    *({"biases": BIASES, "encodings": (kind,)} for kind in ("spectral", "random_walk")),
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_every_bias_and_encoding_is_read_on_a_simulated_cohort(simulated, options):
    whole, other = make_encoder(biases=BIASES), make_encoder(**options)
    other.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():
        gap = (whole(simulated).pooled - other(simulated).pooled).abs().amax(dim=1)
    assert gap.min() > 1e-4


def test_without_edges_no_bias_and_no_encoding_counts(simulated):
    plain, full = make_encoder(edges=False), make_encoder(edges=False, biases=BIASES, encodings=("spectral", "random_walk"))
    with torch.no_grad():
        assert torch.equal(plain(simulated).pooled, full(simulated).pooled)


def test_the_defaults_are_weight_and_distance_without_encodings(make_batch):
    named = make_encoder(biases=("weight", "distance"), encodings=(), readout="anchors")
    assert torch.equal(make_encoder()(make_batch()).pooled, named(make_batch()).pooled)


def test_lists_from_a_file_are_as_good_as_tuples():
    assert (
        GraphTransformer(biases=["network"], encodings=["spectral"]).arguments()
        == GraphTransformer(biases=("network",), encodings=("spectral",)).arguments()
    )


def test_covariates_that_are_not_read_change_nothing(make_batch):
    encoder, batch = make_encoder(), make_batch()
    with torch.no_grad():
        found, expected = encoder(batch), encoder(replace(batch, covariates=None))
        tokens, bias = encoder.tokens(batch), encoder.bias(batch)
        for block in encoder.blocks:
            tokens = block(tokens, bias)
        by_hand = encoder.norm(tokens)
    assert encoder.beside is None
    assert torch.equal(found.tokens, expected.tokens)
    assert torch.equal(found.pooled, expected.pooled)
    assert torch.equal(found.tokens, by_hand)
    assert torch.equal(found.pooled, encoder.pool(by_hand, batch))


def test_covariates_leave_the_other_weights_as_they_are():
    plain, reads = make_encoder().state_dict(), make_encoder(covariates=COVARIATES).state_dict()
    assert all(torch.equal(reads[name], weight) for name, weight in plain.items())
    assert {name for name in reads if name not in plain} == {
        *(f"beside.columns.{name}" for name in ("pieces", "category.weight", "column", "missing", "masked")),
        *(f"beside.share.{name}" for name in ("weight", "bias")),
    }


def test_tokens_stay_those_of_regions_and_covariates_stand_behind_them_in_attention(make_batch):
    encoder, batch = make_encoder(covariates=COVARIATES, depth=1), make_batch(3, 5, missing={1: [2]}, padding=1)
    with torch.no_grad():
        found = encoder(batch)
        bias = torch.zeros(3, encoder.heads, 10, 10)
        bias[:, :, :6, :6] = encoder.bias(batch)
        bias[:, :, 6:, :6] = torch.where(batch.mask, 0.0, -math.inf)[:, None, None]
        tokens = torch.cat([encoder.tokens(batch), encoder.beside.columns(batch.covariates)], dim=1)
        (block,) = encoder.blocks
        mixed = torch.stack([slow_attention(block, tokens[row], bias[row]) for row in range(3)])
        middle = tokens + block.out(mixed)
        expected = encoder.norm(middle + block.feed(block.norm_feed(middle)))
        share = encoder.beside.share(expected[:, 6:].flatten(start_dim=1))
        pooled = encoder.pool(expected[:, :6], batch) + share
    assert found.tokens.shape == (3, 6, 12)
    assert torch.equal(found.mask, batch.mask)
    assert_close(found.tokens[batch.mask], expected[:, :6][batch.mask], rtol=1e-4, atol=1e-5)
    assert_close(found.pooled, pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [options for options in OPTIONS if "covariates" in options])
def test_covariates_go_with_their_subject(make_batch, options):
    encoder, batch = make_encoder(**options), make_batch(4, 6)
    order = [2, 0, 3, 1]
    with torch.no_grad():
        found, moved = encoder(batch), encoder(batch[order])
        swapped = encoder(replace(batch, covariates=replace(batch.covariates[order], subject_ids=batch.subject_ids)))
    assert_close(moved.pooled, found.pooled[order], rtol=1e-4, atol=1e-5)
    assert_close(moved.tokens, found.tokens[order], rtol=1e-4, atol=1e-5)
    assert (swapped.pooled - found.pooled).abs().amax(dim=1).min() > 1e-3, "another subject's covariates are others"


def test_a_missing_covariate_is_a_state_of_its_own(make_batch):
    encoder, batch = make_encoder(covariates=COVARIATES), make_batch(4, 6)
    known = replace(batch.covariates, measured=torch.ones_like(batch.covariates.measured), hidden=torch.zeros_like(batch.covariates.hidden))
    other = replace(known, pieces=1 - known.pieces, codes=(known.codes + 1) % torch.tensor([2, 3]))
    with torch.no_grad():
        pooled = {name: encoder(replace(batch, covariates=table)).pooled for name, table in (("known", known), ("other", other))}
        for column in range(4):
            lost = known.measured.clone()
            lost[:, column] = False
            gone = encoder(replace(batch, covariates=replace(known, measured=lost))).pooled
            same = replace(known, pieces=known.pieces.clone(), codes=known.codes.clone(), measured=lost)
            (same.pieces[:, column] if column < 2 else same.codes[:, column - 2]).zero_()
            assert torch.equal(encoder(replace(batch, covariates=same)).pooled, gone), "what stands in the place of a missing value is not read"
            assert (gone - pooled["known"]).abs().amax(dim=1).min() > 1e-3
    assert (pooled["known"] - pooled["other"]).abs().amax(dim=1).min() > 1e-3


def test_it_is_made_for_the_covariates_of_a_builder(make_cohort):
    plain, builder = make_encoder(), ConnectomeBuilder(covariates=True).fit(make_cohort())
    reads = plain.for_builder(builder)
    assert plain.for_builder(ConnectomeBuilder().fit(make_cohort())) is plain
    assert plain.for_builder(ColumnTokenizer()) is plain
    assert reads.arguments() == {**plain.arguments(), "covariates": {"age": 16, "sex": ("female", "male")}}
    assert reads.for_builder(builder) is reads
    assert reads.for_builder(ConnectomeBuilder().fit(make_cohort())).arguments() == plain.arguments()
    turned = GraphTransformer(covariates={"b": 2, "a": 2})
    assert list(turned.covariates) == ["b", "a"], "the order of the batch"


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="Expected the width to be a multiple of the 3 heads, found 16"):
        GraphTransformer(width=16, heads=3)


def test_an_unknown_readout_is_refused():
    with pytest.raises(ConfigError, match="one of mean, anchors, attention, clusters; found 'max'"):
        GraphTransformer(readout="max")
