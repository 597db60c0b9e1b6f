"""Gossip with stochastic gradients: on undirected graphs, on directed ones, and with gradient tracking.

Symbols: x are the parameters, y the tracker of the mean gradient, w the push-sum weights and z = x / w the debiased
parameters; W_t is the mixing matrix, called P_t where only its columns need to sum to 1.
"""
