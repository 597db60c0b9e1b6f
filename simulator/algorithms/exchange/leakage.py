"""How much of what nodes hold the samples that they have sent give away, by images averaged pixel by pixel.

Definitions: q_S is the sum of the images of a set S, divided by the sum of its pixels, P numbers that sum to 1 (zeros
where there is nothing); KL(a||b) = sum_p (a_p + eps) (ln(a_p + eps) - ln(b_p + eps)), in nats. With T_i what node i has
sent, E_j what node j holds afterwards (T_i included) and s_i the share of its samples that node i has sent,
    leakage of node i             = s_i sum_{j heard T_i} KL(q_{T_i} || q_{E_j}),
    leakage of class c of node i  = s_i sum_{j heard T_i} KL(q_{T_i of class c} || q_{E_j of class c}),
    label distance of node i      = mean over these j of sum_c |share of c in T_i - share of c in E_j| / 2.
The leakage of the system is the sum over all nodes. Models play no role in it, and it is no privacy guarantee: two sets
of unlike images with one mean image leak nothing. By the definition the leakage of a class is exactly 0
(``privacy/leakage_by_class``) where a neighbour holds that class from this sender alone, although that discloses most.
Source: the measure of a course project on decentralized learning with data exchange; leakage by class and label
distance are additions to it.
Departures: s_i = 0 gives 0, where the original gives -0.

Shapes: M nodes, C classes, P pixels of an image, E edges.
"""

from dataclasses import dataclass

import numpy as np

from simulator.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Leakage:
    """What has leaked.

    Attributes:
        by_node: leakage of every node, [M].
        by_class: leakage of every class of every node, [M, C]; NaN for classes of which nothing was sent.
        label_distance: [M]; NaN for nodes that sent nothing.
    """

    by_node: FloatArray
    by_class: FloatArray
    label_distance: FloatArray


def divergence(a: FloatArray, b: FloatArray, eps: float) -> FloatArray:
    """KL(a||b) of pixel shares [..., P], smoothed by ``eps``, [...]."""
    total: FloatArray = ((a + eps) * (np.log(a + eps) - np.log(b + eps))).sum(axis=-1)
    return total


def shares(sums: FloatArray) -> FloatArray:
    """Divides by the sum over the last axis; zeros stay zeros."""
    total = sums.sum(axis=-1, keepdims=True)
    return sums / np.where(total > 0, total, 1.0)


def measure(
    *,
    sent: FloatArray,
    held: FloatArray,
    sent_labels: FloatArray,
    held_labels: FloatArray,
    source: IntArray,
    target: IntArray,
    share_sent: FloatArray,
    eps: float,
) -> Leakage:
    """Measures what has leaked over the edges source -> target, [E].

    Args:
        sent, held: sums of the images by class of what every node has sent and holds now, [M, C, P].
        sent_labels, held_labels: how many they are, [M, C].
        source, target: who sent to whom, each pair once.
        share_sent: s_i, [M].
        eps: smoothing of the pixel shares.
    """
    num_nodes, num_classes = sent_labels.shape
    by_edge = divergence(shares(sent.sum(axis=1))[source], shares(held.sum(axis=1))[target], eps)
    by_edge_and_class = divergence(shares(sent)[source], shares(held)[target], eps)
    by_class = np.stack([np.bincount(source, column, num_nodes) for column in by_edge_and_class.T], axis=1)
    distance = 0.5 * np.abs(shares(sent_labels)[source] - shares(held_labels)[target]).sum(axis=1)
    listeners = np.bincount(source, minlength=num_nodes)
    has_sent = (sent_labels.sum(axis=1) > 0) & (listeners > 0)
    assert by_class.shape == (num_nodes, num_classes)
    return Leakage(
        by_node=np.where(has_sent, share_sent * np.bincount(source, by_edge, num_nodes), 0.0),
        by_class=np.where(has_sent[:, None] & (sent_labels > 0), share_sent[:, None] * by_class, np.nan),
        label_distance=np.where(has_sent, np.bincount(source, distance, num_nodes) / np.maximum(listeners, 1), np.nan),
    )
