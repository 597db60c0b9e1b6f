"""References against NumPy that keeps every copy, gossip with them to the exact average, on several processes."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from simulator.algorithms.compressed.references import References, slots_of
from simulator.faults.message_loss import MessageLoss
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.testing import placements
from tests.algorithms.explicit_copies import (
    CODERS,
    CPU,
    DIM,
    NUM_NODES,
    Copies,
    assert_bytes,
    load,
    matrices,
    random_rows,
)
from tests.algorithms.simulation import overrides_for

NUM_ROUNDS = 10
STATIC = {"ring": {}, "star": {}, "erdos_renyi": {}}
CHANGING = {"random_undirected": {"weights": "metropolis", "rate_low": 0.1, "rate_high": 0.4}, "random_matching": {}}
DIRECTED = {"directed_ring": {}, "exponential": {}}
CHANGING_DIRECTED = {"random_directed": {"rate_low": 0.2, "rate_high": 0.5}, "one_peer_exponential": {}}
COMPRESSORS = {"identity": {}, "top_k": {}, "random_k": {}, "qsgd": {}, "sign": {}, "cast": {"dtype": "bfloat16"}}

pytestmark = pytest.mark.usefixtures("one_thread")


def each(*groups):
    return pytest.mark.parametrize(
        ("graph", "changes"),
        [(name, changes) for group in groups for name, changes in group.items()],
        ids=[name for group in groups for name in group],
    )


def network_of(graph):
    return Network(graph, Placement(graph.num_nodes), CPU)


@each(STATIC, CHANGING, DIRECTED, CHANGING_DIRECTED)
@pytest.mark.parametrize("coder", ["top_k", "sign"])
@pytest.mark.parametrize("known", [False, True], ids=["from_zero", "from_a_known_start"])
def test_two_vectors_side_by_side(graph, changes, coder, known):
    """Vectors that wander; the second is a hundred times larger."""
    network = network_of(load("graph", graph, **changes))
    references = References(load("compressor", coder), 0, "test")
    scale = np.array([1.0, 100.0])[:, None]
    common = random_rows(1, 2 * DIM, seed=9).view(1, 2, DIM).repeat(NUM_NODES, 1, 1) * torch.from_numpy(scale)
    state = references.init(common, network, known=known)
    start = common.numpy() if known else np.zeros((NUM_NODES, 2, DIM))
    copies = [Copies(CODERS[coder], start[:, r]) for r in range(2)]
    x = random_rows(NUM_NODES, 2 * DIM).view(NUM_NODES, 2, DIM) * torch.from_numpy(scale)
    for step, matrix in enumerate(matrices(network.graph, NUM_ROUNDS)):
        x = x + 0.1 * random_rows(NUM_NODES, 2 * DIM, seed=step + 20).view(NUM_NODES, 2, DIM)
        references.send_(state, x, network, step)
        expected = np.stack([copies[r].send(matrix, x[:, r].numpy()) for r in range(2)], axis=1)
        found = references.disagreement(state)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.mean(dim=0).numpy(), 0.0, rtol=0, atol=1e-12)
        x = x + 0.2 * found
    if network.graph.period == 1:
        for i, j in copies[0].own:
            if network.graph.edges(0).to_matrix(NUM_NODES)[j, i]:
                expected = np.stack([copies[r].there[i, j] for r in range(2)])
                np.testing.assert_allclose(state["test/reference"][i].numpy(), expected, rtol=0, atol=1e-11)
    else:
        slots = slots_of(network.graph)
        for i, j in np.argwhere(sum(matrices(network.graph, NUM_ROUNDS)).T - np.eye(NUM_NODES) > 0):
            if i == j:
                continue
            ours, theirs = (int(slots.find(np.array([a]), np.array([b]))[0]) for a, b in ((i, j), (j, i)))
            sent, received = state["test/sent"][i, ours], state["test/received"][j, theirs]
            torch.testing.assert_close(sent, received, rtol=0, atol=0)
            expected = np.stack([copies[r].own[i, j] for r in range(2)])
            np.testing.assert_allclose(sent.numpy(), expected, rtol=0, atol=1e-11)
    payload = references.compressor.payload_bytes(DIM, torch.float64)
    assert_bytes(network, NUM_ROUNDS, 2 * payload)


@each(DIRECTED, CHANGING_DIRECTED, {"star": {}})
@pytest.mark.parametrize("coder", ["top_k", "sign"])
def test_push_sum_mixes_weights_beside(graph, changes, coder):
    """On static graphs references are of x, on others of x / w."""
    network = network_of(load("graph", graph, **changes))
    is_static = network.graph.period == 1
    references = References(load("compressor", coder), 0, "test")
    x, w = random_rows(), torch.ones(NUM_NODES, dtype=torch.float64)
    state = references.init(x[:, None], network)
    copies, total = Copies(CODERS[coder], np.zeros((NUM_NODES, DIM))), x.sum(dim=0)
    for step, matrix in enumerate(matrices(network.graph, NUM_ROUNDS)):
        values = x if is_static else x / w[:, None]
        expected = copies.send(matrix, values.numpy(), None if is_static else w.numpy())
        pushed = references.push_(state, x[:, None], w, network, step)
        found = references.disagreement(state)[:, 0]
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(pushed.numpy(), matrix @ w.numpy(), rtol=0, atol=1e-12)
        x, w = x + 0.3 * found, w + 0.3 * (pushed - w)
        torch.testing.assert_close(x.sum(dim=0), total, rtol=0, atol=1e-12)
        assert abs(float(w.sum()) - NUM_NODES) < 1e-12
    assert_bytes(network, NUM_ROUNDS, references.compressor.payload_bytes(DIM, torch.float64) + 8)


@each(STATIC, {"random_undirected": CHANGING["random_undirected"]})
@pytest.mark.parametrize("name", COMPRESSORS)
def test_gossip_reaches_the_exact_average_linearly(name, graph, changes):
    compressor = load("compressor", name, **COMPRESSORS[name])
    network = network_of(load("graph", graph, **changes))
    references, x = References(compressor, 0, "test"), random_rows()[:, None]
    state, mean, seen = references.init(x, network), x.mean(dim=0), []
    for step in range(400):
        references.send_(state, x, network, step)
        x = x + compressor.consensus_lr * references.disagreement(state)
        seen.append(float((x - mean).norm()))
    windows = [seen[at] for at in (99, 199, 299, 399)]
    assert all(later < max(0.5 * earlier, 1e-11) for earlier, later in pairwise(windows)), windows
    assert windows[-1] < 1e-2


@each({"directed_ring": {}, "random_directed": CHANGING_DIRECTED["random_directed"]})
@pytest.mark.parametrize("name", [name for name in COMPRESSORS if name != "sign"])
def test_push_sum_reaches_the_exact_average_linearly(name, graph, changes):
    compressor = load("compressor", name, **COMPRESSORS[name])
    network = network_of(load("graph", graph, **changes))
    references, x = References(compressor, 0, "test"), random_rows()[:, None]
    w = torch.ones(NUM_NODES, dtype=torch.float64)
    state, mean, seen = references.init(x, network), x.mean(dim=0), []
    for step in range(400):
        pushed = references.push_(state, x, w, network, step)
        x = x + compressor.consensus_lr * references.disagreement(state)
        w = w + compressor.consensus_lr * (pushed - w)
        seen.append(float((x / w[:, None, None] - mean).norm()))
    windows = [seen[at] for at in (99, 199, 299, 399)]
    assert all(later < max(0.5 * earlier, 1e-11) for earlier, later in pairwise(windows)), windows
    assert windows[-1] < 1e-2


def test_links_are_those_that_a_schedule_may_ever_have():
    ring = load("graph", "ring")
    assert slots_of(MessageLoss(graph=ring, probability=0.3)).count == 2
    assert slots_of(load("graph", "one_peer_exponential", num_nodes=16)).count == 7  # one distance is its own opposite
    assert slots_of(load("graph", "random_directed")).count == NUM_NODES - 1


def test_messages_of_one_round_and_of_different_nodes_draw_apart():
    """Equal residuals everywhere, and still the nodes keep different columns; equal draws in a second run."""
    network = network_of(load("graph", "ring"))
    references = References(load("compressor", "random_k"), 0, "test")
    rows = torch.ones(NUM_NODES, 1, DIM, dtype=torch.float64)
    states = []
    for _ in range(2):
        state = references.init(rows, network)
        references.send_(state, rows, network, 0)
        states.append(state["test/reference"][:, 0])
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert len(torch.unique(states[0], dim=0)) > 1


ON_PROCESSES = {
    "choco_ring": ("choco", "graph=ring", "compressor=top_k"),
    "choco_changing": ("choco", "graph=random_undirected", "graph.weights=metropolis", "compressor=random_k"),
    "beer_losing": ("beer", "graph=ring", "faults=message_loss", "faults.probability=0.5", "compressor=qsgd"),
    "push_static": ("quantized_push_sum", "graph=exponential", "compressor=sign"),
}


@pytest.fixture(scope="module")
def on_processes(composed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    quadratic = ("problem=quadratic", "problem.num_hyperparameters=0", "problem.noise=0.1", f"num_nodes={NUM_NODES}")
    cases = {
        case: composed(*overrides_for(name), *further, *quadratic, "dtype=float64", "device=cpu")
        for case, (name, *further) in ON_PROCESSES.items()
    }
    placements.start(cases, folder, num_steps=NUM_ROUNDS)
    return folder, cases


@pytest.mark.slow
@pytest.mark.parametrize("case", ON_PROCESSES)
def test_on_several_processes(case, on_processes):
    """Equal bytes and, to the rounding of sums, states; both ends of a link hold the same bits."""
    folder, cases = on_processes
    reports = {size: json.loads((folder / f"{case}_{size}.json").read_text()) for size in (1, 2, 3)}
    states = {size: torch.load(folder / f"{case}_{size}.pt", weights_only=True) for size in (1, 2, 3)}
    name, settings = ON_PROCESSES[case][0], cases[case]["graph"]
    graph = load("graph", ON_PROCESSES[case][1].removeprefix("graph="), **settings)
    matrix = graph.edges(0).to_matrix(NUM_NODES)
    for size, state in states.items():
        assert (reports[size]["wire_bytes"] > 0) == (size > 1)
        assert reports[size]["counts"] == reports[1]["counts"]
        for key, rows in states[1].items():
            torch.testing.assert_close(state[key], rows, rtol=0, atol=1e-10)
        if f"{name}/mixed" in state:
            reference = state[f"{name}/reference"].numpy()
            expected = np.einsum("ij,jrd->ird", matrix, reference)
            np.testing.assert_allclose(state[f"{name}/mixed"].numpy(), expected, rtol=0, atol=1e-12)
        elif f"{name}/sent" in state:
            slots, moved = slots_of(graph), 0
            for i, j in np.argwhere(~np.eye(NUM_NODES, dtype=bool)):
                if case == "beer_losing" and not matrix[j, i]:
                    continue
                ours, theirs = (int(slots.find(np.array([a]), np.array([b]))[0]) for a, b in ((i, j), (j, i)))
                sent, received = state[f"{name}/sent"][i, ours], state[f"{name}/received"][j, theirs]
                torch.testing.assert_close(sent, received, rtol=0, atol=0)
                moved += bool((sent != 0).any())
            assert moved > NUM_NODES
