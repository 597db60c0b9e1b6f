"""Data exchange: neighbours send each other some of their training samples; then all nodes train and average.

Update equations, one step being one round:
    before round 0 (and before every ``exchange_every``-th round)  data_i <- data_i united with what neighbours send,
    x_i <- ``local_epochs`` epochs of SGD with momentum from x_i on data_i, momentum 0 at the beginning of every round,
    x   <- an average over neighbours, or over all nodes.
How samples are exchanged is in sample_exchange.py, averages are in mixers.py, what leaks in leakage.py and what an
attacker can tell from the models in membership.py.
State: ``params`` [N, D], ``exchanges`` [N]; with stale_eval also ``stale`` [N, D].
Needs: problem=classification with images of 8 bits; mixer=metropolis an undirected graph.
Sends: (pixels + 1) floor(share_ratio n_i) bytes per edge in an exchange (phase ``exchange``), D numbers per edge and
round; with mixer=ps 2 (M - 1) D numbers per round, and only the exchange follows the graph.
Source: a course project on decentralized learning with data exchange; local training and averaging as in McMahan et
al., AISTATS 2017 (arXiv 1602.05629).
Departures: ps evaluates the newest average, where the original evaluates the one before (``stale_eval``); leakage of
repeated exchanges, which the original does not have, is that of all that was sent against all that is held at the end.

Shapes: N local nodes, M all nodes, D parameters, C classes, P pixels.
"""

from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.algorithms.base import Algorithm, Report, State
from simulator.algorithms.exchange.leakage import Leakage, measure
from simulator.algorithms.exchange.membership import attack_accuracy, matched
from simulator.algorithms.exchange.mixers import MIXERS
from simulator.algorithms.exchange.sample_exchange import SampleExchange
from simulator.algorithms.federated.local_training import gradient_of, local_batches, require_momentum, train_locally_
from simulator.algorithms.weights import Weights
from simulator.arrays import FloatArray
from simulator.checks import require_at_least, require_one_of, require_positive, require_within
from simulator.faults.base import FaultyGraph
from simulator.figures.exchange import mean_images
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem
from simulator.problems.classification import Classification


@dataclass(frozen=True, kw_only=True)
class DataExchange(Algorithm):
    """Local training after an exchange of samples.

    Args:
        share_ratio: share of its own samples that a node sends to each neighbour, in [0, 1].
        exchange_every: rounds from one exchange to the next, at least 1; None for one before the first round.
        mixer: uniform, metropolis, legacy_sweep or ps.
        stale_eval: evaluate the average that the last round began with; for ps.
        lr: learning rate.
        momentum: heavy-ball coefficient in [0, 1).
        local_epochs: passes over a node's samples per round, at least 1.
        leakage_eps: smoothing of the pixel shares, positive.
        seed: of the samples that are sent and of those that an attacker is shown.
    """

    weights: ClassVar[Weights] = Weights.ANY

    share_ratio: float
    exchange_every: int | None
    mixer: str
    stale_eval: bool
    lr: float
    momentum: float
    local_epochs: int
    leakage_eps: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("lr", "leakage_eps"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        require_momentum(self.momentum)
        require_within("algorithm.share_ratio", self.share_ratio, "[0, 1]")
        if self.exchange_every is not None and self.exchange_every < 1:
            raise ValueError(
                f"algorithm.exchange_every={self.exchange_every}: expected at least 1, or null for a single exchange"
            )
        require_one_of("algorithm.mixer", self.mixer, MIXERS)
        if self.stale_eval and self.mixer != "ps":
            raise ValueError("algorithm.stale_eval=true: only the average of algorithm.mixer=ps can be evaluated late")
        require_at_least("algorithm.local_epochs", self.local_epochs, 1)

    @property
    def exchange(self) -> SampleExchange:
        """Who sends which samples."""
        return SampleExchange(share_ratio=self.share_ratio, seed=self.seed)

    def check_graph(self, graph: Graph) -> None:
        if self.mixer == "ps" and isinstance(graph, FaultyGraph):
            raise ValueError(
                "faults: algorithm.mixer=ps averages at a server of its own, which these faults would not touch; use "
                "another mixer, or faults=none"
            )
        if self.mixer == "metropolis" and graph.directed:
            raise ValueError(
                f"algorithm.mixer=metropolis needs an undirected graph, and {graph.description} is directed; use "
                "algorithm.mixer=uniform"
            )

    def check_problem(self, problem: Problem) -> None:
        if type(problem) is not Classification:
            raise ValueError(
                f"problem: algorithm={self.name} needs problem=classification, and this is {type(problem).__name__}"
            )

    def init(self, problem: Problem, network: Network) -> State:
        problem = cast(Classification, problem)
        if problem.data.pixels is None:
            raise ValueError(
                f"algorithm={self.name} sends images of 8 bits with labels below 256, normalised alike at all nodes, "
                "and the samples are no such images; use for example dataset=digits"
            )
        if self.mixer == "ps" and not problem.sample_counts().all():
            raise ValueError(
                "algorithm.mixer=ps averages the models of all nodes alike, and some have no training samples; use "
                "another mixer, or a partition that leaves no node out"
            )
        if problem.data.generation:
            self.exchange.undo(problem, network)
        params = problem.init_params()
        # How many exchanges there have been; the samples themselves are with the problem.
        state = {"params": params, "exchanges": params.new_zeros(len(params))}
        return {**state, "stale": copy_as(params)} if self.stale_eval else state

    def _catch_up(self, state: State, problem: Problem, network: Network) -> Classification:
        """The problem with the samples that the state goes with, which a resumed run has to send again."""
        problem = cast(Classification, problem)
        self.exchange.bring_to(int(state["exchanges"][0]), self.exchange_every or 0, problem, network)
        return problem

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        problem = self._catch_up(state, problem, network)
        params, exchanges, index = state["params"], state["exchanges"], problem.data.generation
        if step == (self.exchange_every or 0) * index:
            with network.phase("exchange"):
                self.exchange.carry_out(index, step, problem, network)
            exchanges = exchanges + 1
        before = {"stale": copy_as(params)} if self.stale_eval else {}
        epochs = range(step * self.local_epochs, (step + 1) * self.local_epochs)
        train_locally_(
            params,
            gradient_of(problem, problem.init_hparams()),
            chain.from_iterable(local_batches(problem, epoch, None) for epoch in epochs),
            lr=self.lr,
            momentum=self.momentum,
            velocity=zeros_as(params) if self.momentum else None,
        )
        return {"params": MIXERS[self.mixer](params, step, network), "exchanges": exchanges, **before}

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        self._catch_up(state, problem, network)
        return state

    def estimate(self, state: State) -> Tensor:
        return state["stale"] if self.stale_eval else state["params"]

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        problem = self._catch_up(state, problem, network)
        code = problem.data.pixels
        assert code is not None
        images, counts = self._gather_sums(problem, network)
        found = self._leakage(images, counts, problem, network)
        at_mean, at_best = self._attack(self.estimate(state), problem, network).T
        numbers = {
            "privacy/leakage_total": float(found.by_node.sum()),
            "privacy/leakage": found.by_node.tolist(),
            "privacy/leakage_by_class": found.by_class.tolist(),
            "privacy/label_distance": found.label_distance.tolist(),
            "privacy/membership_accuracy": _mean_known(at_mean),
            "privacy/membership_accuracy_per_node": at_mean.tolist(),
            "privacy/membership_best_accuracy": _mean_known(at_best),
            "privacy/membership_best_accuracy_per_node": at_best.tolist(),
            "exchange/num_sent": counts[:, SENT].sum(axis=1).astype(int).tolist(),
            "exchange/train_sizes": counts[:, HELD].sum(axis=1).astype(int).tolist(),
        }
        sums = images.sum(axis=2).reshape(len(images), 3, *code.shape)
        return Report(
            numbers=numbers,
            arrays={"image_sums": sums, "label_counts": counts},
            figures={"mean_images": partial(mean_images, sums)},
        )

    def _gather_sums(self, problem: Classification, network: Network) -> tuple[FloatArray, FloatArray]:
        """Pixel sums of what every node was dealt, has sent and holds, [M, 3, C, P], and sample counts [M, 3, C]."""
        data, code = problem.data, problem.data.pixels
        assert code is not None
        images, counts = [], []
        for position, node in enumerate(network.nodes):
            inputs, labels = data.train.of(position)
            dealt = int(data.train_sizes[node])
            sent = torch.from_numpy(self.exchange.chosen_until(node, data.generation, dealt)).to(labels.device)
            pixels = code.pixels(inputs)
            for part in (slice(dealt), sent, slice(None)):
                sums, num = _sums_by_class(pixels[part], labels[part], data.num_classes)
                images.append(sums)
                counts.append(num)
        shape = (len(network.nodes), 3, data.num_classes)
        gathered = [network.gather(torch.stack(x).double().reshape(*shape, -1)).cpu() for x in (images, counts)]
        return gathered[0].numpy(), gathered[1].squeeze(-1).numpy()

    def _leakage(self, images: FloatArray, counts: FloatArray, problem: Classification, network: Network) -> Leakage:
        """What all exchanges together have leaked."""
        sizes, num_nodes = problem.data.train_sizes, network.num_nodes
        every = self.exchange_every or 0
        rounds = [network.graph.edges(index * every) for index in range(problem.data.generation)]
        codes = np.unique(np.concatenate([e.source * num_nodes + e.target for e in rounds]))
        source, target = np.divmod(codes, num_nodes)
        between = source != target
        # With a single exchange exactly the share ratio, as it is defined; more only if later ones sent other samples.
        further = counts[:, SENT].sum(axis=1) - self.exchange.num_sent(sizes)
        return measure(
            sent=images[:, SENT],
            held=images[:, HELD],
            sent_labels=counts[:, SENT],
            held_labels=counts[:, HELD],
            source=source[between],
            target=target[between],
            share_sent=self.share_ratio + further / np.maximum(sizes, 1),
            eps=self.leakage_eps,
        )

    def _attack(self, params: Tensor, problem: Classification, network: Network) -> FloatArray:
        """Accuracy of membership inference on every node's model, at the mean and at the best threshold, [M, 2]."""
        data, hparams = problem.data, problem.init_hparams()
        scores = params.new_full((len(params), 2), float("nan"), dtype=torch.float64)
        for position, node in enumerate(network.nodes):
            splits = [split.of(position) for split in (data.train, data.test)]
            rng = randomness.generator(self.seed, "membership", node)
            members, others = (labels.cpu().numpy() for _, labels in splits)
            losses = []
            for (inputs, labels), places in zip(splits, matched(members, others, rng), strict=True):
                at = torch.from_numpy(places).to(labels.device)
                found = problem.sample_losses(params[position], hparams[position], inputs[at], labels[at])
                losses.append(found.double().cpu().numpy())
            scores[position] = torch.tensor(attack_accuracy(*losses), dtype=torch.float64)
        return network.gather(scores).cpu().numpy()


DEALT, SENT, HELD = range(3)
"""What sums of images are of: the samples that a node was dealt, those that it has sent, those that it holds."""


def _sums_by_class(pixels: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Sums of the pixels [S, P] of every class [C, P], and how many samples they are of [C]; int64, exact."""
    members = [pixels[labels == label].sum(dim=0, dtype=torch.int64) for label in range(num_classes)]
    return torch.stack(members), torch.bincount(labels, minlength=num_classes)


def _mean_known(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
