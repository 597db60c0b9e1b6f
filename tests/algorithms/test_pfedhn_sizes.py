"""pFedHN for models of three sizes against a program of its own, with torch's modules, autograd and optimizers."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from simulator import config, metrics
from simulator.algorithms.hypernetworks.hub_round import HubRound, choose_nodes
from simulator.algorithms.hypernetworks.pfedhn_sizes import PFedHNSizes
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.star import Star
from simulator.models.mlp import MLP
from simulator.problems.base import Setting
from simulator.problems.model_sizes import ModelSizes
from simulator.simulation import Simulation
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Fixed
from tests.algorithms import hub_data
from tests.algorithms.hub_data import SETTINGS, Trunk, WithoutHub, clip_, make, make_network, run
from tests.algorithms.simulation import ALGORITHMS, CONF, TINY_DATA
from tests.problems.conftest import build

SIZES = ((0, 0, 0), (9, 5, 4), (12, 2, 3), (3, 4, 1), (20, 6, 7), (6, 3, 3))
NUM_NODES, WIDTHS = len(SIZES), (2, 3, 6)
MEMBERS, SIZE_OF_NODE = np.arange(1, NUM_NODES), np.array([0, 0, 1, 2, 0, 1])
SHAPES = [[(w, NUM_FEATURES), (w,), (NUM_CLASSES, w), (NUM_CLASSES,)] for w in WIDTHS]
NUM_PARAMS = [sum(int(np.prod(shape)) for shape in shapes) for shapes in SHAPES]
STARTS = np.cumsum([0, *NUM_PARAMS])
FREE = {"inner_momentum": 0.0, "inner_weight_decay": 0.0, "inner_clip": 1e9, "outer_clip": 1e9, "inner_steps": 1}
FREE |= {"outer_momentum": 0.0, "outer_weight_decay": 0.0, "outer_lr": 1.0, "embedding_lr": 1.0}

SMALL_MODELS = tuple(f"problem.models.{size}.hidden=[{2 + i}]" for i, size in enumerate(("small", "medium", "large")))

pytestmark = pytest.mark.usefixtures("one_thread")


def make_sized(**changes):
    return make(kind=PFedHNSizes, **changes)


def make_problem():
    models = {f"width {w}": partial(MLP, hidden=[w]) for w in WIDTHS}
    problem = ModelSizes(models=models, batch_size=4, drop_last=False, weight_decay=0.0, sampling="uniform")
    partition = WithoutHub(SIZES)
    problem.setup(
        Setting(
            nodes=range(NUM_NODES),
            num_nodes=NUM_NODES,
            seed=4,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples),
            partition=partition,
            compute="vmap",
        )
    )
    return problem


def run_sized(algorithm, num_steps, network=None):
    return run(algorithm, num_steps, make_problem(), network or make_network(NUM_NODES))


def chosen(algorithm, step):
    return choose_nodes(MEMBERS, algorithm.nodes_per_round, algorithm.seed, step)


class Sized:
    """The whole program once more: every node has a module of its own, and gradients go back through its slice."""

    def __init__(self, settings, state):
        self.settings = settings
        dim, hidden, num_hidden = (settings[key] for key in ("embedding_dim", "hidden_width", "num_hidden"))
        self.net = Trunk(
            dim, hidden, num_hidden, [s for shapes in SHAPES for s in shapes], state["hub/hypernetwork"][0]
        )
        self.embeddings = nn.Parameter(state["hub/embeddings"][0].clone())
        if settings["optimizer"] == "adam":
            self.optimizer = torch.optim.Adam([*self.net.parameters(), self.embeddings], lr=settings["outer_lr"])
        else:
            groups = [{"params": [*self.net.parameters()]}]
            groups += [{"params": [self.embeddings], "lr": settings["embedding_lr"]}]
            names = {"lr": "outer_lr", "momentum": "outer_momentum", "weight_decay": "outer_weight_decay"}
            self.optimizer = torch.optim.SGD(groups, **{key: settings[name] for key, name in names.items()})
        dealt = WithoutHub(SIZES)
        samples = Fixed(dealt.num_samples).samples
        self.inputs, self.labels, self.rows = samples.inputs, samples.labels, [node.train for node in dealt.nodes]
        # Which samples a minibatch has does not depend on the model; that of a node's own is asked.
        self.sampled = build(
            "classification", sizes=SIZES, seed=4, hidden=(1,), batch_size=4, weight_decay=0.0, sampling="uniform"
        )

    def made(self, node):
        """What the hypernetwork makes for a node: the four tensors of its own size."""
        place = 4 * SIZE_OF_NODE[node]
        return self.net(self.embeddings[node - 1])[place : place + 4]

    def loss(self, node, tensors, step):
        rows = self.rows[node][self.sampled.batch(step)[node]]
        width = WIDTHS[SIZE_OF_NODE[node]]
        net = nn.Sequential(nn.Linear(NUM_FEATURES, width), nn.ReLU(), nn.Linear(width, NUM_CLASSES)).double()
        names = [name for name, _ in net.named_parameters()]
        logits = torch.func.functional_call(net, dict(zip(names, tensors, strict=True)), (self.inputs[rows],))
        return F.cross_entropy(logits, self.labels[rows])

    def step(self, nodes, round_index):
        self.optimizer.zero_grad()
        for node in nodes:
            self.train(node, round_index, len(nodes))
        gradients = []
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        clip_(gradients, self.settings["outer_clip"])
        self.optimizer.step()

    def train(self, node, round_index, num_nodes):
        settings, made = self.settings, self.made(node)
        tensors = [t.detach().clone().requires_grad_() for t in made]
        names = {"lr": "inner_lr", "momentum": "inner_momentum", "weight_decay": "inner_weight_decay"}
        optimizer = torch.optim.SGD(tensors, **{key: settings[name] for key, name in names.items()})
        for k in range(settings["inner_steps"]):
            optimizer.zero_grad()
            self.loss(node, tensors, round_index * settings["inner_steps"] + k).backward()
            clip_([t.grad for t in tensors], settings["inner_clip"])
            optimizer.step()
        torch.autograd.backward(made, [(m - t).detach() / num_nodes for m, t in zip(made, tensors, strict=True)])


CASES = hub_data.CASES | {
    "all nodes": {"nodes_per_round": 5, "num_hidden": 0},
    "messages are lost": {"nodes_per_round": 5},
}


@pytest.mark.parametrize("case", CASES)
def test_rounds_are_those_of_a_program_with_a_module_per_node(case):
    algorithm = make_sized(**CASES[case])
    graph = Star(num_nodes=NUM_NODES)
    if case == "messages are lost":
        graph = MessageLoss(graph=graph, probability=0.3, seed=2)
    network = make_network(NUM_NODES, graph)
    states, _ = run_sized(algorithm, 4, network)
    plain, num_heard = Sized({**SETTINGS, **CASES[case]}, states[0]), []
    for step in range(4):
        heard = HubRound(chosen(algorithm, step), step, network).senders
        num_heard.append(len(heard))
        plain.step(heard, step)
        found = states[step + 1]
        torch.testing.assert_close(found["hub/hypernetwork"][0], plain.net.row(), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(found["hub/embeddings"][0], plain.embeddings.detach(), rtol=1e-9, atol=1e-10)
    assert (states[4]["hub/hypernetwork"] - states[0]["hub/hypernetwork"]).abs().max() > 1e-3
    assert (min(num_heard) < algorithm.nodes_per_round) == (case == "messages are lost")


def test_one_plain_step_makes_the_gradient_through_the_slices():
    """K = 1, no momentum, no decay, no clipping: G is inner_lr times the gradient of the mean loss by phi and v."""
    algorithm = make_sized(**FREE, nodes_per_round=5)
    states, _ = run_sized(algorithm, 1)
    plain = Sized({**SETTINGS, **FREE}, states[0])
    sum(plain.loss(node, plain.made(node), 0) / len(MEMBERS) for node in MEMBERS).backward()
    for parameter in plain.net.parameters():
        parameter.data = parameter.grad
    for name, expected in (("hub/hypernetwork", plain.net.row()), ("hub/embeddings", plain.embeddings.grad)):
        moved = states[0][name][0] - states[1][name][0]
        assert expected.norm() > 1e-3
        torch.testing.assert_close(moved, SETTINGS["inner_lr"] * expected, rtol=1e-9, atol=1e-12)


def heads(state, suffix=""):
    """The last layer of the hypernetwork, a row with its bias for every parameter of the models, [D, H + 1]."""
    row, width, total = state[f"hub/hypernetwork{suffix}"][0], SETTINGS["hidden_width"], STARTS[-1]
    weight, bias = row[-(width + 1) * total :].split([width * total, total])
    return torch.cat([weight.view(total, width), bias[:, None]], dim=1)


@pytest.mark.parametrize("decays", [False, True])
def test_heads_of_sizes_that_were_not_drawn_have_gradient_zero(decays):
    changes = {} if decays else {"outer_momentum": 0.0, "outer_weight_decay": 0.0}
    algorithm = make_sized(nodes_per_round=1, **changes)
    states, _ = run_sized(algorithm, 6)
    lr, decay, momentum = SETTINGS["outer_lr"], SETTINGS["outer_weight_decay"], SETTINGS["outer_momentum"]
    sizes_seen = set()
    for step, (before, after) in enumerate(pairwise(states)):
        (size,) = SIZE_OF_NODE[chosen(algorithm, step)]
        sizes_seen.add(size)
        away = np.ones(STARTS[-1], dtype=bool)
        away[STARTS[size] : STARTS[size + 1]] = False
        moved = heads(after) - heads(before)
        assert moved[~away].abs().max() > 1e-6
        if not decays:
            assert not moved[away].any()
            continue
        expected = -lr * (momentum * heads(before, "_momentum") + decay * heads(before))
        torch.testing.assert_close(moved[away], expected[away], rtol=1e-10, atol=1e-14)
    assert sizes_seen == {0, 1, 2}


@pytest.mark.parametrize("nodes_per_round", [1, 3, 5])
def test_only_slices_and_their_changes_are_sent(nodes_per_round):
    algorithm, num_steps = make_sized(nodes_per_round=nodes_per_round), 6
    _, network = run_sized(algorithm, num_steps)
    drawn = np.concatenate([chosen(algorithm, step) for step in range(num_steps)])
    row_bytes = 8 * np.array(NUM_PARAMS)[SIZE_OF_NODE]
    by_node = np.bincount(drawn, minlength=NUM_NODES) * row_bytes
    ledger = network.ledger
    assert ledger.bytes == 2 * by_node.sum()
    assert ledger.messages == 2 * nodes_per_round * num_steps
    assert ledger.node_received.tolist() == [by_node.sum(), *by_node[1:]]
    assert ledger.node_sent.tolist() == [by_node.sum(), *by_node[1:]]
    assert len(set(row_bytes[drawn])) == 3


def test_a_node_is_told_its_own_model_and_scored_with_it():
    algorithm, problem, network = make_sized(), make_problem(), make_network(NUM_NODES)
    (*_, state), _ = run(algorithm, 3, problem, network)
    evaluation = metrics.evaluate(algorithm, state, 3, problem, network)
    rows = algorithm.estimate(algorithm.prepare_evaluation(state, problem, network))
    plain = Sized(SETTINGS, state)
    for node in MEMBERS:
        size = SIZE_OF_NODE[node]
        own = torch.zeros(STARTS[-1], dtype=torch.bool)
        own[STARTS[size] : STARTS[size + 1]] = True
        made = torch.cat([t.detach().reshape(-1) for t in plain.made(node)])
        torch.testing.assert_close(rows[node, own], made, rtol=1e-10, atol=1e-12)
        assert not rows[node, ~own].any()
        alone = build("classification", sizes=SIZES, seed=4, hidden=(WIDTHS[size],))
        scores = alone.evaluate(made.expand(NUM_NODES, -1), alone.init_hparams())
        for name in ("test/accuracy", "test/loss", "valid/accuracy"):
            torch.testing.assert_close(evaluation.per_node[name][node], scores[name][node])
    accuracy = evaluation.per_node["test/accuracy"].numpy()
    for size, width in enumerate(WIDTHS):
        expected = accuracy[1:][SIZE_OF_NODE[1:] == size].mean()
        assert evaluation.numbers[f"test/accuracy/width {width}"] == pytest.approx(expected)


def test_sizes_are_reported():
    algorithm, problem, network = make_sized(), make_problem(), make_network(NUM_NODES)
    (*_, state), _ = run(algorithm, 1, problem, network)
    numbers = algorithm.report(state, 0, problem, network).numbers
    assert numbers["target/num_params"] == STARTS[-1]
    assert numbers["comm/bytes_per_evaluation"] == 8 * np.array(NUM_PARAMS)[SIZE_OF_NODE[1:]].sum()


@pytest.fixture(scope="module")
def sized(composed):
    """The settings of a run of any algorithm, on a graph, with models of three sizes."""
    overrides = ["problem=model_sizes", "problem.batch_size=8", *SMALL_MODELS, "num_nodes=5", "compute=vmap"]
    overrides += [*TINY_DATA, "partition=as_given", "num_threads=1", "device=cpu", "dtype=float64"]
    settings = composed(*overrides)
    shared = {"seed": 0, "num_nodes": 5}

    def with_algorithm(name, graph):
        files = {"algorithm": CONF / "algorithm" / f"{name}.yaml", "graph": CONF / "graph" / f"{graph}.yaml"}
        parts = OmegaConf.create(shared | {group: OmegaConf.load(file) for group, file in files.items()})
        return {**settings, **OmegaConf.to_container(parts, resolve=True)}

    return with_algorithm


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "pfedhn_sizes"])
def test_what_averages_models_refuses_them_before_the_first_step(name, sized):
    settings = sized(name, "hub")
    with pytest.raises(
        ValueError, match=r"needs|ModelSizes cannot|of ModelSizes differ in architecture; use algorithm=pfedhn_sizes"
    ) as caught:
        config.check(settings, config.build(settings), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dsgd", "sgp", "fedavg", "per_fedavg", "choco"])
def test_alone_a_node_trains_its_own_columns(name, sized):
    settings = sized(name, "self_loop")
    settings["algorithm"] |= {"lr": 0.1}
    simulation = Simulation.build(settings)
    problem, state = simulation.problem, simulation.init()
    start = simulation.estimate(state).clone()
    end = simulation.estimate(simulation.run(state, 0, 3))
    for node, size in enumerate(problem.size_of_node):
        own = torch.zeros(problem.num_params, dtype=torch.bool)
        own[problem.columns[size]] = True
        assert (end - start)[node, own].abs().max() > 1e-4
        assert not end[node, ~own].any()


def test_it_refuses_what_has_one_architecture(composed):
    with pytest.raises(ValueError, match="algorithm=pfedhn_sizes needs problem=model_sizes, and this is Classificat"):
        Simulation.build(composed("algorithm=pfedhn_sizes", "graph=star", "problem=classification"))


def test_learns_digits_with_every_size(composed):
    """A guess is right for a quarter of a node's samples."""
    settings = composed("experiment=pfedhn_sizes", "num_threads=1", "device=cpu", "compute=batched")
    simulation = Simulation.build(settings)
    state = simulation.run(simulation.init(), 0, 80)
    numbers = metrics.evaluate(simulation.algorithm, state, 80, simulation.problem, simulation.network).numbers
    for size in ("small", "medium", "large"):
        assert numbers[f"test/accuracy/{size}"] > 0.8
