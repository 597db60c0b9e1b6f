"""Bilevel optimization of variables that all nodes share."""
