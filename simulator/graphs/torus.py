"""The torus of any number of dimensions.

Definition: nodes stand in a box of lengths ``shape``; each is joined to the nodes one place before and behind it in
every dimension, and the last place of a dimension to the first. The product of rings; on a length of 2 the two
neighbours coincide and share one edge, a length of 1 has none. Metropolis weights, 1/(1 + 2d) each when all d lengths
are 3 or more. Doubly stochastic, undirected, static; the spectral gap is then
1 - (1 + 2 sum_k cos(2 pi x_k / n_k)) / (1 + 2d) at the best x that is not 0.
Sends: 2d messages per node and round.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, which runs a twisted one
(see ``twisted_torus``).
Departures: the end of each row is joined to the start of the same row, not of the next.
"""

from simulator.graphs.lattice import Lattice


class Torus(Lattice):
    """A product of rings; see the base class for the arguments."""

    wraps = True
