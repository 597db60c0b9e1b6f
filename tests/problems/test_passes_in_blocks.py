"""Passes over all samples of a node that are no scores: in blocks, with the numbers of one pass."""

import pytest
import torch

from simulator.compute.executors import LoopExecutor
from simulator.problems import classification, mixture_weights


@pytest.mark.parametrize("name", ["responsibilities", "sample_losses"])
def test_a_pass_takes_a_block_of_samples_at_a_time(make, point, monkeypatch, name):
    problem = make("mixture_weights")
    params, hparams, _ = point(problem)

    def passed():
        if name == "responsibilities":
            return problem.responsibilities(params, hparams)
        return problem.sample_losses(params[1], hparams[1], *problem.data.train.of(1))

    counts, logits = [], LoopExecutor.logits
    monkeypatch.setattr(LoopExecutor, "logits", lambda self, row, x: counts.append(len(x)) or logits(self, row, x))
    at_once = passed()
    assert max(counts) > 3
    for module in (classification, mixture_weights):
        monkeypatch.setattr(module, "EVALUATION_BLOCK", 3)
    counts.clear()
    torch.testing.assert_close(passed(), at_once, rtol=1e-12, atol=1e-12)
    assert max(counts) == 3
