"""Gossip with stochastic gradients that withstands some neighbours which send anything (``faults=byzantine``).

Symbols: x are the parameters, u those after the gradient steps, W_t is the mixing matrix.
"""
