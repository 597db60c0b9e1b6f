"""SlowMo, DiLoCo and NoLoCo against dense float64 NumPy on minibatches, and the algorithms that they become."""

import numpy as np
import pytest
import torch

from simulator import config, run
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.outer.diloco import DiLoCo
from simulator.algorithms.outer.noloco import NoLoCo
from simulator.algorithms.outer.slowmo import SlowMo
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.gossip_pga import GossipPGA
from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_matching import RandomMatching
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.schedules import Constant, InverseRoot
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem

H, NUM_STEPS = 3, 11
COMPLETE = FullyConnected(num_nodes=NUM_NODES)
PAIRS = RandomMatching(num_nodes=NUM_NODES, seed=3)
PLAIN = {"inner_optimizer": "sgd", "momentum": 0.0, "lr": 0.2, "lr_schedule": Constant(), "inner_steps": H}
ADAM = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "weight_decay": 0.2}
ALL_AT_ONCE = {**PLAIN, "outer_lr": 1.0, "outer_momentum": 0.0}
SLOWMO = {"buffers": "keep", "exact_average": "fully_connected"}

pytestmark = pytest.mark.usefixtures("one_thread")


def states(algorithm, graph, num_steps=NUM_STEPS):
    """The state after every step, copied, and the bytes that the step has sent."""
    problem, network = make_problem(), Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    state, before = algorithm.init(problem, network), 0
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
        yield {key: rows.clone().numpy() for key, rows in state.items()}, network.ledger.bytes - before
        before = network.ledger.bytes


class Inner:
    """The inner steps of all nodes, with the moments of their optimizer."""

    def __init__(self, kind):
        self.kind, self.regression = kind, Regression(make_problem())
        self.start = np.tile(self.regression.start, (NUM_NODES, 1))
        self.streams = [self._minibatches(node) for node in range(NUM_NODES)]
        self.restart()

    def _minibatches(self, node):
        epoch = 0
        while True:
            yield from self.regression.epoch(node, epoch)
            epoch += 1

    def restart(self):
        self.m, self.s, self.count = np.zeros_like(self.start), np.zeros_like(self.start), 0

    def step(self, x, lr):
        """The parameters [M, D] after one step."""
        g = np.stack([self.regression.gradient(i, x[i], next(self.streams[i])) for i in range(NUM_NODES)])
        if self.kind == "sgd":
            self.m = 0.6 * self.m + g
            return x - lr * self.m
        self.count += 1
        self.m, self.s = 0.9 * self.m + 0.1 * g, 0.99 * self.s + 0.01 * g**2
        root = np.sqrt(self.s / (1 - 0.99**self.count)) + 1e-3
        return x - lr * self.m / (1 - 0.9**self.count) / root - lr * 0.2 * x


def compared(algorithm, graph, inner, between, outer):
    """Runs the recursion beside the algorithm; ``between(x, t)`` gives x, ``outer(x, z, u, r, lr)`` z and u."""
    x = z = inner.start
    u, sent = np.zeros_like(x), []
    for t, (state, num_bytes) in enumerate(states(algorithm, graph)):
        r = t // H
        lr = 0.2 / (r * H + 1) ** 0.5
        x = inner.step(x, lr)
        if (t + 1) % H:
            x = between(x, t)
        else:
            z, u = outer(x, z, u, r, lr)
            x = z
        for name, rows in (("params", x), ("outer_params", z), ("outer_momentum", u)):
            np.testing.assert_allclose(state[name], rows, rtol=0, atol=1e-10)
        sent.append(num_bytes)
    assert np.abs(x - inner.start).max() > 0.05
    assert np.abs(u).max() > 0.01
    return np.array(sent) / (8 * x.shape[1])


def settings(kind):
    return {
        **PLAIN,
        "inner_optimizer": kind,
        "lr_schedule": InverseRoot(),
        "momentum": 0.6,
        **ADAM,
        "outer_lr": 0.8,
        "outer_momentum": 0.5,
    }


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("buffers", "over"),
    [*[(buffers, "fully_connected") for buffers in ("reset", "keep", "average")], ("average", "hub")],
)
def test_slowmo(kind, buffers, over):
    inner, graph = Inner(kind), OnePeerExponential(num_nodes=NUM_NODES)

    def outer(x, z, u, r, lr):
        if buffers == "reset":
            inner.restart()
        if buffers == "average":
            inner.m, inner.s = (np.tile(rows.mean(axis=0), (NUM_NODES, 1)) for rows in (inner.m, inner.s))
        u = 0.5 * u + (z - x.mean(axis=0)) / lr
        return z - 0.8 * lr * u, u

    sent = compared(
        *(SlowMo(**settings(kind), buffers=buffers, exact_average=over), graph, inner),
        between=lambda x, t: graph.edges(t).to_matrix(NUM_NODES) @ x,
        outer=outer,
    )
    rows = 1 if buffers != "average" else 2 if kind == "sgd" else 3
    everybody = (NUM_NODES - 1) * rows * (NUM_NODES if over == "fully_connected" else 2)
    np.testing.assert_array_equal(sent, np.where((np.arange(NUM_STEPS) + 1) % H, NUM_NODES, everybody))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("graph", [COMPLETE, Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)])
def test_diloco(kind, graph):
    shares = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))
    W = shares if isinstance(graph, Hub) else graph.edges(0).to_matrix(NUM_NODES)

    def outer(x, z, u, r, lr):
        d = z - W @ x
        u = 0.5 * u + d
        return z - 0.8 * (d + 0.5 * u), u

    sent = compared(DiLoCo(**settings(kind)), graph, Inner(kind), between=lambda x, t: x, outer=outer)
    messages = {"FullyConnected": 12, "Hub": 6, "Ring": 8}[graph.description]
    np.testing.assert_array_equal(sent, np.where((np.arange(NUM_STEPS) + 1) % H, 0, messages))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_noloco(kind):
    partners = set()

    def outer(x, z, u, r, lr):
        W, means = PAIRS.edges(r).to_matrix(NUM_NODES), np.zeros((2, *x.shape))
        for i in range(NUM_NODES):
            (j,) = np.flatnonzero(W[i] * (np.arange(NUM_NODES) != i))
            partners.add((i, int(j)))
            means[:, i] = (x[i] - z[i] + x[j] - z[j]) / 2, (z[i] + z[j]) / 2
        u = 0.5 * u + 0.8 * means[0] + 0.6 * (means[1] - z)
        # As if all were averaged.
        np.testing.assert_allclose(u.mean(0), 0.5 * momenta[-1] + 0.8 * (x - z).mean(0), rtol=0, atol=1e-13)
        momenta.append(u.mean(axis=0))
        return z + u, u

    momenta = [np.zeros(Inner(kind).start.shape[1])]
    algorithm = NoLoCo(**settings(kind), consensus_weight=0.6)
    sent = compared(algorithm, PAIRS, Inner(kind), between=lambda x, t: x, outer=outer)
    assert len(partners) > NUM_NODES, "the pairs change"
    np.testing.assert_array_equal(sent, np.where((np.arange(NUM_STEPS) + 1) % H, 0, 2 * NUM_NODES))


@pytest.mark.parametrize(
    ("outer", "graph", "base_graph", "local_steps"),
    [
        (SlowMo(**ALL_AT_ONCE, **SLOWMO), Ring(num_nodes=NUM_NODES), "gossip_pga", 1),
        (SlowMo(**ALL_AT_ONCE, **SLOWMO), SelfLoop(num_nodes=NUM_NODES), COMPLETE, H),
        (DiLoCo(**ALL_AT_ONCE), COMPLETE, COMPLETE, H),
        (DiLoCo(**{**ALL_AT_ONCE, "inner_steps": 1}), COMPLETE, COMPLETE, 1),
        (NoLoCo(**ALL_AT_ONCE, consensus_weight=1.0), PAIRS, PAIRS, H),
    ],
    ids=["slowmo: gossip_pga", "slowmo: local SGD", "diloco: local steps", "diloco: dsgd", "noloco: local steps"],
)
def test_plain_outer_steps_are_dsgd(outer, graph, base_graph, local_steps):
    """With outer_lr 1 and without outer momentum, after every round."""
    if base_graph == "gossip_pga":
        base_graph = GossipPGA(base=graph, every=H)
    order = {"order": "adapt_then_combine", "momentum": 0.0, "lr": 0.2, "lr_schedule": Constant()}
    base = DSGD(**order, local_steps=local_steps)
    found = list(states(outer, graph, num_steps=12))[local_steps - 1 :: local_steps]
    expected = list(states(base, base_graph, num_steps=12 // local_steps))
    for (state, _), (other, sent) in zip(found, expected, strict=True):
        np.testing.assert_allclose(state["params"], other["params"], rtol=0, atol=1e-12)
        assert sent > 0


@pytest.mark.parametrize("kind", [SlowMo, DiLoCo, NoLoCo])
@pytest.mark.parametrize(
    "changes",
    [
        *({"inner_optimizer": "adam"}, {"lr": 0.0}, {"momentum": 1.0}, {"inner_steps": 0}, {"outer_lr": -1.0}),
        *({"outer_momentum": 1.0}, {"beta_2": 1.0}, {"weight_decay": -0.1}),
    ],
)
def test_refuses(kind, changes):
    (key,) = changes
    own = {SlowMo: SLOWMO, DiLoCo: {}, NoLoCo: {"consensus_weight": 1.0}}[kind]
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        kind(**{**settings("sgd"), **own, **changes})


def test_refuses_what_only_one_of_them_has():
    with pytest.raises(ValueError, match=r"algorithm\.buffers='mean': expected reset, keep or average"):
        SlowMo(**ALL_AT_ONCE, **{**SLOWMO, "buffers": "mean"})
    with pytest.raises(ValueError, match=r"algorithm\.exact_average='ring': expected fully_connected or hub"):
        SlowMo(**ALL_AT_ONCE, **{**SLOWMO, "exact_average": "ring"})
    with pytest.raises(ValueError, match=r"algorithm\.consensus_weight=0.0: expected a positive number"):
        NoLoCo(**ALL_AT_ONCE, consensus_weight=0.0)


@pytest.mark.parametrize("kind", ["diloco", "slowmo", "noloco", "hgp", "hgp_fedem"])
def test_a_run_that_ends_before_its_first_outer_step_is_remarked_on(kind, composed):
    problem = "mixture_weights" if kind == "hgp_fedem" else "l2_decay" if kind == "hgp" else "quadratic"
    graph = "random_directed" if kind == "hgp" else "ring"
    words = (f"algorithm={kind}", f"problem={problem}", f"graph={graph}", "algorithm.inner_steps=7")
    algorithm = config.build(composed(*words)).algorithm
    assert algorithm.remark(7) == ""
    assert algorithm.remark(6).startswith("num_steps=6 is less than algorithm.inner_steps=7: the run ends ")


@pytest.mark.parametrize("num_steps", [2, 3])
def test_the_remark_comes_before_the_first_step(num_steps, tmp_path):
    words = ("algorithm=diloco", "graph=ring", "problem=quadratic", "num_nodes=4", "algorithm.inner_steps=3")
    finished = run(*words, num_steps=num_steps, device="cpu", figures=False, folder=tmp_path)
    lines = (tmp_path / "launch.log").read_text().splitlines()
    said = [place for place, line in enumerate(lines) if "algorithm=diloco: num_steps=2 is less than" in line]
    first = next(place for place, line in enumerate(lines) if "step 0 " in line)
    assert (said != [] and said[0] < first) == (finished.summary["comm/bytes"] == 0) == (num_steps == 2)
