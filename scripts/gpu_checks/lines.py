"""The lines of the check: what each does, how long it may take, and how many GPUs it needs."""

from dataclasses import dataclass

DRY_LIMIT_S = 600.0
"""Of every line of a dry run, whose machine may be slow."""


@dataclass(frozen=True)
class Line:
    """A line of the check.

    Attributes:
        what: it shows.
        function: that does it, as ``module:function`` below ``scripts.gpu_checks``.
        limit_s: after which it is ended.
        num_gpus: that it needs.
    """

    what: str
    function: str
    limit_s: float
    num_gpus: int = 1


LINES = {
    "inventory": Line("versions, GPUs and memory", "inventory:inventory", 30.0, 0),
    "battery": Line("all cases on the device against the CPU, twice", "comparing:battery", 170.0),
    "waits": Line("no step makes the host wait beyond its budget", "comparing:waits", 100.0),
    "shared_gpu": Line("three ranks share a GPU through gloo", "launching:shared_gpu", 60.0),
    "nccl_alone": Line("NCCL with one rank, which sends to itself", "nccl:alone", 30.0),
    "capture": Line("a local step as a CUDA graph", "capturing:capture", 50.0),
    "speed_logistic": Line("node-steps/s, logistic regression", "speed:logistic_regression", 40.0),
    "speed_mlp": Line("node-steps/s, MLP 784-128-10", "speed:mlp", 50.0),
    "speed_cnn": Line("node-steps/s, CNN", "speed:cnn", 60.0),
    "large": Line("a ring of 100,000 nodes", "speed:large", 40.0),
    "nccl_cases": Line("every way of sending on two ranks by NCCL", "nccl:cases", 120.0, 2),
    "first_contact": Line("seconds of the first message of a pair and of later ones", "nccl:first_contact", 60.0, 2),
    "mix_rate": Line("GB/s of mixing against a bare exchange", "nccl:mix_rate", 60.0, 2),
    "stopped_rank": Line("SIGSTOP of a rank with timeout_s=10: who reports what", "failing:stopped", 150.0, 2),
    "killed_rank": Line("SIGKILL of a rank with timeout_s=10: who reports what", "failing:killed", 150.0, 2),
    "sweep": Line("two jobs of a sweep, each on two ranks", "launching:sweep", 90.0, 2),
}
"""By name, in the order in which they run."""
