"""Hypernetworks that generate the nodes' models, at a hub or gossiped."""
