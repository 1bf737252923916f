"""What figures depend on besides the code: the machine, the versions, the flags."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloche import Runtime

__all__ = ["environment_flags", "machine", "versions"]

_FLAGS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTHONMALLOC",
)


_ASK = """
import platform
def ask(_):
    import numpy
    return platform.python_version(), platform.python_compiler(), numpy.__version__
"""


def _field(path: str, name: str) -> str:
    """The value of the first line ``name: value`` of a file in /proc; "" if there is none."""
    try:
        with open(path) as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def machine() -> dict[str, Any]:
    """The processor, the cores that this process may use, the memory, the system, and the load at this moment."""
    memory = _field("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory or 0) * 1024,
        "os": _os_name(),
        "kernel": platform.release().partition("-")[0],
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def versions(runtime: Runtime | None) -> dict[str, str]:
    """Versions of all packages that take part, and of the guest's Python and numpy, which a node in `runtime` reports."""
    import cloche

    found = {
        "cloche": cloche.__version__,
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
    }
    if runtime is not None:
        with runtime.load(cloche.Source(_ASK), "ask") as node:
            version, compiler, numpy = node.process(None)
        found["image"] = runtime.image.sha256
        found["guest_python"] = f"{version} ({compiler})"
        found["guest_numpy"] = str(numpy)
    for package in ("numpy", "wasmtime", "cbor2", "pyperformance", "pydantic-monty"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment_flags() -> dict[str, Any]:
    """Environment variables and interpreter flags that can change the figures."""
    flags: dict[str, Any] = {name: os.environ[name] for name in _FLAGS if name in os.environ}
    flags["python_flags"] = " ".join(name for name in ("optimize", "dev_mode") if getattr(sys.flags, name)) or "none"
    return flags
