"""The work of the comparison with decent-bench 0.3: DGD on a ring, one module for every agent."""

import sys
from importlib.metadata import version

import networkx as nx
import torch
from decent_array.types import Devices, Frameworks
from decent_bench.agents import Agent
from decent_bench.algorithms.p2p import DGD
from decent_bench.benchmark import configure
from decent_bench.costs import PyTorchCost
from decent_bench.networks import P2PNetwork

from scripts.peers.serve import serve

SAMPLES_PER_NODE, BATCH_SIZE, NUM_CLASSES, LR = 256, 32, 10, 0.01
NEVER = 10**9


def build(num_nodes: int) -> P2PNetwork:
    """A ring of agents with random images of MNIST's size and the MLP 784-128-10; no states are recorded."""
    draw = torch.Generator().manual_seed(0)
    agents = []
    for _ in range(num_nodes):
        inputs = torch.randn(SAMPLES_PER_NODE, 784, generator=draw)
        labels = torch.randint(NUM_CLASSES, (SAMPLES_PER_NODE,), generator=draw)
        model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, NUM_CLASSES))
        dataset = list(zip(inputs, labels, strict=True))
        cost = PyTorchCost(dataset, model, torch.nn.CrossEntropyLoss(), batch_size=BATCH_SIZE)
        agents.append(Agent(cost, state_snapshot_period=NEVER))
    return P2PNetwork(nx.cycle_graph(num_nodes), agents)


def main() -> None:
    """Serves steps of as many nodes as the command line says."""
    torch.set_num_threads(1)
    configure(Frameworks.PYTORCH, Devices.CPU, seed=0)
    network = build(int(sys.argv[1]))
    serve(version("decent-bench"), lambda steps: DGD(step_size=LR).run(network, steps))


if __name__ == "__main__":
    main()
