"""Gossiped hypernetworks against a hub's program at every node and a dense product for the gossip."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from simulator import metrics
from simulator.algorithms.hypernetworks.hub_round import choose_nodes
from simulator.algorithms.hypernetworks.hypernetwork import Hypernetwork
from simulator.algorithms.hypernetworks.pfedhn_choco import PFedHNChoco
from simulator.algorithms.hypernetworks.pfedhn_gossip import PFedHNGossip
from simulator.algorithms.weights import check_weights
from simulator.compressors.identity import Identity
from simulator.compressors.top_k import TopK
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES
from tests.algorithms.hub_data import (
    HIDDEN,
    NUM_NODES,
    SETTINGS,
    SIZES,
    Plain,
    Trunk,
    make,
    make_network,
    make_problem,
    run,
)
from tests.graphs.loading import build
from tests.graphs.loading import load as load_settings

MEMBERS = np.arange(1, NUM_NODES)
DIM, WIDTH, NUM_HIDDEN = (SETTINGS[key] for key in ("embedding_dim", "hidden_width", "num_hidden"))
SHAPES = [(HIDDEN, NUM_FEATURES), (HIDDEN,), (NUM_CLASSES, HIDDEN), (NUM_CLASSES,)]
NUM_PARAMS = sum(int(np.prod(shape)) for shape in SHAPES)
HYPERNETWORK = Hypernetwork(DIM, WIDTH, NUM_HIDDEN, NUM_PARAMS)
RING, DIRECTED = Ring(num_nodes=NUM_NODES), "random_directed"

pytestmark = pytest.mark.usefixtures("one_thread")


def gossip(**changes):
    return make(kind=PFedHNGossip, **changes)


def on(graph):
    return make_network(graph=directed() if graph is DIRECTED else graph)


def directed():
    graph = make_graph(DIRECTED)
    assert graph.stochasticity == "column"
    return graph


def make_graph(name):
    return build(OmegaConf.create({"num_nodes": NUM_NODES, "seed": 3, "graph": load_settings(name)}).graph)


def load(net, row):
    source = Trunk(DIM, WIDTH, NUM_HIDDEN, SHAPES, row)
    for parameter, other in zip(net.parameters(), source.parameters(), strict=True):
        parameter.data.copy_(other.data)


CASES = {
    "plain": {},
    "all nodes": {"nodes_per_round": 9},
    "clipped": {"inner_clip": 0.3, "outer_clip": 0.05},
    "adam": {"optimizer": "adam", "embedding_lr": None, "outer_lr": 0.01},
}


@pytest.mark.parametrize("graph", [RING, DIRECTED], ids=["ring", "directed"])
@pytest.mark.parametrize("case", CASES)
def test_every_node_is_a_hub_of_its_own_and_rows_are_mixed(case, graph):
    """The authors' program with one node per round, once at each node; W_t as a dense matrix, debiased by hand."""
    algorithm, problem, network = gossip(**CASES[case]), make_problem(), on(graph)
    states, _ = run(algorithm, 4, problem, network)
    # The row of an embedding that is not the program's own only drifts, and is not looked at.
    own = {"hub/embeddings": states[0]["embeddings"][1:, 0][None]}
    settings = {**SETTINGS, **CASES[case], "nodes_per_round": 1}
    plain = [
        Plain(settings, problem, {"hub/hypernetwork": states[0]["hypernetwork"][node : node + 1], **own}, False)
        for node in range(NUM_NODES)
    ]
    biased, weight = states[0]["hypernetwork"].numpy().copy(), np.ones(NUM_NODES)
    embeddings = states[0]["embeddings"][:, 0].clone()
    for step in range(4):
        drawn = choose_nodes(MEMBERS, min(algorithm.nodes_per_round, len(MEMBERS)), algorithm.seed, step)
        for node in drawn:
            before = plain[node].net.row()
            plain[node].embeddings.data[node - 1] = embeddings[node]
            plain[node].step([node], step)
            biased[node] += (plain[node].net.row() - before).numpy()
            embeddings[node] = plain[node].embeddings.detach()[node - 1]
        matrix = network.graph.edges(step).to_matrix(NUM_NODES)
        biased, weight = matrix @ biased, matrix @ weight
        for node in range(NUM_NODES):
            load(plain[node].net, torch.from_numpy(biased[node] / weight[node]))
        found = states[step + 1]
        torch.testing.assert_close(found["hypernetwork"], torch.from_numpy(biased), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(found["embeddings"][:, 0], embeddings, rtol=1e-9, atol=1e-10)
    if graph is DIRECTED:
        assert np.abs(weight - 1).max() > 0.1
        torch.testing.assert_close(found["push_sum_weight"], torch.from_numpy(weight), rtol=1e-12, atol=0)
    else:
        assert "push_sum_weight" not in found
    assert np.abs(biased - biased.mean(axis=0)).max() > 1e-4
    if case == "clipped":
        assert max(max(p.norms["outer"], default=0) for p in plain) > 0.05


def test_on_a_complete_graph_it_is_the_hub_with_all_nodes():
    """Without decay: a hub's mean of m gradients by embeddings is 1/m of what a node takes for its own."""
    sizes = ((6, 2, 2), *SIZES[1:])
    free = {"nodes_per_round": NUM_NODES, "outer_clip": 1e9, "outer_weight_decay": 0.0}
    (*_, hub), _ = run(make(**free), 4, make_problem(sizes))
    apart = gossip(**free, embedding_lr=SETTINGS["embedding_lr"] / NUM_NODES)
    (start, *_, found), _ = run(apart, 4, make_problem(sizes), on(FullyConnected(num_nodes=NUM_NODES)))
    assert (found["hypernetwork"] - start["hypernetwork"]).abs().max() > 1e-3
    expected = hub["hub/hypernetwork"].expand(NUM_NODES, -1)
    torch.testing.assert_close(found["hypernetwork"], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found["embeddings"][:, 0], hub["hub/embeddings"][0], rtol=1e-10, atol=1e-12)


def test_nodes_that_were_not_drawn_wait():
    algorithm = gossip(nodes_per_round=1, spectral_norm=True)
    states, _ = run(algorithm, 5, network=on(SelfLoop(num_nodes=NUM_NODES)))
    for step in range(5):
        drawn = choose_nodes(MEMBERS, 1, algorithm.seed, step)
        for name, rows in states[step].items():
            moved = (states[step + 1][name] != rows).flatten(1 if rows.dim() > 1 else 0)
            moved = moved.any(dim=1) if rows.dim() > 1 else moved
            assert np.flatnonzero(moved).tolist() == drawn.tolist(), name
    assert states[5]["num_updates"].tolist() == np.bincount(
        [choose_nodes(MEMBERS, 1, algorithm.seed, step)[0] for step in range(5)], minlength=NUM_NODES
    ).tolist()  # fmt: skip


@pytest.mark.parametrize(("graph", "further"), [(RING, 0), (DIRECTED, 1)], ids=["ring", "directed"])
def test_only_hypernetworks_are_sent_and_along_every_edge(graph, further):
    (*_, state), network = run(gossip(), 3, network=on(graph))
    num_edges = sum(
        int((network.graph.edges(step).source != network.graph.edges(step).target).sum()) for step in range(3)
    )
    assert state["hypernetwork"].shape == (NUM_NODES, HYPERNETWORK.num_params)
    assert network.ledger.messages == num_edges
    assert network.ledger.bytes == num_edges * 8 * (HYPERNETWORK.num_params + further)


@pytest.mark.parametrize("graph", [RING, DIRECTED], ids=["ring", "directed"])
def test_an_evaluation_makes_the_nodes_models_and_sends_nothing(graph):
    algorithm, problem, network = gossip(), make_problem(), on(graph)
    (*_, state), _ = run(algorithm, 3, problem, network)
    kept = {name: rows.clone() for name, rows in state.items()}
    before = network.ledger.state_dict()
    evaluation = metrics.evaluate(algorithm, state, 3, problem, network)
    assert network.ledger.state_dict() == before
    for name, rows in kept.items():
        assert torch.equal(state[name], rows), name
    debiased = state["hypernetwork"] / state.get("push_sum_weight", torch.ones(NUM_NODES, dtype=torch.float64))[:, None]
    trunks = [Trunk(DIM, WIDTH, NUM_HIDDEN, SHAPES, row) for row in debiased]
    with torch.no_grad():
        models = torch.stack(
            [
                torch.cat([t.reshape(-1) for t in trunk(v)])
                for trunk, v in zip(trunks, state["embeddings"][:, 0], strict=True)
            ]
        )
    found = algorithm.estimate(algorithm.prepare_evaluation(state, problem, network))
    torch.testing.assert_close(found, models, rtol=1e-12, atol=1e-12)
    apart = debiased - debiased.mean(dim=0)
    expected = float(apart.square().sum(dim=1).mean().sqrt())
    assert evaluation.numbers["hypernetwork/consensus_distance"] == pytest.approx(expected, rel=1e-10)
    report = algorithm.report(state, 2, problem, network)
    np.testing.assert_array_equal(report.arrays["embeddings"], state["embeddings"][1:, 0].numpy())
    assert report.numbers["target/num_params"] == NUM_PARAMS
    assert report.numbers["hypernetwork/num_params"] == HYPERNETWORK.num_params + 4 * DIM


def choco(compressor, **changes):
    return PFedHNChoco(**{**SETTINGS, "consensus_lr": None, **changes}, compressor=compressor)


def test_without_compression_references_give_plain_gossip():
    (*_, plain), plain_network = run(gossip(), 4, network=on(RING))
    (*_, found), network = run(choco(Identity(consensus_lr=1.0)), 4, network=on(RING))
    for name in ("hypernetwork", "embeddings", "hypernetwork_momentum"):
        torch.testing.assert_close(found[name], plain[name], rtol=1e-10, atol=1e-12)
    assert network.ledger.bytes == plain_network.ledger.bytes


def test_compressed_gossip_keeps_the_mean_and_sends_what_the_compressor_says():
    """One round, in which the largest tenth of what the nodes' steps have changed is sent, in float32."""
    compressor = TopK(fraction=0.1, consensus_lr=0.5, index_coding="smallest", wire_dtype="float32")
    (start, found), network = run(choco(compressor, nodes_per_round=9), 1, network=on(RING))
    (_, alone), _ = run(gossip(nodes_per_round=9), 1, network=on(SelfLoop(num_nodes=NUM_NODES)))
    after = alone["hypernetwork"].numpy()
    residuals = after - start["hypernetwork"].numpy()
    kept = np.zeros_like(residuals)
    count = round(0.1 * HYPERNETWORK.num_params)
    for row, out in zip(residuals, kept, strict=True):
        largest = np.argsort(-np.abs(row))[:count]
        out[largest] = row[largest].astype(np.float32)
    references = start["hypernetwork"].numpy() + kept
    expected = after + 0.5 * (RING.edges(0).to_matrix(NUM_NODES) @ references - references)
    np.testing.assert_allclose(found["hypernetwork"].numpy(), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["hypernetwork"].numpy().mean(axis=0), after.mean(axis=0), rtol=1e-9, atol=1e-12)
    assert network.ledger.bytes == 2 * NUM_NODES * compressor.payload_bytes(HYPERNETWORK.num_params, torch.float64)


def test_what_it_cannot_run_on_is_refused():
    row_stochastic = make_graph("hub")
    assert row_stochastic.stochasticity == "row"
    with pytest.raises(ValueError, match="algorithm=pfedhn_gossip needs column-stochastic or doubly stochastic"):
        check_weights(gossip(), row_stochastic)
    with pytest.raises(ValueError, match="algorithm=pfedhn_choco needs"):
        check_weights(choco(Identity(consensus_lr=1.0)), directed())
    with pytest.raises(ValueError, match=r"algorithm.consensus_lr=2.0: expected a number in \(0, 1\]"):
        choco(Identity(consensus_lr=1.0), consensus_lr=2.0)
    with pytest.raises(ValueError, match="nodes_per_round=0"):
        gossip(nodes_per_round=0)
