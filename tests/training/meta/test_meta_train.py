"""Meta-training: every strategy learns, labels are read only where they are to be predicted, and a killed run ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from graphssl.atlases import simulated_atlas
from graphssl.data import ColumnTokenizer
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulate_images import simulate_images
from graphssl.datasets.simulate_stays import simulate_stays
from graphssl.datasets.simulate_table import simulate_table
from graphssl.encoders import EventTransformer, PopulationGNN, PopulationTransformer, ResNet, TableMLP, TableTransformer, TimelineTransformer
from graphssl.errors import ConfigError, DataError
from graphssl.objectives import MaskedRegions
from graphssl.training import finetune
from graphssl.training.meta import (
    STRATEGIES,
    DirectLearning,
    GradientAgreement,
    GradientStep,
    InnerLoop,
    JointTraining,
    LabelledLoss,
    MetaLearning,
    SingleSource,
    Source,
    SourceBatches,
    TaskSampler,
    UncertaintyWeights,
    adaptation_curve,
    as_function,
    choose_path,
    meta_train,
    query_losses,
    sources_by_site,
)
from graphssl.training.model import fresh

ALGORITHMS = {name: MetaLearning(name) for name in ("first_order", "anil", "reptile", "meta_sgd")}
WEIGHTED = {"uncertainty": MetaLearning(weighting=UncertaintyWeights()), "agreement": JointTraining(GradientAgreement())}


@pytest.mark.parametrize("name", [*STRATEGIES, *ALGORITHMS, *WEIGHTED])
def test_every_strategy_gives_a_model_to_fine_tune(name, sources, make_encoder, settings):
    strategy = {**STRATEGIES, **ALGORITHMS, **WEIGHTED}[name]
    target = sources[2].cohort
    model = meta_train(sources[:2], encoder=make_encoder(), strategy=strategy, settings=settings(), target=target)
    assert not model.encoder.training
    tuned = finetune(model, target, target="diagnosis", mode="probe")
    assert tuned.predict_proba(target).shape == (12, 2)
    if isinstance(strategy, DirectLearning):
        assert len(model.history) == 0
        return
    names = ["site-0"] if isinstance(strategy, SingleSource) else ["site-0", "site-1"]
    assert model.history["epoch"].tolist() == [0, 1]
    assert model.history[[f"weight {one}" for one in names]].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert np.isfinite(model.history.to_numpy(float)).all()
    assert model.head is not None
    assert model.target == "diagnosis"
    start = meta_train(sources[:2], encoder=make_encoder(), strategy=DirectLearning(), settings=settings())
    moved = [not torch.equal(a, b) for a, b in zip(model.encoder.parameters(), start.encoder.parameters(), strict=True)]
    assert all(moved) or sum(moved) > len(moved) // 2  # the vector of hidden regions has no part in labels


@pytest.mark.parametrize("name", ["joint", "meta", "meta_reweighted"])
def test_what_is_planted_is_learned(name, sources, make_encoder, settings):
    model = meta_train(sources[:2], encoder=make_encoder(), strategy=STRATEGIES[name], settings=settings(max_epochs=8, steps_per_epoch=5))
    assert model.history["loss"].iloc[-1] < 0.7 * model.history["loss"].iloc[0]
    from sklearn.metrics import roc_auc_score

    probability = model.predict_proba(sources[2].cohort)[:, 1]
    assert roc_auc_score(sources[2].cohort.subjects["diagnosis"] == "patient", probability) > 0.8


def test_rates_of_each_source_are_in_the_history(sources, make_encoder, settings):
    model = meta_train(sources[:2], encoder=make_encoder(), strategy=STRATEGIES["meta_reweighted"], settings=settings(max_epochs=4))
    rates = model.history[["learning_rate site-0", "learning_rate site-1"]].to_numpy()
    assert (rates > 0).all()
    assert not np.allclose(rates[0], rates[-1])
    assert "weight_decay site-0" in model.history


def test_without_labels_none_is_read(make_cohort, make_encoder, settings):
    cohort = make_cohort(effect=2.0)
    shuffled = cohort.with_column(cohort.schema["diagnosis"], cohort.subjects["diagnosis"].sample(frac=1, random_state=0).set_axis(cohort.ids))
    found = []
    for one in (cohort, shuffled):
        named = sources_by_site(one, target="diagnosis")
        found.append(meta_train(named, encoder=make_encoder(), objective=MaskedRegions(), settings=settings()))
    assert found[0].head is None
    assert all(torch.equal(a, b) for a, b in zip(found[0].encoder.parameters(), found[1].encoder.parameters(), strict=True))
    bare = meta_train(sources_by_site(cohort), encoder=make_encoder(), settings=settings())  # the default objective
    assert bare.head is None
    assert "MaskedRegions" in bare.card["learned"]


RECORDS = {
    "table transformer": (TableTransformer(width=8, depth=1, heads=2), "table"),
    "table mlp": (TableMLP(width=8), "table"),
    "timelines": (TimelineTransformer(width=8, depth=1, heads=2), "stays"),
    "events": (EventTransformer(width=8, depth=1, heads=2), "stays"),
    "population transformer": (PopulationTransformer(width=8, depth=1, heads=2), "table"),
    "population network": (PopulationGNN(width=8, depth=1), "table"),
    "population of timelines": (PopulationTransformer(width=8, depth=1, heads=2, patient=TimelineTransformer(width=8, depth=1, heads=2)), "stays"),
}


@pytest.fixture(scope="module")
def hospitals():
    """Hospitals of patients by columns, and units of stays with events."""
    cohorts = {"table": simulate_table(n_subjects=90, columns=6, sites=3).cohort, "stays": simulate_stays(66, n_sites=3)}
    return {name: sources_by_site(cohort, target="died", min_subjects=6) for name, cohort in cohorts.items()}


@pytest.mark.parametrize("kind", RECORDS)
def test_patients_by_columns_events_and_in_populations(kind, hospitals, settings):
    """With labels and without, by second-order MAML and together; the model adapts to a hospital it has not seen."""
    encoder, name = RECORDS[kind]
    sources, target = hospitals[name][:2], hospitals[name][2]
    short = settings(max_epochs=1, steps_per_epoch=2)
    agreeing = MetaLearning(adaptive=True, weighting=GradientAgreement())
    for strategy, chosen in ((agreeing, sources), (JointTraining(), [Source(one.name, one.cohort) for one in sources])):
        model = meta_train(chosen, encoder=encoder, strategy=strategy, settings=short, target=target.cohort)
        assert np.isfinite(model.history.to_numpy(float)).all()
        curve = adaptation_curve(model, target, n_support=(3,), n_draws=2, n_steps=1)
        assert curve["auroc"].between(0, 1).all()


@pytest.mark.parametrize("kind", RECORDS)
def test_meta_gradients_of_records_are_those_of_small_changes(kind, hospitals):
    """Second order, through whatever attention, messages and normalisation an encoder of patients has."""
    encoder, name = RECORDS[kind]
    batches = SourceBatches(hospitals[name], encoder.default_builder())
    tasks = TaskSampler(hospitals[name], 3, 3).draw(0)
    support, query = [batches.support(task) for task in tasks], [batches.query(task) for task in tasks]
    loss, parameters = as_function(LabelledLoss(fresh(encoder.for_builder(batches.builder_), 0), 2).eval())
    inner, generator = InnerLoop(GradientStep(0.5)), torch.Generator().manual_seed(0)
    direction = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in parameters.items()}
    length = sum(float(part.square().sum()) for part in direction.values()) ** 0.5

    def at(step):
        moved = {name: tensor.detach() + step / length * direction[name] for name, tensor in parameters.items()}
        return float(query_losses(loss, moved, support, query, inner).detach().double().sum())

    total = query_losses(loss, parameters, support, query, inner).sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True, materialize_grads=True)
    found = sum(float((gradient * part).sum()) for gradient, part in zip(gradients, direction.values(), strict=True)) / length
    assert found == pytest.approx((at(0.03) - at(-0.03)) / 0.06, rel=0.02, abs=2e-4)


def assert_paths_agree(model, sources):
    """Meta-gradients of tasks at once and of one after the other."""
    batches, tasks = SourceBatches(sources, model.builder, is_fitted=True), TaskSampler(sources, 3, 3).draw(0)
    loss, parameters = as_function(LabelledLoss(model.encoder.requires_grad_(), 2).eval())
    sides = [batches.support(task) for task in tasks], [batches.query(task) for task in tasks]
    assert choose_path(loss, parameters, list(zip(*sides, strict=True))) == "vmap"
    found = [
        torch.autograd.grad(query_losses(loss, parameters, *sides, InnerLoop(GradientStep(0.1)), path=path).sum(), list(parameters.values()))
        for path in ("vmap", "sequential")
    ]
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*found, strict=True))


def test_images(tmp_path, settings):
    sources = sources_by_site(simulate_images(36, size=8, n_sites=3, folder=tmp_path), target="diagnosis")
    short = settings(max_epochs=1, steps_per_epoch=2)
    for strategy, norm in ((MetaLearning(adaptive=True), "group"), (JointTraining(), "batch")):
        encoder = ResNet(width=4, blocks=(1,), stem="small", norm=norm)
        model = meta_train(sources[:2], encoder=encoder, strategy=strategy, settings=short)
        assert adaptation_curve(model, sources[2], n_support=(3,), n_draws=2, n_steps=1)["auroc"].between(0, 1).all()
        if norm == "group":
            assert_paths_agree(model, sources)
    with pytest.raises(ConfigError, match="an inner loop without running statistics, found BatchNorm2d"):
        meta_train(sources[:2], encoder=encoder, settings=short)


def test_a_population_of_one_source_has_no_tasks(hospitals, settings):
    one = hospitals["table"][:1]
    encoder = PopulationTransformer(width=8, depth=1, heads=2)
    with pytest.raises(ConfigError, match=r"two or more sources for meta-learning in a population, found 'site-\d' alone"):
        meta_train(one, encoder=encoder, settings=settings())
    assert meta_train(one, encoder=encoder, strategy=JointTraining(), settings=settings(max_epochs=1)).head is not None


def test_atlases_mix_in_a_step(make_encoder, settings):
    made = []
    for name, n_regions in (("a", 14), ("b", 10)):
        cohort = simulate([simulated_atlas(n_regions)], n_subjects=24, sites=1, n_sources=100, seed=n_regions).cohort
        made.append(Source(name, cohort, cohort.schema.named("target")[0]))
    model = meta_train(made, encoder=make_encoder(), settings=settings())
    assert set(model.connectomes.atlases_) == {"simulated14", "simulated10"}
    assert len(model.embed(made[1].cohort)) == 24


def test_tables_are_meta_trained_alike(settings):
    cohort = simulate_table(n_subjects=60, columns=6, sites=2).cohort
    made = sources_by_site(cohort, target=cohort.schema.named("target")[0])
    model = meta_train(made, encoder=TableMLP(width=8), builder=ColumnTokenizer(), settings=settings())
    assert np.isfinite(model.history["loss"]).all()
    assert len(model.embed(cohort)) == 60


def test_the_same_call_gives_the_same_numbers_and_another_seed_others(sources, make_encoder, settings):
    first, second, other = (meta_train(sources, encoder=make_encoder(dropout=0.1), settings=settings(max_epochs=1), seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)
    assert first.history["loss"].iloc[0] != other.history["loss"].iloc[0]


def test_caller_randomness_is_left_alone(sources, make_encoder, settings):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    meta_train(sources, encoder=make_encoder(), settings=settings(max_epochs=1))
    assert torch.equal(torch.rand(1), expected)


SCRIPT = """
import json, sys, torch
torch.set_num_threads(1)
from graphssl.data import Cohort
from graphssl.encoders import GraphTransformer
from graphssl.training.meta import MetaLearning, MetaSettings, meta_train, sources_by_site
cohort, folder, result, settings, encoder = sys.argv[1:]
sources = sources_by_site(Cohort.load(cohort), target="diagnosis")
encoder, settings = GraphTransformer(**json.loads(encoder)), MetaSettings(**json.loads(settings))
model = meta_train(sources, encoder=encoder, strategy=MetaLearning(adaptive=True), settings=settings, folder=folder)
model.save_pretrained(result)
model.history.to_csv(result + "/history.csv")
"""


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, make_cohort, make_encoder, settings):
    cohort, encoder = make_cohort(n_subjects=36, n_sites=3, effect=2.0), make_encoder(dropout=0.1)
    chosen = settings(max_epochs=8)
    cohort.save(tmp_path / "cohort")
    arguments = [
        str(tmp_path / "cohort"),
        str(tmp_path / "checkpoints"),
        str(tmp_path / "found"),
        json.dumps(asdict(chosen)),
        json.dumps(encoder.arguments()),
    ]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "The run ended before it was killed."
    assert not (tmp_path / "found").exists()
    named = sources_by_site(cohort, target="diagnosis")
    strategy = MetaLearning(adaptive=True)
    resumed = meta_train(named, encoder=encoder, strategy=strategy, settings=chosen, folder=tmp_path / "checkpoints")
    unbroken = meta_train(named, encoder=encoder, strategy=strategy, settings=chosen)
    pd.testing.assert_frame_equal(resumed.history, unbroken.history, check_exact=True)
    for name, model in (("resumed", resumed), ("unbroken", unbroken)):
        model.save_pretrained(tmp_path / name)
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("resumed", "unbroken"))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    again = meta_train(named, encoder=encoder, strategy=strategy, settings=chosen, folder=tmp_path / "checkpoints")
    assert all(torch.equal(a, b) for a, b in zip(again.encoder.parameters(), unbroken.encoder.parameters(), strict=True))


def test_bad_input_is_refused(sources, make_encoder, settings):
    with pytest.raises(DataError, match=r"at least 14 subjects of the class 'control' in source 'site-0'"):
        meta_train(sources, encoder=make_encoder(), settings=settings(n_support=7, n_query=7))
    agreeing = MetaLearning(weighting=GradientAgreement())
    with pytest.raises(ConfigError, match=r"the target's subjects for GradientAgreement, found none\. Give meta_train\(target=…\)"):
        meta_train(sources, encoder=make_encoder(), strategy=agreeing, settings=settings())
