"""The benchmark of hypernetworks: both ways start from and do the same work, and it prints its ratios."""

import pytest
import torch

from scripts.benchmark_hypernetwork import TARGETS, Ours, Plain, Settings, measure
from simulator.processes import World

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow  # imports torchvision
def test_both_ways_have_the_same_sizes_and_images():
    target, settings = TARGETS["cnn_mnist3"], Settings(nodes=3, inner_steps=1)
    ours = Ours(target, settings, "loop")
    plains = [Plain(target, settings, decoded=decoded) for decoded in (False, True)]
    num_params = sum(parameter.numel() for parameter in plains[0].hypernetwork.parameters())
    assert num_params == ours.state["hub/hypernetwork"].numel() + ours.state["hub/embeddings"].numel()
    split = ours.problem.data.train
    for plain in plains:
        for node, loader in enumerate(plain.loaders):
            image, label = loader.dataset[5]
            place = int(split.offsets[node + 1]) + 5
            torch.testing.assert_close(image, split.inputs[place])
            assert label == split.labels[place]
    before = [parameter.detach().clone() for parameter in plains[0].hypernetwork.parameters()]
    plains[0].round()
    moved = [not torch.equal(a, b) for a, b in zip(before, plains[0].hypernetwork.parameters(), strict=True)]
    assert all(moved)


def test_it_prints_how_many_times_faster(capsys):
    measure(TARGETS["mlp"], Settings(nodes=2, inner_steps=1), 1, "batched", "wall", World(), None)
    printed = capsys.readouterr().out
    assert "2 nodes, 1 local steps, simulator on 1 process(es), compute=batched, wall clock" in printed
    assert printed.count("times the simulator (target 5)") == 2
