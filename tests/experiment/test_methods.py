"""Methods and baselines by name."""

import numpy as np
import pytest

from graphssl.data import ColumnTokenizer
from graphssl.encoders import (
    GAT,
    GCN,
    GIN,
    MLP,
    BrainNetworkTransformer,
    GraphTransformer,
    TableTransformer,
)
from graphssl.errors import ConfigError
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.methods import make_method, objective_of
from graphssl.graphs import ConnectomeBuilder
from graphssl.objectives import MaskedColumns, MaskedConnections, MaskedRegions
from graphssl.training import TrainingSettings

COMPARED = {"gcn": GCN, "gat": GAT, "gin": GIN, "brain_network_transformer": BrainNetworkTransformer, "mlp": MLP}


@pytest.mark.parametrize("name", ["pretrained", "pretrained_probe", "scratch", "scratch_probe", "no_edges", *COMPARED])
def test_methods(tmp_path, name, experiment_in):
    experiment = experiment_in(tmp_path, objective=MaskedConnections(rank=4), pretraining=TrainingSettings(max_epochs=2, progress=True))
    method = make_method(name, experiment)
    assert (method.objective is None) == name.startswith("scratch")
    assert method.mode == ("probe" if name.endswith("_probe") else "full")
    assert isinstance(method.encoder, COMPARED.get(name, GraphTransformer))
    assert getattr(method.encoder, "edges", True) == (name != "no_edges")
    assert not method.pretraining.progress, "bars of several processes would write over one another"
    if name not in COMPARED:
        assert method.encoder.width == 16


def test_an_encoder_of_one_atlas_is_made_for_the_one_that_is_used(tmp_path, experiment_in):
    arguments = {"atlases": ["simulated20", "simulated14"], "n_subjects": 24, "sites": 2}
    experiment = experiment_in(tmp_path, cohort=CohortSource("simulate", arguments))
    with pytest.raises(ConfigError, match=r"one atlas for the method 'brain_network_transformer'.*found simulated20, simulated14\. Name one"):
        make_method("brain_network_transformer", experiment)
    experiment.builder = ConnectomeBuilder(atlases=["simulated14"])
    encoder = make_method("brain_network_transformer", experiment).encoder
    assert (encoder.atlas, encoder.n_regions) == ("simulated14", 14)
    cohort, _ = experiment.cohort.load()
    experiment.cohort = CohortSource("simulate", {"atlases": ["no such atlas"]})
    assert make_method("brain_network_transformer", experiment, cohort).encoder.n_regions == 14, "what is loaded is not loaded again"


@pytest.mark.parametrize("name", ["gin", "brain_network_transformer"])
def test_comparison_encoders_are_trained_like_ours(tmp_path, name, experiment_in):
    experiment = experiment_in(tmp_path)
    cohort, _ = experiment.cohort.load()
    method = make_method(name, experiment).fit(cohort, [0, 1] * 12)
    assert len(method.pretrained_.history) == len(method.model_.history) == 2
    np.testing.assert_allclose(method.predict_proba(cohort).sum(axis=1), 1.0)


def test_an_experiment_may_leave_encoder_and_objective_to_us(tmp_path, experiment_in):
    experiment = experiment_in(tmp_path, encoder=None, objective=None)
    assert isinstance(make_method("no_edges", experiment).encoder, GraphTransformer)
    assert isinstance(objective_of(experiment), MaskedRegions)


def test_what_a_table_is_made_with(experiment_in):
    assert isinstance(objective_of(experiment_in("runs", encoder=TableTransformer(8, 1, 2), objective=None)), MaskedColumns)
    with pytest.raises(ConfigError, match="Expected one of builder, columns, timeline, events, population, .* found builder and columns"):
        experiment_in("runs", builder=ConnectomeBuilder(), columns=ColumnTokenizer())
