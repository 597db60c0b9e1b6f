"""Training after samples were exchanged, and what that reveals.

Symbols: x are the parameters; samples are images with labels, and have no symbol.
"""
