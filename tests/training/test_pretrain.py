"""Pre-training: labels never matter, and a killed run ends with the numbers of an unbroken one."""

import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from graphssl.data import Cohort, Column, ColumnTokenizer, Schema, StreamedCohort, TimelineTokenizer, write_shards
from graphssl.data.splits import hold_out
from graphssl.data.streamed_batch import StreamedBatch
from graphssl.datasets import simulate_images, simulate_stays
from graphssl.encoders import GraphTransformer, PopulationTransformer, TableTransformer, TimelineTransformer
from graphssl.errors import CheckpointError, ConfigError, DataError
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder
from graphssl.objectives import BYOL, DINO, BarlowTwins, MaskedConnections, MaskedRegions, NTXent, SiteAdversary, WeightedSum
from graphssl.training import Model, TrainingSettings, finetune, pretrain, untrained
from graphssl.views import TimeWindow

module = importlib.import_module("graphssl.training.pretrain")


@pytest.fixture
def batches_seen(note_batches):
    """What `pretrain` hands to the training, which goes on as ever."""
    return note_batches(module)


def weights(model):
    return model.encoder.state_dict()


def same(found, expected):
    return all(torch.equal(found[name], value) for name, value in expected.items())


def with_labels(cohort, values):
    return cohort.with_column(cohort.schema["diagnosis"], pd.Series(values, index=cohort.subjects.index))


def test_a_model_without_a_head_comes_out(pretrained, make_cohort):
    assert pretrained.head is None
    assert pretrained.classes == ()
    assert not pretrained.encoder.training
    assert pretrained.history["epoch"].tolist() == [0, 1]
    assert "24 subjects" not in pretrained.card["pre-trained on"]  # two of them choose the epoch
    assert pretrained.card["objective"].startswith("MaskedRegions {'ratio': 0.3")
    assert pretrained.card["seed"] == 0
    assert len(pretrained.embed(make_cohort())) == 24


@pytest.mark.parametrize("labels", ["permuted", "absent"])
def test_labels_never_matter(pretrained, make_cohort, make_encoder, make_settings, labels):
    cohort = make_cohort(effect=2.0)
    values = np.random.default_rng(0).permutation(cohort.subjects["diagnosis"]) if labels == "permuted" else np.nan
    other = with_labels(cohort, values)
    assert not other.subjects["diagnosis"].equals(cohort.subjects["diagnosis"])
    model = pretrain(other, encoder=make_encoder(), settings=make_settings(max_epochs=2))
    assert same(weights(model), weights(pretrained))
    pd.testing.assert_frame_equal(model.history, pretrained.history, check_exact=True)


def test_seed_and_arguments_decide_and_not_the_weights_that_were_given(pretrained, make_cohort, make_settings):
    cohort = make_cohort(effect=2.0)
    torch.manual_seed(99)
    given = GraphTransformer(width=8, depth=1, heads=2, spacing_mm=40.0)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    objective = MaskedRegions()
    model = pretrain(cohort, encoder=given, objective=objective, settings=make_settings(max_epochs=2))
    assert same(weights(model), weights(pretrained))
    assert same(given.state_dict(), before)
    assert list(objective.parameters()) == []
    other = pretrain(cohort, encoder=given, settings=make_settings(max_epochs=2), seed=1)
    assert not same(weights(other), weights(pretrained))


def test_the_objective_and_its_arguments_are_used(make_cohort, make_encoder, make_settings):
    model = pretrain(make_cohort(), objective=MaskedConnections(0.2, rank=3, pooled_weight=0.0), encoder=make_encoder(), settings=make_settings())
    assert model.card["objective"] == "MaskedConnections {'ratio': 0.2, 'rank': 3, 'pooled_weight': 0.0}"
    assert "train_pooled_error" not in model.history


def test_the_slow_copy_comes_out_beside_the_encoder(make_cohort, make_encoder, make_settings, tmp_path):
    model = pretrain(
        make_cohort(), objective=BYOL(TimeWindow(0.6), width=8, momentum=0.5), encoder=make_encoder(), settings=make_settings(max_epochs=1)
    )
    slow = model.with_target_encoder()
    assert not same(slow.encoder.state_dict(), weights(model))
    assert slow.target_encoder is None
    again = Model.from_pretrained(slow.save_pretrained(tmp_path / "slow"))
    assert_array_equal(again.embed(make_cohort()), slow.embed(make_cohort()))
    plain = pretrain(make_cohort(), objective=MaskedRegions(rank=4), encoder=make_encoder(), settings=make_settings(max_epochs=1))
    with pytest.raises(CheckpointError, match="Expected a model pre-trained with a teacher, found one without"):
        plain.with_target_encoder()


def test_nested_objectives_are_made_anew_and_written_down(make_cohort, make_encoder, make_settings, batches_seen):
    given = WeightedSum({"windows": NTXent(TimeWindow(0.6), width=8), "twins": BarlowTwins(width=8)}, {"twins": 0.5})
    model = pretrain(make_cohort(), objective=given, encoder=make_encoder(), settings=make_settings(max_epochs=1))
    assert list(given.parameters()) == []
    assert "NTXent(view=TimeWindow(share=0.6), temperature=0.2, width=8, hidden=128)" in model.card["objective"]
    assert {"train_windows_loss", "validation_twins_pooled_spread"} <= set(model.history)
    assert all(batch.scans is not None for batch in batches_seen[0])


def test_series_are_kept_only_where_a_view_needs_them(make_cohort, make_encoder, make_settings, batches_seen):
    pretrain(make_cohort(), objective=NTXent(), encoder=make_encoder(), settings=make_settings(max_epochs=1))
    assert all(batch.scans is None for batch in batches_seen[0])


def test_the_builder_is_fitted_on_the_training_share_only(families, make_encoder, make_settings, batches_seen):
    model = pretrain(families, encoder=make_encoder(), builder=ConnectomeBuilder(fisher_z=False), settings=make_settings(max_epochs=1), seed=4)
    split = hold_out(families.ids, groups=families.groups.tolist(), test_fraction=0.1, seed=4)
    expected = ConnectomeBuilder(fisher_z=False).fit(families.select(split.train))
    assert model.builder.get_params() == expected.get_params()
    for atlas, mean in expected.mean_.items():
        assert torch.equal(model.builder.mean_[atlas], mean)
    train, validation = batches_seen[0]
    assert set(train.subject_ids) == set(split.train)
    assert set(validation.subject_ids) == set(split.test)


@pytest.mark.parametrize("seed", range(3))
def test_families_are_not_split_between_training_and_validation(families, make_encoder, make_settings, batches_seen, seed):
    pretrain(families, encoder=make_encoder(), settings=make_settings(max_epochs=1), validation_fraction=0.3, seed=seed)
    train, validation = (set(families.groups.loc[list(batch.subject_ids)]) for batch in batches_seen[0])
    assert families.groups.duplicated().sum() > 5
    assert not train & validation
    assert {*train, *validation} == set(families.groups)


def test_the_epoch_kept_is_that_of_the_history(pretrained):
    best = pretrained.history["validation_loss"].idxmin()
    assert pretrained.card["epoch kept"].startswith(f"{best + 1} of 2, validation loss {pretrained.history['validation_loss'][best]:.4f} on ")


def test_untrained_is_where_pre_training_starts(make_cohort, make_encoder, make_settings):
    cohort = make_cohort()
    start = untrained(cohort, encoder=make_encoder(), seed=3)
    almost = pretrain(cohort, encoder=make_encoder(), settings=make_settings(max_epochs=1, learning_rate=1e-12), seed=3)
    for name, value in weights(start).items():
        torch.testing.assert_close(weights(almost)[name], value)
    assert not same(weights(untrained(cohort, encoder=make_encoder(), seed=4)), weights(start))
    assert start.head is None


def test_few_subjects_give_two_of_them_to_validation(make_cohort, make_settings):
    cohort = make_cohort(n_subjects=6)
    split = module.held_out(cohort, 0.1, seed=0)
    assert len(split.test) == 2
    assert len(pretrain(cohort, settings=make_settings(max_epochs=1)).history) == 1
    with pytest.raises(DataError, match="found .* 1 groups for|found classes {'all': 1} and 1 groups"):
        pretrain(make_cohort(n_subjects=1))


@pytest.mark.parametrize("fraction", [0.0, 0.7])
def test_an_impossible_validation_share_is_refused(make_cohort, fraction):
    with pytest.raises(DataError, match=rf"Expected a test fraction in \(0, 0.5\], found {fraction}"):
        pretrain(make_cohort(), validation_fraction=fraction)


# A user's script in an interpreter of its own. Imports take longer than the training, so each line of input starts it in a fork of a process
# that has only imported; the script answers with the number of that process and, when it has ended, with its exit status.
SCRIPT = """
import json, os, sys, traceback
import torch
torch.set_num_threads(1)
import pytorch_lightning
from graphssl.data import Cohort
from graphssl.encoders import GraphTransformer
from graphssl.objectives import *
from graphssl.training import TrainingSettings, pretrain
from graphssl.views import *

def main(cohort, checkpoints, result, settings, encoder, objective):
    settings, encoder = TrainingSettings(**json.loads(settings)), GraphTransformer(**json.loads(encoder))
    model = pretrain(Cohort.load(cohort), objective=eval(objective), encoder=encoder, settings=settings, folder=checkpoints)
    model.save_pretrained(result)
    model.history.to_csv(result + "/history.csv")

while sys.stdin.readline():
    child = os.fork()
    if not child:
        try:
            main(*sys.argv[1:])
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Interpreter:
    """The script, waiting to be started; `kill` is SIGKILL, which no code can catch."""

    def __init__(self, *arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(self):
        self.process.stdin.write("start\n")
        self.process.stdin.flush()
        self.child = int(self.process.stdout.readline())

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        return self.status()

    def status(self):
        return int(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.communicate()


def wait_for_epoch(folder, after=None):
    """Wait for a checkpoint other than the one of before."""
    path, deadline = folder / "last.ckpt", time.monotonic() + 300
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_mtime_ns != after:
            return
        time.sleep(0.002)
    raise AssertionError(f"No checkpoint was written to {folder}.")


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def kill_and_resume(tmp_path, cohort, encoder, settings, delays, objective, n_interpreters=1):
    """Kill a run once for each delay in seconds after a new checkpoint and let it end; its folder, and that of an unbroken one."""
    cohort.save(tmp_path / "cohort")
    checkpoints, result = tmp_path / "checkpoints", tmp_path / "result"
    arguments = tmp_path / "cohort", checkpoints, result, json.dumps(asdict(settings)), json.dumps(encoder.arguments()), repr(objective)
    interpreters = [Interpreter(*arguments) for _ in range(n_interpreters)]
    try:
        expected = pretrain(cohort, objective=objective, encoder=encoder, settings=settings)
        seen = None
        for number, delay in enumerate(delays):
            interpreter = interpreters[number % n_interpreters]
            interpreter.start()
            wait_for_epoch(checkpoints, after=seen)
            time.sleep(delay)
            assert interpreter.kill() == -signal.SIGKILL, "The run ended before it was killed."
            assert not result.exists()
            seen = (checkpoints / "last.ckpt").stat().st_mtime_ns
        interpreters[-1].start()
        assert interpreters[-1].status() == 0
    finally:
        for interpreter in interpreters:
            interpreter.close()
    expected.save_pretrained(tmp_path / "expected")
    expected.history.to_csv(tmp_path / "expected" / "history.csv")
    return result, tmp_path / "expected"


def weights_that_differ(found, expected):
    """Names of weights of two model folders that are in one only, or not the same to the last bit."""
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (found, expected))
    return sorted(name for name in {*mine, *theirs} if name not in mine or name not in theirs or not torch.equal(mine[name], theirs[name]))


def test_a_run_killed_at_a_random_moment_ends_as_an_unbroken_one(tmp_path, make_cohort, make_encoder, make_settings):
    """Teachers, the centre of their answers and the schedule of an adversary belong to the state of a run."""
    parts = {"regions": MaskedRegions(), "byol": BYOL(TimeWindow(0.6), width=8), "dino": DINO(width=8), "sites": SiteAdversary()}
    settings, delays = make_settings(max_epochs=20), [random.uniform(0.0, 0.2)]
    found, expected = kill_and_resume(tmp_path, make_cohort(), make_encoder(dropout=0.1), settings, delays, WeightedSum(parts))
    assert weights_that_differ(found, expected) == []
    assert files_of(found) == files_of(expected)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(tmp_path, families, make_encoder, make_settings):
    delays = [random.uniform(0.0, 0.4) for _ in range(5)]
    encoder, settings = make_encoder(dropout=0.1), make_settings(max_epochs=250)
    found, expected = kill_and_resume(tmp_path, families, encoder, settings, delays, MaskedRegions(), n_interpreters=3)
    assert weights_that_differ(found, expected) == []
    assert files_of(found) == files_of(expected)


@pytest.mark.parametrize("encoder", [TableTransformer(16, 1, 2), PopulationTransformer(16, 1, 2)], ids=["table", "population"])
def test_patients_are_pretrained_saved_and_finetuned_as_connectomes_are(tmp_path, encoder):
    """One way for both: a hidden severity drives the columns and, in part, the outcome; a new patient does not depend on the others in the call."""
    rng = np.random.default_rng(0)
    severity = rng.standard_normal(120)
    table = pd.DataFrame(
        {
            "lactate": severity + 0.5 * rng.standard_normal(120),
            "pulse": 80.25 - 10 * severity + 5 * rng.standard_normal(120),
            "ward": np.where(severity + rng.standard_normal(120) > 0, "icu", "floor"),
            "died": np.where(severity > 0, "yes", "no"),
        },
        index=[f"p{k:03d}" for k in range(120)],
    )
    table.loc[table.index[::5], "lactate"] = np.nan
    cohort = Cohort("ward", table, Schema.infer(table, roles={"died": "target"}))
    train, test = cohort.select(cohort.ids[:90]), cohort.select(cohort.ids[90:])
    settings = TrainingSettings(max_epochs=5, batch_size=16, learning_rate=0.005)
    start = pretrain(train, encoder=encoder, settings=settings)
    assert start.history["validation_numbers_error"].iloc[-1] < start.history["validation_numbers_error"].iloc[0]
    assert "died" not in [*start.encoder.reader.numbers, *start.encoder.reader.categories]
    model = finetune(start, train, target="died", settings=settings)
    model.save_pretrained(tmp_path / "model")
    again = Model.from_pretrained(tmp_path / "model")
    found = again.predict_proba(test)
    assert_array_equal(found, model.predict_proba(test))
    assert roc_auc_score(test.subjects["died"] == "yes", found[:, 1]) > 0.8
    assert_allclose(again.predict_proba(test.select(test.ids[3:4]))[0], found[3], atol=1e-6)
    assert "**numbers**: lactate, pulse" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(DataError, match="Expected a model of connectomes, found one of numbers, categories"):
        _ = model.connectomes


def test_validation_holds_two_patients_where_each_has_many_images():
    """Contrast is between patients: the images of one alone would say nothing."""
    cohort = simulate_images(40, size=8)
    patients = pd.Series([f"p{k // 10}" for k in range(40)], index=cohort.subjects.index, dtype="str")
    cohort = cohort.with_column(Column("patient", "categorical", "group", categories=tuple(sorted(set(patients)))), patients)
    held = module.held_out(cohort, 0.1, seed=0)  # of four patients a tenth is less than one
    assert cohort.groups.loc[list(held.test)].nunique() == 2
    assert not set(cohort.groups.loc[list(held.test)]) & set(cohort.groups.loc[list(held.train)])
    alone = simulate_images(20, size=8)
    assert module.held_out(alone, 0.1, seed=0) == hold_out(alone.ids, groups=alone.groups.tolist(), test_fraction=0.1, seed=0)


KINDS = {"connectomes": ConnectomeBuilder(covariates=["age"]), "table": ColumnTokenizer(["age", "sex"], n_pieces=4)}


def on_shards(kind, cohort, settings, **options):
    encoder = GraphTransformer(8, 1, 2) if kind == "connectomes" else TableTransformer(8, 1, 2)
    return pretrain(cohort, encoder=encoder, builder=KINDS[kind], settings=settings, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_of_all_shards_ends_as_a_cohort_in_memory(tmp_path, families, make_cohort, make_settings, kind):
    cohort, settings = families if kind == "connectomes" else make_cohort(), make_settings(max_epochs=2)
    folder = write_shards(cohort, tmp_path / "shards", size=5)
    found, expected = on_shards(kind, StreamedCohort(folder), settings), on_shards(kind, cohort, settings)
    assert same(weights(found), weights(expected))
    pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_run_on_a_window_ends_as_an_unbroken_one(tmp_path, families, make_settings, monkeypatch, kind):
    """What was learned of the training share, in one pass, is what is learned of it in memory."""
    cohort, settings = families, make_settings(max_epochs=3)
    streamed = StreamedCohort(write_shards(cohort, tmp_path / "shards", size=5), 2)
    unbroken = on_shards(kind, streamed, settings)
    [mine, theirs] = [model.builder.state()[1] for model in (unbroken, on_shards(kind, cohort, make_settings(max_epochs=1)))]
    assert mine.keys() == theirs.keys()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    taken, take = [], StreamedBatch.__getitem__

    def stop_in_the_second_epoch(batch, rows):
        taken.append(rows)
        if len(taken) == 9:
            raise KeyboardInterrupt
        return take(batch, rows)

    with monkeypatch.context() as patch:
        patch.setattr(StreamedBatch, "__getitem__", stop_in_the_second_epoch)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            on_shards(kind, streamed, settings, folder=tmp_path / "run")
    assert len(taken) == 9
    resumed = on_shards(kind, streamed, settings, folder=tmp_path / "run")
    assert same(weights(resumed), weights(unbroken))
    pd.testing.assert_frame_equal(resumed.history, unbroken.history, check_exact=True)


def test_stays_are_streamed(tmp_path, make_settings):
    """A builder that learned of a sample in memory, and every patient in the history."""
    stays = simulate_stays(n_patients=30)
    streamed = StreamedCohort(write_shards(stays, tmp_path / "shards", size=6), 2)
    tokenizer, encoder = TimelineTokenizer(n_bins=6, bin_hours=8, min_subjects=2), TimelineTransformer(8, 1, 2)
    model = pretrain(streamed, encoder=encoder, builder=tokenizer, settings=make_settings(max_epochs=2))
    assert "27 subjects" in model.card["pre-trained on"]
    assert np.isfinite(model.history.to_numpy(dtype=float)).all()
    assert len(model.embed(stays)) == 30


@pytest.mark.parametrize(
    ("builder", "encoder", "message"),
    [
        (
            ConnectomeBuilder(kind="tangent", fisher_z=False),
            GraphTransformer(8, 1, 2),
            "found tangent space, which needs all subjects. Give a window of all 5",
        ),
        (PopulationBuilder(ColumnTokenizer(["age"])), PopulationTransformer(8, 1, 2), "found PopulationBuilder, which needs all subjects"),
    ],
    ids=["tangent", "population"],
)
def test_what_needs_all_subjects_is_refused_on_a_window(tmp_path, make_cohort, make_settings, builder, encoder, message):
    streamed = StreamedCohort(write_shards(make_cohort(), tmp_path / "shards", size=5), 2)
    with pytest.raises(ConfigError, match=message):
        pretrain(streamed, encoder=encoder, builder=builder, settings=make_settings())
