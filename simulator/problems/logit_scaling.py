"""Personalization by scaled logits (HGP-PL): every node scales the classes of a shared model.

Update equations: logits <- logits * C softmax(hparams_i), in training, outer loss and testing; hparams_i = 0 is the
plain model. r_i = outer_regularization / 2 ||hparams_i||^2.
Needs: a classification dataset.
Sends: nothing; problems compute.
Source: Terashita and Hara, arXiv 2210.02129, personalization with HGP-PL.
Departures: none.
"""

from simulator.compute.executors import Head
from simulator.data.base import NodeData
from simulator.problems.classification import Classification
from simulator.problems.heads import ScaledLogits


class LogitScaling(Classification):
    """One hyperparameter per class at every node."""

    def build_head(self, data: NodeData) -> Head:
        return ScaledLogits()

    def count_hparams(self, data: NodeData) -> int:
        return data.num_classes
