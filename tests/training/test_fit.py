"""Training against a loop written out; a broken run ends as an unbroken one, bit for bit."""

import math
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

from graphssl.errors import CheckpointError, ConfigError, GraphSSLError, RunFolderError
from graphssl.objectives import MaskedConnections, MaskedRegions, Supervised
from graphssl.training import TrainingSettings, fit
from graphssl.training.batches import Minibatches
from graphssl.training.fit import validation_loss


@pytest.fixture(scope="module")
def train(make_batch):
    return make_batch(20, 8, seed=0, missing={3: [1]})


@pytest.fixture(scope="module")
def validation(make_batch):
    return replace(make_batch(9, 8, seed=1), subject_ids=tuple(f"val-{k}" for k in range(9)))


@pytest.fixture(scope="module")
def run(make_encoder, make_settings, train, validation):
    """Train a new tiny encoder on masked regions; returns weights, history and score."""

    def train_anew(folder=None, *, seed=0, kind=MaskedRegions, ratio=0.3, validation=validation, train=train, dropout=0.1, **changes):
        encoder = make_encoder(dropout=dropout)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            objective = kind(ratio=ratio, rank=4).prepare(encoder)
        fitted = fit(encoder, objective, train, validation, make_settings(**changes), seed=seed, folder=folder)
        return {**encoder.state_dict(), **objective.state_dict()}, fitted

    return train_anew


@pytest.fixture(scope="module")
def unbroken(run, tmp_path_factory):
    """The run of the defaults, never interrupted, with the folder it left."""
    folder = tmp_path_factory.mktemp("unbroken")
    return *run(folder), folder


@pytest.fixture
def ended(unbroken, tmp_path):
    """A copy of the folder that the unbroken run left."""
    return shutil.copytree(unbroken[2], tmp_path / "ended")


class KilledError(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def interrupt(monkeypatch):
    """Make the n-th draw of a mask fail once, in the middle of whatever is going on then."""
    draw = MaskedRegions.draw

    def at(n):
        calls = iter(range(1, 10**6))

        def failing(self, batch, generator):
            if next(calls) == n:
                monkeypatch.setattr(MaskedRegions, "draw", draw)
                raise KilledError
            return draw(self, batch, generator)

        monkeypatch.setattr(MaskedRegions, "draw", failing)

    return at


def assert_same(found, expected):
    """The same to the last bit."""
    assert found[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        assert torch.equal(found[0][name], value), name
    pd.testing.assert_frame_equal(found[1].history, expected[1].history, check_exact=True)
    assert (found[1].best_epoch, found[1].best_score) == (expected[1].best_epoch, expected[1].best_score)


def test_the_history_has_a_row_an_epoch(unbroken):
    fitted = unbroken[1]
    parts = ("loss", "tokens_error", "zero_error", "pooled_error")
    assert set(fitted.history) == {"epoch", *(f"{stage}_{part}" for stage in ("train", "validation") for part in parts)}
    assert fitted.history["epoch"].tolist() == [0, 1, 2, 3]
    assert fitted.history.notna().all().all()
    assert len(set(fitted.history["validation_zero_error"])) == 1  # the same masks every epoch
    assert len(set(fitted.history["train_zero_error"])) == 4  # others in training
    for stage in ("train", "validation"):
        total = fitted.history[f"{stage}_tokens_error"] + fitted.history[f"{stage}_pooled_error"]
        pd.testing.assert_series_equal(fitted.history[f"{stage}_loss"], total, check_names=False, rtol=1e-5)


def test_dropout_is_there_whatever_the_encoder_did_before(make_encoder, make_settings, train):
    """Embedding leaves an encoder in evaluation; fine-tuning begins with an embedding."""
    histories = []
    for dropout, evaluated in ((0.5, False), (0.5, True), (0.0, True)):
        encoder = make_encoder(dropout=dropout).train(not evaluated)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            objective = MaskedRegions(rank=4).prepare(encoder)
        histories.append(fit(encoder, objective, train, None, make_settings(max_epochs=2)).history)
    pd.testing.assert_frame_equal(histories[0], histories[1])
    assert not histories[1].equals(histories[2])


def test_the_best_epoch_is_the_one_of_lowest_validation_loss(run):
    _, fitted = run(max_epochs=6, learning_rate=0.02)
    history = fitted.history.set_index("epoch")
    assert fitted.best_epoch == history["validation_loss"].idxmin()
    assert fitted.best_score == pytest.approx(history["validation_loss"].min(), rel=0.02)  # the history weighs minibatches alike


def trained_by_hand(encoder, objective, train, validation, settings, seed):
    """The same training in a plain loop: AdamW, warm-up and cosine, clipped gradients; gives the weights after every epoch."""
    modules = torch.nn.ModuleList([encoder, objective])
    decayed, plain = ([p for p in modules.parameters() if (p.dim() > 1) == matrix] for matrix in (True, False))
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    sampler = Minibatches(train.subject_ids, settings.batch_size, seed=seed)
    n_steps, step = settings.max_epochs * len(sampler), 0
    warmup = max(1, n_steps // 10)
    epochs = []
    for epoch in range(settings.max_epochs):
        modules.train()
        sampler.set_epoch(epoch)
        for rows in sampler:
            cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup))) / 2
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * ((step + 1) / warmup if step < warmup else cosine)
            torch.manual_seed(seed * 1_000_003 + step)
            optimizer.zero_grad()
            objective(encoder, train[rows], torch.Generator().manual_seed(seed * 1_000_003 + step)).total.backward()
            torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            optimizer.step()
            step += 1
        modules.eval()
        total = 0.0
        with torch.no_grad():
            for number, rows in enumerate(Minibatches(validation.subject_ids, settings.batch_size, shuffle=False)):
                generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
                total += objective(encoder, validation[rows], generator).total.item() * len(rows)
        weights = {name: value.clone() for name, value in (encoder.state_dict() | objective.state_dict()).items()}
        epochs.append((total / len(validation), weights))
    return epochs


def test_the_weights_are_those_of_the_best_epoch_of_a_plain_loop(run, make_encoder, make_settings, train, validation):
    changes = {"max_epochs": 6, "learning_rate": 0.03, "batch_size": 6}
    weights, fitted = run(seed=2, **changes)
    encoder = make_encoder(dropout=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        objective = MaskedRegions(rank=4).prepare(encoder)
        epochs = trained_by_hand(encoder, objective, train, validation, make_settings(**changes), seed=2)
    scores = [score for score, _ in epochs]
    assert fitted.best_epoch == scores.index(min(scores))
    assert fitted.best_epoch < 5, "the last epoch is the best: this cannot show that an earlier one is taken back"
    assert fitted.best_score == pytest.approx(min(scores), rel=1e-5)
    for name, value in epochs[fitted.best_epoch][1].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)


def test_without_validation_the_training_loss_chooses(run):
    _, fitted = run(validation=None, max_epochs=3, patience=1)
    assert [name for name in fitted.history if name.startswith("validation")] == []
    assert len(fitted.history) == 3
    assert fitted.best_epoch == fitted.history["train_loss"].idxmin()


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_validation_gets_no_better(run, patience):
    _, fitted = run(max_epochs=30, learning_rate=0.1, patience=patience)
    assert len(fitted.history) < 30
    assert len(fitted.history) == fitted.best_epoch + 1 + patience


class Adrift(MaskedRegions):
    """Masked regions whose loss is said not to compare epochs."""

    selects_epoch = False


@pytest.mark.parametrize("held_out", [True, False])
def test_an_objective_that_does_not_compare_epochs_is_trained_to_the_end(run, interrupt, validation, tmp_path, held_out):
    changes = {
        "seed": 2,
        "max_epochs": 6,
        "learning_rate": 0.03,
        "batch_size": 6,
        "patience": 1,
        "kind": Adrift,
        "validation": validation if held_out else None,
    }
    weights, fitted = run(tmp_path, **changes)
    losses = fitted.history["validation_loss" if held_out else "train_loss"].tolist()
    assert fitted.best_epoch == 5
    assert fitted.best_score == pytest.approx(losses[5], rel=0.1)
    assert not held_out or min(losses) < losses[5], "the last epoch is the best: this cannot show that a worse one is kept"
    interrupt(1)
    assert_same(run(tmp_path, **changes), (weights, fitted))


def test_the_last_weights_are_those_of_a_plain_loop(run, make_encoder, make_settings, train, validation):
    changes = {"max_epochs": 3, "learning_rate": 0.03}
    weights, _ = run(kind=Adrift, **changes)
    encoder = make_encoder(dropout=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        objective = MaskedRegions(rank=4).prepare(encoder)
        epochs = trained_by_hand(encoder, objective, train, validation, make_settings(**changes), seed=0)
    for name, value in epochs[-1][1].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)


def test_the_same_call_gives_the_same_numbers_and_leaves_those_of_the_caller(run, unbroken):
    torch.manual_seed(6)
    state = torch.get_rng_state()
    assert_same(run(), unbroken)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_gives_other_numbers(run, unbroken):
    assert run(seed=1)[1].history["train_loss"].tolist() != unbroken[1].history["train_loss"].tolist()


def test_only_the_folder_is_written(run, unbroken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(max_epochs=1)
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "run" / "checkpoints", max_epochs=1)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == ["run/checkpoints/last.ckpt"]


# 20 rows by 8 are three steps an epoch, and nine rows one of validation: draws 1 to 3 train, 4 validates, and so on.
@pytest.mark.parametrize("n_draws", [2, 4, 5, 8, 15])
def test_a_broken_run_ends_as_an_unbroken_one(run, unbroken, interrupt, tmp_path, n_draws):
    interrupt(n_draws)
    with pytest.raises(KilledError):
        run(tmp_path)
    assert (tmp_path / "last.ckpt").exists() == (n_draws > 4)
    assert_same(run(tmp_path), unbroken)


def test_a_run_broken_again_and_again_ends_as_an_unbroken_one(run, unbroken, interrupt, tmp_path):
    for n_draws in (6, 3, 7):  # counted anew from the last checkpoint
        interrupt(n_draws)
        with pytest.raises(KilledError):
            run(tmp_path)
    assert_same(run(tmp_path), unbroken)


def test_a_broken_run_remembers_how_patient_it_was(run, interrupt, tmp_path):
    changes = {"max_epochs": 30, "learning_rate": 0.1, "patience": 3}
    expected = run(**changes)
    interrupt(4 * (len(expected[1].history) - 1) + 2)  # in the last epoch
    with pytest.raises(KilledError):
        run(tmp_path, **changes)
    assert_same(run(tmp_path, **changes), expected)


def test_a_run_that_ended_is_not_trained_again(run, unbroken, interrupt, ended):
    interrupt(1)
    assert_same(run(ended), unbroken)


@pytest.mark.parametrize("changes", [{"max_epochs": 30, "learning_rate": 0.1, "patience": 1}, {"validation": None, "max_epochs": 2}])
def test_a_run_that_ended_otherwise_is_not_trained_again_either(run, interrupt, tmp_path, changes):
    expected = run(tmp_path, **changes)
    interrupt(1)
    assert_same(run(tmp_path, **changes), expected)


def test_a_checkpoint_that_was_being_written_is_passed_over(run, unbroken, interrupt, tmp_path):
    interrupt(8)
    with pytest.raises(KilledError):
        run(tmp_path)
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt.part").write_bytes(whole[: len(whole) // 2])
    assert_same(run(tmp_path), unbroken)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"max_epochs": 5}, {"learning_rate": 1e-3}, {"ratio": 0.4}, {"kind": MaskedConnections}, {"validation": None}, {"dropout": 0.2}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_checkpoint_of_another_run_is_refused(run, ended, changes):
    with pytest.raises(RunFolderError, match="found one of another run"):
        run(ended, **changes)


def test_the_checkpoint_of_other_data_is_refused(run, ended, train):
    weights = train.weights.clone()
    weights[4, 2, 3] = weights[4, 3, 2] = 1.5
    with pytest.raises(RunFolderError, match="other data, settings or code of the model"):
        run(ended, train=replace(train, weights=weights))


def test_the_checkpoint_of_other_labels_is_refused(make_encoder, make_settings, train, tmp_path):
    def supervised(labels):
        encoder = make_encoder()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            objective = Supervised(labels).prepare(encoder)
        return fit(encoder, objective, train, None, make_settings(max_epochs=1), folder=tmp_path)

    labels = {subject: k % 2 for k, subject in enumerate(train.subject_ids)}
    supervised(labels)
    with pytest.raises(RunFolderError, match="found one of another run"):
        supervised({subject: 1 - label for subject, label in labels.items()})


def test_another_progress_bar_is_the_same_run(run, unbroken, interrupt, ended, capsys):
    interrupt(1)
    assert_same(run(ended, progress=True), unbroken)


def test_a_truncated_checkpoint_is_refused(run, ended):
    whole = (ended / "last.ckpt").read_bytes()
    (ended / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="Expected a whole checkpoint of tensors at .*last.ckpt"):
        run(ended)
    assert (ended / "last.ckpt").read_bytes() == whole[: len(whole) // 2]


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint(run, unbroken, tmp_path, monkeypatch):
    forward = MaskedRegions.forward
    steps = iter(range(100))

    def exploding(self, encoder, batch, generator):
        loss = forward(self, encoder, batch, generator)
        return loss._replace(total=loss.total * float("nan")) if next(steps) == 9 else loss

    with monkeypatch.context() as patch:
        patch.setattr(MaskedRegions, "forward", exploding)
        with pytest.raises(GraphSSLError, match=r"Expected a finite training loss at step 7, found nan.*The last checkpoint is intact"):
            run(tmp_path)
    assert_same(run(tmp_path), unbroken)


def test_extreme_values_in_validation_end_the_run(run, validation):
    weights = validation.weights.clone()
    weights[:, 0, 1:] = weights[:, 1:, 0] = 1e30
    with pytest.raises(GraphSSLError, match="Expected a finite validation loss at step 3, found"):
        run(validation=replace(validation, weights=weights))


def test_the_bar_goes_to_stderr(make_encoder, make_settings, train, capsys):
    encoder = make_encoder()
    settings = make_settings(max_epochs=1, progress=True)
    fit(encoder, MaskedRegions(rank=4).prepare(encoder), train, None, settings, label="pre-training")
    shown = capsys.readouterr()
    assert "pre-training" in shown.err
    assert shown.out == ""


def test_without_a_bar_nothing_is_printed(run, capfd):
    run(max_epochs=1)
    shown = capfd.readouterr()
    assert shown.out == shown.err == ""


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_the_smallest_batches_train(run, make_batch, n_rows):
    weights, fitted = run(train=make_batch(n_rows, 6), validation=make_batch(1, 4), max_epochs=1)
    assert len(fitted.history) == 1
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_rows_that_pass_a_few_at_a_time_train_the_same(run):
    whole, parts = run(max_epochs=2, dropout=0.0), run(max_epochs=2, dropout=0.0, rows_at_once=3)
    pd.testing.assert_frame_equal(parts[1].history, whole[1].history, rtol=1e-4)
    for name, value in whole[0].items():
        torch.testing.assert_close(parts[0][name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("name", ["max_epochs", "batch_size", "learning_rate", "patience", "rows_at_once"])
def test_settings_that_are_not_positive_are_refused(name):
    with pytest.raises(ConfigError, match=f"Expected {name} above 0, found 0"):
        TrainingSettings(**{name: 0})


def test_the_loss_before_and_after_is_the_one_that_training_notes(make_encoder, make_settings, train, validation):
    encoder = make_encoder()
    torch.manual_seed(1)
    objective, settings = MaskedRegions(rank=4).prepare(encoder), make_settings(max_epochs=1)
    before = validation_loss(encoder, objective, validation, settings, seed=2)
    state = torch.get_rng_state()
    fitted = fit(encoder, objective, train, validation, settings, seed=2)
    assert validation_loss(encoder, objective, validation, settings, seed=2) == fitted.best_score < before
    assert torch.equal(state, torch.get_rng_state())


def test_what_is_watched_stands_in_the_history(make_encoder, make_settings, train):
    encoder, seen = make_encoder(), []

    def watch(watched, epoch):
        seen.append((watched is encoder, epoch))
        return {"half": epoch / 2} if epoch else {}

    objective = MaskedRegions(rank=4).prepare(encoder)
    history = fit(encoder, objective, train, None, make_settings(max_epochs=3), watch=watch).history
    assert seen == [(True, 0), (True, 1), (True, 2)]
    assert history["half"].tolist()[1:] == [0.5, 1.0]
    assert math.isnan(history["half"][0])


@pytest.mark.parametrize("changes", [{"layer_decay": 0.0}, {"layer_decay": 1.1}, {"anchor": -0.1}])
def test_an_impossible_decay_or_anchor_is_refused(changes):
    with pytest.raises(ConfigError, match=r"Expected layer_decay in \(0, 1\] and anchor ≥ 0, found "):
        TrainingSettings(**changes)
