"""Oracle calls: what is counted and what is not, and runs that end when their budget is used up."""

import json

import numpy as np
import pytest

import simulator
from simulator.simulation import Simulation
from simulator.timing.base import Timing

M = 6
SMALL = ("num_nodes=6", "graph=ring", "problem=quadratic", "num_threads=1", "figures=false", "device=cpu")
TINY_DATA = (
    *("dataset=synthetic_mixture", "partition=as_given", "model=logistic_regression", "compute=batched"),
    *("problem=classification", "problem.batch_size=8"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def counts_after(composed, num_steps, *overrides):
    simulation = Simulation.build(composed(*SMALL, *overrides))
    simulation.run(simulation.init(), 0, num_steps)
    return [count / M for count in simulation.problem.calls.counts]


@pytest.mark.parametrize(
    ("overrides", "gradients", "products"),
    [
        (("algorithm=dsgd",), 5, 0),
        (("algorithm=dsgd", "algorithm.local_steps=3"), 15, 0),
        (("algorithm=diging",), 6, 0),  # one before the first step
        (("algorithm=mdbo", "algorithm.neumann_terms=4"), 12, 24),  # six times
        (("algorithm=hgp", "algorithm.inner_steps=2", "algorithm.depth=3", "algorithm.reference=none"), 5 + 2, 2 * 3),
    ],
)
def test_calls_of_five_steps(composed, overrides, gradients, products):
    assert counts_after(composed, 5, *overrides) == [gradients, products, 0]


def test_samples_are_those_of_the_minibatches(composed):
    simulation = Simulation.build(composed(*SMALL, *TINY_DATA, "algorithm=dsgd", "algorithm.local_steps=2"))
    simulation.run(simulation.init(), 0, 30)
    problem = simulation.problem
    drawn = [[len(positions) for positions in problem.batch(step)] for step in range(60)]
    assert np.unique(drawn).size > 1  # also smaller last batches of an epoch
    assert problem.calls.counts == [60 * M, 0, np.sum(drawn)]


def test_parts_and_replicas_count_for_the_whole(composed):
    problem = Simulation.build(composed(*SMALL)).problem
    some, copies = problem.part(np.array([1, 4])), problem.replicate([0, 1, 2])
    some.grad(some.init_params(), some.init_hparams(), 0)
    copies.grad(copies.init_params(), copies.init_hparams(), 0)
    problem.grad_at(problem.init_params(), problem.init_hparams(), np.full(M, 2))
    assert problem.calls.counts == [2 + 3 * M + M, 0, 0]
    other = Simulation.build(composed(*SMALL)).problem
    assert other.calls.counts == [0, 0, 0]


def test_problems_within_a_problem_count_once(composed):
    sizes = ("problem=model_sizes", "problem.batch_size=8", "dataset=digits", "graph=self_loop", "partition=shared")
    problem = Simulation.build(composed("num_nodes=6", "device=cpu", "algorithm=dsgd", *sizes)).problem
    params, hparams = problem.init_params(), problem.init_hparams()
    problem.grad(params, hparams, 0)
    assert problem.calls.counts == [M, 0, 8 * M]
    group = problem.architectures[0]  # which hypernetworks ask themselves
    group.grad(group.init_params(), hparams, 0)
    assert problem.calls.counts == [2 * M, 0, 16 * M]


def test_nodes_that_rest_are_not_called(composed):
    problem = Simulation.build(composed(*SMALL, *TINY_DATA)).problem
    problem.grad_at(problem.init_params(), problem.init_hparams(), np.array([0, -1, 3, -1, 0, -1]))
    assert problem.calls.gradients == 3
    assert problem.calls.samples == sum(len(problem.batch(step)[node]) for node, step in ((0, 0), (2, 3), (4, 0)))


def test_asynchronous_nodes_count_their_own_steps(composed):
    overrides = ("algorithm=async_push_sum", "graph=random_directed", "timing=lognormal")
    simulation = Simulation.build(composed(*SMALL, *overrides))
    assert isinstance(simulation.components.timing, Timing)
    simulation.run(simulation.init(), 0, 7)
    # A wave may have computed the next step of a node, which its schedule ends later.
    assert simulation.problem.calls.gradients == pytest.approx(simulation.network.events.num_steps.sum(), abs=M)


def test_evaluations_and_references_do_not_count(tmp_path):
    hgp = (*SMALL, "algorithm=hgp", "algorithm.inner_steps=4", "num_steps=9", "algorithm.depth=3")
    runs = [
        simulator.run(*hgp, *more, folder=tmp_path / str(place))
        for place, more in enumerate(
            (["algorithm.reference=dense", "eval_every=1"], ["algorithm.reference=none", "eval_every=100"])
        )
    ]
    assert "hypergradient/error" in runs[0].summary
    for name in ("oracle/gradients", "oracle/hessian_products", "oracle/samples"):
        assert runs[0].summary[name] == runs[1].summary[name] == runs[0].records[-1][name]
    assert runs[0].records[0]["oracle/gradients"] == 0
    assert runs[0].summary["oracle/hessian_products"] > 0


def test_a_resumed_run_continues_the_counts(tmp_path):
    words = (*SMALL, *TINY_DATA, "algorithm=diging", "eval_every=3")
    whole = simulator.run(*words, "num_steps=11", folder=tmp_path / "whole")
    simulator.run(*words, "num_steps=7", folder=tmp_path / "first")
    resumed = simulator.run(resume=tmp_path / "first", num_steps=11, folder=tmp_path / "second")
    names = [name for name in whole.summary if name.startswith("oracle/")]
    assert len(names) == 3
    assert [[record[name] for name in names] for record in resumed.records] == [
        [record[name] for name in names] for record in whole.records
    ]
    assert whole.summary["oracle/gradients"] == 12


@pytest.mark.parametrize(
    ("budget", "overrides", "last"),
    [
        ("budget.oracle_calls=10", ("algorithm=diging",), 9),
        ("budget.oracle_calls=14", ("algorithm=mdbo", "algorithm.neumann_terms=4"), 2),
        ("budget.bytes=7e3", ("algorithm=dsgd",), None),
        ("max_sim_s=0.35", ("algorithm=dsgd", "timing=constant", "timing.step_s=0.1"), None),
    ],
)
def test_a_run_ends_when_its_budget_is_used_up(budget, overrides, last, tmp_path):
    words = (*SMALL, *overrides, "num_steps=1000", "eval_every=4", budget)
    run = simulator.run(*words, folder=tmp_path / "run")
    spent = {
        "budget.bytes": "comm/bytes",
        "max_sim_s": "time/sim_s",
        "budget.oracle_calls": "oracle/gradients",
    }[budget.partition("=")[0]]
    amount, step = float(budget.partition("=")[2]), run.summary["step"]
    assert last in (None, step)
    assert run.records[-1]["step"] == step < 1000
    used = {record["step"]: record[spent] + record["oracle/hessian_products"] for record in run.records}
    assert used[step] >= amount
    assert all(value < amount for at, value in used.items() if at < step)
    # It ends at the first such step: no step earlier, and no step later when it is resumed.
    shorter = simulator.run(*words, f"num_steps={step - 1}", folder=tmp_path / "shorter").summary
    assert shorter[spent] + shorter["oracle/hessian_products"] < amount
    again = simulator.run(resume=tmp_path / "run", folder=tmp_path / "again").summary
    assert again["step"] == step
    longer = simulator.run("budget.bytes=null", "budget.oracle_calls=null", "max_sim_s=null", "num_steps=50",
                           resume=tmp_path / "run", folder=tmp_path / "longer")  # fmt: skip
    assert longer.summary["step"] == 50


@pytest.mark.slow
def test_several_processes_end_at_the_same_step(tmp_path):
    words = (*SMALL, *TINY_DATA, "algorithm=dsgd", "num_steps=1000", "budget.oracle_calls=17")
    one = simulator.run(*words, folder=tmp_path / "one")
    two = simulator.run(*words, processes=2, folder=tmp_path / "two")
    names = ("step", "oracle/gradients", "oracle/samples", "comm/bytes")
    assert [two.summary[name] for name in names] == [one.summary[name] for name in names]
    assert one.summary["step"] == 17
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["comm/wire_bytes"] > 0
