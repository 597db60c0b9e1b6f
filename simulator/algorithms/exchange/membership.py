"""Membership inference by loss: can one tell from a trained model which samples it was trained on?

Definition: the attacker calls a sample a member when the model's loss on it is at most a threshold. It is shown as many
training samples of the node (members) as samples that are in nobody's training set (the node's test samples), of every
class equally many, drawn at random: guessing is right half of the time, and unlike classes give nothing away. Accuracy
of the attack is (true positive rate + true negative rate) / 2. The threshold is the model's mean loss on the members;
the best threshold in hindsight bounds what any threshold could do.
Source: S. Yeom, I. Giacomelli, M. Fredrikson and S. Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
Overfitting", CSF 2018 (arXiv 1709.01604); the threshold at the mean training loss is theirs.
Departures: classes are balanced, because nodes that hold few classes would otherwise be told by classes alone.
"""

import numpy as np

from simulator.arrays import FloatArray, IntArray


def matched(members: IntArray, others: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Positions of equally many samples of every class in two lists of labels, as many as both have."""
    chosen: tuple[list[IntArray], list[IntArray]] = ([], [])
    for label in np.intersect1d(members, others):
        places = [np.flatnonzero(labels == label) for labels in (members, others)]
        count = min(map(len, places))
        for part, place in zip(chosen, places, strict=True):
            part.append(rng.choice(place, count, replace=False))
    nothing = np.zeros(0, dtype=np.int64)
    first, second = (np.sort(np.concatenate([nothing, *part])) for part in chosen)
    return first, second


def attack_accuracy(members: FloatArray, others: FloatArray) -> tuple[float, float]:
    """Accuracy at the mean loss of the members, and at the best threshold.

    Args:
        members, others: losses on training samples and on others, equally many.

    Returns:
        NaN twice where there are none.
    """
    if len(members) == 0 or len(others) == 0:
        return float("nan"), float("nan")
    thresholds = np.unique(np.concatenate([members, others]))
    found, mistaken = (
        np.searchsorted(np.sort(losses), thresholds, side="right") / len(losses) for losses in (members, others)
    )
    at_mean = 0.5 * ((members <= members.mean()).mean() + (others > members.mean()).mean())
    return float(at_mean), float(max(0.5, 0.5 * (1 + (found - mistaken).max())))
