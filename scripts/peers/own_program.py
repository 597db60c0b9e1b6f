"""The work of the comparison: ``own_program NUM_NODES`` with this simulator, ``NUM_NODES written`` by hand."""

import sys
from importlib.metadata import PackageNotFoundError, version

from simulator.memory import keep_memory

keep_memory()  # as launch.py does

import torch  # noqa: E402

from scripts.benchmark_contenders import MODELS, HandWritten, Ours  # noqa: E402
from scripts.peers.serve import serve  # noqa: E402


def main() -> None:
    """Serves steps of as many nodes as the command line says."""
    torch.set_num_threads(1)
    num_nodes = int(sys.argv[1])
    if sys.argv[2:] == ["written"]:
        serve(f"torch {torch.__version__}", HandWritten([784, 128, 10], num_nodes).step_and_mix)
        return
    try:
        own_version = version("hypergossip")
    except PackageNotFoundError:
        own_version = "as it stands here"
    serve(own_version, Ours(MODELS["MLP"], num_nodes).step_and_mix)


if __name__ == "__main__":
    main()
