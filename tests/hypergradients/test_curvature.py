"""The power iteration against NumPy's eigenvalues, whatever the signs of the curvatures."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from simulator.graphs.self_loop import SelfLoop
from simulator.hypergradients.curvature import largest_curvature
from simulator.network.network import Network
from simulator.placement import Placement

NUM_NODES, DIM = 3, 12

pytestmark = pytest.mark.usefixtures("one_thread")


class Bent:
    """Nodes with given Hessians [N, D, D]; counts the products."""

    def __init__(self, hessians):
        self.hessians, self.count = torch.from_numpy(hessians), 0

    def uncounted(self):
        return nullcontext()

    def hvp(self, params, hparams, vector, step):
        assert step is None
        assert vector.shape == params.shape
        self.count += 1
        return torch.einsum("nde,ne->nd", self.hessians.to(vector), vector)


def hessians_with(eigenvalues, seed=0):
    """Unlike symmetric matrices [N, D, D] whose mean has these eigenvalues."""
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.standard_normal((DIM, DIM)))
    apart = random.standard_normal((NUM_NODES, DIM, DIM))
    apart -= apart.mean(axis=0)
    return basis @ np.diag(eigenvalues) @ basis.T + apart + apart.transpose(0, 2, 1)


def estimate(hessians, dtype=torch.float64, **options):
    problem = Bent(hessians)
    params = torch.ones(NUM_NODES, DIM, dtype=dtype)
    network = Network(SelfLoop(num_nodes=NUM_NODES), Placement(NUM_NODES), torch.device("cpu"))
    return largest_curvature(problem, network, params, params[:, :1], **options), problem.count


SPECTRA = {
    "positive": [120.0, 80.0, 40.0, *np.linspace(0.1, 5, DIM - 3)],
    "close together": [10.0, 9.9, *np.linspace(0.1, 5, DIM - 2)],
    "the largest modulus is negative": [-9.0, 4.0, *np.linspace(-1, 1, DIM - 2)],
    "equal moduli": [7.0, -7.0, *np.linspace(-1, 1, DIM - 2)],
    "all negative": np.linspace(-6, -2, DIM),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_equals_the_largest_eigenvalue_of_the_mean(name):
    hessians = hessians_with(SPECTRA[name])
    largest = np.linalg.eigvalsh(hessians.mean(axis=0))[-1]
    assert largest == pytest.approx(max(SPECTRA[name]), rel=1e-10)
    found, count = estimate(hessians)
    assert found == pytest.approx(largest, rel=5e-3)
    assert count <= 400
    closer, _ = estimate(hessians, tolerance=1e-14, max_iterations=5000)
    assert closer == pytest.approx(largest, rel=1e-6)


def test_single_precision_stops_as_well():
    found, count = estimate(hessians_with(SPECTRA["positive"]), torch.float32)
    assert found == pytest.approx(120, rel=1e-3)
    assert count < 60


def test_no_curvature_is_zero():
    assert estimate(np.zeros((NUM_NODES, DIM, DIM)))[0] == 0
