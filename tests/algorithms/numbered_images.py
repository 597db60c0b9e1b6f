"""Images that carry their number, so that tests can tell who holds which sample."""

import numpy as np
import torch

from simulator.algorithms.exchange.data_exchange import DataExchange
from simulator.data.base import Dataset, Samples
from simulator.data.partitions.digit_shards import DigitShards
from simulator.graphs.exchange_tree import ExchangeTree
from simulator.models.logistic_regression import LogisticRegression
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.classification import Classification

CLASS_SIZES = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
"""Of the training set of MNIST."""
SIDE = 3
PIXELS = SIDE * SIDE
NUM_NODES = 5


class Numbered(Dataset):
    """Two pixels of an image are its number, the others random; labels in random order, test samples last."""

    def __init__(self, class_sizes, num_test=40):
        rng = np.random.default_rng(0)
        num_train = sum(class_sizes)
        labels = rng.permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))
        self.labels = np.concatenate([labels, np.arange(num_test) % len(class_sizes)])
        count = num_train + num_test
        self.images = rng.integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)
        self.images[:, 0, 0, 0], self.images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
        self.num_train, self.num_classes = num_train, len(class_sizes)

    def load(self):
        return Samples(
            torch.from_numpy(self.images),
            torch.from_numpy(self.labels),
            num_classes=self.num_classes,
            num_train=self.num_train,
            mean=(0.3,),
            std=(0.7,),
        )


def shards(digits_per_node, dataset):
    """The numbers of the training samples that every node is dealt."""
    partition = DigitShards(
        digits_per_node=digits_per_node, valid_fraction=0.0, test_fraction=0.0, test="shared", skip_hub=False, seed=0
    )
    return partition, [node.train for node in partition.split(dataset.load(), NUM_NODES)]


def make_problem(dataset, partition, batch_size=4, dtype=torch.float64):
    problem = Classification(batch_size=batch_size, drop_last=False, weight_decay=0.0, outer_split="train")
    problem.setup(
        Setting(
            nodes=range(NUM_NODES),
            num_nodes=NUM_NODES,
            seed=1,
            dtype=dtype,
            device=torch.device("cpu"),
            dataset=dataset,
            partition=partition,
            build_model=LogisticRegression,
            compute="loop",
        )
    )
    return problem


def make_network(graph=None):
    return Network(graph or ExchangeTree(num_nodes=NUM_NODES), Placement(NUM_NODES), torch.device("cpu"))


def make_algorithm(**changes):
    settings = {
        "share_ratio": 0.2,
        "exchange_every": None,
        "mixer": "uniform",
        "stale_eval": False,
        "lr": 0.1,
        "momentum": 0.5,
        "local_epochs": 2,
        "leakage_eps": 1e-5,
        "seed": 4,
    }
    return DataExchange(**{**settings, **changes})


def run(algorithm, problem, network, num_steps):
    state = algorithm.init(problem, network)
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
    return state


def numbers_held(problem, node):
    """The numbers of a node's training samples, in order."""
    pixels = problem.data.pixels.pixels(problem.data.train.of(node)[0]).long().numpy()
    return pixels[:, 0] + 256 * pixels[:, 1]
