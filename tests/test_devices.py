"""Where processes compute, from what each of them sees; no GPU is needed for it."""

import dataclasses
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from simulator import devices
from simulator.devices import Inventory, choose_compute, decide, exchange, take_inventory
from simulator.world import World

MODEL = "A100"


def sees(host, *gpus, **further):
    """A process on ``host`` that sees these GPUs of it."""
    return Inventory(host, tuple(f"{host}/{gpu}" for gpu in gpus), (MODEL,) * len(gpus), **further)


# Who sees what, and then: the devices by rank, the backend and how the note of it begins.
LAYOUTS = {
    "one host, 4 GPUs": (
        [sees("a", *"wxyz")] * 4,
        ["cuda:0", "cuda:1", "cuda:2", "cuda:3"],
        "nccl",
        "one GPU per process",
    ),
    "SLURM's --gpus-per-task=1": (
        [sees("a", gpu) for gpu in "wxyz"],
        ["cuda:0"] * 4,
        "nccl",
        "one GPU per process (A100), NCCL",
    ),
    "2 hosts x 2": (
        [sees("a", *"wx")] * 2 + [sees("b", *"wx")] * 2,
        ["cuda:0", "cuda:1"] * 2,
        "nccl",
        "one GPU per process",
    ),
    "3 processes, 1 GPU": (
        [sees("a", "w")] * 3,
        ["cuda:0"] * 3,
        "gloo",
        "3 processes on 1 GPU(s): NCCL refuses two ranks on one GPU, so messages are staged",
    ),
    "a host without GPU beside one with": (
        [sees("a", *"wx")] * 2 + [sees("b")] * 2,
        ["cpu"] * 4,
        "gloo",
        "CPU, gloo: torch sees no GPU on b (rank 2, 3), so no process uses one",
    ),
    "more processes than GPUs": (
        [sees("a", *"wx")] * 4,
        ["cuda:0", "cuda:1"] * 2,
        "gloo",
        "4 processes on 2 GPU(s): NCCL refuses",
    ),
    "too few on one of two hosts": (
        [sees("a", *"wx")] * 2 + [sees("b", "w")] * 2,
        ["cuda:0", "cuda:1", "cuda:0", "cuda:0"],
        "gloo",
        "4 processes on 3 GPU(s): NCCL refuses",
    ),
    "sets that overlap": ([sees("a", "w"), sees("a", *"wx")], ["cuda:0", "cuda:1"], "nccl", "one GPU per process"),
    "sets that need a change of mind": (
        [sees("a", *"wx"), sees("a", "w"), sees("a", *"xy")],
        ["cuda:1", "cuda:0", "cuda:1"],
        "nccl",
        "one GPU per process",
    ),
    "one GPU under two indices": (
        [sees("a", *"wx"), sees("a", *"xw")],
        ["cuda:0", "cuda:0"],
        "nccl",
        "one GPU per process",
    ),
    "torch without NCCL": (
        [sees("a", *"wx"), sees("a", *"wx", has_nccl=False)],
        ["cuda:0", "cuda:1"],
        "gloo",
        "one GPU per process (A100), but this torch has no NCCL",
    ),
    "no GPU anywhere": ([sees("a"), sees("b")], ["cpu", "cpu"], "gloo", "CPU, gloo"),
    "one process": ([sees("a", *"wx")], ["cuda:0"], "nccl", "one GPU (A100)"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    inventories, expected, backend, note = LAYOUTS[layout]
    chosen = decide("auto", inventories)
    assert [str(each.device) for each in chosen] == expected
    assert {each.backend for each in chosen} == {backend}
    [told] = {each.note for each in chosen}
    assert told.startswith(note)
    assert "\n" not in told
    if "cpu" not in expected:
        used = [each.gpus[compute.device.index] for each, compute in zip(inventories, chosen, strict=True)]
        assert (len(set(used)) == len(used)) == (backend == "nccl" or "no NCCL" in told)
        assert decide("cuda", inventories) == chosen
    assert {str(each.device) for each in decide("cpu", inventories)} == {"cpu"}


@pytest.mark.parametrize(
    ("inventories", "line"),
    [
        ([sees("a")], "device=cuda: torch sees no GPU on this machine; use device=cpu or device=auto"),
        ([sees("a", "w"), sees("b")], r"device=cuda: torch sees no GPU on b \(rank 1\); use device=cpu or device=auto"),
    ],
)
def test_asking_for_cuda_where_there_is_none(inventories, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        decide("cuda", inventories)


class FakeCuda:
    """The GPUs that each thread sees, in place of ``torch.cuda``."""

    def __init__(self, monkeypatch):
        self.seen = threading.local()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(self.seen.gpus))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(self.seen.gpus))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: self.seen.gpus[index])


def gpu(address):
    return SimpleNamespace(name=MODEL, pci_domain_id=0, pci_bus_id=address, pci_device_id=0, uuid=f"GPU-{address}")


def together(cuda, by_rank, store, requested="auto", timeout_s=10.0):
    """Every process chooses, each in a thread of its own; returns the choices or errors by rank."""
    results = {}

    def run(rank, gpus):
        cuda.seen.gpus = gpus
        try:
            results[rank] = choose_compute(requested, World(rank, 4, rank, 4), store, timeout_s)
        except (ValueError, ConnectionError) as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=item) for item in by_rank.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [results[rank] for rank in sorted(by_rank)]


@pytest.fixture
def server():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def test_processes_decide_together_over_a_store(monkeypatch, server):
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    cuda = FakeCuda(monkeypatch)
    own = {rank: [gpu(rank)] for rank in range(4)}
    chosen = together(cuda, own, dist.PrefixStore("job 0", server))
    assert {(str(each.device), each.backend) for each in chosen} == {("cuda:0", "nccl")}
    # The next job of the launch, where the launcher has made one GPU visible to two of them.
    chosen = together(cuda, own | {3: [gpu(0)]}, dist.PrefixStore("job 1", server))
    assert {(str(each.device), each.backend) for each in chosen} == {("cuda:0", "gloo")}
    assert len({each.note for each in chosen}) == 1


def test_all_refuse_when_one_cannot(monkeypatch, server):
    cuda = FakeCuda(monkeypatch)
    errors = together(cuda, {rank: [gpu(rank)] if rank else [] for rank in range(4)}, server, requested="cuda")
    assert [type(error) for error in errors] == [ValueError] * 4
    assert len({str(error) for error in errors}) == 1
    assert "(rank 0)" in str(errors[0])


def test_a_process_that_says_nothing_is_named(monkeypatch, server):
    cuda = FakeCuda(monkeypatch)
    [error] = together(cuda, {1: []}, server, timeout_s=0.2)
    assert str(error) == "rank 1 waited up to 0.2 s for rank 0, 2, 3 to say which GPUs there are"
    assert isinstance(error, ConnectionError)


def test_the_cpu_is_chosen_without_asking_anybody(server):
    compute = choose_compute("cpu", World(0, 4, 0, 4), server, 0.2)
    assert (str(compute.device), compute.backend, compute.note) == ("cpu", "gloo", "CPU, gloo")
    assert server.num_keys() <= 1  # a key of its own


def test_an_inventory_survives_the_store(server):
    own = sees("a", *"wx", has_nccl=False)
    assert exchange(own, World(), server, 1.0) == [own]


def test_a_gpu_is_the_same_under_every_index_and_to_every_version_of_torch(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    cuda.seen.gpus = [gpu(1), gpu(2)]
    first = take_inventory()
    cuda.seen.gpus = [gpu(2)]
    assert take_inventory().gpus == first.gpus[1:]
    assert len(set(first.gpus)) == 2
    # Instances of one divided GPU have its address, and NCCL refuses two of them.
    cuda.seen.gpus = [SimpleNamespace(**(vars(gpu(2)) | {"uuid": "MIG-7"}))]
    assert take_inventory().gpus == first.gpus[1:]
    older = [SimpleNamespace(name=MODEL, uuid=f"GPU-{each}") for each in (1, 2)]
    cuda.seen.gpus = older
    assert take_inventory().gpus == ("GPU-1", "GPU-2")
    cuda.seen.gpus = [SimpleNamespace(name=MODEL)] * 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-9")
    assert [each.rpartition("/")[2] for each in take_inventory().gpus] == ["GPU-7", "GPU-9"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    oldest = take_inventory()
    assert [each.rpartition("/")[2] for each in oldest.gpus] == ["0", "1"]
    # Another machine has other GPUs with these indices.
    monkeypatch.setattr(devices, "_BOOT_ID", SimpleNamespace(is_file=lambda: False))
    monkeypatch.setattr(devices.socket, "gethostname", lambda: "another")
    assert not set(take_inventory().gpus) & set(oldest.gpus)
    assert dataclasses.asdict(oldest)["host"] != "another"
