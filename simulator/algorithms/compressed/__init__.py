"""Gossip with compressed messages.

Symbols: x are the parameters, v the tracker of the mean gradient, x^ and v^ their references, q and p the compressed
messages, e the compression error; w and z as in gossip.
"""
