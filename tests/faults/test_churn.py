"""Nodes that leave and come back: against a dense recursion in NumPy, in the long run, on several processes."""

import numpy as np
import pytest
import torch

from simulator import config
from simulator.faults.churn import Churn
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.ring import Ring
from simulator.simulation import Simulation
from simulator.testing.placements import compare, start

NUM_NODES, NUM_STEPS = 6, 14
# Node 1 is away in rounds 2 to 5, 4 in rounds 3 to 5 and 9 to 10, 2 from round 7 on.
ABSENT = {1: {2, 3, 4, 5}, 4: {3, 4, 5, 9, 10}, 2: set(range(7, 99))}
TRACE = "node,leave_s,return_s\n1,3.5,12\n4,6,12\n2,14,\n4,17,22\n"
SMALL = (
    *(f"num_nodes={NUM_NODES}", "dtype=float64", "compute=vmap", "num_threads=1", "figures=false", "device=cpu"),
    *("dataset=synthetic_mixture", "dataset.num_train=30", "dataset.num_valid=20", "dataset.num_test=10"),
    *("partition=as_given", "model=linear_binary", "problem.batch_size=8", "algorithm.lr=0.1"),
)
CASES = {
    "sgp_own": ("algorithm=sgp", "graph=random_directed", "graph.base_probability=1"),
    "sgp_neighbour": ("algorithm=sgp", "graph=random_directed", "faults.returns_with=neighbour"),
    "sgp_twice": ("algorithm=sgp", "graph=random_directed", "faults.mass=hands_over"),
    "sgp_handed": ("algorithm=sgp", "graph=exponential", "faults.mass=hands_over", "faults.returns_with=neighbour"),
    "dsgd_own": ("algorithm=dsgd", "graph=ring"),
    "dsgd_neighbour": ("algorithm=dsgd", "graph=fully_connected", "faults.returns_with=neighbour"),
}

pytestmark = pytest.mark.usefixtures("one_thread")


def settings_of(case, folder):
    (folder / "absent.csv").write_text(TRACE)
    trace = f"faults.path={folder / 'absent.csv'}"
    return config.compose([*SMALL, "faults=churn", "faults.round_s=2", trace, *CASES[case]])


def is_away(step):
    return np.array([step in ABSENT.get(node, ()) for node in range(NUM_NODES)])


def renormalised(matrix, away, by_pair):
    """W without the nodes that are away; shares return to the sender."""
    matrix = matrix.copy()
    for j in range(NUM_NODES):
        for i in range(NUM_NODES):
            if i != j and (away[i] or away[j]) and matrix[i, j]:
                matrix[j, j] += matrix[i, j]
                matrix[i, j] = 0
    if by_pair:
        np.testing.assert_allclose(matrix, matrix.T)
    return matrix


@pytest.mark.parametrize("case", CASES)
def test_is_the_dense_recursion_of_the_definition(case, tmp_path):
    simulation = Simulation.build(settings_of(case, tmp_path))
    churn, problem, network = simulation.network.graph, simulation.problem, simulation.network
    state, is_sgp = simulation.init(), case.startswith("sgp")
    x, w, lr = state["params"].numpy().copy(), np.ones(NUM_NODES), 0.1
    messages = moved = 0
    for step in range(NUM_STEPS):
        away, before, plain = is_away(step), is_away(step - 1), churn.graph.edges(step).to_matrix(NUM_NODES)
        np.testing.assert_array_equal(churn.is_away(step), away)
        if churn.mass == "hands_over":
            for node, heir in zip(*churn.heirs(step), strict=True):
                assert (away[node], before[node], away[heir]) == (True, False, False)
                assert plain[heir, node] > 0
                x[heir] += x[node]
                w[heir] += w[node]
                moved += 1
        if churn.returns_with == "neighbour":
            back, donors = churn.donors(step)
            given = np.bincount(donors, minlength=NUM_NODES)
            for node, donor in zip(back, donors, strict=True):
                assert (before[node], away[node], before[donor], away[donor]) == (True, False, False, False)
                assert plain[node, donor] > 0
                if churn.mass == "hands_over":
                    x[node], w[node] = x[donor] / (1 + given[donor]), w[donor] / (1 + given[donor])
                else:
                    x[node] = w[node] * x[donor] / w[donor]
                moved += 1
            if churn.mass == "hands_over":
                x, w = x / (1 + given)[:, None], w / (1 + given)
                x[back] *= (1 + given[back])[:, None]
                w[back] *= 1 + given[back]
        matrix = renormalised(plain, away, not is_sgp)
        messages += np.count_nonzero(matrix) - np.count_nonzero(np.diag(matrix))
        pull = problem.grad(torch.from_numpy(x / w[:, None]), problem.init_hparams(), step).numpy()
        pull[away] = 0
        if is_sgp:
            x, w = matrix @ x - lr * pull, matrix @ w
        else:
            x = matrix @ (x - lr * pull)
        state = simulation.step(state, step)
        np.testing.assert_allclose(state["params"], x, rtol=0, atol=1e-12)
        if is_sgp:
            np.testing.assert_allclose(state["push_sum_weight"], w, rtol=0, atol=1e-12)
        if case == "sgp_handed":
            assert w[~away].sum() == pytest.approx(NUM_NODES, abs=1e-12)
        elif case != "sgp_twice":
            assert w.sum() == pytest.approx(NUM_NODES, abs=1e-12)
    assert (moved > 0) == (not case.endswith("_own"))
    assert network.ledger.messages == messages + moved
    sent = network.ledger.phases.get("churn")
    assert (sent.messages if sent else 0) == moved


@pytest.mark.parametrize("case", ["sgp_own", "dsgd_own"])
def test_the_clock_of_an_absent_node_stands_still_and_nobody_waits_for_it(case, tmp_path):
    (tmp_path / "absent.csv").write_text(TRACE)
    words = (f"faults.path={tmp_path / 'absent.csv'}", "timing=lognormal", "timing.sigma=0.8", "timing.latency_s=0.3")
    words = (*words, "timing.bandwidth_bytes_per_s=null", "faults=churn", "faults.round_s=2", *CASES[case])
    simulation = Simulation.build(config.compose([*SMALL, *words]))
    timing, graph = simulation.components.timing, simulation.network.graph
    state, now, idle = simulation.init(), np.zeros(NUM_NODES), np.zeros(NUM_NODES)
    for step in range(NUM_STEPS):
        state = simulation.step(state, step)
        here, before = ~is_away(step), ~is_away(step - 1)
        back = here & ~before
        now[back] = np.maximum(now[back], now[here & before].min())
        ready = now + np.where(here, timing.compute_s(np.arange(NUM_NODES), np.full(NUM_NODES, step)), 0)
        now = ready.copy()
        for source, target in zip(graph.edges(step).source, graph.edges(step).target, strict=True):
            if source != target:
                assert here[source]
                assert here[target]
                now[target] = max(now[target], ready[source] + 0.3)
        idle += now - ready
        np.testing.assert_allclose(simulation.network.clocks.times.now_s, now, rtol=0, atol=1e-12)
    np.testing.assert_allclose(simulation.network.clocks.times.idle_s, idle, rtol=0, atol=1e-12)
    assert now[2] < now[[0, 3, 5]].min()  # it never comes back


def test_a_rate_of_0_is_no_fault_and_absences_are_those_of_the_rates():
    words = (*SMALL, "algorithm=sgp", "graph=random_directed")
    runs = [Simulation.build(config.compose([*words, *further])) for further in ((), ("faults=churn",))]
    runs[1].network.graph.leaves_per_hour = 0.0
    left, right = (run.run(run.init(), 0, 5) for run in runs)
    assert all(torch.equal(left[key], right[key]) for key in left)

    churn = Churn(
        graph=FullyConnected(num_nodes=400), round_s=2.0, leaves_per_hour=120.0, mean_away_s=20.0, mass="keeps", seed=1
    )
    away = np.stack([churn.is_away(step) for step in range(300)])
    assert not away[0].any()
    assert not churn.is_away(-1).any()
    leaves, returns = 120 / 3600, 1 / 20
    # P(away at t), from the two-state chain in continuous time; 400 nodes are independent.
    for step in (1, 5, 20, 299):
        share = leaves / (leaves + returns) * -np.expm1(-(leaves + returns) * 2.0 * step)
        assert abs(away[step].mean() - share) < 4 * (share * (1 - share) / 400) ** 0.5
    stays = (away[:-1] & away[1:]).sum() / away[:-1].sum()
    pi, decay = leaves / (leaves + returns), np.exp(-(leaves + returns) * 2.0)
    assert stays == pytest.approx(pi + (1 - pi) * decay, abs=0.01)


@pytest.mark.slow
def test_one_two_and_three_processes_are_one_run(tmp_path):
    chosen = ("sgp_neighbour", "sgp_handed", "dsgd_neighbour")
    start({case: settings_of(case, tmp_path) for case in chosen}, tmp_path, num_steps=NUM_STEPS)
    for case in chosen:
        compare(case, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("algorithm=push_diging",),
            "algorithm=push_diging cannot go on while nodes leave; use algorithm=dsgd, .*qg_sgp.* or sgp$",
        ),
        (("algorithm=dsgd", "graph=ring", "faults.mass=hands_over"), r"faults\.mass=hands_over: algorithm=dsgd has no"),
        (("faults.mass=lost",), r"faults\.mass='lost': expected keeps or hands_over"),
        (("faults.returns_with=none",), r"faults\.returns_with='none': expected own or neighbour"),
        (("faults.round_s=0",), r"faults\.round_s=0: expected a positive number"),
        (("faults.leaves_per_hour=-1",), r"faults\.leaves_per_hour=-1: expected at least 0"),
        (("faults.mean_away_s=0",), r"faults\.mean_away_s=0: expected a positive number"),
        (("faults.path=nowhere.csv",), r"faults\.path='nowhere\.csv': there is no such file"),
    ],
)
def test_bad_input_is_one_line(overrides, message):
    settings = config.compose(["faults=churn", *overrides])
    with pytest.raises(ValueError, match=message):
        config.check(settings, config.build(settings), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a first line node,leave_s,return_s"),
        ("node,leave_s,return_s\n0,1\n", "line 2: expected node,leave_s,return_s"),
        ("node,leave_s,return_s\n3,1,2\n", r"line 2: node=3: nodes are 0 to 2 \(num_nodes=3\)"),
        ("node,leave_s,return_s\n0,2,1\n", r"line 2: leave_s=2, return_s=1: expected 0 <= leave_s < return_s"),
        ("node,leave_s,return_s\n0,2,4\n0,3,5\n", "line 3: node 0 leaves at 3 and is away until 4"),
    ],
)
def test_a_wrong_trace_is_told_with_its_line(text, message, tmp_path):
    path = tmp_path / "absent.csv"
    path.write_text(text)
    churn = Churn(graph=Ring(num_nodes=3), round_s=1.0, leaves_per_hour=0.0, mean_away_s=1.0, path=str(path))
    with pytest.raises(ValueError, match=message):
        churn.check()
