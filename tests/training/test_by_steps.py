"""Fine-tuning by steps: the rule's table, the same steps for any number of labels, resampled classes, curves, decoders that go on."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet
from graphssl.encoders.images.segmentation import SegmentationDecoder
from graphssl.errors import ConfigError, DataError, GraphSSLError
from graphssl.objectives import Restoration
from graphssl.training import Model, SegmentationSettings, untrained
from graphssl.training.by_steps import (
    SCORE,
    StepSettings,
    bit_hyper_rule,
    bit_image_size,
    finetune_by_steps,
    rows_by_step,
    segment_by_steps,
)
from graphssl.views import Flip

ENCODER = ResNet(2, 1, 4, (1, 1), stem="small", norm="group")
SHORT = StepSettings(n_steps=6, batch_size=8, learning_rate=1e-2, n_checks=3)


@pytest.fixture(scope="module")
def cohort():
    return simulate_images(32, size=12, effect=3.0, n_sites=1)


@pytest.fixture(scope="module")
def model(cohort):
    return untrained(cohort, encoder=ENCODER, builder=ImageBuilder())


def test_the_hyper_rule_is_a_table():
    """BiT: small, medium and large tasks by the number of examples; images by their area."""
    assert bit_hyper_rule(1) == bit_hyper_rule(19_999) == (500, (200, 300, 400), 100, 0.0)
    assert bit_hyper_rule(20_000) == bit_hyper_rule(499_999) == (10_000, (3_000, 6_000, 9_000), 500, 0.1)
    assert bit_hyper_rule(500_000) == (20_000, (6_000, 12_000, 18_000), 500, 0.1)
    assert bit_image_size(28, 28) == bit_image_size(95, 96) == (160, 128)
    assert bit_image_size(96, 96) == (512, 480)


def test_settings_follow_the_rule_or_a_share_of_it():
    assert StepSettings(rule="bit").plan(100) == (500, (200, 300, 400), 100, 0.0)
    assert StepSettings(rule="bit", share=0.02).plan(100) == (10, (4, 6, 8), 2, 0.0)
    assert StepSettings(n_steps=50).plan(10**6) == (50, (), 5, 0.0)
    with pytest.raises(ConfigError, match="Expected n_steps above 0, found 0"):
        StepSettings(n_steps=0)


def test_the_learning_rate_of_the_rule_warms_up_and_falls_by_tenths():
    from graphssl.training.by_steps import _optimizer

    plan = bit_hyper_rule(10)
    optimizer, schedule = _optimizer(torch.nn.Linear(2, 2), StepSettings(rule="bit", optimizer="sgd", learning_rate=1.0), plan)
    rates = []
    for _ in range(plan.n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert [rates[k] for k in (0, 49, 99, 199)] == pytest.approx([0.01, 0.5, 1.0, 1.0])
    assert [rates[k] for k in (200, 299, 300, 400, 499)] == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])


def test_an_epoch_meets_everybody_once_and_a_resampled_one_every_class_alike():
    subjects = [f"s{k}" for k in range(20)]
    classes = {subject: int(k >= 16) for k, subject in enumerate(subjects)}
    plain = [row for rows in islice(rows_by_step(subjects, StepSettings(batch_size=5), None, 0), 4) for row in rows]
    assert sorted(plain) == list(range(20))
    even = [row for rows in islice(rows_by_step(subjects, StepSettings(batch_size=5, resampling="mean"), classes, 0), 4) for row in rows]
    assert Counter(classes[subjects[row]] for row in even) == {0: 10, 1: 10}
    assert set(Counter(row for row in even if row < 16).values()) == {1}  # the common class is thinned, not repeated
    assert set(Counter(row for row in even if row >= 16).values()) == {2, 3}
    with pytest.raises(ConfigError, match="Expected classes to resample"):
        next(rows_by_step(subjects, StepSettings(resampling="mean"), None, 0))


@pytest.mark.parametrize("n", [2, 8, 24])
def test_any_number_of_labels_is_trained_for_the_same_steps(model, cohort, n):
    tuned = finetune_by_steps(model, cohort.select(cohort.ids[:n]), settings=SHORT, validation=cohort.select(cohort.ids[24:]))
    assert tuned.history["step"].tolist() == [2, 4, 6]
    assert tuned.history[SCORE].between(0, 1).all()
    assert tuned.predict_proba(cohort).shape == (32, 2)


def test_it_learns_and_leaves_the_given_model_as_it_is(model, cohort):
    before = {name: weight.clone() for name, weight in model.encoder.state_dict().items()}
    settings = StepSettings(n_steps=80, batch_size=16, learning_rate=3e-2, view=Flip(p=0.5), n_checks=3)
    tuned = finetune_by_steps(model, cohort, settings=settings)
    assert tuned.history["train_loss"].iloc[-1] < 0.6  # 0.69 at the start
    assert all(weight.equal(before[name]) for name, weight in model.encoder.state_dict().items())
    again = finetune_by_steps(model, cohort, settings=settings)
    assert again.history.equals(tuned.history)


def test_the_best_check_is_kept_where_that_is_asked_for(model, cohort):
    validation = cohort.select(cohort.ids[24:])
    wild = replace(SHORT, n_steps=12, n_checks=6, learning_rate=0.5, keep="best")
    tuned = finetune_by_steps(model, cohort.select(cohort.ids[:24]), settings=wild, validation=validation)
    labels = [tuned.classes.index(label) for label in validation.target()]
    from graphssl.statistics import auroc

    assert auroc(labels, tuned.predict_proba(validation)[:, 1]) == pytest.approx(tuned.history[SCORE].max())


def test_large_tasks_mix_pairs_of_images(model, cohort, monkeypatch):
    from graphssl.training import by_steps

    rule = by_steps.HyperRule(4, (2,), 1, 1.0)
    monkeypatch.setattr(by_steps, "bit_hyper_rule", lambda n: rule)
    mixed = finetune_by_steps(model, cohort, settings=replace(SHORT, rule="bit", n_checks=1))
    monkeypatch.setattr(by_steps, "bit_hyper_rule", lambda n: rule._replace(mixup=0.0))
    plain = finetune_by_steps(model, cohort, settings=replace(SHORT, rule="bit", n_checks=1))
    assert mixed.history["train_loss"].item() == pytest.approx(plain.history["train_loss"].item(), rel=0.5)
    assert mixed.history["train_loss"].item() != plain.history["train_loss"].item()


def test_a_loss_that_is_not_finite_stops_it(model, cohort):
    broken = replace(model, encoder=ResNet(2, 1, 4, (1, 1), stem="small", norm="group"))
    with torch.no_grad():
        next(broken.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(GraphSSLError, match="Expected a finite loss at step 1, found nan"):
        finetune_by_steps(broken, cohort, settings=SHORT)
    with pytest.raises(DataError, match="Expected at least two classes in 'diagnosis'"):
        finetune_by_steps(model, cohort.select(cohort.ids[:1]), classes=["benign", "malignant"], settings=SHORT)


def test_masks_are_learned_by_steps(model, cohort):
    settings = replace(SHORT, n_steps=12, n_checks=2)
    tuned = segment_by_steps(model, cohort.select(cohort.ids[:16]), settings=settings, validation=cohort.select(cohort.ids[16:24]))
    assert tuned.history["step"].tolist() == [6, 12]
    assert tuned.history[SCORE].iloc[-1] > 0.4
    assert tuned.segment(tuned.builder.transform(cohort)).shape == (32, 12, 12)


def test_a_decoder_that_restored_images_segments_next(model, cohort):
    objective = Restoration(segmentation_width=4).prepare(model.encoder)
    rows = model.builder.transform(cohort)[list(range(4))]
    loss = objective(model.encoder, rows, torch.Generator().manual_seed(0))
    loss.total.backward()
    assert objective.decoder.heads[0].weight.grad.abs().sum() > 0
    learned = objective.decoder
    with torch.no_grad():
        for weight in learned.parameters():
            weight.fill_(0.125)
    still = replace(SHORT, n_steps=1, learning_rate=1e-9, n_checks=1)
    tuned = segment_by_steps(model, cohort, segmentation=SegmentationSettings(width=4), settings=still, decoder=learned)
    inner = {name: weight for name, weight in tuned.decoder.state_dict().items() if not name.startswith("heads")}
    assert all(torch.allclose(weight, torch.tensor(0.125)) for weight in inner.values())
    assert not torch.allclose(tuned.decoder.heads[0].weight, torch.tensor(0.125))
    with pytest.raises(ConfigError, match="Expected a pre-trained decoder of the size"):
        segment_by_steps(model, cohort, segmentation=SegmentationSettings(width=8), settings=still, decoder=learned)


def test_a_decoder_is_no_part_of_a_model_of_another_encoder(cohort):
    other = Model(ImageBuilder().fit(cohort), ResNet(2, 1, 6, (1, 1), stem="small", norm="group"))
    learned = SegmentationDecoder.for_encoder(ENCODER, 1, width=4, deep_supervision=False)
    with pytest.raises(ConfigError, match="Expected a pre-trained decoder"):
        segment_by_steps(other, cohort, segmentation=SegmentationSettings(width=4), settings=SHORT, decoder=learned)
