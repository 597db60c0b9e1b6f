"""How compressed vectors travel: each of a node's vectors is compressed by itself, and all leave in one packet.

Shapes: N local nodes, E messages, R vectors of D columns each, B bytes of a compressed vector.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from simulator.arrays import IntArray
from simulator.compressors.base import Compressor
from simulator.network.network import Network
from simulator.randomness import random_bits


@dataclass(frozen=True)
class VectorCoding:
    """Vectors to packets and back.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        stream: of these draws.
    """

    compressor: Compressor
    seed: int
    stream: str

    def encode(self, vectors: Tensor, messages: IntArray, round_index: int) -> tuple[Tensor, Tensor]:
        """The packets [E, R * B] of ``vectors`` [E, R, D] and what they say, [E, R, D]; ``messages`` [E] key draws."""
        keys = random_bits(self.seed, self.stream, messages, round_index, vectors.shape[1])
        coded = self.compressor.encode(vectors.flatten(0, 1), keys.reshape(-1))
        packet_bytes = vectors.shape[1] * coded.packed.shape[1]
        return coded.packed.view(len(vectors), packet_bytes), coded.values.view_as(vectors)

    def decode(self, packed: Tensor, like: Tensor) -> Tensor:
        """What packets [E, R * B] say, [E, R, D]; R, D and the type are those of ``like``."""
        num_vectors, num_columns = like.shape[1:]
        rows = packed.view(len(packed) * num_vectors, packed.shape[1] // num_vectors)
        return self.compressor.decode(rows, num_columns, like.dtype).view(len(packed), num_vectors, num_columns)

    def mix(self, vectors: Tensor, network: Network, round_index: int) -> tuple[Tensor, Tensor]:
        """One round in which every node sends its ``vectors`` [N, R, D].

        Returns:
            Q(v) of the local nodes, which may share memory with ``vectors``, and W_t @ Q(v); both [N, R, D].
        """
        nodes = np.arange(network.nodes.start, network.nodes.stop)
        packed, values = self.encode(vectors, nodes, round_index)
        mixed = network.mix_coded(
            values.flatten(1), packed, lambda rows: self.decode(rows, vectors).flatten(1), round_index
        )
        return values, mixed.view_as(vectors)
