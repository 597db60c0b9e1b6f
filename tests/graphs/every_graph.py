"""Every schedule in conf/graph, with its defaults and with others, on several numbers of nodes."""

import math
from pathlib import Path

from omegaconf import OmegaConf

from simulator.graphs.base import Graph
from tests.graphs.loading import build, load

CONF = Path(__file__).parents[2] / "conf" / "graph"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
SIZES = (1, 2, 3, 5, 8, 16)
# A YAML whose defaults need a file or a minimum size is tried with other values where that is so.
OVERRIDES = {
    "networkx": lambda num_nodes, folder: (
        {"generator": "complete_graph", "arguments": {}} if num_nodes < 5 else {}  # 4 neighbours need 5 nodes
    ),
    "file": lambda num_nodes, folder: {"path": str(write_path_graph(num_nodes, folder))},
    "epidemic": lambda num_nodes, folder: {"num_out": min(4, max(1, num_nodes - 1))},
    "hierarchical": lambda num_nodes, folder: {"group_size": math.gcd(num_nodes, 4)},
    "teleportation": lambda num_nodes, folder: {"num_active": min(4, (num_nodes + 1) // 2)},
}
# Sizes that a schedule refuses.
UNFIT = {
    "hypercube": (3, 5),
    "hyper_hypercube": (5,),
    "matching_ring": (1, 3, 5),
    "one_peer_hypercube": (3, 5),
    "random_chords": (1, 2, 3),
    "slowly_changing": (1, 2, 3),
    "exchange_tree": (1, 2, 3, 8, 16),
    "social_network": SIZES,
    "social_network_tree": SIZES,
}


def load_part(name: str) -> dict:
    """A YAML as a setting of another graph."""
    return OmegaConf.to_container(load(name))


VARIANTS = [(name, {}) for name in NAMES] + [
    ("random_undirected", {"weights": "metropolis"}),
    ("random_undirected", {"base_probability": 0.7}),
    ("random_directed", {"base_probability": 0.7, "rate_low": 0.2}),
    ("erdos_renyi", {"weights": "max_degree", "probability": 0.6}),
    ("erdos_renyi", {"weights": "lazy_metropolis"}),
    ("networkx", {"generator": "gnp_random_graph", "arguments": {"p": 0.9, "directed": True}}),
    ("base_k", {"max_degree": 2, "simple": True}),
    ("p_peer_exponential", {"num_out": 1}),
    ("p_peer_exponential", {"num_out": 4}),
    ("epidemic", {"variant": "local"}),
    ("epidemic", {"num_out": 1}),
    ("equi_dyn", {"directed": False}),
    ("b_connected_directed", {"window": 1, "probability": 0.0}),
    *[("d_cliques", {"max_clique_size": 3, "connection": each}) for each in ("ring", "fractal", "complete")],
    ("matcha", {"base": load_part("star")}),
    ("gossip_pga", {"base": load_part("random_directed")}),
    ("gossip_pga", {"base": load_part("self_loop")}),
    ("gossip_pga", {"base": load_part("one_peer_exponential"), "every": 1}),
    (
        "cyclic",
        {"graphs": {"one": load_part("hub"), "other": load_part("epidemic") | {"num_out": 1, "variant": "local"}}},
    ),
    ("binary_tree", {"mirrored": True}),
    ("de_bruijn", {"degree": 3}),
    ("equi_static", {"directed": False, "num_offsets": 3}),
    ("random_regular", {"redraw": True, "degree": 2}),
    ("erdos_renyi", {"redraw": True}),
]
CASES = [(name, changes, size) for name, changes in VARIANTS for size in SIZES if size not in UNFIT.get(name, ())]
CASES += [(name, {}, 32) for name in ("social_network", "social_network_tree")]


def write_path_graph(num_nodes: int, folder: Path) -> Path:
    path = folder / f"path_{num_nodes}.txt"
    path.write_text("# a path\n0 0\n" + "".join(f"{i} {i + 1}\n" for i in range(num_nodes - 1)))
    return path


def make(name: str, num_nodes: int, folder: Path, seed: int = 3, **changes) -> Graph:
    values = {**OVERRIDES.get(name, lambda *_: {})(num_nodes, folder), **changes}
    config = OmegaConf.create({"num_nodes": num_nodes, "seed": seed, "graph": load(name)})
    for key, value in values.items():
        assert key in config.graph.keys()  # noqa: SIM118 - `in` alone overlooks a mandatory value that is missing
        OmegaConf.update(config, f"graph.{key}", value, merge=False)
    return build(config.graph)


def name_of(case: tuple) -> str:
    name, changes, num_nodes = case
    return "-".join([name, *(str(value) for value in changes.values() if not isinstance(value, dict)), str(num_nodes)])
