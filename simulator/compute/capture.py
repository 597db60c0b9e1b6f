"""Functions of tensors with fixed shapes as CUDA graphs: the host starts one graph instead of some dozen kernels.

A graph reads and writes the memory that it was recorded with. So the tensors of a call are copied into buffers of the
graph, and what it overwrites is copied back. That pays where starting kernels takes longer than they run: for small
models, or few nodes.
"""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from simulator.padding import copy_as

Function = Callable[[Sequence[Tensor]], None]
"""Overwrites the first of the tensors; must not read values back."""

_MAX_GRAPHS = 4
_NUM_WARM_UPS = 3


def record_cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """Runs ``run`` some times, records it, and returns what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_NUM_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph.replay


class Captured:
    """Calls functions by graphs that it records at their first call.

    Args:
        build: makes the function of a key, with memory of its own. A key holds all numbers that the function uses
            besides the tensors.
        record: makes a replay of a call; :func:`record_cuda_graph`, except in tests.

    Attributes:
        num_graphs: how many have been recorded. After four others no more are, and such calls are done without one:
            a learning rate that changes in every step would need a graph for each.
    """

    def __init__(
        self,
        build: Callable[[Hashable], Function],
        record: Callable[[Callable[[], None]], Callable[[], None]] = record_cuda_graph,
    ) -> None:
        self._build = build
        self._record = record
        self._graphs: dict[Hashable, tuple[list[Tensor], Callable[[], None]]] = {}

    @property
    def num_graphs(self) -> int:
        """The number of graphs."""
        return len(self._graphs)

    def __call__(self, key: Hashable, tensors: Sequence[Tensor]) -> bool:
        """Overwrites the first of ``tensors`` with what the function of ``key`` makes of them.

        One tensor may stand in several places.

        Returns:
            False where nothing was done, because there are enough graphs.
        """
        places = [next(i for i, other in enumerate(tensors) if other is tensor) for tensor in tensors]
        form = (key, tuple(places), tuple((x.shape, x.stride(), x.dtype, x.device) for x in tensors))
        if form not in self._graphs:
            if len(self._graphs) == _MAX_GRAPHS:
                return False
            buffers = [copy_as(x) if x.dim() == 2 else x.clone() for x in tensors]
            buffers = [buffers[place] for place in places]
            function = self._build(key)
            self._graphs[form] = buffers, self._record(lambda: function(buffers))
        buffers, replay = self._graphs[form]
        for i, (buffer, tensor) in enumerate(zip(buffers, tensors, strict=True)):
            if places[i] == i:
                buffer.copy_(tensor)
        replay()
        tensors[0].copy_(buffers[0])
        return True
