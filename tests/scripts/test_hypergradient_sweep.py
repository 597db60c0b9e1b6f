"""Error of hypergradient push against a setting, from run folders."""

import csv
import json

import yaml

from scripts import hypergradient_sweep

RULES = ["debiased", "average_preserving"]


def write(folder, *, delay, errors):
    folder.mkdir(parents=True)
    algorithm = {
        "_target_": "simulator.algorithms.hypergradient.hypergradient_error.HypergradientError",
        "rules": RULES,
        "push_counts": [2],
        "graph_seeds": [0, 1, 2],
        "depth": 50,
    }
    faults = {"_target_": "simulator.faults.message_delay.MessageDelay", "max_delay": delay}
    settings = {"seed": 0, "num_steps": 1, "algorithm": algorithm, "faults": faults}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {"hypergradient/reference_norm": 0.5}
    for seed, error in enumerate(errors):
        summary[f"hypergradient/error@S=2,seed={seed}"] = {"10": 9.0, "50": error}
        summary[f"hypergradient/error@S=2,seed={seed},rule=average_preserving"] = {"10": 9.0, "50": error / 10}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_medians_of_the_last_term_over_the_norm(tmp_path, capsys):
    write(tmp_path / "runs" / "late", delay=4, errors=(0.4, 0.1, 0.2))
    write(tmp_path / "runs" / "soon", delay=0, errors=(0.04, 0.01, 0.02))
    output = tmp_path / "out" / "sweep"
    assert hypergradient_sweep.main([str(tmp_path / "runs"), "--output", str(output)]) == 0
    with output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(r["rule"], float(r["faults.max_delay"])): round(float(r["error_median"]), 9) for r in rows}
    wanted = {("debiased", 0): 0.04, ("debiased", 4): 0.4, (RULES[1], 0): 0.004, (RULES[1], 4): 0.04}
    assert found == wanted
    assert output.with_suffix(".png").stat().st_size > 5000

    assert hypergradient_sweep.main([str(tmp_path / "runs"), "--by", "algorithm.rules"]) == 1
    assert "algorithm.rules=['debiased', 'average_preserving'] is no number" in capsys.readouterr().err
