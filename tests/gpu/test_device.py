"""The same numbers on a GPU as on the CPU."""

import numpy as np
import pytest
import torch

from graphssl.atlases import convert_matrices, geometry_map, simulated_atlas
from graphssl.data import ColumnTokenizer
from graphssl.datasets import simulate_table
from graphssl.encoders import GraphTransformer, PopulationGNN, PopulationTransformer, SparsePopulationTransformer, TableMLP
from graphssl.graphs import PopulationBuilder
from graphssl.objectives import MaskedColumns, MaskedRegions, Scarf
from graphssl.training import TrainingSettings, finetune, pretrain

pytestmark = pytest.mark.gpu


def test_loss_and_gradient_are_those_of_the_cpu(make_batch):
    batch = make_batch()
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        encoder = GraphTransformer(width=16, depth=2, dropout=0.0)
        objective = MaskedRegions().prepare(encoder).to(device)
        loss = objective(encoder.to(device), batch.to(device), torch.Generator().manual_seed(0)).total
        loss.backward()
        found.append((loss.item(), encoder.tokens.profile.weight.grad.cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", [MaskedColumns(0.3, patients=0.1, never_hidden=["age"]), Scarf()], ids=["masked", "scarf"])
def test_a_step_on_a_table_is_the_same_on_both_devices(objective):
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        cohort = simulate_table(n_subjects=40, columns=10).cohort
        tokenizer = ColumnTokenizer(n_pieces=4).fit(cohort)
        encoder = TableMLP(width=16, depth=1, dropout=0.0).for_builder(tokenizer)
        prepared = objective.fresh().prepare(encoder).to(device)
        loss = prepared(encoder.to(device), tokenizer.transform(cohort).to(device), torch.Generator().manual_seed(0)).total
        loss.backward()
        found.append((loss.item(), encoder.into.grad.cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("encoder", [PopulationTransformer, SparsePopulationTransformer, PopulationGNN])
@pytest.mark.parametrize("whole_limit", [0, 100])
def test_a_step_over_a_population_is_the_same_on_both_devices(encoder, whole_limit):
    cohort = simulate_table(n_subjects=40, columns=10).cohort
    builder = PopulationBuilder(ColumnTokenizer(n_pieces=4)).fit(cohort.select(cohort.ids[:30]))
    batch = builder.transform(cohort)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        made = encoder(width=16, depth=2, dropout=0.0, whole_limit=whole_limit).for_builder(builder)
        objective = MaskedColumns().prepare(made).to(device)
        torch.manual_seed(1)
        loss = objective(made.to(device), batch.to(device), torch.Generator().manual_seed(0)).total
        loss.backward()
        found.append((loss.item(), made.heard.weight.grad.cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_training_on_a_gpu_gives_a_model_that_predicts(make_cohort):
    cohort = make_cohort()
    settings = TrainingSettings(max_epochs=2, batch_size=8, accelerator="gpu", precision="bf16-mixed")
    model = finetune(pretrain(cohort, settings=settings), cohort, settings=settings)
    assert model.predict_proba(cohort).shape == (len(cohort), 2)


def test_matrices_are_converted_to_the_same_on_both_devices():
    atlas_map = geometry_map(simulated_atlas(40), simulated_atlas(25))
    rng = np.random.default_rng(0)
    matrices = np.stack([np.corrcoef(rng.standard_normal((30, 40)), rowvar=False) for _ in range(5)])
    found = [convert_matrices(atlas_map, matrices, device=device) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(found[0].values, found[1].values, atol=1e-4)
