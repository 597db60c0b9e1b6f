"""Which variables of launchers make this process a rank, and which do not."""

import pytest

from simulator.launchers import detect_world, is_submitted, timeout_of
from simulator.world import World

ALLOCATION = {"SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
ALLOCATION |= {"SLURM_NODEID": "0", "SLURM_TASKS_PER_NODE": "4", "SLURM_JOB_NODELIST": "gpu[03-04]"}
STEP = {**ALLOCATION, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
STEP |= {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "gpu[03-04]"}


def test_torchrun():
    env = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert detect_world(env) == World(3, 4, 1, 2)
    with pytest.raises(ValueError, match="the launcher's variables contradict each other"):
        detect_world({"RANK": "4", "WORLD_SIZE": "4"})


def test_a_step_of_slurm_has_ranks_and_an_allocation_has_none():
    assert detect_world(dict(ALLOCATION)) is None  # a script of sbatch, a shell of salloc
    interactive = {**ALLOCATION, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}
    assert detect_world(interactive) is None  # salloc with a step for its shell
    env = dict(STEP)
    assert detect_world(env) == World(3, 4, 1, 2)
    assert (env["MASTER_ADDR"], env["MASTER_PORT"], env["RANK"]) == ("gpu03", "30634", "3")
    assert detect_world(env) == World(3, 4, 1, 2)  # by the variables that it has set
    older = {key: value for key, value in STEP.items() if key != "SLURM_STEP_NUM_TASKS"}
    assert detect_world(older) == World(3, 4, 1, 2)


def test_mpirun():
    env = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMIX_NAMESPACE": "a"}
    env |= {"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    other = {**env, "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    assert (detect_world(env), detect_world(other)) == (World(1, 2, 1, 2), World(0, 2, 0, 2))
    assert env["MASTER_ADDR"] == other["MASTER_ADDR"] == "127.0.0.1"
    assert env["MASTER_PORT"] == other["MASTER_PORT"]
    spread = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    spread |= {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
    with pytest.raises(ValueError, match="mpirun on several machines: set the machine of rank 0 and a free port"):
        detect_world(dict(spread))
    assert detect_world({**spread, "MASTER_ADDR": "gpu03"}) == World(1, 2, 0, 1)
    assert detect_world({"PMI_SIZE": "2", "PMI_RANK": "1"}) == World(1, 2, 1, 2)
    assert detect_world({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}) is None


def test_submitit():
    env = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_GLOBALID": "1"}
    env |= {"SUBMITIT_LOCAL_LOCALID": "1", "SUBMITIT_LOCAL_JOB_ID": "77"}
    assert is_submitted(env)
    assert detect_world(env) == World(1, 2, 1, 2)
    assert not is_submitted(STEP)
    assert detect_world({}) is None


def test_the_timeout_is_read_before_anything_is_composed():
    assert timeout_of(["launch.py", "num_nodes=4"]) == 300
    assert timeout_of(["launch.py", "timeout_s=20", "a.timeout_s=7", "timeout_s=1e1"]) == 10
