"""Two optimizers, one within the other: inner steps at the nodes, and after H of them a step along what they did.

Symbols: x are the parameters that the inner steps move, z those at which they began, u the outer momentum, H the inner
steps between two outer steps.
"""
