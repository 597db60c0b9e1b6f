"""pFedHN for nodes that join late: they learn only an embedding, while the hypernetwork is frozen.

Update equations: pFedHN (see pfedhn.py) without the last ``num_novel_nodes`` nodes with training samples. Then, with
phi frozen, ``novel_rounds`` rounds in which each of them takes part on its own account,
    G_i = (d theta_i / d v_i)^T Delta_i,   G_i <- G_i min(1, outer_clip / ||G_i||),
and the hub's optimizer takes a step along G_i, with the learning rate of embeddings and a state that starts from 0.
Compared are each late node's test accuracy with the mean of those trained with, and the total-variation distance
1/2 sum_c |p_c - q_c| between its classes and those of the nearest of them.
Needs: as pFedHN.
Sends: as pFedHN; in the rounds of late nodes D numbers down and D up for each, under the phase ``novel``: the last
``comm/bytes`` contains them, and ``comm/bytes_novel`` is they alone. The curves and all metrics that do not begin with
``novel`` are those of the nodes that were trained with.
Source: A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021 (arXiv 2103.04628), the
study of generalization to novel clients.
Departures: no code of that study is published; all late nodes take part in every round, since they do not touch each
other. Partitions with nodes of both kinds: partition=class_mixture.

Shapes: M all nodes, n late ones, C classes, d columns of an embedding.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State
from simulator.algorithms.hypernetworks.hub_round import HubRound
from simulator.algorithms.hypernetworks.local_sgd import clip_rows_
from simulator.algorithms.hypernetworks.model_generator import init_embeddings
from simulator.algorithms.hypernetworks.pfedhn import HUB_ROW, PFedHN
from simulator.arrays import FloatArray, IntArray
from simulator.checks import require_positive
from simulator.figures.novel_nodes import gap_against_distance
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.uploads import upload


@dataclass(frozen=True, kw_only=True)
class PFedHNNovel(PFedHN):
    """pFedHN, and late nodes at its end; further arguments as :class:`PFedHN`.

    Args:
        num_novel_nodes: nodes that come late, the last ones with training samples.
        novel_rounds: in which they learn their embeddings.
    """

    num_novel_nodes: int
    novel_rounds: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("algorithm.num_novel_nodes", self.num_novel_nodes)
        require_positive("algorithm.novel_rounds", self.novel_rounds)

    def members(self, problem: Problem) -> IntArray:
        everybody = super().members(problem)
        if self.num_novel_nodes >= len(everybody):
            raise ValueError(
                f"algorithm.num_novel_nodes={self.num_novel_nodes}: only {len(everybody)} nodes have training samples, "
                "and the hypernetwork must learn from one of them at least"
            )
        return everybody[: -self.num_novel_nodes]

    def evaluated_nodes(self, problem: Problem) -> IntArray:
        return self.members(problem)

    def novel_nodes(self, problem: Problem) -> IntArray:
        """The nodes that come late, ascending, [n]."""
        return super().members(problem)[-self.num_novel_nodes :]

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        base = super().report(state, step, problem, network)
        members, novel = self.members(problem), self.novel_nodes(problem)
        with network.phase("novel"):
            embeddings = self.learn_embeddings(state, novel, step + 1, problem, network)
        trainer = self.trainer(problem)
        hub, models = self.hub_learner(state, trainer), self.no_models(state, trainer)
        if hub is not None:
            everybody = torch.zeros(network.num_nodes, embeddings.shape[1]).to(embeddings)
            everybody[torch.from_numpy(members)] = hub.embeddings
            everybody[torch.from_numpy(novel)] = embeddings
            models = trainer.generate(replace(hub, embeddings=everybody)).models
        scores = problem.evaluate(network.scatter(models), problem.init_hparams())
        accuracy = network.gather(scores["test/accuracy"].double()).cpu().numpy()
        label_counts = problem.facts().label_counts
        assert label_counts is not None
        distances = total_variation(label_counts[novel], label_counts[members])
        trained_mean = float(np.nanmean(accuracy[members]))
        gaps = trained_mean - accuracy[novel]
        numbers = {
            **base.numbers,
            "trained/accuracy": trained_mean,
            "novel/accuracy": float(np.nanmean(accuracy[novel])),
            "novel/gap": float(np.nanmean(gaps)),
            "novel/nodes": novel.tolist(),
            "novel/accuracy_per_node": accuracy[novel].tolist(),
            "novel/total_variation_per_node": distances.min(axis=1).tolist(),
            "novel/nearest_per_node": members[distances.argmin(axis=1)].tolist(),
        }
        figures = {"novel_nodes": partial(gap_against_distance, distances.min(axis=1), gaps)}
        arrays = {**base.arrays, "novel_embeddings": embeddings.double().cpu().numpy()}
        return Report(numbers=numbers, arrays=arrays, figures={**base.figures, **figures})

    def learn_embeddings(
        self, state: State, nodes: IntArray, first_step: int, problem: Problem, network: Network
    ) -> Tensor:
        """Learns embeddings of ``nodes`` [n] with the hypernetwork as it is; [n, d] at the hub, [0, d] elsewhere."""
        trainer = self.trainer(problem)
        embeddings = init_embeddings(nodes, trainer.generator.hypernetwork.embedding_dim, self.seed).to(state[HUB_ROW])
        hub = self.hub_learner(state, trainer)
        if hub is None:
            embeddings = embeddings[:0]
        slots = {slot: torch.zeros_like(embeddings) for slot in trainer.optimizer.slots}
        for index in range(self.novel_rounds):
            round_ = HubRound(nodes, first_step + index, network)
            generated = None if hub is None else trainer.generate(replace(hub, embeddings=embeddings))
            models = round_.down(self.no_models(state, trainer) if generated is None else generated.models)
            deltas = round_.up(self.local_sgd.train(models, round_.local_positions, first_step + index, problem))
            if generated is not None:
                places = upload(np.searchsorted(nodes, round_.senders), network.device)
                along = torch.zeros_like(embeddings)
                along[places] = trainer.generator.pull_back(generated, places, deltas)[1]
                clip_rows_(along, self.outer_clip)
                trainer.optimizer.update_(embeddings, along, slots, trainer.embedding_lr, index + 1)
        return embeddings


def total_variation(some: IntArray, others: IntArray) -> FloatArray:
    """Distances [n, m] between the classes of nodes whose samples are counted in rows [n, C] and [m, C]."""
    p, q = (counts / counts.sum(axis=1, keepdims=True) for counts in (some, others))
    distances: FloatArray = np.abs(p[:, None] - q[None]).sum(axis=2) / 2
    return distances
