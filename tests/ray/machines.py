"""`Machines`: several machines of a Ray cluster in this one, each a raylet with an object store of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["TREE", "Machines", "eventually", "is_alive", "pid_of"]

TREE = Path(__file__).parents[2]


class Machines:
    """The machines of a Ray cluster. The driver's own, the head, has no CPU, so hosts are on the others.

    Args:
        store_bytes: the size of each machine's object store.

    Attributes:
        address: of the head.
        env: for hosts: the sources of this tree.
    """

    def __init__(self, store_bytes: int = 100 << 20) -> None:
        from ray.cluster_utils import Cluster

        options = {"include_dashboard": False, "num_cpus": 0, "object_store_memory": store_bytes}
        self._ray = Cluster(initialize_head=True, head_node_args=options)
        self._number = 0
        self._store_bytes = store_bytes
        self.nodes: dict[str, Any] = {}
        self.address: str = self._ray.address
        self.env = {"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, [TREE, TREE / "runtime", TREE / "guest"]))}}

    def add(self) -> str:
        """Start a machine; the name of its resource, by which nodes can ask for it."""
        self._number += 1
        name = f"machine-{self._number}"
        node = self._ray.add_node(num_cpus=1, object_store_memory=self._store_bytes, resources={name: 1}, wait=True)
        self.nodes[name] = node
        return name

    def kill(self, name: str) -> None:
        """End a machine, as a power cut would."""
        self._ray.remove_node(self.nodes.pop(name), allow_graceful=False)

    def fill(self, count: int) -> list[str]:
        """Have at least so many machines; their names."""
        while len(self.nodes) < count:
            self.add()
        return list(self.nodes)

    def close(self) -> None:
        """End all."""
        self._ray.shutdown()


def pid_of(host: Any) -> int:
    """The process of a host."""
    return int(host.hello.result().value["pid"])


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(is_true: Callable[[], object]) -> None:
    """Wait for something that other processes do."""
    until = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.05)
