"""Programs of :mod:`scripts.benchmark_peers`: one does the work of the comparison with one peer, in its environment.

A program imports nothing of this project but :mod:`scripts.peers.serve`, which needs the standard library alone.
"""
