"""What objectives of two views keep to: permutations leave them, gradients reach the encoder, collapse is seen, one subject is refused."""

from dataclasses import replace

import pytest
import torch

from graphssl.data import ConnectomeBatch, ImageBatch
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import BYOL, DINO, BarlowTwins, MoCo, NTXent, SwAV
from graphssl.objectives.contrastive import nt_xent
from graphssl.objectives.two_views import DEFAULT_VIEW, check_subjects, subject_index
from graphssl.views import AbstractView, MultiCrop, OverlappingCrops, TimeWindow

KINDS = (BYOL, DINO, BarlowTwins, MoCo, NTXent, SwAV)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class AsItIs(AbstractView):
    """Nothing random, so that permutations can be compared."""

    def draw(self, batch, generator):
        return None

    def apply(self, batch, draw):
        return batch


def prepared(kind, encoder, *arguments, **options):
    torch.manual_seed(1)
    return kind(*arguments, **{"width": 6, "hidden": 8, **options}).prepare(encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_subjects_and_of_regions_does_not_matter(make_encoder, make_batch, kind):
    encoder = make_encoder(dropout=0.0)
    objective = prepared(kind, encoder, AsItIs())
    batch = make_batch(6, 8, missing={1: [2]})
    rows, regions = torch.randperm(6, generator=generator()), torch.randperm(8, generator=generator(1))
    mixed = batch[rows]
    mixed = replace(
        mixed,
        weights=mixed.weights[:, regions][:, :, regions],
        visible=mixed.visible[:, regions][:, :, regions],
        mask=mixed.mask[:, regions],
        centroids=mixed.centroids[:, regions],
    )
    with torch.no_grad():
        found, expected = (objective(encoder, each, generator()) for each in (mixed, batch))
    torch.testing.assert_close(found.total, expected.total, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.parts, expected.parts, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_encoder_and_projector(make_encoder, make_batch, kind):
    encoder = make_encoder()
    objective = prepared(kind, encoder)
    loss = objective(encoder, make_batch(6, 8), generator())
    loss.total.backward()
    assert not any(part.requires_grad for part in loss.parts.values())
    for name, parameter in (*encoder.named_parameters(), *objective.named_parameters()):
        assert (parameter.grad is None) == name.startswith("teacher."), name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_replays_from_its_seed(make_encoder, make_batch, kind):
    encoder = make_encoder(dropout=0.0)
    objective = prepared(kind, encoder)
    totals = [objective(encoder, make_batch(), generator(seed)).total.item() for seed in (0, 0, 1)]
    assert totals[0] == totals[1] != totals[2]


@pytest.mark.parametrize("kind", KINDS)
def test_collapse_is_seen(make_encoder, make_batch, kind):
    encoder = make_encoder()
    objective = prepared(kind, encoder)
    healthy = objective(encoder, make_batch(6, 8), generator()).parts
    assert healthy["pooled_spread"] > 0.01
    assert healthy["projected_spread"] > 0.01
    with torch.no_grad():
        encoder.pool.project.weight.zero_()
    collapsed = objective(encoder, make_batch(6, 8), generator()).parts
    assert collapsed["pooled_spread"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_minibatch_may_be_as_small_as_two(make_encoder, make_batch, kind):
    encoder = make_encoder()
    loss = prepared(kind, encoder)(encoder, make_batch(2, 8), generator())
    loss.total.backward()
    assert torch.isfinite(loss.total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_one_subject_is_refused(make_encoder, make_batch, kind, training):
    encoder = make_encoder()
    objective = prepared(kind, encoder).train(training)
    with pytest.raises(DataError, match="at least two subjects in a minibatch to compare, found 1. Raise the batch size"):
        objective(encoder, make_batch(1), generator())
    with pytest.raises(DataError, match="found 1"):
        objective(encoder, ConnectomeBatch.cat([make_batch(1), make_batch(1)]), generator())


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_view_needs_no_series_and_a_window_does(make_encoder, make_batch, kind):
    assert kind().view == DEFAULT_VIEW
    assert not kind().needs_series
    assert kind(TimeWindow()).needs_series
    encoder = make_encoder()
    with pytest.raises(DataError, match="Expected the time series of every connectome"):
        prepared(kind, encoder, TimeWindow())(encoder, make_batch(), generator())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [{"width": 0}, {"hidden": -1}])
def test_impossible_widths_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match=rf"Expected width, hidden above 0, found \{{'{next(iter(wrong))}'"):
        kind(**wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_that_gives_two_at_once_is_asked_once(make_resnet, make_patients, kind):
    encoder = make_resnet(norm="group")
    objective = prepared(kind, encoder, OverlappingCrops(6))
    views = objective.look(make_patients(), generator())
    assert [view.shape for view in views] == [(6, 1, 6, 6)] * 2
    assert torch.isfinite(objective(encoder, make_patients(), generator()).total)


@pytest.mark.parametrize("kind", KINDS)
def test_small_views_are_refused_where_they_are_of_no_use(kind):
    view = MultiCrop(AsItIs(), AsItIs(), n_small=3)
    if kind in (DINO, SwAV):
        assert kind(view).view is view
    else:
        with pytest.raises(ConfigError, match="Expected a view of two large looks at a row and no small ones; found one of 2 large and 3 small ones"):
            kind(view)
    with pytest.raises(ConfigError, match="found one of 3 large and 0 small ones"):
        kind(MultiCrop(AsItIs(), AsItIs(), n_large=3, n_small=0))


def test_an_impossible_temperature_is_refused():
    with pytest.raises(ConfigError, match=r"Expected temperature above 0, found \{'temperature': 0.0\}"):
        NTXent(temperature=0.0)


def test_rows_of_a_subject_have_one_number(make_batch):
    batch = ConnectomeBatch.cat([make_batch(3, 4), make_batch(2, 6)])
    assert subject_index(batch).tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_two_views_are_not_known_as_one_by_their_covariates(make_encoder, make_batch, with_covariates, kind):
    encoder = make_encoder(dropout=0.0, covariates={"age": 3, "motion": 3, "sex": ("f", "m"), "eyes": ("both", "closed", "open")})
    objective = prepared(kind, encoder)
    everything = with_covariates(make_batch(6, 8))
    known = [replace(everything.covariates, measured=torch.ones(6, 4, dtype=torch.bool), pieces=torch.rand(6, 2, 3)) for _ in range(2)]
    with torch.no_grad():
        found, other = (objective(encoder, replace(everything, covariates=table), generator()) for table in known)
        assert not torch.equal(*(encoder(replace(everything, covariates=replace(t, hidden=~t.measured))).pooled for t in known))
    assert torch.equal(found.total, other.total)


class Learning(AsItIs):
    """A view that notes of whom it learned."""

    learned = None

    def for_cohort(self, cohort):
        view = Learning()
        view.learned = cohort.name
        return view


def test_the_view_learns_what_it_must_of_the_cohort(make_cohort):
    plain, learning = BYOL(AsItIs(), width=6), BYOL(Learning(), width=6)
    cohort = make_cohort(4)
    assert plain.for_cohort(cohort) is plain
    learned = learning.for_cohort(cohort)
    assert (learned.view.learned, learned.width) == (cohort.name, 6)
    assert learning.view.learned is None


def test_images_of_one_patient_are_one_subject():
    """Neither sought nor shunned: clips of a patient are rows of their own, held together by their group."""
    batch = ImageBatch(tuple("abcd"), torch.zeros(4, 1, 2, 2), groups={"group": ("p", "q", "p", "r")})
    assert subject_index(batch).tolist() == [0, 1, 0, 2]
    assert subject_index(ImageBatch(tuple("aab"), torch.zeros(3, 1, 2, 2))).tolist() == [0, 0, 1]
    check_subjects(batch[[0, 2]])  # a left-over minibatch of one patient has nothing to contrast, and is no error
    assert float(nt_xent(torch.eye(2), torch.eye(2), subject_index(batch[[0, 2]]))) == 0
