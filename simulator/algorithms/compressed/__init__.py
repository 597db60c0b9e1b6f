"""Gossip with compressed messages."""
