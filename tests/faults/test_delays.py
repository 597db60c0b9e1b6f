"""Messages that come late: against the augmented matrix in NumPy, without delays, resumed, on several processes."""

import numpy as np
import pytest
import torch

from simulator import checkpoint, config
from simulator.faults.message_delay import MessageDelay
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.replicated import Replicated
from simulator.graphs.self_loop import SelfLoop
from simulator.hypergradients.push import push_hypergradient
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.simulation import Simulation
from simulator.testing.placements import compare, start
from simulator.testing.states import check_shapes
from tests.algorithms.simulation import overrides_for

NUM_NODES = 5
LATE = 3
SMALL = (
    *(f"num_nodes={NUM_NODES}", "graph=random_directed", "dtype=float64", "compute=vmap", "num_threads=1"),
    *("figures=false", "device=cpu", "problem=l2_decay", "dataset=synthetic_mixture", "dataset.num_train=30"),
    *("dataset.num_valid=20", "dataset.num_test=10", "partition=as_given", "model=linear_binary"),
    "problem.batch_size=8",
)
ALGORITHMS = {
    "sgp": ("algorithm.order=mix_then_adapt",),
    "push_diging": (),
    "qg_sgp": (),
    "push_penalty": ("algorithm.check_invariants=true", "algorithm.inner_steps=2"),
    "hgp": ("algorithm.share_rounds=2", "algorithm.rule=average_preserving"),
}
NUM_STEPS = 10

pytestmark = pytest.mark.usefixtures("one_thread")


def settings_of(name, *further):
    return config.compose([*SMALL, *overrides_for(name), *ALGORITHMS.get(name, ()), *further])


def delayed(name, *further):
    return settings_of(name, "faults=message_delay", f"faults.max_delay={LATE}", *further)


def schedule(max_delay=LATE, seed=1):
    graph = RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.7, base_probability=1.0, seed=2)
    return MessageDelay(graph=graph, max_delay=max_delay, seed=seed)


def augmented(graph, step, late=LATE):
    """A_t of the specification: row k * n + i is what arrives at node i in k rounds; k = 0 are the nodes themselves."""
    n = graph.num_nodes
    matrix = np.zeros((n * (late + 1), n * (late + 1)))
    for k in range(1, late + 1):
        matrix[(k - 1) * n : k * n, k * n : (k + 1) * n] = np.eye(n)
    edges = graph.edges(step)
    late_by = graph.delays(edges.source, edges.target, step)
    for source, target, weight, d in zip(edges.source, edges.target, edges.weight, late_by, strict=True):
        matrix[(0 if source == target else d) * n + target, source] += weight
    return matrix


def with_virtual(rows):
    return np.concatenate([rows.numpy(), np.zeros((LATE * len(rows), *rows.shape[1:]))])


def test_push_sum_is_the_augmented_matrix_keeps_its_mass_and_finds_the_mean():
    graph = schedule()
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    x = torch.randn(NUM_NODES, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w, mean = torch.ones(NUM_NODES, dtype=torch.float64), x.mean(dim=0)
    big_x, big_w = with_virtual(x), with_virtual(w)
    boxes = network.nothing_in_flight((x, w))
    assert [box.shape for box in boxes] == [(NUM_NODES, LATE, 2, 3), (NUM_NODES, LATE)]
    messages = waiting = 0
    for step in range(150):
        (x, w), boxes = network.push((x, w), step, boxes)
        matrix = augmented(graph, step)
        np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-12)
        big_x, big_w = np.einsum("ij,jkl->ikl", matrix, big_x), matrix @ big_w
        for rows, box, expected in ((x, boxes[0], big_x), (w, boxes[1], big_w)):
            np.testing.assert_allclose(rows, expected[:NUM_NODES], rtol=0, atol=1e-12)
            together = box.transpose(0, 1).flatten(0, 1)
            np.testing.assert_allclose(together, expected[NUM_NODES:], rtol=0, atol=1e-12)
        np.testing.assert_allclose(x.sum(0) + boxes[0].sum((0, 1)), mean * NUM_NODES, rtol=0, atol=1e-12)
        assert float(w.sum() + boxes[1].sum()) == pytest.approx(NUM_NODES, abs=1e-12)
        waiting += bool((boxes[1] > 0).any())
        messages += int((graph.edges(step).source != graph.edges(step).target).sum())
    assert waiting > 140
    torch.testing.assert_close(x / w[:, None, None], mean.expand_as(x), rtol=0, atol=1e-10)
    assert network.ledger.messages == messages  # counted when sent, each once
    assert network.ledger.bytes == 8 * 7 * messages


def test_delays_are_uniform_pure_and_those_of_every_copy():
    graph = MessageDelay(graph=SelfLoop(num_nodes=100), max_delay=LATE, seed=3)
    source, target = np.divmod(np.arange(10_000), 100)
    found = np.stack([graph.delays(source, target, step) for step in range(10)])
    shares = np.bincount(found.ravel()) / found.size
    assert shares.size == LATE + 1
    assert np.abs(shares - 1 / (LATE + 1)).max() < 4 * (0.1875 / found.size) ** 0.5
    # Rounds, and both directions of a link, are independent: equal in a quarter of all cases.
    others = [(found[0], found[1]), (found[0], graph.delays(target, source, 0))]
    assert all(abs((a == b).mean() - 0.25) < 0.03 for a, b in others)
    copies = Replicated(schedule(), [4, 9])
    edges = copies.edges(2)
    late = copies.delays(edges.source, edges.target, 2)
    for k, first in enumerate([4, 9]):
        mine = edges.source % 2 == k
        expected = schedule().delays(edges.source[mine] // 2, edges.target[mine] // 2, first + 2)
        np.testing.assert_array_equal(late[mine], expected)
    assert copies.max_delay == LATE


@pytest.mark.parametrize("name", ["sgp", "push_diging"])
def test_training_is_the_recursion_with_the_augmented_matrix(name):
    simulation = Simulation.build(delayed(name))
    problem, graph = simulation.problem, simulation.network.graph
    state, h, lr = simulation.init(), simulation.problem.init_hparams(), simulation.algorithm.lr
    nodes = slice(0, NUM_NODES)

    def gradient(step):
        return problem.grad(torch.from_numpy(x[nodes] / w[nodes, None]), h, step).numpy()

    x, w = with_virtual(state["params"]), with_virtual(state["push_sum_weight"])
    y, last = (with_virtual(state["tracker"]), state["gradient"].numpy().copy()) if name == "push_diging" else (0, 0)
    for step in range(NUM_STEPS):
        matrix = augmented(graph, step)
        if name == "sgp":
            pull = gradient(step)
            x, w = matrix @ x, matrix @ w
            x[nodes] -= lr * pull
        else:
            x[nodes] -= lr * y[nodes]
            x, w, y = matrix @ x, matrix @ w, matrix @ y
            new = gradient(step + 1)
            y[nodes] += new - last
            last = new
            np.testing.assert_allclose(y.sum(axis=0), new.sum(axis=0), rtol=0, atol=1e-12)
        state = simulation.step(state, step)
        np.testing.assert_allclose(state["params"], x[nodes], rtol=0, atol=1e-12)
        np.testing.assert_allclose(state["push_sum_weight"], w[nodes], rtol=0, atol=1e-12)
        in_flight = state["in_flight/params"].transpose(0, 1).flatten(0, 1)
        np.testing.assert_allclose(in_flight, x[NUM_NODES:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("average_preserving", [False, True])
def test_hypergradient_push_is_the_series_with_the_augmented_matrix(average_preserving):
    simulation = Simulation.build(delayed("hgp"))
    problem, network = simulation.problem, simulation.network
    z, h = problem.init_params() + 0.3, problem.init_hparams()
    depth, pushes, alpha, n = 6, 2, 0.1, NUM_NODES
    settings = {"depth": depth, "num_pushes": pushes, "step_size": alpha, "average_preserving": average_preserving}
    found = push_hypergradient(problem, network, z, h, **settings)

    outer_params, outer_hparams = problem.outer_grads(z, h)
    q, w, v = with_virtual(outer_params / n), with_virtual(torch.ones(n)), outer_hparams.numpy() / n
    total = q.sum(axis=0)
    for term in range(depth):
        if not average_preserving:
            q, w = with_virtual(torch.from_numpy(q[:n])), with_virtual(torch.ones(n))
        for push in range(pushes):
            matrix = augmented(network.graph, term * pushes + push)
            q, w = matrix @ q, matrix @ w
        np.testing.assert_allclose(q.sum(axis=0), total, rtol=0, atol=1e-12)
        s = torch.from_numpy(q[:n] / w[:n, None])
        along_params, along_hparams = (part.numpy() for part in problem.second_order(z, h, s, None))
        v = v - alpha * along_hparams
        q[:n] = (q[:n] if average_preserving else s.numpy()) - alpha * along_params
        total = total - alpha * along_params.sum(axis=0) if average_preserving else q[:n].sum(axis=0)
    np.testing.assert_allclose(found, v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_delay_is_no_fault_and_a_resumed_run_has_its_mailboxes(name, tmp_path):
    plain = Simulation.build(settings_of(name))
    none = Simulation.build(settings_of(name, "faults=message_delay", "faults.max_delay=0"))
    left, right = (each.run(each.init(), 0, NUM_STEPS) for each in (plain, none))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert plain.network.ledger.state_dict() == none.network.ledger.state_dict()

    simulation = Simulation.build(delayed(name))
    start_state = simulation.init()
    check_shapes(start_state, type(simulation.algorithm), {"N": NUM_NODES, "L": LATE})
    state = simulation.run(start_state, 0, 6)
    boxes = [key for key in state if key.startswith("in_flight/")]
    assert boxes
    assert all(bool(state[key].any()) for key in boxes)
    checkpoint.save(tmp_path, 6, state, {}, simulation.network)
    saved = checkpoint.find(tmp_path).load_rows(range(NUM_NODES))
    whole = simulation.run(state, 6, NUM_STEPS)
    resumed = simulation.run(saved, 6, NUM_STEPS)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    weight = "solvers_weight" if name == "push_penalty" else "push_sum_weight"
    assert not torch.equal(whole[weight], right[weight])


@pytest.mark.slow
def test_one_two_and_three_processes_are_one_run(tmp_path):
    cases = {name: delayed(name) for name in ALGORITHMS}
    start(cases, tmp_path, num_steps=NUM_STEPS)
    for name in cases:
        compare(name, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("algorithm=dsgd", "graph=ring"), r"faults\.max_delay=3: algorithm=dsgd has no use for messages"),
        (("algorithm=quantized_push_sum",), r"faults\.max_delay=3: algorithm=quantized_push_sum has no use"),
        (("algorithm=topology_analysis",), r"faults\.max_delay=3: algorithm=topology_analysis has no use"),
        (("timing=constant",), r"timing: faults\.max_delay=3 says how late messages are"),
        (("faults.max_delay=-1",), r"faults\.max_delay=-1: expected at least 0"),
        (("faults.max_delay=1.5",), r"faults\.max_delay=1\.5: expected an integer"),
        (("graph=de_bruijn",), r"faults\.max_delay=3: in round 0 .* node 1 keeps no share of its own"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(overrides, message):
    settings = config.compose(["faults=message_delay", *overrides])
    with pytest.raises(ValueError, match=message):
        config.check(settings, config.build(settings), 1)


def test_other_ways_to_send_do_not_lose_delays_in_silence():
    network = Network(schedule(), Placement(NUM_NODES), torch.device("cpu"))
    rows = torch.zeros(NUM_NODES, 1)
    for send, sent in ((network.mix, (rows,)), (network.exchange, (rows,)), (network.deliver, rows)):
        with pytest.raises(RuntimeError, match="messages that are late, which only push takes"):
            send(sent, 0)
