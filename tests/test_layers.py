"""The layers: what may import what, and who may talk, read, write, differentiate or draw random numbers."""

import ast
from collections.abc import Callable
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[1]

# From the bottom up. A module imports from lower lines, or from its own package; never from its own line or above.
LAYERS = (
    ("arrays", "averages", "checks", "objective", "pausing"),
    ("errors", "memory", "padding", "randomness", "placement", "schedules", "tuning", "rows", "uploads", "world"),
    ("attempts", "devices", "launchers", "watchdog"),
    ("process_group", "resume"),
    ("processes",),
    ("local_processes", "torchrun"),
    ("compute", "graphs", "models", "compressors", "loggers"),
    ("data", "faults", "figures", "run_folders", "timing", "topology"),
    ("problems",),
    ("network",),
    ("hypergradients", "checkpoint"),
    ("algorithms",),
    ("metrics",),
    ("divergence",),
    ("config", "summary", "environment"),
    ("simulation",),
    ("recorder", "budget"),
    ("loop",),
    ("job", "results"),
    ("fresh_interpreter", "tables"),
    ("report",),
    ("sweeps",),
    ("interface", "testing"),
    ("studies",),
    ("launch",),
)
HEIGHTS = {name: height for height, names in enumerate(LAYERS) for name in names}

TALK = {"network", "devices", "process_group", "processes", "local_processes", "torchrun"}
TOUCH_FILES = {
    "data",
    "loggers",
    "figures",
    "checkpoint",
    "resume",
    "devices",
    "recorder",
    "report",
    "results",
    "run_folders",
    "interface",
    "studies",
    "fresh_interpreter",
    "summary",
    "launch",
    "tuning",
    "graphs/file_formats",
    "testing/on_processes",
    "testing/placements",
    "timing/files",
    "faults/absences",
    "attempts",
    "config/help",
}
DIFFERENTIATE = {"rows", "compute", "problems"}

FILE_CALLS = {
    *("open", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "makedirs", "unlink", "rmtree"),
    *("copyfile", "savefig", "loadtxt", "savetxt", "genfromtxt", "fromfile", "tofile", "memmap", "save_image"),
}
QUALIFIED_FILE_CALLS = {"torch.save", "torch.load", "np.save", "np.load", "np.savez", "json.dump", "json.load"}
ALLOWED_NUMPY_RANDOM = {"Generator", "Philox", "RandomState"}
TORCH_RANDOM = {
    *("manual_seed", "seed", "rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"),
    *("rand_like", "randn_like", "randint_like", "set_rng_state", "poisson", "default_generator"),
}


def files() -> dict[str, Path]:
    """Path by dotted name below the root: ``simulator.graphs.ring``, ``launch``."""
    paths = [*sorted((ROOT / "simulator").rglob("*.py")), ROOT / "launch.py"]
    named = {}
    for path in paths:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


FILES = files()
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def component(name: str) -> str:
    """The line's entry of a module: ``graphs`` for ``simulator.graphs.ring``."""
    parts = name.split(".")
    return parts[1] if parts[0] == "simulator" and len(parts) > 1 else parts[0]


def allowed(name: str, where: set[str]) -> bool:
    path = name.removeprefix("simulator.").replace(".", "/")
    return component(name) in where or path in where


def without_type_checking(tree: ast.Module) -> list[ast.AST]:
    """All nodes of a module but those under ``if TYPE_CHECKING``."""
    found: list[ast.AST] = []
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            stack.extend(node.orelse)
            continue
        found.append(node)
        stack.extend(ast.iter_child_nodes(node))
    return found


def imports(nodes: list[ast.AST]) -> set[str]:
    """Dotted names that are imported; ``from a import b`` gives ``a.b``."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(nodes: list[ast.AST]) -> set[str]:
    """Imported modules of this project."""
    modules = set()
    for name in imports(nodes):
        if name in FILES:
            modules.add(name)
        elif name.rpartition(".")[0] in FILES:
            modules.add(name.rpartition(".")[0])
        else:
            assert not name.startswith(("simulator", "launch.")), name
    return modules - {"simulator"}


def dotted(node: ast.AST) -> str:
    """``torch.distributed.send`` for the expression that says so; empty for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def mentions(name: str) -> set[str]:
    """Imported and dotted names of a module, with the usual abbreviations written out."""
    nodes = without_type_checking(TREES[name])
    return imports(nodes) | {dotted(node) for node in nodes if isinstance(node, ast.Attribute)}


def offenders(found: Callable[[str], set[str]], where: set[str]) -> dict[str, set[str]]:
    """What is found in modules where it is not allowed."""
    everywhere = {name: found(name) for name in FILES}
    assert any(words for name, words in everywhere.items() if allowed(name, where)), "nothing was found at all"
    return {name: words for name, words in everywhere.items() if words and not allowed(name, where)}


def test_imports_go_downwards():
    for name, tree in TREES.items():
        if name == "simulator":
            continue
        mine = component(name)
        assert mine in HEIGHTS, f"{name} is in no layer: give it one in this test and in docs/architecture.md"
        for other in own_imports(list(ast.walk(tree))):
            same_package = component(other) == mine and (ROOT / "simulator" / mine).is_dir()
            # Types for annotations count as well; what a configuration builds is above all of it.
            assert same_package or HEIGHTS[component(other)] < HEIGHTS[mine], f"{name} imports {other}"


def test_no_import_cycles():
    graph = nx.DiGraph()
    for name, tree in TREES.items():
        graph.add_edges_from((name, other) for other in own_imports(list(ast.walk(tree))) if other != name)
    assert graph.number_of_edges() > 100
    assert nx.is_directed_acyclic_graph(graph), nx.find_cycle(graph)


def test_only_the_network_and_the_processes_use_torch_distributed():
    assert not offenders(
        lambda name: {w for w in mentions(name) if w.startswith(("torch.distributed", "torch._C._distributed"))}, TALK
    )


def file_calls(name: str) -> set[str]:
    calls = [node.func for node in without_type_checking(TREES[name]) if isinstance(node, ast.Call)]
    return {
        ast.unparse(call)
        for call in calls
        if (call.attr if isinstance(call, ast.Attribute) else dotted(call)) in FILE_CALLS
        or dotted(call) in QUALIFIED_FILE_CALLS
    }


def test_only_layers_made_for_it_touch_files():
    assert not offenders(file_calls, TOUCH_FILES)


def test_only_rows_compute_and_problems_differentiate():
    prefixes = ("torch.autograd", "torch.func", "torch.vmap")
    assert not offenders(lambda name: {word for word in mentions(name) if word.startswith(prefixes)}, DIFFERENTIATE)


def global_draws(name: str) -> set[str]:
    words = mentions(name)
    numpy = {word for word in words if word.startswith(("np.random.", "numpy.random."))}
    drawn = {word for word in numpy if word.split(".")[2] not in ALLOWED_NUMPY_RANDOM}
    drawn |= {word for word in words if word == "random" or word.startswith("random.")}
    return drawn | {word for word in words if word.startswith("torch.") and word.split(".")[-1] in TORCH_RANDOM}


def test_nobody_draws_from_a_global_generator():
    """But for the checks that users call, which seed the global generators to see whether anything depends on them."""
    assert not offenders(global_draws, {"randomness", "testing"})
