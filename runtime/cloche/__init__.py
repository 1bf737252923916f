"""Cloche runs third-party Python nodes under glass: each in its own CPython, compiled to WebAssembly, in this process.

>>> import cloche
>>> with cloche.Runtime() as runtime:
...     node = runtime.load(cloche.Source("def double(x): return 2 * x"), entry="double")
...     node.process(21)
42
"""

import sys

if sys.platform not in ("linux", "darwin"):
    raise ImportError(
        f"Cloche does not run on {sys.platform}: it needs Linux, or macOS, which is less tested. On Windows, use WSL 2"
    )

TYPE_CHECKING = False  # as in `typing`, which takes longer to import than this module
if TYPE_CHECKING:
    from cloche._profiling.profile import Profile, profile
    from cloche._records import BreakRecord, CallRecord, LogRecord, StreamPosition
    from cloche._runtime.figures import RuntimeStats
    from cloche._runtime.node import Node, Stats
    from cloche._runtime.pool import Pool
    from cloche._runtime.pool_workers import PoolStats
    from cloche._runtime.runtime import Runtime
    from cloche._sandbox.snapshot import Snapshot
    from cloche.budget import Budget, BudgetStats
    from cloche.clock import Clock
    from cloche.errors import (
        BrokenInstanceError,
        BudgetError,
        CallInterruptedError,
        ClocheError,
        ClosedError,
        DeadlineError,
        EncodeError,
        FuelError,
        GuestExitError,
        GuestTrapError,
        HardBudgetError,
        HardDeadlineError,
        HardInterruptedError,
        ImageError,
        InternalError,
        LimitError,
        NodeError,
        NodeLoadError,
        NodeRaisedError,
        OutputError,
        PoolTimeoutError,
        ProtocolError,
        ReloadError,
        ServiceError,
        StreamLimitError,
    )
    from cloche.grants import Grants
    from cloche.isolation import WorkerInfo
    from cloche.limits import Limits
    from cloche.mounts import Mount
    from cloche.pipeline import NodeSpec, Pipeline
    from cloche.services import Service, ServiceCall, ServiceRecord
    from cloche.source import Source
    from cloche_wire.array import Array
    from cloche_wire.record import Record
    from cloche_wire.tagged import Opaque

__version__ = "0.1.0"

__all__ = [
    "Array",
    "BreakRecord",
    "BrokenInstanceError",
    "Budget",
    "BudgetError",
    "BudgetStats",
    "CallInterruptedError",
    "CallRecord",
    "ClocheError",
    "Clock",
    "ClosedError",
    "DeadlineError",
    "EncodeError",
    "FuelError",
    "Grants",
    "GuestExitError",
    "GuestTrapError",
    "HardBudgetError",
    "HardDeadlineError",
    "HardInterruptedError",
    "ImageError",
    "InternalError",
    "LimitError",
    "Limits",
    "LogRecord",
    "Mount",
    "Node",
    "NodeError",
    "NodeLoadError",
    "NodeRaisedError",
    "NodeSpec",
    "Opaque",
    "OutputError",
    "Pipeline",
    "Pool",
    "PoolStats",
    "PoolTimeoutError",
    "Profile",
    "ProtocolError",
    "Record",
    "ReloadError",
    "Runtime",
    "RuntimeStats",
    "Service",
    "ServiceCall",
    "ServiceError",
    "ServiceRecord",
    "Snapshot",
    "Source",
    "Stats",
    "StreamLimitError",
    "StreamPosition",
    "WorkerInfo",
    "__version__",
    "profile",
]

# A module is imported when one of its names is first used: together they take a hundred times as long as this one.
_NAMES = {
    "cloche.mounts": ("Mount",),
    "cloche._runtime.node": ("Node", "Stats"),
    "cloche._runtime.pool": ("Pool",),
    "cloche._runtime.pool_workers": ("PoolStats",),
    "cloche._profiling.profile": ("Profile", "profile"),
    "cloche._runtime.runtime": ("Runtime",),
    "cloche._sandbox.snapshot": ("Snapshot",),
    "cloche.source": ("Source",),
    "cloche._records": ("BreakRecord", "CallRecord", "LogRecord", "StreamPosition"),
    "cloche._runtime.figures": ("RuntimeStats",),
    "cloche.budget": ("Budget", "BudgetStats"),
    "cloche.clock": ("Clock",),
    "cloche.errors": (
        "BrokenInstanceError",
        "BudgetError",
        "CallInterruptedError",
        "ClocheError",
        "ClosedError",
        "DeadlineError",
        "EncodeError",
        "FuelError",
        "GuestExitError",
        "GuestTrapError",
        "HardBudgetError",
        "HardDeadlineError",
        "HardInterruptedError",
        "ImageError",
        "InternalError",
        "LimitError",
        "NodeError",
        "NodeLoadError",
        "NodeRaisedError",
        "OutputError",
        "PoolTimeoutError",
        "ProtocolError",
        "ReloadError",
        "ServiceError",
        "StreamLimitError",
    ),
    "cloche.grants": ("Grants",),
    "cloche.isolation": ("WorkerInfo",),
    "cloche.limits": ("Limits",),
    "cloche.pipeline": ("NodeSpec", "Pipeline"),
    "cloche.services": ("Service", "ServiceCall", "ServiceRecord"),
    "cloche_wire.array": ("Array",),
    "cloche_wire.record": ("Record",),
    "cloche_wire.tagged": ("Opaque",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = (
    "budget",
    "clock",
    "errors",
    "frames",
    "grants",
    "image",
    "inspection",
    "isolation",
    "limits",
    "metering",
    "mounts",
    "parking",
    "pipeline",
    "profiling",
    "remedies",
    "repl",
    "services",
    "source",
    "texts",
)
_NEEDED = ("_ctypes", "ctypes", "fcntl", "mmap", "resource")
"""Modules of the standard library that some interpreters lack."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(_HOMES.get(name, f"cloche.{name}"))
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise ImportError(
            f"Cloche needs the module {error.name} of the standard library, which this Python was built without"
        ) from error
    if name in _MODULES:
        return home
    value: object = getattr(home, name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
