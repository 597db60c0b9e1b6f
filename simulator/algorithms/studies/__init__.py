"""Studies of the graph: what is known of it, and whether training agrees.

Symbols: x are the parameters, z and xi the state and the noise of the walk z <- W_t (sqrt(gamma) z + xi).
"""
