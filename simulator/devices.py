"""Where the processes of a launch compute, decided by all together from the GPUs that each of them sees.

Every process tells the others its host and its GPUs over the launch's store. All of them then apply one function to the
same list, so they agree on the backend whatever the launcher has made visible to whom.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.world import World

if TYPE_CHECKING:
    import torch
    from torch._C._distributed_c10d import Store

_POLL_S = 0.01
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Compute:
    """Where a process computes and how its messages travel."""

    device: "torch.device"
    backend: str
    note: str


@dataclass(frozen=True)
class Inventory:
    """What one process can compute with.

    Attributes:
        host: name of its machine.
        gpus: identity of every GPU that it sees, in the order of the indices of ``cuda:<index>``. Two processes that
            see one GPU give it the same identity, under whatever index they see it.
        names: the models of these GPUs.
        has_nccl: whether torch was built with NCCL.
    """

    host: str
    gpus: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    has_nccl: bool = True

    @classmethod
    def from_json(cls, text: str) -> "Inventory":
        """The inventory that another process has sent."""
        values: dict[str, Any] = json.loads(text)
        return cls(values["host"], tuple(values["gpus"]), tuple(values["names"]), values["has_nccl"])


def choose_compute(requested: str, world: World, store: "Store | None", timeout_s: float) -> Compute:
    """Chooses device and backend of this process; every process of ``world`` calls it.

    Args:
        requested: ``auto``, ``cpu`` or ``cuda``.
        store: what the processes share; None where there is one.
        timeout_s: how long the others may take.

    Raises:
        ValueError: when CUDA is requested and a process sees no GPU, or ``requested`` is another string.
        ConnectionError: when other processes do not answer.
    """
    if requested not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={requested!r}: expected auto, cpu or cuda")
    if requested == "cpu":
        return decide(requested, [Inventory("")])[0]
    own = take_inventory()
    if store is None:
        return decide(requested, [own])[0]
    return decide(requested, exchange(own, world, store, timeout_s))[world.rank]


def take_inventory() -> Inventory:
    """What this process can compute with."""
    import torch
    import torch.distributed as dist

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    host = socket.gethostname()
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    return Inventory(
        host,
        tuple(_identity(host, index, each) for index, each in enumerate(properties)),
        tuple(str(each.name) for each in properties),
        dist.is_nccl_available(),
    )


def _identity(host: str, index: int, properties: Any) -> str:
    """The same text in every process that sees this GPU, and in no other.

    NCCL tells the GPUs of a machine apart by their addresses on the bus, so instances of one divided GPU are one to it.
    Older versions of torch do not tell the address but the UUID, or neither.
    """
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.is_file() else host
    if hasattr(properties, "pci_bus_id"):
        address = (properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id)
        return f"{boot}/{':'.join(f'{part:x}' for part in address)}"
    if hasattr(properties, "uuid"):
        return str(properties.uuid)
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    return f"{boot}/{visible[index] if index < len(visible) else index}"


def exchange(own: Inventory, world: World, store: "Store", timeout_s: float) -> list[Inventory]:
    """The inventories of all processes, by rank.

    Raises:
        ConnectionError: when some do not answer; names their ranks.
    """
    keys = [f"inventory/{rank}" for rank in range(world.world_size)]
    silent = "the others"
    try:
        store.set(keys[world.rank], json.dumps(asdict(own)))
        deadline = time.monotonic() + timeout_s
        while not store.check(keys):
            if time.monotonic() > deadline:
                silent = "rank " + ", ".join(str(rank) for rank, key in enumerate(keys) if not store.check([key]))
                raise TimeoutError
            time.sleep(_POLL_S)
        return [Inventory.from_json(bytes(store.get(key)).decode()) for key in keys]
    except (TimeoutError, RuntimeError) as error:
        raise ConnectionError(
            f"rank {world.rank} waited up to {timeout_s:g} s for {silent} to say which GPUs there are"
        ) from error


def decide(requested: str, inventories: Sequence[Inventory]) -> list[Compute]:
    """Where every process computes, by rank, from what all of them see.

    NCCL needs a GPU per process that no other process has. Where there are too few, processes share them and send
    through gloo. Where a process sees none, all compute on the CPU, so that no process waits for slower ones.

    Raises:
        ValueError: when ``requested`` is ``cuda`` and a process sees no GPU.
    """
    import torch

    without = [rank for rank, each in enumerate(inventories) if not each.gpus]
    if without and requested == "cuda":
        where = "torch sees no GPU on this machine" if len(inventories) == 1 else _where(without, inventories)
        raise ValueError(f"device=cuda: {where}; use device=cpu or device=auto")
    if without or requested == "cpu":
        note = "CPU, gloo"
        if 0 < len(without) < len(inventories):
            note += f": {_where(without, inventories)}, so no process uses one"
        return [Compute(torch.device("cpu"), "gloo", note)] * len(inventories)
    own = _one_each(inventories)
    chosen = own or _shared(inventories)
    devices = [torch.device("cuda", each.gpus.index(gpu)) for each, gpu in zip(inventories, chosen, strict=True)]
    name = inventories[0].names[devices[0].index]
    if len(inventories) == 1:
        return [Compute(devices[0], "nccl", f"one GPU ({name})")]
    staged = "so messages are staged through pinned memory and gloo"
    if own and all(each.has_nccl for each in inventories):
        backend, note = "nccl", f"one GPU per process ({name}), NCCL"
    elif own:
        backend, note = "gloo", f"one GPU per process ({name}), but this torch has no NCCL, {staged}"
    else:
        used = len({gpu for each in inventories for gpu in each.gpus})
        refusal = "NCCL refuses two ranks on one GPU"
        backend, note = "gloo", f"{len(inventories)} processes on {used} GPU(s): {refusal}, {staged}"
    return [Compute(device, backend, note) for device in devices]


def _where(ranks: Sequence[int], inventories: Sequence[Inventory]) -> str:
    """Says on which hosts the ranks without a GPU are."""
    hosts = ", ".join(dict.fromkeys(inventories[rank].host for rank in ranks))
    return f"torch sees no GPU on {hosts} (rank {', '.join(map(str, ranks))})"


def _one_each(inventories: Sequence[Inventory]) -> list[str] | None:
    """A GPU for every process that no other process has; None when there are too few.

    A matching by augmenting paths. Processes that see the same GPUs get them in the order of their ranks.
    """
    owner: dict[str, int] = {}

    def finds(rank: int, tried: set[str]) -> bool:
        seen = inventories[rank].gpus
        for gpu in sorted(seen, key=lambda gpu: gpu in owner):
            if gpu in tried:
                continue
            tried.add(gpu)
            if gpu not in owner or finds(owner[gpu], tried):
                owner[gpu] = rank
                return True
        return False

    if not all(finds(rank, set()) for rank in range(len(inventories))):
        return None
    by_rank = {rank: gpu for gpu, rank in owner.items()}
    return [by_rank[rank] for rank in range(len(inventories))]


def _shared(inventories: Sequence[Inventory]) -> list[str]:
    """For every process the GPU among those it sees that the fewest processes before it have."""
    uses: dict[str, int] = {}
    chosen = []
    for each in inventories:
        gpu = min(each.gpus, key=lambda gpu: uses.get(gpu, 0))
        uses[gpu] = uses.get(gpu, 0) + 1
        chosen.append(gpu)
    return chosen
