"""Training samples that nodes send to their neighbours: who sends which, and what a node keeps.

Update equations, in exchange k, which follows the edges of one round:
    T_i = m_i of node i's own samples, drawn uniformly without replacement, m_i = floor(share_ratio n_i),
    data_i <- data_i united with T_j for every in-neighbour j,
with n_i the number of samples that node i was dealt. All neighbours get the same T_i; what a node has received is not
passed on. A sample is known by its content, pixels and label: numbers of samples mean nothing to other nodes and would
be bytes on the wire.
Needs: a problem whose samples are images of 8 bits.
Sends: (pixels + 1) bytes per sample, (pixels + 1) m_i on every edge that leaves node i; how many samples come is known.
Source: a course project on decentralized learning with data exchange.
Departures: the original knows samples by their number in the dataset and thus also unites samples of one content but
different numbers; m_i is each node's own where the numbers of samples differ.

Shapes: N local nodes, M all nodes, P pixels of an image.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.arrays import IntArray
from simulator.network.network import Network
from simulator.problems.classification import Classification


@dataclass(frozen=True, kw_only=True)
class SampleExchange:
    """Who sends which samples; a pure function of the seed, the node and the exchange.

    Args:
        share_ratio: share of its own samples that a node sends to each neighbour, in [0, 1].
        seed: of the draws.
    """

    share_ratio: float
    seed: int

    def num_sent(self, sizes: IntArray) -> IntArray:
        """m_i for nodes that were dealt so many samples, of the same shape."""
        # The small number undoes the rounding of products such as 0.29 * 100.
        counts: IntArray = np.floor(self.share_ratio * sizes + 1e-9).astype(np.int64)
        return counts

    def chosen(self, node: int, index: int, size: int) -> IntArray:
        """T_i of exchange ``index`` as positions among the ``size`` samples that ``node`` was dealt, ascending."""
        count = int(self.num_sent(np.array(size)))
        positions = randomness.generator(self.seed, "exchange", node, index).choice(size, count, replace=False)
        return np.sort(positions)

    def chosen_until(self, node: int, num_exchanges: int, size: int) -> IntArray:
        """All positions that ``node`` has sent in its first exchanges, ascending."""
        sent = [self.chosen(node, index, size) for index in range(num_exchanges)]
        return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *sent]))

    def bring_to(self, num_exchanges: int, every: int, problem: Classification, network: Network) -> None:
        """Gives the nodes what they hold after so many exchanges, if they do not hold it yet.

        So it is in a resumed run: the samples are sent once more, because checkpoints have none, and are not counted.
        """
        if problem.data.generation > num_exchanges:
            self.undo(problem, network)
        with network.uncounted():
            for index in range(problem.data.generation, num_exchanges):
                self.carry_out(index, index * every, problem, network)

    def undo(self, problem: Classification, network: Network) -> None:
        """Leaves every node the samples that it was dealt, which stand before those that it has received."""
        dealt = problem.data.train_sizes[network.nodes.start : network.nodes.stop]
        problem.use_train(replace(problem.data.train, sizes=dealt), 0, None)

    def carry_out(self, index: int, step: int, problem: Classification, network: Network) -> None:
        """Sends the samples of exchange ``index`` along the edges of round ``step``; all nodes keep what is new."""
        train, code, sizes = problem.data.train, problem.data.pixels, problem.data.train_sizes
        assert code is not None
        plan, counts = network.link_plan(step), self.num_sent(sizes)
        packed = {}
        for position, node in enumerate(network.nodes):
            inputs, labels = train.of(position)
            chosen = torch.from_numpy(self.chosen(node, index, int(sizes[node]))).to(labels.device)
            packed[node] = code.pack(inputs[chosen], labels[chosen])
        nothing = packed[network.nodes.start][:0]
        rows = torch.cat([nothing, *(packed[node] for node in plan.out_source.tolist())])
        arrived, arriving = network.deliver_many(rows, counts[plan.out_source], step, plan, known=counts)
        # Messages come in the order of the nodes that they are for.
        per_node = np.bincount(plan.in_target - network.nodes.start, arriving, len(network.nodes)).astype(np.int64)
        further = []
        for position, received in enumerate(arrived.split(per_node.tolist())):
            new = unseen(code.pack(*train.of(position)), received)
            further.append(code.unpack(received[torch.from_numpy(new).to(received.device)], train.inputs.dtype))
        extended = train.extend(further)
        held = network.gather(torch.from_numpy(extended.sizes).to(train.inputs.device)).cpu().numpy()
        problem.use_train(extended, index + 1, held)


def unseen(held: Tensor, received: Tensor) -> IntArray:
    """Where in ``received`` rows stand that are not among ``held`` and not further up; both uint8 [S, P + 1]."""
    seen = set(map(bytes, held.cpu().numpy()))
    places = []
    for place, row in enumerate(map(bytes, received.cpu().numpy())):
        if row not in seen:
            seen.add(row)
            places.append(place)
    return np.array(places, dtype=np.int64)
