"""The quadratic bilevel problem in NumPy, written apart from the simulator, and runs of the simulator on it.

Shapes: M nodes, q parameters, p hyperparameters.
"""

from copy import deepcopy
from functools import cache

import numpy as np

from simulator.simulation import Simulation
from tests.conftest import compose_settings

NUM_NODES, P, Q, RHO = 8, 6, 20, 0.1
CHECKSUMS = {
    "A": 246.96252816,
    "B": -16.94606299,
    "c": 12.69759615,
    "D": 171.52748576,
    "t": -0.81626637,
    "r": 9.90453674,
}


def square(shift):
    a, b = np.meshgrid(np.arange(Q), np.arange(Q), indexing="ij")
    return np.sin(1.3 * a + 2.1 * b + 0.37 * a * b + shift)


def rectangle(shift):
    a, k = np.meshgrid(np.arange(Q), np.arange(P), indexing="ij")
    return np.cos(0.9 * a + 1.7 * k + 0.23 * a * k + shift)


def vector(size, shift):
    j = np.arange(size)
    return np.sin(1.1 * j + 0.05 * j**2 + shift)


def apply(matrices, vectors):
    """Every node's matrix times its vector."""
    return np.einsum("iab,ib->ia", matrices, vectors)


class Instance:
    """All nodes' coefficients, gradients by node [M, ...], and the solutions."""

    def __init__(self, alike=False):
        parts = {key: [] for key in CHECKSUMS}
        for i in range(NUM_NODES):
            differ = 0.0 if alike else 1.0
            m = square(0.4) + differ * square(0.7 * (i + 1))
            n = square(2.2) + square(1.9 * (i + 1) + 0.5)
            parts["A"].append(np.eye(Q) + m @ m.T / Q)
            parts["B"].append((rectangle(0.3) + differ * rectangle(0.8 * (i + 1))) / np.sqrt(P))
            parts["c"].append(vector(Q, 0.2) + vector(Q, i + 1))
            parts["D"].append(0.5 * np.eye(Q) + n @ n.T / Q)
            parts["t"].append(vector(Q, 2.0) + vector(Q, 0.6 * (i + 1) + 0.1))
            parts["r"].append(vector(P, 0.9) + vector(P, 1.4 * (i + 1)))
        self.A, self.B, self.c, self.D, self.t, self.r = (
            np.stack(parts[key]) for key in ("A", "B", "c", "D", "t", "r")
        )

    def inner_y(self, x, y):
        return apply(self.A, y) - apply(self.B, x) - self.c

    def inner_x(self, y):
        return -apply(self.B.transpose(0, 2, 1), y)

    def outer_y(self, y):
        return apply(self.D, y - self.t)

    def outer_x(self, x):
        return RHO * (x - self.r)

    def hypergradient_parts(self, x, y, z):
        """Of every node, for the adjoint z."""
        return self.outer_x(x) - self.inner_x(z)

    def surrogate(self, x, y, z, penalty):
        return self.outer_x(x) + penalty * (self.inner_x(y) - self.inner_x(z))

    def _root(self, gradient):
        """Of a gradient that is affine in x."""
        at_zero = gradient(np.zeros(P))
        matrix = np.stack([gradient(e) - at_zero for e in np.eye(P)], axis=1)
        return np.linalg.solve(matrix, -at_zero)

    def y_star(self, x):
        return np.linalg.solve(self.A.mean(0), self.B.mean(0) @ x + self.c.mean(0))

    def gradient(self, x):
        """Of the bilevel problem."""
        pull = self.D.mean(0) @ self.y_star(x) - apply(self.D, self.t).mean(0)
        return RHO * (x - self.r.mean(0)) + self.B.mean(0).T @ np.linalg.solve(self.A.mean(0), pull)

    def penalty_gradient(self, x, penalty):
        A, B, D = self.A.mean(0), self.B.mean(0), self.D.mean(0)
        pull = apply(self.D, self.t).mean(0) + penalty * (B @ x + self.c.mean(0))
        return RHO * (x - self.r.mean(0)) - penalty * B.T @ (np.linalg.solve(D + penalty * A, pull) - self.y_star(x))

    def local_gradient(self, x):
        """Mean of hypergradients made of each node's own Hessian, at the common y*(x)."""
        pull = apply(self.D, self.y_star(x) - self.t)
        own = np.stack([B.T @ np.linalg.solve(A, d) for A, B, d in zip(self.A, self.B, pull, strict=True)])
        return RHO * (x - self.r.mean(0)) + own.mean(0)

    def y_own(self, x):
        """The minimizer of each node's own inner objective."""
        return np.stack([np.linalg.solve(A, B @ x + c) for A, B, c in zip(self.A, self.B, self.c, strict=True)])

    def personal_gradient(self, x):
        """Of the problem whose lower levels are the nodes' own."""
        pull = apply(self.D, self.y_own(x) - self.t)
        own = np.stack([B.T @ np.linalg.solve(A, d) for A, B, d in zip(self.A, self.B, pull, strict=True)])
        return RHO * (x - self.r.mean(0)) + own.mean(0)

    def x_personal(self):
        return self._root(self.personal_gradient)

    def x_star(self):
        return self._root(self.gradient)

    def x_penalty(self, penalty):
        return self._root(lambda x: self.penalty_gradient(x, penalty))

    def x_local(self):
        return self._root(self.local_gradient)


@cache
def settings_of(name, graph, compressor, *further):
    """Composing takes longer than most runs here."""
    overrides = ["experiment=bilevel_quadratic", f"algorithm={name}", f"graph={graph}", f"compressor={compressor}"]
    return compose_settings(*overrides, "num_threads=1", "device=cpu", *further)


def simulation(name, *further, graph="ring", compressor="none", **changes):
    """The simulator's run of an algorithm on the problem; ``changes`` are settings of the algorithm."""
    settings = deepcopy(settings_of(name, graph, compressor, *further))
    assert changes.keys() <= settings["algorithm"].keys()
    settings["algorithm"] |= changes
    return Simulation.build(settings)


def run(name, num_steps, *further, after=None, **changes):
    """The state and the simulation after ``num_steps``."""
    made = simulation(name, *further, **changes)
    return made.run(made.init(), 0, num_steps, after), made


def outer(state, made):
    """The nodes' x, NumPy [M, p]."""
    return made.algorithm.hparams(state, made.problem).numpy()


def farthest(state, made, target):
    """Distance of the worst node's x."""
    return float(np.linalg.norm(outer(state, made) - target, axis=1).max())


def mixing(made):
    """W_t by round, as the graph of a simulation has it."""
    return lambda t: made.network.graph.edges(t).to_matrix(NUM_NODES)


def start():
    """Of x and of y at all nodes."""
    return np.zeros((NUM_NODES, P)), np.zeros((NUM_NODES, Q))
