"""The transformer over bins of time."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from graphssl.data import TimelineTokenizer
from graphssl.encoders import TimelineTransformer
from graphssl.errors import ConfigError


def make(cohort, columns=None, **arguments):
    tokenizer = TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=["ventilator"], min_subjects=3, n_pieces=4, columns=columns).fit(cohort)
    torch.manual_seed(0)
    return tokenizer.transform(cohort), TimelineTransformer(width=8, depth=2, heads=2, **arguments).for_builder(tokenizer).eval()


def test_a_token_a_bin_and_a_static_column_and_a_vector_a_patient(ward):
    batch, encoder = make(ward())
    embedding = encoder(batch)
    assert embedding.tokens.shape == (13, 6 + 5, 8)
    assert embedding.pooled.shape == (13, encoder.pooled_width)
    assert embedding.mask[:, :6].equal(batch.present)
    assert embedding.mask[:, 6:].all()


def test_patients_do_not_see_each_other_and_bins_do(ward):
    batch, encoder = make(ward())
    whole = encoder(batch)
    assert_close(encoder(batch[[3]]).pooled, whole.pooled[[3]], atol=1e-5, rtol=1e-5)
    values = batch.values.clone()
    values[0, 5, 0] += 1.0
    changed = encoder(replace(batch, values=values, measured=batch.measured.index_fill(0, torch.tensor([0]), True)))
    assert (changed.tokens[0, batch.present[0].nonzero().flatten()] - whole.tokens[0, batch.present[0].nonzero().flatten()]).abs().amax(
        dim=1
    ).min() > 0
    assert_close(changed.pooled[1:], whole.pooled[1:])


def test_what_is_hidden_or_was_not_measured_cannot_be_read(ward):
    batch, encoder = make(ward())
    generator = torch.Generator().manual_seed(1)
    hidden = batch.hide(torch.rand(13, 6, 3, generator=generator) < 0.5)
    unread = hidden.hidden | ~batch.known
    other = replace(
        hidden,
        values=torch.where(unread[..., :2], 9.0, hidden.values),
        given=torch.where(unread[..., 2:] & batch.present.unsqueeze(-1), ~hidden.given, hidden.given),
    )
    assert_close(encoder(other).pooled, encoder(hidden).pooled)
    assert (encoder(hidden).pooled - encoder(batch).pooled).abs().amax(dim=1)[:12].min() > 0


def test_nothing_before_the_first_event_is_attended_to(ward):
    batch, encoder = make(ward())
    late = replace(batch, present=batch.present & (torch.arange(6) >= 3))
    moved = replace(late, values=torch.where((torch.arange(6) < 3).view(1, -1, 1), 5.0, late.values))
    assert_close(encoder(moved).pooled, encoder(late).pooled)
    assert (encoder(late).pooled - encoder(batch).pooled).abs().max() > 0
    assert torch.isfinite(encoder(batch).pooled[12]).all(), "a patient without events is a patient"


def test_arguments_rebuild_it(ward):
    batch, encoder = make(ward())
    again = TimelineTransformer(**encoder.arguments()).eval()
    again.load_state_dict(encoder.state_dict())
    assert again(batch).pooled.equal(encoder(batch).pooled)


@pytest.mark.parametrize("columns", [None, ()])
def test_gradients_reach_every_weight(ward, columns):
    batch, encoder = make(ward(), columns=columns, dropout=0.0)
    encoder(batch.hide(torch.rand(13, 6, 3, generator=torch.Generator().manual_seed(0)) < 0.5)).pooled.square().sum().backward()
    unreached = [name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == ["static.masked"], "static columns are never hidden"


def test_heads_divide_the_width():
    with pytest.raises(ConfigError, match="multiple of the 3 heads"):
        TimelineTransformer(width=8, heads=3)
