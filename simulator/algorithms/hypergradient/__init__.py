"""Hypergradient push, and the studies of its error and of influence."""
