"""Shows that two commits compute the same: ``python scripts/compare_commits.py BEFORE [AFTER] [--only sgp,dsgd]``.

Every algorithm of conf/algorithm runs for a few steps on one process and on two, in the files of both commits (AFTER is
the working tree unless given). Compared are the final states, every evaluation, and the summary, but for times. The
last line counts the runs that are equal bit for bit. Results of a commit are kept in outputs/compare_commits/<commit>.
"""

import argparse
import contextlib
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "outputs" / "compare_commits"
TIMES = ("time/", "throughput/", "best/time", "seconds", "comm/wire", "comm/evaluation")
AT_ONCE = 2  # cases

SHARED = (
    "num_nodes=5 num_steps=10 eval_every=4 checkpoint.every=10 figures=false num_threads=1 device=cpu dtype=float64"
)
SHARED += " compute=vmap timeout_s=60"
TINY = "dataset=synthetic_mixture dataset.num_train=30 dataset.num_valid=20 dataset.num_test=10 partition=as_given"
TINY += " problem.batch_size=8"
LINEAR = f"problem=classification model=logistic_regression {TINY}"
LAYERS = f"problem=classification model=mlp model.hidden=[4] {TINY}"
BILEVEL = f"problem=l2_decay model=logistic_regression {TINY}"
STATIC, DIRECTED, PEERS, STAR = "graph=ring", "graph=random_directed", "graph=one_peer_exponential", "graph=star"
PUSH = "algorithm.depth=3 algorithm.num_pushes=2 algorithm.inner_steps=4 algorithm.outer_lr=0.05"
PENALTY = "algorithm.inner_steps=4 algorithm.outer_lr=0.05"
HYPERNETWORK = f"{PENALTY} algorithm.nodes_per_round=2"
SIZES = " ".join(
    f"problem.models.{size}.hidden=[{width}]" for size, width in (("small", 2), ("medium", 3), ("large", 4))
)
DIGITS = "problem=classification model=logistic_regression dataset=digits partition=digit_shards"
DIGITS += " problem.batch_size=8 partition.digits_per_node=1 partition.test_fraction=0.5 algorithm.local_epochs=1"

# By name: the algorithm is the name up to the first dot. An algorithm that is not here runs on LINEAR and PEERS.
CASES = {
    "adpsgd": f"{LINEAR} {STATIC} timing=lognormal",
    "async_fedavg": f"{LINEAR} graph=hub timing=lognormal",
    "async_push_sum": f"{LINEAR} {DIRECTED} timing=lognormal",
    "beer": f"{LINEAR} {STATIC} compressor=top_k",
    "c2dfb": f"{BILEVEL} {STATIC} {PENALTY} compressor=top_k",
    "c2dfb.outage": f"{BILEVEL} {STATIC} {PENALTY} compressor=random_k faults=node_outage",
    "c2dfb_naive": f"{BILEVEL} {STATIC} {PENALTY} compressor=top_k",
    "choco": f"{LINEAR} {STATIC} compressor=qsgd",
    "choco.changing": f"{LINEAR} graph=one_peer_hypercube num_nodes=4 compressor=top_k",
    "clipped_gossip": f"{LINEAR} {STATIC}",
    "clipped_gossip.attacked": f"{LINEAR} {STATIC} faults=byzantine faults.attack=alie faults.strength=1",
    "clustered_fl": f"{LINEAR} graph=hub",
    "compressed_gossip": f"{LINEAR} {PEERS} compressor=sign",
    "data_exchange": f"{DIGITS} {DIRECTED}",
    "dsgd.cliques": f"{LINEAR} graph=d_cliques graph.max_clique_size=2 algorithm.clique_averaging=true "
    "algorithm.local_steps=2 algorithm.momentum=0.5 algorithm.ema=0.9",
    "dfedpgp": f"{LAYERS} {DIRECTED}",
    "divshare": f"{LINEAR} {STATIC} timing=lognormal algorithm.num_fragments=3 algorithm.out_degree=1",
    "diloco": f"{LINEAR} graph=hub",
    "diloco.sgd": f"{LINEAR} {PEERS} algorithm.inner_optimizer=sgd",
    "dsgda_gt": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05",
    "dsoba": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05",
    "exact_diffusion": f"{LINEAR} {STATIC}",
    "exact_diffusion.d2": f"{LINEAR} {STATIC} algorithm.relaxation=1",
    "extra": f"{LINEAR} {STATIC}",
    "f2sa": f"{BILEVEL} {STATIC} {PENALTY}",
    "fedavg.adapted": f"{LINEAR} {PEERS} algorithm.adaptation_epochs=1",
    "fedavg.hub": f"{LINEAR} graph=hub faults=message_loss algorithm.momentum=0.9",
    "fedem": f"{LINEAR} {PEERS} problem=mixture_weights",
    "fedper": f"{LAYERS} {PEERS}",
    "fedrep": f"{LAYERS} {PEERS} algorithm.head_epochs=2",
    "hgp": f"{BILEVEL} {DIRECTED} {PUSH}",
    "hgp.loss": f"{BILEVEL} {DIRECTED} {PUSH} faults=message_loss",
    "hgp_fedem": f"{BILEVEL} {PEERS} {PUSH}",
    "hypergradient_error": f"problem=quadratic {DIRECTED} algorithm.depth=3 algorithm.step_size=0.1",
    "influence": f"{BILEVEL} {DIRECTED} algorithm.depth=3 algorithm.num_pushes=2",
    "led": f"{LINEAR} {STATIC}",
    "lg_fedavg": f"{LAYERS} {PEERS}",
    "lopa": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05",
    "madsbo": f"{BILEVEL} {STATIC} {PENALTY}",
    "madsbo_gt": f"{BILEVEL} {STATIC} {PENALTY}",
    "mdbo": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05",
    "motef": f"{LINEAR} {STATIC} compressor=top_k",
    "nids": f"{LINEAR} {STATIC}",
    "nids.uncoordinated": f"{LINEAR} {STATIC} algorithm.lr_factors=[1,0.5,0.8,0.3,1]",
    "pfedhn": f"{LINEAR} {STAR} {HYPERNETWORK}",
    "pfedhn.adam": f"{LINEAR} {STAR} {HYPERNETWORK} algorithm.optimizer=adam",
    "pfedhn_choco": f"{LINEAR} {STATIC} {HYPERNETWORK} compressor=top_k",
    "pfedhn_gossip": f"{LINEAR} {DIRECTED} {HYPERNETWORK}",
    "pfedhn_novel": f"{LINEAR} {STAR} {HYPERNETWORK} algorithm.num_novel_nodes=1 algorithm.novel_rounds=2",
    "pfedhn_pc": f"{LAYERS} {STAR} {HYPERNETWORK}",
    "pfedhn_sizes": f"problem=model_sizes {TINY} {SIZES} {STAR} {HYPERNETWORK}",
    "push_diging": f"{LINEAR} {DIRECTED}",
    "push_pull": f"{LINEAR} {DIRECTED}",
    "push_penalty": f"{BILEVEL} {DIRECTED} {PENALTY}",
    "qg_sgp": f"{LINEAR} {DIRECTED}",
    "quadratic_study": f"problem=random_quadratic {PEERS}",
    "quantized_push_sum": f"{LINEAR} {DIRECTED} compressor=top_k",
    "relay_sum": f"{LINEAR} {STAR}",
    "scaffnew": f"{LINEAR} {STATIC}",
    "sgp": f"{LINEAR} {DIRECTED}",
    "sgp.adapt_then_mix": f"{LINEAR} {DIRECTED} algorithm.order=adapt_then_mix compute=loop",
    "sldbo": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05",
    "slowmo.averaged": f"{LINEAR} {STATIC} algorithm.inner_optimizer=adamw algorithm.buffers=average "
    "algorithm.exact_average=hub",
    "sparkle": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05",
    "sparkle.static": f"{BILEVEL} {STATIC} algorithm.outer_lr=0.05 algorithm.outer_correction=extra "
    "algorithm.inner_correction=exact_diffusion",
    "stale_gossip": f"{LINEAR} {STATIC} timing=lognormal",
    "teleportation": f"{LINEAR} graph=teleportation",
    "topology_analysis": f"{LINEAR} {DIRECTED}",
    "trimmed_mean": f"{LINEAR} {DIRECTED}",
    "trimmed_mean.attacked": f"{LINEAR} {STATIC} faults=byzantine faults.attack=noise algorithm.rule=median",
}


def main() -> int:
    """Runs and compares; 0 when everything is equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default=".")
    parser.add_argument("--only", default="", help="algorithms, separated by commas")
    parser.add_argument("--record", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        record_all(Path(arguments.record), arguments.only)
        return 0
    before, after = (recorded(commit, arguments.only) for commit in (arguments.before, arguments.after))
    return report(before, after, arguments.only)


def names(only: str) -> list[str]:
    """The cases, an algorithm after the other."""
    algorithms = sorted(path.stem for path in (ROOT / "conf" / "algorithm").glob("*.yaml"))
    wanted = only.split(",") if only else algorithms
    return sorted(name for name in {*algorithms, *CASES} if name.partition(".")[0] in wanted)


def recorded(commit: str, only: str) -> Path:
    """The folder with the results of a commit, or of the working tree (``.``); runs the cases that are missing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "-", "-", "--only", only, "--record"]
    if commit == ".":
        folder = KEPT / "working_tree"
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([*command, str(folder)], cwd=ROOT, env=environment, check=True)
        return folder
    resolved = subprocess.run(["git", "rev-parse", commit], cwd=ROOT, capture_output=True, text=True, check=True)
    folder = KEPT / resolved.stdout.strip()
    with tempfile.TemporaryDirectory() as tree:
        packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", tree], input=packed.stdout, check=True)
        subprocess.run([*command, str(folder)], cwd=tree, env=environment, check=True)
    return folder


def record_all(folder: Path, only: str) -> None:
    """Runs all cases in the files of the working folder, each in a process of its own that has imported everything."""
    sys.path.insert(0, os.getcwd())
    import launch  # of the commit

    for name in ("simulator.job", "simulator.run"):  # the second in commits that have no simulator.job
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)

    running: set[int] = set()
    for name in names(only):
        for num_processes in (1, 2):
            out = folder / f"{name}-{num_processes}"
            if (out / "summary.json").is_file():
                continue
            words = f"algorithm={name.partition('.')[0]} {SHARED} {CASES.get(name, f'{LINEAR} {PEERS}')}"
            words += f" launcher.num_processes={num_processes} hydra.run.dir={out}"
            if len(running) == AT_ONCE:
                running.remove(os.wait()[0])
            child = os.fork()
            if child == 0:
                os._exit(record(words.split(), launch.main))
            running.add(child)
    for child in running:
        os.waitpid(child, 0)


def record(overrides: list[str], run: Callable[[], int]) -> int:
    """Runs one case; shows what it printed only when it fails."""
    with tempfile.TemporaryFile("w+") as log:
        shown = os.dup(2)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.argv = ["launch.py", *overrides]
        status = run()
        if status:
            log.seek(0)
            os.write(shown, f"{' '.join(overrides)}\n{log.read()}\n".encode())
    return status


def report(before: Path, after: Path, only: str) -> int:
    """Prints what differs, and one last line."""
    equal, different = 0, 0
    for name in names(only):
        for num_processes in (1, 2):
            run = f"{name}-{num_processes}"
            lines = list(differences(before / run, after / run))
            for line in lines:
                print(f"{run}: {line}")
            equal, different = equal + (not lines), different + bool(lines)
    print(f"{equal} of {equal + different} runs are equal bit for bit")
    return int(different > 0)


def differences(before: Path, after: Path) -> Iterator[str]:
    """One line per state, evaluation or value of the summary that is not the same."""
    for run in (before, after):
        if not (run / "summary.json").is_file():
            yield f"has not finished in {run.parent.name[:12]}"
            return
    yield from _differing("state", states(before), states(after))
    yield from _differing("summary", json.loads((before / "summary.json").read_text()), summary_of(after))
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (before, after)]
    if len(lines[0]) != len(lines[1]):
        yield f"{len(lines[0])} evaluations before, {len(lines[1])} after"
        return
    for number, (old, new) in enumerate(zip(*lines, strict=True)):
        yield from _differing(f"evaluation {number}", old, new)


def summary_of(run: Path) -> dict[str, Any]:
    """The summary of a run folder."""
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def states(run: Path) -> dict[str, Any]:
    """The final state of all nodes."""
    import torch

    folder = run / "checkpoint" / (run / "checkpoint" / "latest").read_text().strip()
    parts = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]
    return {key: torch.cat([part[key] for part in parts]).tolist() for key in parts[0]}


def _differing(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*old, *new}):
        if key.startswith(TIMES):
            continue
        if key not in old or key not in new:
            yield f"{where}: {key} is only there {'after' if key in new else 'before'}"
        elif old[key] != new[key]:
            yield f"{where}: {key} differs by {_distance(old[key], new[key]):.3g} at most"


def _distance(old: Any, new: Any) -> float:
    """The largest absolute difference between two values of one shape; infinite where there is none."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max((_distance(one, other) for one, other in zip(old, new, strict=True)), default=0.0)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new)
    return 0.0 if old == new else math.inf


if __name__ == "__main__":
    sys.exit(main())
