"""The contract of a timing: how long nodes compute and messages travel, as a pure function of the configuration.

Nothing here depends on values that are computed in a run, on the order of calls, or on which process hosts a node. So
every process derives the whole course of simulated time by itself, without a message.

Computing: ``compute_s(nodes, steps)`` is the duration of local step k of a node, in seconds. What differs between the
timings is this function alone; the links are the same for all of them, see :mod:`simulator.timing.links`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.timing.files import read_link_file
from simulator.timing.links import Links

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_NUM_TIMED = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing(ABC):
    """Durations of local steps and of messages.

    Args:
        num_nodes: all nodes, M.
        latency_s: median latency of an ordered pair of nodes, seconds.
        latency_sigma: standard deviation of the logarithm of the latency over ordered pairs; 0 for equal ones.
        bandwidth_bytes_per_s: median of a node's uplink and downlink, bytes per second; None for no limit.
        bandwidth_sigma: standard deviation of the logarithm of the bandwidth, over nodes; 0 for equal ones.
        uplink_bytes_per_s, downlink_bytes_per_s: median of one direction; None for ``bandwidth_bytes_per_s``.
        links_path: a CSV file ``source,target,latency_s,bandwidth`` of ordered pairs, or None. A pair in the file has
            its latency, and a limit of its own in bytes per second (empty for none) beside those of the two nodes.
            Other pairs have what the settings say.
        seed: keys everything that is drawn.

    Raises:
        ValueError: when a setting is out of range; from the first use, when a file is missing or wrong.
    """

    num_nodes: int
    latency_s: float = 0.0
    latency_sigma: float = 0.0
    bandwidth_bytes_per_s: float | None = None
    bandwidth_sigma: float = 0.0
    uplink_bytes_per_s: float | None = None
    downlink_bytes_per_s: float | None = None
    links_path: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latency_s", "latency_sigma", "bandwidth_sigma"):
            check_number(name, getattr(self, name), least=0.0)
        for name in ("bandwidth_bytes_per_s", "uplink_bytes_per_s", "downlink_bytes_per_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"timing.{name}={value}: expected a positive number, or null for no limit")

    @property
    def needs_starts(self) -> bool:
        """Whether durations depend on the simulated time at which a step starts."""
        return False

    @abstractmethod
    def compute_s(
        self, nodes: npt.ArrayLike, steps: npt.ArrayLike, starts_s: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Durations of local steps.

        Args:
            nodes: global node indices, shape [E].
            steps: local step of every entry, from 0, shape [E].
            starts_s: simulated time at which every step starts, seconds, shape [E]. Only timings with
                ``needs_starts`` read it.

        Returns:
            Seconds, at least 0, shape [E]. An entry depends on its own arguments only.
        """

    def check(self) -> None:
        """Reads the files now instead of at the first use.

        Raises:
            ValueError: when one is missing or wrong.
        """
        _ = self.links

    @cached_property
    def mean_step_s(self) -> FloatArray:
        """Mean duration of every node's first 100 local steps when it never waits, seconds, [M]."""
        nodes, now = np.arange(self.num_nodes), np.zeros(self.num_nodes)
        for step in range(_NUM_TIMED):
            now += self.compute_s(nodes, np.full(nodes.shape, step), now)
        return now / _NUM_TIMED

    @cached_property
    def links(self) -> Links:
        """The links between the nodes."""
        pairs = None if self.links_path is None else read_link_file(self.links_path, self.num_nodes)
        return Links.build(
            self.num_nodes,
            latency_s=self.latency_s,
            latency_sigma=self.latency_sigma,
            uplink=self.bandwidth_bytes_per_s if self.uplink_bytes_per_s is None else self.uplink_bytes_per_s,
            downlink=self.bandwidth_bytes_per_s if self.downlink_bytes_per_s is None else self.downlink_bytes_per_s,
            bandwidth_sigma=self.bandwidth_sigma,
            pairs=pairs,
            seed=self.seed,
        )


def check_number(name: str, value: float, *, least: float, most: float = math.inf) -> None:
    """Checks that a setting is finite and within [least, most].

    Raises:
        ValueError: naming the setting.
    """
    if not (least <= value <= most and math.isfinite(value)):
        expected = f"a number of at least {least:g}" if most == math.inf else f"a number in [{least:g}, {most:g}]"
        raise ValueError(f"timing.{name}={value}: expected {expected}")
