"""The device's part of a local step: as one compiled graph, and by a recording with buffers, it is the eager step."""

from dataclasses import replace

import pytest
import torch

from simulator.compute import capture
from simulator.compute.capture import Captured
from simulator.compute.local_step import compiled
from simulator.padding import copy_as
from simulator.simulation import Simulation

DATA = ["dataset=digits", "model=mlp", "num_nodes=4", "device=cpu", "problem.batch_size=8", "num_threads=1"]


def simulation_of(composed, *overrides):
    return Simulation.build(composed(*DATA, "algorithm=sgp", "graph=ring", *overrides))


def arguments_of(problem, same):
    params = problem.init_params()
    at = params if same else params + 0.1
    return params, at, problem.init_hparams(), problem.choose(3, params.dtype), problem.weight_decay, -0.2


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("compute", ["batched", pytest.param("vmap", marks=pytest.mark.slow)])
def test_one_graph_is_the_eager_step(composed, compute, same):
    problem = simulation_of(composed, f"compute={compute}", "problem.weight_decay=0.01").problem
    if compute == "vmap" and not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        pytest.skip("this version of PyTorch does not compile torch.autograd.grad")
    torch._dynamo.reset()
    params, at, *rest = arguments_of(problem, same)
    expected = copy_as(params)
    problem.add_grad_(expected, expected if same else at, rest[0], 3, -0.2)
    assert not torch.equal(expected, params)
    compiled(problem.local_step(), "eager")(params, at, *rest)
    assert torch.equal(params, expected)


def test_the_step_is_one_graph(composed):
    problem = simulation_of(composed, "compute=batched").problem
    torch._dynamo.reset()
    found = torch._dynamo.explain(problem.local_step().__call__)(*arguments_of(problem, same=True))
    assert (found.graph_count, found.graph_break_count) == (1, 0)


class Recorder:
    """Stands for CUDA graphs: a replay is the recorded call."""

    def __init__(self):
        self.replays = 0

    def __call__(self, run):
        run()  # as a warm-up does, which leaves anything in the buffers

        def replay():
            self.replays += 1
            run()

        return replay


@pytest.mark.parametrize("compute", ["batched", "vmap", "loop"])
@pytest.mark.parametrize("algorithm", ["sgp", "dsgd"])
def test_runs_by_recordings_have_the_same_bits(composed, algorithm, compute):
    """Two learning rates, decay of weights, and smaller last batches, which differ in their sizes."""
    overrides = [f"algorithm={algorithm}", f"compute={compute}", "problem.weight_decay=0.01", "problem.drop_last=false"]
    states = []
    for captures in (False, True):
        simulation = simulation_of(composed, *overrides)
        problem, recorder = simulation.problem, Recorder()
        if captures:
            problem._setting = replace(problem._setting, capture=True)
            problem._graphs = Captured(problem._function_of, recorder)
        states.append(simulation.run(simulation.init(), 0, 60))
        if captures:
            assert recorder.replays >= 40
            assert 1 <= problem._graphs.num_graphs <= capture._MAX_GRAPHS
    for name, rows in states[0].items():
        assert torch.equal(rows, states[1][name])


def test_a_recording_is_of_one_form_and_there_are_only_some():
    def build(key):
        def function(tensors):
            out, other = tensors
            out.mul_(key).add_(other)

        return function

    recorder = Recorder()
    captured = Captured(build, recorder)
    for number in range(capture._MAX_GRAPHS):
        out, other = torch.ones(3, 2), torch.full((3, 2), 5.0)
        assert captured(number, (out, other))
        assert torch.equal(out, torch.full((3, 2), number + 5.0))
        assert torch.equal(other, torch.full((3, 2), 5.0))
    out = torch.ones(3, 2)
    assert not captured(99, (out, out.clone()))
    assert torch.equal(out, torch.ones(3, 2))
    assert captured(1, (out, torch.ones(3, 2)))
    assert torch.equal(out, torch.full((3, 2), 2.0))
    assert captured.num_graphs == capture._MAX_GRAPHS
    # A tensor that stands in two places is another form than two tensors.
    fresh = Captured(build, recorder)
    assert fresh(1, (out, out))
    assert torch.equal(out, torch.full((3, 2), 4.0))
    assert fresh(1, (out, torch.ones(3, 2)))
    assert torch.equal(out, torch.full((3, 2), 5.0))
    assert fresh.num_graphs == 2


def test_the_setting_needs_cuda(composed):
    simulation = simulation_of(composed, "compute_capture=true")
    assert not simulation.problem._setting.capture
