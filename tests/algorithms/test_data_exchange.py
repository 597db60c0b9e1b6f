"""Data exchange: who holds what afterwards, training, averages, bytes; against sets, SGD written out and matrices."""

import numpy as np
import pytest
import torch

from simulator.algorithms.exchange.mixers import MIXERS
from simulator.algorithms.exchange.sample_exchange import SampleExchange, unseen
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.simulation import Simulation
from tests.algorithms.numbered_images import (
    CLASS_SIZES,
    NUM_NODES,
    PIXELS,
    Numbered,
    make_algorithm,
    make_network,
    make_problem,
    numbers_held,
    run,
    shards,
)
from tests.algorithms.simulation import small

NEIGHBOURS = {0: (1, 2, 3), 1: (0,), 2: (0, 4), 3: (0,), 4: (2,)}
# One sweep over the exchange tree, times 64, and its stationary weights.
SWEEP = [[8, 8, 16, 32, 0], [4, 36, 8, 16, 0], [2, 2, 20, 8, 32], [4, 4, 8, 48, 0], [1, 1, 10, 4, 48]]
STATIONARY = [0.0435, 0.0870, 0.1739, 0.3478, 0.3478]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sixty_thousand():
    return Numbered(CLASS_SIZES)


@pytest.fixture(scope="module")
def few():
    return Numbered((7, 9, 6, 8, 5, 7, 9, 6, 8, 5))


@pytest.mark.parametrize(
    ("digits", "ratio", "sizes", "tolerance"),
    [
        (2, 0.2, (19200, 14400, 16800, 14400, 14400), 0),
        (2, 1.0, (48000, 24000, 36000, 24000, 24000), 0),
        (2, 0.0, (12000, 12000, 12000, 12000, 12000), 0),
        # Shards overlap, so it depends on the draws: a hypergeometric deviation is below 50.
        (3, 0.1, (22090, 19800, 20390, 19180, 19215), 250),
    ],
)
def test_sizes_after_the_exchange(sixty_thousand, digits, ratio, sizes, tolerance):
    partition, dealt = shards(digits, sixty_thousand)
    problem, network = make_problem(sixty_thousand, partition, dtype=torch.float32), make_network()
    SampleExchange(share_ratio=ratio, seed=0).carry_out(0, 0, problem, network)
    assert np.abs(problem.data.train.sizes - np.array(sizes)).max() <= tolerance
    count = int(ratio * 6000 * digits)
    assert network.ledger.bytes == 8 * count * (PIXELS + 1)
    assert network.ledger.messages == (8 if count else 0)
    assert [len(rows) for rows in dealt] == [6000 * digits] * NUM_NODES


@pytest.mark.parametrize("digits", [2, 4])
def test_every_node_holds_the_union_once_with_the_right_labels(few, digits):
    partition, dealt = shards(digits, few)
    problem, network = make_problem(few, partition), make_network()
    exchange = SampleExchange(share_ratio=0.4, seed=3)
    exchange.carry_out(0, 0, problem, network)
    sent = [dealt[i][exchange.chosen(i, 0, len(dealt[i]))] for i in range(NUM_NODES)]
    for node, neighbours in NEIGHBOURS.items():
        assert len(set(sent[node])) == int(0.4 * len(dealt[node]))
        held = numbers_held(problem, node)
        np.testing.assert_array_equal(held[: len(dealt[node])], dealt[node])
        assert len(set(held)) == len(held)
        assert set(held) == set(dealt[node]).union(*(sent[j] for j in neighbours))
        inputs, labels = problem.data.train.of(node)
        np.testing.assert_array_equal(labels.numpy(), few.labels[held])
        expected = (few.images[held] / 255 - 0.3) / 0.7
        np.testing.assert_allclose(inputs.numpy(), expected, rtol=1e-13)
    assert len({tuple(exchange.chosen(node, index, 20)) for node in range(2) for index in range(2)}) == 4


def test_accuracies_on_training_samples_are_weighted_with_what_nodes_hold(few):
    partition, dealt = shards(3, few)
    problem, network = make_problem(few, partition), make_network()
    np.testing.assert_array_equal(problem.split_sizes()["train"], [len(rows) for rows in dealt])
    exchange = SampleExchange(share_ratio=0.5, seed=0)
    exchange.carry_out(0, 0, problem, network)
    held = [len(numbers_held(problem, node)) for node in range(NUM_NODES)]
    np.testing.assert_array_equal(problem.split_sizes()["train"], held)
    np.testing.assert_array_equal(problem.sample_counts(), [len(rows) for rows in dealt])
    assert len(set(held)) > 1
    exchange.undo(problem, network)
    np.testing.assert_array_equal(problem.split_sizes()["train"], [len(rows) for rows in dealt])


def test_samples_are_the_same_when_all_their_bytes_are():
    held = torch.tensor([[1, 2, 0], [5, 5, 1]], dtype=torch.uint8)
    received = torch.tensor([[1, 2, 1], [1, 2, 0], [9, 9, 9], [5, 5, 1], [9, 9, 9], [1, 2, 1]], dtype=torch.uint8)
    assert unseen(held, received).tolist() == [0, 2]
    assert unseen(held[:0], received).tolist() == [0, 1, 2, 3]
    assert unseen(held, received[:0]).tolist() == []


def test_two_rounds_of_local_training_are_those_of_sgd_with_momentum(few):
    """SGD with fresh momentum in each round, shuffled epochs with a shorter last batch, then W of the tree."""
    partition, _ = shards(2, few)
    problem, network = make_problem(few, partition), make_network()
    found = run(make_algorithm(), problem, network, 2)["params"]
    matrix = average_matrix(network.graph, lambda degrees, i, j: 1 / (1 + degrees[i]))
    rows = problem.init_params().clone()
    lengths = -(-problem.data.train.sizes // 4)
    assert len(set(lengths)) > 1
    for index in range(2):
        for node in range(NUM_NODES):
            weight = rows[node, : 10 * PIXELS].reshape(10, PIXELS).clone().requires_grad_()
            bias = rows[node, 10 * PIXELS :].clone().requires_grad_()
            velocities = [torch.zeros_like(weight), torch.zeros_like(bias)]
            inputs, labels = problem.data.train.of(node)
            seen = []
            for step in range(2 * index * lengths[node], 2 * (index + 1) * lengths[node]):
                batch = problem.batch(np.full(NUM_NODES, step))[node]
                seen += batch.tolist()
                loss = torch.nn.functional.cross_entropy(inputs[batch].flatten(1) @ weight.T + bias, labels[batch])
                gradients = torch.autograd.grad(loss, (weight, bias))
                with torch.no_grad():
                    for param, velocity, gradient in zip((weight, bias), velocities, gradients, strict=True):
                        velocity.mul_(0.5).add_(gradient)
                        param.sub_(velocity, alpha=0.1)
            assert sorted(seen) == sorted(2 * list(range(len(labels))))
            rows[node] = torch.cat([weight.detach().flatten(), bias.detach()])
        rows = torch.from_numpy(matrix) @ rows
    torch.testing.assert_close(found, rows, rtol=0, atol=1e-12)


def average_matrix(graph, weight):
    edges = graph.edges(0)
    matrix, degrees = np.zeros((graph.num_nodes,) * 2), np.zeros(graph.num_nodes)
    real = [(i, j) for i, j in zip(edges.target, edges.source, strict=True) if i != j]
    for i, _ in real:
        degrees[i] += 1
    for i, j in real:
        matrix[i, j] = weight(degrees, i, j)
    return matrix + np.diag(1 - matrix.sum(axis=1))


def mixed(mixer, graph):
    network = Network(graph, Placement(graph.num_nodes), torch.device("cpu"))
    return MIXERS[mixer](torch.eye(graph.num_nodes, dtype=torch.float64), 0, network).numpy(), network


def test_a_sweep_in_place_is_the_known_matrix():
    matrix, _ = mixed("legacy_sweep", make_network().graph)
    np.testing.assert_allclose(64 * matrix, SWEEP, rtol=0, atol=1e-13)
    values, vectors = np.linalg.eig(matrix.T)
    order = np.argsort(-np.abs(values))
    stationary = np.real(vectors[:, order[0]])
    np.testing.assert_allclose(stationary / stationary.sum(), STATIONARY, rtol=0, atol=5e-5)
    assert abs(values[order[1]]) == pytest.approx(0.7695, abs=5e-5)


@pytest.mark.parametrize("graph", [make_network().graph, Ring(num_nodes=6), DirectedRing(num_nodes=4)])
def test_averages_over_neighbours_are_their_matrices(graph):
    matrix, _ = mixed("uniform", graph)
    np.testing.assert_allclose(matrix, average_matrix(graph, lambda d, i, j: 1 / (1 + d[i])), rtol=0, atol=1e-15)
    matrix, _ = mixed("metropolis", graph)
    np.testing.assert_allclose(
        matrix, average_matrix(graph, lambda d, i, j: 1 / (1 + max(d[i], d[j]))), rtol=0, atol=1e-15
    )
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-15)
    matrix, _ = mixed("ps", graph)
    np.testing.assert_allclose(matrix, 1 / graph.num_nodes, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("num_params", "num_bytes"), [(21_840, 698_880), (159_010, 5_088_320)])
def test_bytes_of_a_round_on_the_tree(num_params, num_bytes):
    for mixer in ("uniform", "metropolis", "legacy_sweep"):
        network = make_network()
        MIXERS[mixer](torch.zeros(NUM_NODES, num_params), 0, network)
        assert (network.ledger.bytes, network.ledger.messages) == (num_bytes, 8), mixer
    network = make_network()
    with network.phase("rounds"):
        MIXERS["ps"](torch.zeros(NUM_NODES, num_params), 3, network)
    assert network.ledger.bytes == network.ledger.phases["rounds"].bytes == 2 * 4 * 4 * num_params


def test_a_late_evaluation_sees_the_average_of_the_round_before(few):
    def estimates(**changes):
        problem, network = make_problem(few, shards(2, few)[0]), make_network()
        algorithm = make_algorithm(mixer="ps", **changes)
        return [algorithm.estimate(run(algorithm, problem, network, rounds)) for rounds in range(4)]

    newest, late = estimates(), estimates(stale_eval=True)
    torch.testing.assert_close(late[0], newest[0], rtol=0, atol=0)
    for rounds in (1, 2, 3):
        torch.testing.assert_close(late[rounds], newest[rounds - 1], rtol=0, atol=0)
        assert not torch.equal(late[rounds], newest[rounds])
        torch.testing.assert_close(newest[rounds], newest[rounds][:1].expand(NUM_NODES, -1), rtol=0, atol=0)


def test_exchanges_are_repeated_and_neither_lost_nor_counted_twice_when_resumed(few):
    partition, dealt = shards(2, few)
    algorithm = make_algorithm(exchange_every=2)
    problem, network = make_problem(few, partition), make_network()
    state = algorithm.init(problem, network)
    states, held, counted = [], [], []
    for step in range(5):
        state = algorithm.step(state, step, problem, network)
        states.append({key: rows.clone() for key, rows in state.items()})
        held.append([numbers_held(problem, node) for node in range(NUM_NODES)])
        counted.append(network.ledger.phases["exchange"].bytes)
    once = sum(len(NEIGHBOURS[i]) * int(0.2 * len(dealt[i])) for i in range(NUM_NODES)) * (PIXELS + 1)
    assert counted == [once, once, 2 * once, 2 * once, 3 * once]
    for node in range(NUM_NODES):
        sent = [dealt[j][algorithm.exchange.chosen_until(j, 3, len(dealt[j]))] for j in NEIGHBOURS[node]]
        assert set(held[-1][node]) == set(dealt[node]).union(*sent)
    assert max(len(last) - len(first) for first, last in zip(held[0], held[-1], strict=True)) > 0

    for done in (1, 3, 4):
        again, other = make_problem(few, partition), make_network()
        algorithm.init(again, other)
        resumed = {key: rows.clone() for key, rows in states[done - 1].items()}
        algorithm.prepare_evaluation(resumed, again, other)
        assert other.ledger.bytes == 0
        for node in range(NUM_NODES):
            np.testing.assert_array_equal(numbers_held(again, node), held[done - 1][node])
        for step in range(done, 5):
            resumed = algorithm.step(resumed, step, again, other)
        torch.testing.assert_close(resumed["params"], state["params"], rtol=0, atol=0)
        phase = other.ledger.phases.get("exchange")
        assert (phase.bytes if phase else 0) == counted[-1] - counted[done - 1]

    fresh = algorithm.init(problem, network)
    assert [len(numbers_held(problem, node)) for node in range(NUM_NODES)] == [len(rows) for rows in dealt]
    assert fresh["exchanges"].tolist() == [0] * NUM_NODES
    algorithm.prepare_evaluation(states[2], problem, network)
    np.testing.assert_array_equal(numbers_held(problem, 0), held[2][0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share_ratio": 1.1}, r"algorithm\.share_ratio=1\.1: expected a number in \[0, 1\]"),
        ({"exchange_every": 0}, r"algorithm\.exchange_every=0: expected at least 1, or null"),
        ({"mixer": "mean"}, r"algorithm\.mixer='mean': expected uniform, metropolis, legacy_sweep or ps"),
        ({"stale_eval": True}, r"algorithm\.stale_eval=true: only the average of algorithm\.mixer=ps"),
        ({"local_epochs": 0}, r"algorithm\.local_epochs=0: expected at least 1"),
        ({"momentum": 1.0}, r"algorithm\.momentum=1\.0: expected a number in \[0, 1\)"),
        ({"leakage_eps": 0.0}, r"algorithm\.leakage_eps=0\.0: expected a positive number"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_algorithm(**changes)


def test_what_cannot_be_exchanged_is_refused_in_one_line(composed):
    settings = small("data_exchange")
    features = composed("dataset=synthetic_mixture", "partition=as_given", "num_nodes=5")
    for key in ("dataset", "partition"):
        settings[key] = features[key]
    with pytest.raises(ValueError, match=r"algorithm=data_exchange sends images of 8 bits .*use for") as caught:
        Simulation.build(settings).init()
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"problem: algorithm=data_exchange needs problem=classification, .*Quadratic"):
        Simulation.build(composed("algorithm=data_exchange", "problem=quadratic", "graph=ring"))
    directed = RandomDirected(num_nodes=NUM_NODES, rate_low=0.4, rate_high=0.8)
    make_algorithm(mixer="uniform").check_graph(directed)
    lossy = MessageLoss(graph=Ring(num_nodes=NUM_NODES), probability=0.1, seed=0)
    make_algorithm(mixer="uniform").check_graph(lossy)
    with pytest.raises(ValueError, match=r"faults: algorithm\.mixer=ps averages at a server .*faults=none"):
        make_algorithm(mixer="ps").check_graph(lossy)
    hub = small("data_exchange")
    hub["algorithm"]["mixer"], hub["partition"]["skip_hub"] = "ps", True
    with pytest.raises(ValueError, match=r"algorithm\.mixer=ps averages .* some have no training samples"):
        Simulation.build(hub).init()
    with pytest.raises(ValueError, match=r"algorithm\.mixer=metropolis needs an undirected graph, and RandomDirected"):
        make_algorithm(mixer="metropolis").check_graph(directed)
