"""Five nodes of which the first, a hub, has no data, and pFedHN on them written with torch's modules and optimizers."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from simulator.algorithms.hypernetworks.pfedhn import PFedHN
from simulator.algorithms.hypernetworks.pfedhn_pc import PFedHNPC
from simulator.graphs.star import Star
from simulator.models.mlp import MLP
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.classification import Classification
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES, Dealt, Fixed

SIZES = ((0, 0, 0), (9, 5, 4), (12, 2, 3), (3, 4, 1), (20, 6, 7))
NUM_NODES, HIDDEN = len(SIZES), 3
SETTINGS = {
    "nodes_per_round": 2,
    "inner_steps": 4,
    "inner_lr": 0.3,
    "inner_momentum": 0.9,
    "inner_weight_decay": 0.01,
    "inner_clip": 50.0,
    "optimizer": "sgd",
    "outer_lr": 0.1,
    "embedding_lr": 0.05,
    "outer_momentum": 0.8,
    "outer_weight_decay": 0.02,
    "outer_clip": 50.0,
    "reset_momentum": False,
    "embedding_dim": 2,
    "hidden_width": 5,
    "num_hidden": 2,
    "spectral_norm": False,
    "seed": 4,
}
# Changes of the settings under which rounds are compared with a program written apart.
CASES = {
    "plain": {},
    "one node": {"nodes_per_round": 1},
    "all nodes": {"nodes_per_round": 4, "num_hidden": 0},
    "clipped": {"inner_clip": 0.3, "outer_clip": 0.05},
    "adam": {"optimizer": "adam", "embedding_lr": None, "outer_lr": 0.01},
}


class WithoutHub(Dealt):
    skip_hub = True


def make_problem(sizes=SIZES, **changes):
    arguments = {"batch_size": 4, "drop_last": False, "weight_decay": 0.0, "outer_split": "train", **changes}
    problem = Classification(**{"sampling": "uniform", **arguments})
    partition = WithoutHub(sizes)
    problem.setup(
        Setting(
            nodes=range(len(sizes)),
            num_nodes=len(sizes),
            seed=4,
            dtype=torch.float64,
            device=torch.device("cpu"),
            dataset=Fixed(partition.num_samples),
            partition=partition,
            build_model=partial(MLP, hidden=[HIDDEN]),
            compute="vmap",
        )
    )
    return problem


def make(private=False, kind=None, **changes):
    return (kind or (PFedHNPC if private else PFedHN))(**{**SETTINGS, **changes})


def make_network(num_nodes=NUM_NODES, graph=None):
    return Network(graph or Star(num_nodes=num_nodes), Placement(num_nodes), torch.device("cpu"))


def run(algorithm, num_steps, problem=None, network=None):
    """The states before every step and after the last, copied, and the network."""
    problem, network = problem or make_problem(), network or make_network()
    state, states = algorithm.init(problem, network), []
    for step in range(num_steps):
        states.append({key: rows.clone() for key, rows in state.items()})
        state = algorithm.step(state, step, problem, network)
    return [*states, {key: rows.clone() for key, rows in state.items()}], network


class Trunk(torch.nn.Module):
    """The hypernetwork with a head for every tensor of the target, taking its parameters from a row."""

    def __init__(self, dim, hidden, num_hidden, shapes, row):
        super().__init__()
        sizes = [int(np.prod(shape)) for shape in shapes]
        self.shapes = shapes
        layers = [torch.nn.Linear(dim, hidden)]
        for _ in range(num_hidden):
            layers += [torch.nn.ReLU(), torch.nn.Linear(hidden, hidden)]
        self.trunk = torch.nn.Sequential(*layers).double()
        self.heads = torch.nn.ModuleList(torch.nn.Linear(hidden, size).double() for size in sizes)
        weights, biases = row[-(hidden + 1) * sum(sizes) :].split([hidden * sum(sizes), sum(sizes)])
        torch.nn.utils.vector_to_parameters(row[: -(hidden + 1) * sum(sizes)], self.trunk.parameters())
        parts = zip(self.heads, weights.view(-1, hidden).split(sizes), biases.split(sizes), strict=True)
        for head, weight, bias in parts:
            torch.nn.utils.vector_to_parameters(torch.cat([weight.reshape(-1), bias]), head.parameters())

    def forward(self, embedding):
        features = self.trunk(embedding)
        return [head(features).view(shape) for head, shape in zip(self.heads, self.shapes, strict=True)]

    def row(self):
        parts = [p.reshape(-1) for p in self.trunk.parameters()]
        parts += [head.weight.reshape(-1) for head in self.heads] + [head.bias for head in self.heads]
        return torch.cat(parts).detach()


def clip_(gradients, limit):
    norm = torch.sqrt(sum((g**2).sum() for g in gradients))
    for g in gradients:
        g.mul_(min(1.0, limit / norm))
    return norm


class Plain:
    """pFedHN as its authors wrote it, one node after the other, with autograd and torch.optim.

    Args:
        settings: of the algorithm.
        problem: for the samples of a minibatch alone.
        state: to start from.
    """

    def __init__(self, settings, problem, state, private):
        self.settings, self.problem, self.private = settings, problem, private
        shapes = [(HIDDEN, NUM_FEATURES), (HIDDEN,), (NUM_CLASSES, HIDDEN), (NUM_CLASSES,)]
        self.shapes = shapes[:2] if private else shapes
        dim, hidden, num_hidden = (settings[key] for key in ("embedding_dim", "hidden_width", "num_hidden"))
        self.net = Trunk(dim, hidden, num_hidden, self.shapes, state["hub/hypernetwork"][0])
        self.embeddings = torch.nn.Parameter(state["hub/embeddings"][0].clone())
        everything = [*self.net.parameters()]
        if settings["optimizer"] == "adam":
            self.optimizer = torch.optim.Adam([*everything, self.embeddings], lr=settings["outer_lr"])
        else:
            groups = [{"params": everything}, {"params": [self.embeddings], "lr": settings["embedding_lr"]}]
            self.optimizer = torch.optim.SGD(
                groups,
                lr=settings["outer_lr"],
                momentum=settings["outer_momentum"],
                weight_decay=settings["outer_weight_decay"],
            )
        dealt = WithoutHub(SIZES)
        samples = Fixed(dealt.num_samples).samples
        self.inputs, self.labels, self.rows = samples.inputs, samples.labels, [node.train for node in dealt.nodes]
        self.heads, self.head_optimizers, self.norms = {}, {}, {"inner": [], "outer": []}
        if private:
            for node, row in enumerate(state["private_heads"]):
                split = NUM_CLASSES * HIDDEN
                parts = row[:split].clone().view(NUM_CLASSES, HIDDEN), row[split:].clone()
                self.heads[node] = [part.requires_grad_() for part in parts]
                self.head_optimizers[node] = self.sgd(self.heads[node])

    def sgd(self, tensors):
        settings = self.settings
        return torch.optim.SGD(
            tensors,
            lr=settings["inner_lr"],
            momentum=settings["inner_momentum"],
            weight_decay=settings["inner_weight_decay"],
        )

    def loss(self, tensors, node, step):
        rows = self.rows[node][self.problem.batch(step)[node]]
        w1, b1, w2, b2 = tensors
        logits = F.linear(F.relu(F.linear(self.inputs[rows], w1, b1)), w2, b2)
        return F.cross_entropy(logits, self.labels[rows])

    def train(self, node, round_index):
        """Adds the node's gradient to those of the hub's parameters."""
        settings = self.settings
        made = self.net(self.embeddings[node - 1])
        tensors = [t.detach().clone().requires_grad_() for t in made]
        optimizer = self.sgd(tensors)
        for k in range(settings["inner_steps"]):
            head = self.heads.get(node, [])
            optimizer.zero_grad()
            if self.private:
                self.head_optimizers[node].zero_grad()
            self.loss([*tensors, *head], node, round_index * settings["inner_steps"] + k).backward()
            self.norms["inner"].append(clip_([t.grad for t in tensors], settings["inner_clip"]))
            optimizer.step()
            if self.private:
                self.head_optimizers[node].step()
        deltas = [(m - t).detach() / settings["nodes_per_round"] for m, t in zip(made, tensors, strict=True)]
        torch.autograd.backward(made, deltas)

    def step(self, nodes, round_index):
        self.optimizer.zero_grad()
        for node in nodes:
            self.train(node, round_index)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"]]
        self.norms["outer"].append(clip_(gradients, self.settings["outer_clip"]))
        self.optimizer.step()

    def private_rows(self):
        return torch.stack([torch.cat([p.detach().reshape(-1) for p in self.heads[node]]) for node in self.heads])
