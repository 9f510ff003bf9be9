"""What torchrun and SLURM are known by, and what cannot be is refused; real processes are in tests/training/test_divided.py."""

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from graphssl.errors import ConfigError
from graphssl.training.launch import as_started, check_alone, cluster, is_first, joined, launch, processes_of_a_node, trainer_arguments

TORCHRUN = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "train"}


@pytest.fixture
def started(monkeypatch):
    def start(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start


def test_nothing_started_this_process():
    assert cluster() is None
    assert is_first()
    assert joined().alone
    assert as_started(1, 1) == (1, 1)
    assert trainer_arguments() == {"devices": 1}


def test_what_torchrun_started_is_taken_from_it(started):
    check_alone("an evaluation")
    started(TORCHRUN)
    assert not is_first()
    with pytest.raises(ConfigError, match="Expected one process for an evaluation, found 4 that torchrun or SLURM started"):
        check_alone("an evaluation")
    assert as_started(1, 1) == (2, 2)
    assert as_started(4, 1) == (4, 1)  # which launch then refuses, or not
    found = trainer_arguments()
    assert (found["devices"], found["num_nodes"], found["use_distributed_sampler"]) == (2, 2, False)
    assert isinstance(found["strategy"], DDPStrategy)


def test_of_slurm_only_what_srun_started_is_one_of_several(started):
    started(SLURM)
    assert cluster() is None
    started({"SLURM_STEP_ID": "0"})
    with pytest.raises(ConfigError, match="Expected the tasks of SLURM to be told by node, found something else: .*ntasks-per-node"):
        cluster()
    started({"SLURM_NTASKS_PER_NODE": "3"})
    found = cluster()
    assert found is not None
    assert found.world_size() == 6
    assert processes_of_a_node(found) == 3
    assert is_first()


def test_one_process_of_torchrun_is_alone(started):
    started({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"})
    assert cluster() is None


def test_processes_that_cannot_be_are_refused(started):
    with pytest.raises(ConfigError, match="torchrun or SLURM to start the processes of 2 nodes, found neither"):
        launch(print, (), accelerator="cpu", devices=1, nodes=2)
    started(TORCHRUN)
    with pytest.raises(ConfigError, match="as many processes as devices × nodes, 2 × 1, found 4 started by TorchElasticEnvironment"):
        launch(print, (), accelerator="cpu", devices=2, nodes=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_what_needs_gpus_is_refused_where_there_are_none(started):
    with pytest.raises(ConfigError, match="2 devices for the accelerator 'gpu', found something else"):
        launch(print, (), accelerator="gpu", devices=2, nodes=1)
    started(TORCHRUN)
    with pytest.raises(ConfigError, match="Expected a GPU for each of the 2 processes of a machine, found 0"):
        joined("gpu")
