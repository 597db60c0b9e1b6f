"""The toy of coefficient tuning: checksums, stationarity of its reference solutions, finite differences of Phi."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from simulator.problems.base import Setting
from simulator.problems.coefficient_toy import CoefficientToy


def make(nodes=range(8), num_nodes=8, **changes):
    arguments = {
        "batch_size": None,
        "drop_last": False,
        "regularization": 0.1,
        "outer_regularization": 0.003,
        "heterogeneity": 0.8,
        "penalty": 100.0,
        "data_seed": 11,
        **changes,
    }
    problem = CoefficientToy(**arguments)
    problem.setup(Setting(nodes=nodes, num_nodes=num_nodes, seed=0, dtype=torch.float64, device=torch.device("cpu")))
    return problem


@pytest.fixture(scope="module")
def toy():
    return make()


def test_the_instance_has_the_known_sums_and_labels(toy):
    train, valid = toy.data.train, toy.data.valid
    assert train.inputs.sum().item() == pytest.approx(-69.05709690865, abs=1e-11)
    assert valid.inputs.sum().item() == pytest.approx(-44.98943010218, abs=1e-11)
    assert np.bincount(train.labels).tolist() == [22, 27, 15]
    assert np.bincount(valid.labels).tolist() == [24, 20, 20]
    assert train.inputs.shape == (64, 12)
    np.testing.assert_array_equal(toy.data.label_counts.sum(0), [22, 27, 15])


def gradients(problem, params, hparams):
    return [part.mean(0) for part in problem.inner_grads(params, hparams, None)]


def test_inner_solutions_are_where_the_nodes_gradients_cancel(toy):
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (8, 12)))
    y = toy.inner_optimum(x)
    for row in (0, 1, 7):
        every = [rows[row].expand(8, -1).contiguous() for rows in (y, x)]
        assert toy.grad(*every, None).mean(0).abs().max() < 1e-12
        z = toy._minimise(x[row : row + 1], 1 / toy.penalty).expand(8, -1).contiguous()
        both = toy.outer_grad(z, every[1]) / toy.penalty + toy.grad(z, every[1], None)
        assert both.mean(0).abs().max() < 1e-12
        expected = toy.outer_regularization * x[row]
        first, second = (toy.inner_grads(rows, every[1], None)[1].mean(0) for rows in (z, every[0]))
        found = toy.penalty_gradient(x[row : row + 1])[0]
        torch.testing.assert_close(found, expected + toy.penalty * (first - second), rtol=1e-9, atol=1e-12)


def test_phi_is_the_log_loss_and_its_gradient_its_difference(toy):
    x = np.random.default_rng(1).normal(0, 1, 12)

    def phi(point):
        y = toy.inner_optimum(torch.from_numpy(point)[None]).view(12, 3).numpy()
        logits = toy.data.valid.inputs.numpy() @ y
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return log_loss(toy.data.valid.labels.numpy(), chances) + 0.0015 * (point**2).sum()

    assert toy.outer_value(torch.from_numpy(x)[None]).item() == pytest.approx(phi(x), rel=1e-12)
    differences = [(phi(x + step) - phi(x - step)) / 2e-5 for step in np.eye(12) * 1e-5]
    np.testing.assert_allclose(toy.outer_gradient(torch.from_numpy(x)[None])[0].numpy(), differences, atol=1e-8)


def test_the_solutions_are_stationary_and_near_each_other(toy):
    optimum, penalty_optimum = toy.solutions
    assert toy.outer_gradient(optimum[None]).norm() < 1e-10
    assert toy.penalty_gradient(penalty_optimum[None]).norm() < 1e-10
    assert toy.outer_value(optimum[None]) < toy.outer_value(torch.zeros(1, 12).double())
    assert 0 < toy.facts().numbers["penalty/bias"] < 0.1
    found = toy.evaluate(toy.init_params(), toy.init_hparams())
    assert found["outer/distance"][3].item() == pytest.approx(optimum.norm().item())
    assert found["inner/distance"][3].item() == pytest.approx(toy.inner_optimum(torch.zeros(1, 12).double()).norm())


def test_a_process_that_hosts_some_nodes_has_their_samples(toy):
    part = make(nodes=range(3, 5))
    rng = np.random.default_rng(2)
    params, hparams = (torch.from_numpy(rng.standard_normal((8, size))) for size in (36, 12))
    here = slice(3, 5)
    found = part.inner_grads(params[here], hparams[here], None)
    for values, expected in zip(found, toy.inner_grads(params, hparams, None), strict=True):
        torch.testing.assert_close(values, expected[here], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(part.outer_value(hparams[here]), toy.outer_value(hparams)[here])


def test_solutions_that_were_not_found_are_no_numbers(monkeypatch):
    problem = make()
    monkeypatch.setattr(problem, "penalty_gradient", lambda x: 1 + x.square())
    optimum, penalty_optimum = problem.solutions
    assert torch.isfinite(optimum).all()
    assert torch.isnan(penalty_optimum).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heterogeneity": 1.5}, r"problem.heterogeneity=1.5: must be in \[0, 1\]"),
        ({"penalty": -1.0}, "problem.penalty=-1.0: expected a positive number"),
        ({"data_seed": -1}, "problem.data_seed=-1: expected 0 to"),
        ({"regularization": 0.0}, "problem.regularization=0.0: expected a positive number"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)
