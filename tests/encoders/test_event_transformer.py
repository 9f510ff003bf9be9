"""The transformer over single events."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from graphssl.data import EventTokenizer
from graphssl.encoders import EventTransformer
from graphssl.encoders.event_transformer import ScalarEmbedding
from graphssl.errors import ConfigError


def make(cohort, columns=None, **arguments):
    tokenizer = EventTokenizer(min_subjects=3, n_pieces=4, columns=columns).fit(cohort)
    torch.manual_seed(0)
    return tokenizer.transform(cohort), EventTransformer(width=8, depth=2, heads=2, **arguments).for_builder(tokenizer).eval()


def test_a_token_an_event_and_a_static_column_and_a_vector_a_patient(ward):
    batch, encoder = make(ward())
    n_events = batch.codes.shape[1]
    embedding = encoder(batch)
    assert embedding.tokens.shape == (13, n_events + 5, 8)
    assert embedding.mask[:, :n_events].equal(batch.present)
    assert embedding.mask[:, n_events:].all()
    assert isinstance(encoder.default_builder(), EventTokenizer)


def test_a_patient_does_not_depend_on_the_others_nor_on_their_number_of_events(ward):
    batch, encoder = make(ward())
    whole = encoder(batch).pooled
    for row in range(13):
        assert_close(encoder(batch[[row]]).pooled, whole[[row]], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(whole).all()


@pytest.mark.parametrize("name", ["codes", "values", "hours"])
def test_what_when_and_how_much_are_read(ward, name):
    batch, encoder = make(ward())
    values = getattr(batch, name).clone()
    values[0, 0] = values[0, 0] + 1
    changed = encoder(replace(batch, **{name: values})).pooled - encoder(batch).pooled
    assert changed[0].abs().max() > 0
    assert not changed[1:].any()


def test_what_is_hidden_or_not_there_cannot_be_read(ward):
    batch, encoder = make(ward())
    hidden = batch.hide(torch.rand(batch.present.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    other = replace(hidden, values=torch.where(hidden.visible, hidden.values, 9.0), hours=torch.where(hidden.present, hidden.hours, 3.0))
    assert_close(encoder(other).pooled, encoder(hidden).pooled)
    assert (encoder(hidden).pooled - encoder(batch).pooled).abs().amax(dim=1)[:12].min() > 0


def test_arguments_rebuild_it(ward):
    batch, encoder = make(ward())
    again = EventTransformer(**encoder.arguments()).eval()
    again.load_state_dict(encoder.state_dict())
    assert again(batch).pooled.equal(encoder(batch).pooled)
    assert again.codes == ("pulse", "temp", "ventilator")


def test_gradients_reach_every_weight(ward):
    batch, encoder = make(ward(), dropout=0.0)
    encoder(batch.hide(batch.present & (torch.arange(batch.codes.shape[1]) % 2 == 0))).pooled.square().sum().backward()
    unreached = [name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == ["static.masked"], "static columns are never hidden"


def test_a_scalar_embedding_is_a_small_network():
    torch.manual_seed(0)
    embedding = ScalarEmbedding(16)
    values = torch.randn(3, 2)
    inner, outer = embedding.layers[0], embedding.layers[2]
    assert inner.out_features == 4
    expected = torch.tanh(values.unsqueeze(-1) * inner.weight[:, 0] + inner.bias) @ outer.weight.T
    assert_close(embedding(values), expected)


def test_what_makes_no_sense_is_refused(ward):
    batch, encoder = make(ward())
    with pytest.raises(ConfigError, match="Expected events of 3 codes, found one of code 3"):
        encoder(replace(batch, codes=batch.codes + 1))
    with pytest.raises(ConfigError, match="Expected 2 numbers of 4 pieces and 3 categories, found 2 of 4 and 2"):
        encoder(make(ward(), columns=["age"])[0])
    with pytest.raises(ConfigError, match="multiple of the 3 heads"):
        EventTransformer(width=8, heads=3)
