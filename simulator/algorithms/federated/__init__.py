"""Local epochs and averages, over a hub or a graph, and personalized models."""
