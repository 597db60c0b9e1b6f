"""The settings of the analysis of a schedule."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings:
    """Settings of :func:`simulator.topology.analysis.analyse`.

    Args:
        gammas: decays at which the effective number of neighbours is reported, in [0, 1).
        zeta: noise level of the isotropic quadratics, above 1.
        rate_lrs: learning rates whose convergence rates are reported, in (0, 1].
        num_lrs: learning rates in logspace(-3, 0) among which the best is looked for, at least 3.
        target: the times to target are those until E||x||^2 is ``target`` times what it was, in (0, 1).
        feature_variances: of quadratics whose features have unlike variances; empty for none.
        batch_size: minibatches of these quadratics, at least 1.
        gossip_rounds: numbers of rounds after which the gossip error is reported, at least 1.
        num_parameters: numbers in a message, at least 1.
        bytes_per_parameter: of each, at least 1.
        smoothness: L in the theorem's bound on the learning rate, positive.
        theorem_zeta: zeta there, positive.
        num_samples: stretches of rounds that stand for a random or very large schedule, at least 8.
        max_rounds: rounds in all of these stretches, at least 100.
    """

    gammas: Sequence[float]
    zeta: float
    rate_lrs: Sequence[float]
    num_lrs: int
    target: float
    feature_variances: Sequence[float]
    batch_size: int
    gossip_rounds: Sequence[int]
    num_parameters: int
    bytes_per_parameter: int
    smoothness: float
    theorem_zeta: float
    num_samples: int
    max_rounds: int

    def check(self) -> None:
        """Raises ValueError, naming the setting, when a value is out of range."""
        for name, least in (
            ("num_lrs", 3),
            ("batch_size", 1),
            ("num_parameters", 1),
            ("bytes_per_parameter", 1),
            ("num_samples", 8),
            ("max_rounds", 100),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"algorithm.{name}={getattr(self, name)}: expected an integer of at least {least}")
        if not all(0 <= gamma < 1 for gamma in self.gammas):
            raise ValueError(f"algorithm.gammas={list(self.gammas)}: decays lie in [0, 1)")
        if not all(0 < lr <= 1 for lr in self.rate_lrs):
            raise ValueError(f"algorithm.rate_lrs={list(self.rate_lrs)}: expected learning rates in (0, 1]")
        if not all(count >= 1 for count in self.gossip_rounds):
            raise ValueError(f"algorithm.gossip_rounds={list(self.gossip_rounds)}: expected integers of at least 1")
        if not all(variance > 0 for variance in self.feature_variances):
            raise ValueError(f"algorithm.feature_variances={list(self.feature_variances)}: expected positive numbers")
        if not self.zeta > 1:
            raise ValueError(f"algorithm.zeta={self.zeta}: expected a number above 1")
        if not 0 < self.target < 1:
            raise ValueError(f"algorithm.target={self.target}: expected a number between 0 and 1")
        for name in ("smoothness", "theorem_zeta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"algorithm.{name}={getattr(self, name)}: expected a positive number")
