"""Linear regression with fresh label noise: moments of its gradients, loss and minimiser, draws by node and step."""

import numpy as np
import pytest
import torch

from simulator.problems.base import Setting
from simulator.problems.noisy_regression import NoisyRegression

SIZES = {"num_samples": 6, "num_features": 3, "noise": 0.7, "batch_size": 1}


def make(nodes=range(4), num_nodes=4, seed=0, **changes):
    problem = NoisyRegression(**{**SIZES, **changes})
    setting = Setting(nodes=nodes, num_nodes=num_nodes, seed=seed, dtype=torch.float64, device=torch.device("cpu"))
    problem.setup(setting)
    return problem


def gradients(problem, x, steps):
    """Of all nodes at one x, [steps, N, D]."""
    params = torch.tensor(x, dtype=torch.float64).repeat(len(problem.init_params()), 1)
    return torch.stack([problem.grad(params, problem.init_hparams(), step) for step in range(steps)]).numpy()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_gradients_have_the_moments_of_uniform_samples_and_fresh_noise(batch_size):
    """Mean and covariance over the 6 samples and the noise, by enumeration; five standard errors of 40,000 draws."""
    x, problem = np.array([0.5, -1.0, 0.3, 0.2]), make(range(200), 200, batch_size=batch_size)
    inputs, labels = problem.inputs.numpy(), problem.labels.numpy()
    residuals = inputs @ x - labels
    mean = 2 * residuals @ inputs / 6
    second = 4 * np.einsum("k,ki,kj->ij", residuals**2 + 0.7**2, inputs, inputs) / 6
    covariance = (second - np.outer(mean, mean)) / batch_size
    found = gradients(problem, x, 200).reshape(-1, 4)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - mean), 5 * np.sqrt(covariance.diagonal() / len(found)))
    products = np.einsum("tk,tl->tkl", found - mean, found - mean)
    np.testing.assert_array_less(
        np.abs(products.mean(axis=0) - covariance), 5 * products.std(axis=0) / np.sqrt(len(found))
    )
    full = problem.grad(torch.from_numpy(np.tile(x, (200, 1))), problem.init_hparams(), None)
    np.testing.assert_allclose(full[7].numpy(), mean, rtol=1e-12)


def test_the_loss_is_that_of_noisy_labels_and_smallest_at_the_true_weights():
    problem = make(num_samples=40)
    inputs, labels = problem.inputs.numpy(), problem.labels.numpy()
    true, *_ = np.linalg.lstsq(inputs, labels, rcond=None)
    assert abs(true[-1]) < 1e-12
    params = torch.from_numpy(np.stack([true, true + 0.1, 0 * true, true - 0.2]))
    found = problem.evaluate(params, problem.init_hparams())["train/loss"].numpy()
    expected = [((inputs @ row - labels) ** 2).mean() + 0.7**2 for row in params.numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0] == pytest.approx(0.49)
    assert problem.init_params().abs().max() == 0


def test_nodes_and_steps_and_copies_have_draws_of_their_own_and_share_the_samples():
    x = [1.0, 1.0, 1.0, 1.0]
    found = gradients(make(), x, 5)
    assert len(np.unique(found.reshape(20, 4), axis=0)) == 20
    np.testing.assert_array_equal(gradients(make(range(1, 3)), x, 5), found[:, 1:3])
    assert not np.isclose(gradients(make(seed=1), x, 5), found).any()
    copies = gradients(make().replicate([0, 2]), x, 3)
    np.testing.assert_array_equal(copies[:, 0::2], found[:3])
    np.testing.assert_array_equal(copies[:, 1::2], gradients(make(range(8, 12), 12), x, 3))


def test_gradients_may_be_added_to_the_parameters_themselves():
    problem = make(batch_size=5)
    params = torch.arange(16, dtype=torch.float64).reshape(4, 4)
    for step in (2, None):
        expected = params - 0.1 * problem.grad(params, problem.init_hparams(), step)
        moved = params.clone()
        problem.add_grad_(moved, moved, problem.init_hparams(), step, -0.1)
        torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "problem.num_samples=0: expected an integer of at least 1"),
        ({"num_features": 0}, "problem.num_features=0"),
        ({"batch_size": 0}, "problem.batch_size=0"),
        ({"noise": -1.0}, "problem.noise=-1.0: expected a number of at least 0"),
    ],
)
def test_bad_settings_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        NoisyRegression(**{**SIZES, **changes})
    assert "\n" not in str(error.value)
