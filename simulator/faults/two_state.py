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

_MOST_ROUNDS = 1024


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
    searched, last, block = np.arange(chains.size), step, 1
    while searched.size and last >= 0:
        rounds = np.arange(last, max(last - block, -1), -1)
        keys = np.repeat(chains[searched], rounds.size), np.tile(rounds, searched.size)
        draws = uniforms(seed, stream, *keys, 2).reshape(searched.size, rounds.size, 2)
        is_new = (draws[:, :, 0] < change) | (rounds == 0)
        values = (draws[:, :, 1] < share) & ((rounds > 0) | starts_stationary)
        found, newest = is_new.any(axis=1), is_new.argmax(axis=1)
        states[searched[found]] = values[found, newest[found]]
        searched, last, block = searched[~found], last - block, min(4 * block, _MOST_ROUNDS)
    return states
