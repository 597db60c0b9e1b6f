"""Run folders that no run has made: real configurations, invented numbers."""

import json

import numpy as np
import yaml

NODES = 6


def write_run(folder, settings, *, steps=200, every=20, finished=True, level=0.5, diverged=False):
    """A run whose test accuracy rises to ``level``, and that has a rare metric at every hundredth step."""
    rng = np.random.default_rng(settings["seed"])
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "environment.json").write_text(json.dumps({"git_commit": "abc123", "python": "3.11.7", "host": "here"}))
    records = []
    for step in range(0, steps + 1, every):
        share = step / steps
        record = {
            "step": step,
            "test/accuracy": 0.1 + (level - 0.1) * share,
            "train/loss": 2.0 - share + rng.random() / 3,
        }
        record |= {
            "valid/accuracy": record["test/accuracy"] - 0.01,
            "consensus_distance": 0.1 / 3**step if step < 50 else None,
        }
        record |= {"comm/bytes": 123457 * step, "time/wall_s": 0.01 * step, "time/sim_s": 0.5 * step}
        record["oracle/gradients"] = 16 * step
        if step % 100 == 0:
            record["hypergradient/error"] = 1.0 / (1 + step)
        records.append(record)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if finished:
        summary = records[-1] | {"test/accuracy_per_node": (level * rng.random(settings["num_nodes"])).tolist()}
        summary |= {f"best/{name}": value for name, value in records[-2].items()} | {"x": [[1.0, 2.0]]}
        summary |= {"diverged": True} if diverged else {}
        (folder / "summary.json").write_text(json.dumps(summary))
    return records


def write_sweep(folder, composed, seeds=3):
    """Two graphs times some seeds."""
    return [
        write_run(
            folder / f"{graph}_{seed}",
            composed(f"graph={graph}", f"seed={seed}", f"num_nodes={NODES}"),
            level=0.9 if graph == "ring" else 0.7,
        )
        for graph in ("ring", "random_directed")
        for seed in range(seeds)
    ]
