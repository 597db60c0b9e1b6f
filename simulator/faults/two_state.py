"""Chains of two states, one per link or node, whose state in any round follows from the key alone.

With probabilities ``into`` of 0 -> 1 and ``out_of`` of 1 -> 0, where into + out_of <= 1, one step of the chain is: with
probability into + out_of the state is drawn anew, 1 with the stationary share pi = into / (into + out_of); otherwise it
stays. That has the two probabilities wanted, and the state in a round is the one drawn in the last round that drew. So
no round needs the state of the one before, and every process can ask for any round.
"""

import numpy as np
import numpy.typing as npt

from simulator.arrays import BoolArray
from simulator.randomness import uniforms


def is_in_state_1(
    seed: int,
    stream: str,
    chains: npt.NDArray[np.int64],
    step: int,
    *,
    into: float,
    out_of: float,
    starts_stationary: bool,
) -> BoolArray:
    """The states of some chains.

    Args:
        seed, stream: key the draws, with chain and step.
        chains: their indices, shape [E].
        step: the round, at least 0.
        into, out_of: probabilities of 0 -> 1 and 1 -> 0 in a step, with a sum of at most 1.
        starts_stationary: whether the state in round 0 has the stationary distribution; otherwise it is 0.

    Returns:
        Whether each chain is in state 1, shape [E].
    """
    states = np.zeros(chains.size, dtype=np.bool_)
    if into == 0:
        return states
    change, share = into + out_of, into / (into + out_of)
    searched = np.arange(chains.size)
    for earlier in range(step, -1, -1):
        if earlier == 0 and not starts_stationary:
            break
        draws = uniforms(seed, stream, chains[searched], earlier, 2)
        drawn = (draws[:, 0] < change) | (earlier == 0)
        states[searched[drawn]] = draws[drawn, 1] < share
        searched = searched[~drawn]
        if not searched.size:
            break
    return states
