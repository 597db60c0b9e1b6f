"""The grid of any number of dimensions.

Definition: nodes stand in a box of lengths ``shape``; each is joined to the nodes one place before and behind it in
every dimension, where there are such. The product of chains. Metropolis weights. Doubly stochastic, undirected, static.
Sends: up to 2d messages per node and round in d dimensions.
Source: standard.
Departures: none.
"""

from simulator.graphs.lattice import Lattice


class Grid(Lattice):
    """A product of chains; see the base class for the arguments."""

    wraps = False
