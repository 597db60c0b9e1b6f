"""Times a round of pFedHN with several nodes against the same work for one node at a time, and prints the ratio.

The plain way is a re-implementation of the authors' program (https://github.com/AvivSham/pFedHN): for node after node
the hypernetwork's forward pass, local SGD with a freshly shuffled loader for every minibatch, the vector-Jacobian
product by autograd, and a step of the hub's optimizer. It is timed twice: with images that are decoded and normalised
at every use, as in the authors' program, and with images stored as tensors. All are measured in turn in one run:

    python scripts/benchmark_hypernetwork.py --processes 2
    python scripts/benchmark_hypernetwork.py --model mlp --inner-steps 10

Where convolutions of large batches take most of the time, as with LeNet, both ways do the same arithmetic on the same
cores, and the ratio only shows the gain from layout, loading and further processes. Otherwise it is much larger.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from simulator.memory import keep_memory  # noqa: E402

keep_memory()  # as launch.py does

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from simulator import config  # noqa: E402
from simulator.data.base import Dataset, NodeIndices, Partition, Samples  # noqa: E402
from simulator.devices import Compute  # noqa: E402
from simulator.local_processes import run_local  # noqa: E402
from simulator.models.cnn_mnist3 import CnnMnist3  # noqa: E402
from simulator.models.lenet import LeNet  # noqa: E402
from simulator.models.mlp import MLP  # noqa: E402
from simulator.process_group import process_group  # noqa: E402
from simulator.simulation import Simulation  # noqa: E402
from simulator.world import World  # noqa: E402

NUM_CLASSES, BATCH_SIZE, SAMPLES_PER_NODE = 10, 64, 800
MEAN, STD = 0.5, 0.2
TARGET = 5.0


@dataclass(frozen=True)
class Target:
    """The model that the hypernetwork generates, the shape of its images, and the hypernetwork's depth."""

    build: Callable[..., nn.Module]
    shape: tuple[int, int, int]
    num_hidden: int


TARGETS = {
    "lenet": Target(partial(LeNet, num_kernels=16), (3, 32, 32), 3),
    "cnn_mnist3": Target(partial(CnnMnist3, num_kernels=7), (1, 28, 28), 1),
    "mlp": Target(partial(MLP, hidden=[100]), (1, 28, 28), 1),
}


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of the paper, but for ``nodes`` of a round and ``inner_steps``."""

    nodes: int
    inner_steps: int
    inner_lr: float = 5e-3
    outer_lr: float = 1e-2
    hidden_width: int = 100


@dataclass(frozen=True)
class RandomImages(Dataset):
    """A dataset of random images, made per node; node 0, the hub, has none."""

    num_nodes: int
    shape: tuple[int, int, int]

    def load(self) -> Samples:
        draw = torch.Generator().manual_seed(0)
        num_samples = (self.num_nodes - 1) * SAMPLES_PER_NODE
        nothing = np.zeros(0, dtype=np.int64)
        rows = [nothing, *np.arange(num_samples).reshape(-1, SAMPLES_PER_NODE)]
        return Samples(
            inputs=torch.randint(256, (num_samples, *self.shape), generator=draw, dtype=torch.uint8),
            labels=torch.randint(NUM_CLASSES, (num_samples,), generator=draw),
            num_classes=NUM_CLASSES,
            num_train=num_samples,
            mean=(MEAN,) * self.shape[0],
            std=(STD,) * self.shape[0],
            node_indices=tuple(NodeIndices(train, nothing, nothing) for train in rows),
        )


class AsHeld(Partition):
    """Gives every node the samples that the dataset made for it."""

    skip_hub = True

    def split(self, samples: Samples, num_nodes: int) -> tuple[NodeIndices, ...]:
        assert samples.node_indices is not None
        return samples.node_indices


class Ours:
    """A round of the simulator with all nodes that have data."""

    def __init__(self, target: Target, settings: Settings, compute: str, world: World = World()) -> None:  # noqa: B008
        num_nodes = settings.nodes + 1
        composed = config.compose(
            [
                *("algorithm=pfedhn", "graph=star", f"num_nodes={num_nodes}", "device=cpu", f"compute={compute}"),
                *(f"problem.batch_size={BATCH_SIZE}", "problem.weight_decay=0.0", "problem.sampling=uniform"),
                *(f"algorithm.nodes_per_round={settings.nodes}", f"algorithm.inner_steps={settings.inner_steps}"),
                *(f"algorithm.inner_lr={settings.inner_lr}", f"algorithm.outer_lr={settings.outer_lr}"),
                *(f"algorithm.hidden_width={settings.hidden_width}", f"algorithm.num_hidden={target.num_hidden}"),
            ]
        )
        components = replace(
            config.build(composed),
            dataset=RandomImages(num_nodes, target.shape),
            partition=AsHeld(),
            build_model=target.build,
        )
        self.simulation = Simulation.build(composed, world, components=components)
        self.problem, self.network = self.simulation.problem, self.simulation.network
        self.state = self.simulation.init()
        self.done = 0

    def round(self) -> None:
        self.state = self.simulation.step(self.state, self.done)
        self.done += 1


class PlainHypernetwork(nn.Module):
    """Embeddings, a trunk, and a head for every tensor of the target."""

    def __init__(self, num_nodes: int, hidden: int, num_hidden: int, shapes: Sequence[torch.Size]) -> None:
        super().__init__()
        dim = int(1 + num_nodes / 4)
        self.embeddings = nn.Embedding(num_nodes, dim)
        layers: list[nn.Module] = [nn.Linear(dim, hidden)]
        for _ in range(num_hidden):
            layers += [nn.ReLU(), nn.Linear(hidden, hidden)]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(hidden, shape.numel()) for shape in shapes)
        self.shapes = shapes

    def forward(self, node: Tensor) -> list[Tensor]:
        features = self.trunk(self.embeddings(node))
        return [head(features).view(shape) for head, shape in zip(self.heads, self.shapes, strict=True)]


class Images(torch.utils.data.Dataset[Any]):
    """One node's images, decoded where they are used or once."""

    def __init__(self, inputs: Tensor, labels: Tensor, *, decoded: bool) -> None:
        from torchvision import transforms

        channels = inputs.shape[1]
        steps = [transforms.ToTensor(), transforms.Normalize((MEAN,) * channels, (STD,) * channels)]
        self.transform = transforms.Compose(steps)
        self.labels = labels.tolist()
        self.arrays = inputs.permute(0, 2, 3, 1).squeeze(-1).numpy()
        self.ready = [self.read(i) for i in range(len(labels))] if decoded else None

    def read(self, index: int) -> Tensor:
        from PIL import Image

        image = self.transform(Image.fromarray(self.arrays[index]))
        assert isinstance(image, Tensor)
        return image

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(index) if self.ready is None else self.ready[index], self.labels[index]


class Plain:
    """One node after the other."""

    def __init__(self, target: Target, settings: Settings, *, decoded: bool) -> None:
        self.settings = settings
        self.net = target.build(input_shape=target.shape, num_classes=NUM_CLASSES)
        shapes = [parameter.shape for parameter in self.net.parameters()]
        self.hypernetwork = PlainHypernetwork(settings.nodes, settings.hidden_width, target.num_hidden, shapes)
        self.optimizer = torch.optim.SGD(
            self.hypernetwork.parameters(), lr=settings.outer_lr, momentum=0.9, weight_decay=1e-3
        )
        samples = RandomImages(settings.nodes + 1, target.shape).load()
        parts = zip(samples.inputs.split(SAMPLES_PER_NODE), samples.labels.split(SAMPLES_PER_NODE), strict=True)
        self.loaders = [
            torch.utils.data.DataLoader(Images(*part, decoded=decoded), batch_size=BATCH_SIZE, shuffle=True)
            for part in parts
        ]

    def node(self, node: int) -> None:
        """A round with one node."""
        made = self.hypernetwork(torch.tensor(node))
        parameters = list(self.net.parameters())
        for parameter, value in zip(parameters, made, strict=True):
            parameter.data = value.detach().clone()
        optimizer = torch.optim.SGD(parameters, lr=self.settings.inner_lr, momentum=0.9, weight_decay=5e-5)
        for _ in range(self.settings.inner_steps):
            inputs, labels = next(iter(self.loaders[node]))
            optimizer.zero_grad()
            F.cross_entropy(self.net(inputs), labels).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 50.0)
            optimizer.step()
        deltas = [value.detach() - parameter.data for value, parameter in zip(made, parameters, strict=True)]
        self.optimizer.zero_grad()
        everything = list(self.hypernetwork.parameters())
        gradients = torch.autograd.grad(made, everything, grad_outputs=deltas)
        for parameter, gradient in zip(everything, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(everything, 50.0)
        self.optimizer.step()

    def round(self) -> None:
        for node in range(self.settings.nodes):
            self.node(node)


CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}


def measure(
    target: Target, settings: Settings, repetitions: int, compute: str, clock: str, world: World, store: Any
) -> None:
    """Times everything in turn on the processes of ``world``; rank 0 prints. A round takes as long as the last one."""
    torch.set_num_threads(1)
    with process_group(world, store, Compute(torch.device("cpu"), "gloo", ""), 600.0):
        ours = Ours(target, settings, compute, world)
        contenders: dict[str, Callable[[], None]] = {}
        if world.rank == 0:
            contenders["one by one, images decoded at each use"] = Plain(target, settings, decoded=False).round
            contenders["one by one, images ready"] = Plain(target, settings, decoded=True).round
        times: dict[str, list[float]] = {}
        for _ in range(repetitions + 1):
            for name, run in contenders.items():
                times.setdefault(name, []).append(_nanoseconds(run, clock) / 1e9)
            ours.network.barrier()
            (slowest,) = ours.network.agree([_nanoseconds(ours.round, clock)])
            times.setdefault("simulator", []).append(slowest / 1e9)
        if world.rank > 0:
            return
        # The first repetition warms up.
        medians = {name: statistics.median(values[1:]) for name, values in times.items()}
        chosen = ours.simulation.choices["first_order"]
        where = f"simulator on {world.world_size} process(es), compute={chosen}, {clock} clock"
        print(f"{settings.nodes} nodes, {settings.inner_steps} local steps, {where}")
        for name, median in medians.items():
            ratio = median / medians["simulator"]
            verdict = "" if name == "simulator" else f"  {ratio:5.2f} times the simulator (target {TARGET:g})"
            print(f"  {name:40s} {median:8.3f} s per round{verdict}")


def _nanoseconds(run: Callable[[], None], clock: str) -> int:
    start = CLOCKS[clock]()
    run()
    return CLOCKS[clock]() - start


@dataclass
class Arguments(argparse.Namespace):
    """The command line."""

    model: str = "lenet"
    nodes: int = 10
    inner_steps: int = 50
    processes: int = 1
    repetitions: int = 3
    compute: str = "auto"
    clock: str = "wall"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Times a round of pFedHN against one node at a time.")
    parser.add_argument("--model", choices=sorted(TARGETS), default="lenet", help="target of the hypernetwork")
    parser.add_argument("--nodes", type=int, default=10, help="nodes of a round (default 10)")
    parser.add_argument("--inner-steps", type=int, default=50, help="minibatches per node and round (default 50)")
    parser.add_argument("--processes", type=int, default=1, help="of the simulator (default 1)")
    parser.add_argument("--repetitions", type=int, default=3, help="rounds that are timed (default 3)")
    parser.add_argument("--compute", default="auto", help="auto, loop, vmap, chunked or batched (default auto)")
    parser.add_argument(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: processor time, on a machine with other work"
    )
    arguments = parser.parse_args(namespace=Arguments())
    settings = Settings(arguments.nodes, arguments.inner_steps)
    body = partial(
        measure, TARGETS[arguments.model], settings, arguments.repetitions, arguments.compute, arguments.clock
    )
    if arguments.processes == 1:
        body(World(), None)
    else:
        run_local(arguments.processes, body)


if __name__ == "__main__":
    main()
