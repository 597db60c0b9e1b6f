"""Coefficient tuning on a few random samples, small enough that Newton's method finds every solution.

Update equations: those of :mod:`simulator.problems.coefficient_tuning`, with 12 features, 3 classes, 8 training and 8
validation samples per node, and x shared by all nodes. Class means are 1.2 times normal in the first 3 features and 0
in the others; a sample of node i is of class i mod 3 with probability ``heterogeneity`` and else of a random one, and
its features are normal around the mean of its class. With w = (d2g/dy2)^-1 grad_y f at y*(x):
    grad Phi(x) = outer_regularization x - (d2g/dx dy) w
    grad Psi_l(x) = outer_regularization x + l (grad_x g(x, y_l) - grad_x g(x, y*))
Needs: nothing; no dataset.
Sends: nothing; problems compute.
Source: an instance of our own; NumPy's legacy generator, whose numbers never change, so that anybody can build it.
Departures: none.

Shapes: N local nodes, S samples of all nodes, F features, C classes, R rows x [R, F] at which functions are evaluated.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from simulator.arrays import FloatArray
from simulator.data.base import NodeData, Split
from simulator.problems.base import Setting
from simulator.problems.coefficient_tuning import CoefficientTuning
from simulator.problems.reference_bilevel import ReferenceBilevel, require_penalty

NUM_FEATURES, NUM_INFORMATIVE, NUM_CLASSES, NUM_SAMPLES = 12, 3, 3, 8


class CoefficientToy(ReferenceBilevel, CoefficientTuning):
    """Twelve coefficients of a linear classifier of three classes.

    Args:
        batch_size, drop_last, regularization, outer_regularization: as in :class:`CoefficientTuning`.
        heterogeneity: probability that a sample is of its node's own class, in [0, 1].
        penalty: l of the Psi that is reported.
        data_seed: of NumPy's legacy generator, from which the samples come.
    """

    def __init__(
        self,
        *,
        batch_size: int | None,
        drop_last: bool,
        regularization: float,
        outer_regularization: float,
        heterogeneity: float,
        penalty: float,
        data_seed: int,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            drop_last=drop_last,
            regularization=regularization,
            scale_regularization=False,
            outer_regularization=outer_regularization,
        )
        if not 0 <= heterogeneity <= 1:
            raise ValueError(f"problem.heterogeneity={heterogeneity}: must be in [0, 1]")
        require_penalty(penalty)
        if not 0 <= data_seed < 2**32:
            raise ValueError(f"problem.data_seed={data_seed}: expected 0 to 2**32 - 1")
        self.heterogeneity = heterogeneity
        self.penalty = penalty
        self.data_seed = data_seed

    def setup(self, setting: Setting) -> None:
        train, valid = self._draw(setting.num_nodes)
        self._everything = tuple((inputs.flatten(0, 1), labels.flatten()) for inputs, labels in (train, valid))
        counts = torch.nn.functional.one_hot(train[1], NUM_CLASSES).sum(1).numpy()
        splits = [_local(inputs, labels, setting) for inputs, labels in (train, valid)]
        data = NodeData(
            train=splits[0],
            valid=splits[1],
            test=splits[1],
            num_classes=NUM_CLASSES,
            input_shape=(NUM_FEATURES,),
            label_counts=counts,
            train_sizes=np.full(setting.num_nodes, NUM_SAMPLES),
            valid_sizes=np.full(setting.num_nodes, NUM_SAMPLES),
            test_sizes=np.full(setting.num_nodes, NUM_SAMPLES),
        )
        self.prepare(setting, data)

    def _draw(self, num_nodes: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Training and validation samples: features [M, B, F] and labels [M, B]."""
        rng = np.random.RandomState(self.data_seed)
        means = np.zeros((NUM_CLASSES, NUM_FEATURES))
        means[:, :NUM_INFORMATIVE] = 1.2 * rng.randn(NUM_CLASSES, NUM_INFORMATIVE)
        inputs = np.empty((2, num_nodes, NUM_SAMPLES, NUM_FEATURES))
        labels = np.empty((2, num_nodes, NUM_SAMPLES), dtype=np.int64)
        for node in range(num_nodes):
            for split in range(2):
                of_own_class = rng.random_sample(NUM_SAMPLES) < self.heterogeneity
                drawn = np.where(of_own_class, node % NUM_CLASSES, rng.randint(0, NUM_CLASSES, NUM_SAMPLES))
                labels[split, node] = drawn
                inputs[split, node] = means[drawn] + rng.randn(NUM_SAMPLES, NUM_FEATURES)
        pairs = [(torch.from_numpy(inputs[split]), torch.from_numpy(labels[split])) for split in range(2)]
        return pairs[0], pairs[1]

    def _minimise(self, x: Tensor, outer_weight: float) -> Tensor:
        """argmin_y of g + ``outer_weight`` f by Newton's method with backtracking, [R, F C]."""
        y = torch.zeros(len(x), self.num_params, dtype=torch.float64)
        value, gradient, hessian = self._objective(x, y, outer_weight)
        for _ in range(100):
            if gradient.abs().max() < 1e-14:
                break
            direction = torch.linalg.solve(hessian, gradient)
            decrease = (direction * gradient).sum(1)
            length = torch.ones_like(value)
            for _ in range(30):
                trial = y - length[:, None] * direction
                later = self._objective(x, trial, outer_weight)
                # A full step is taken where the decrease is smaller than rounding errors.
                short = (later[0] > value - 0.25 * length * decrease) & (decrease > 1e-12 * value)
                if not short.any():
                    break
                length[short] /= 2
            y, (value, gradient, hessian) = trial, later
        return y

    def _objective(self, x: Tensor, y: Tensor, outer_weight: float) -> tuple[Tensor, Tensor, Tensor]:
        """Value [R], gradient [R, F C] and Hessian [R, F C, F C] in y of g + ``outer_weight`` f, up to constants."""
        value, gradient, hessian = self._cross_entropy(y, 0)
        if outer_weight:
            further = self._cross_entropy(y, 1)
            value = value + outer_weight * further[0]
            gradient = gradient + outer_weight * further[1]
            hessian = hessian + outer_weight * further[2]
        self.ridge.add_params_gradient_(gradient, y, x)
        curvature = self.ridge.coefficient * x.exp().repeat_interleave(NUM_CLASSES, dim=1)
        return value + self.ridge.values(y, x), gradient, hessian + torch.diag_embed(curvature)

    def _cross_entropy(self, y: Tensor, split: int) -> tuple[Tensor, Tensor, Tensor]:
        """The mean over all nodes' samples of a split, 0 training and 1 validation; shapes as above."""
        inputs, labels = self._everything[split]
        log_chances = (inputs @ y.view(len(y), NUM_FEATURES, NUM_CLASSES)).log_softmax(2)
        picked = torch.nn.functional.one_hot(labels, NUM_CLASSES).double()
        chances = log_chances.exp()
        gradient = inputs.T @ (chances - picked) / len(labels)
        spread = torch.diag_embed(chances) - chances.unsqueeze(3) * chances.unsqueeze(2)
        hessian = torch.einsum("si,sj,rskl->rikjl", inputs, inputs, spread) / len(labels)
        size = NUM_FEATURES * NUM_CLASSES
        value = -(log_chances * picked).sum((1, 2)) / len(labels)
        return value, gradient.flatten(1), hessian.reshape(-1, size, size)

    def inner_optimum(self, x: Tensor) -> Tensor:
        return self._minimise(x, 0.0)

    def outer_value(self, x: Tensor) -> Tensor:
        value = self._cross_entropy(self.inner_optimum(x), 1)[0]
        return value + 0.5 * self.outer_regularization * x.square().sum(1)

    def outer_gradient(self, x: Tensor) -> Tensor:
        y = self.inner_optimum(x)
        adjoint = torch.linalg.solve(self._objective(x, y, 0.0)[2], self._cross_entropy(y, 1)[1])
        return self.outer_regularization * x - self.ridge.cross_product(y, x, adjoint)

    def penalty_gradient(self, x: Tensor) -> Tensor:
        first = self.ridge.hparams_gradient(self._minimise(x, 1 / self.penalty), x)
        second = self.ridge.hparams_gradient(self._minimise(x, 0.0), x)
        return self.outer_regularization * x + self.penalty * (first - second)

    def solve(self) -> tuple[Tensor, Tensor]:
        """The minimum of Phi that quasi-Newton steps from x = 0 find, and the root of grad Psi beside it.

        A point that is not found is NaN.
        """
        from scipy.optimize import minimize, root

        def at(function: Callable[[Tensor], Tensor], point: FloatArray) -> FloatArray:
            return np.asarray(function(torch.from_numpy(point)[None])[0].numpy())

        start = minimize(
            lambda point: float(at(self.outer_value, point)),
            np.zeros(NUM_FEATURES),
            jac=lambda point: at(self.outer_gradient, point),
            method="BFGS",
        ).x
        roots = []
        for gradient in (self.outer_gradient, self.penalty_gradient):
            solution = root(lambda point, gradient=gradient: at(gradient, point), start, tol=1e-13)
            is_root = np.abs(solution.fun).max() < 1e-9
            roots.append(torch.from_numpy(solution.x if is_root else np.full(NUM_FEATURES, np.nan)))
        return roots[0], roots[1]


def _local(inputs: Tensor, labels: Tensor, setting: Setting) -> Split:
    """The samples of the nodes of this process."""
    local = slice(setting.nodes.start, setting.nodes.stop)
    return Split(
        inputs[local].flatten(0, 1).to(setting.device, setting.dtype),
        labels[local].flatten().to(setting.device),
        np.arange(len(setting.nodes)) * NUM_SAMPLES,
        np.full(len(setting.nodes), NUM_SAMPLES),
    )
