"""Where nodes run: in this process, or in confined worker processes (``Runtime(isolation=...)``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Isolation", "WorkerInfo"]

Isolation = Literal["none", "process"]
"""What stands between a node and this process besides WebAssembly: "none", or "process", a worker process without rights."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process of `Runtime(isolation="process")`, as `Runtime.workers` lists it.

    Attributes:
        pid: its process id.
        nodes: how many nodes it has now.
        confined_by: the restrictions that the process cannot undo: "no_new_privs", "rlimits", "seccomp"; "memory" and
            "processor_time" if they are bounded by the limits of its nodes; "cgroup" if the kernel enforces those bounds too.
        missing: restrictions that could not be applied on this machine, each with the reason.
    """

    pid: int
    nodes: int
    confined_by: tuple[str, ...]
    missing: dict[str, str] = field(hash=False)
