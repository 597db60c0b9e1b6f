"""Local epochs and averages, over a hub or a graph, and personalized models.

Symbols: x are the parameters that nodes train and average, v a model of the node's own, c the average that local
training stays near, y (clustered_fl.py) the parameters after local training, m the momentum.
"""
