"""Hypergradient push, and the studies of its error and of influence.

Symbols: x are the parameters, w the push-sum weights, z = x / w the debiased parameters, h the hyperparameters of each
node and v the hypergradient.
"""
