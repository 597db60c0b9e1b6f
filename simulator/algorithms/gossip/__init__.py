"""Gossip with stochastic gradients: on undirected graphs, on directed ones, and with gradient tracking."""
