"""Cloche runs third-party Python nodes under glass: each in its own CPython, compiled to WebAssembly, in this process.

>>> import cloche
>>> with cloche.Runtime() as runtime:
...     node = runtime.load(cloche.Source("def double(x): return 2 * x"), entry="double")
...     node.process(21)
42
"""

from typing import TYPE_CHECKING

from cloche._logs import LogRecord
from cloche._mount import Mount
from cloche._node import Node, Stats
from cloche._pool import Pool
from cloche._runtime import Runtime
from cloche._snapshot import Snapshot
from cloche._source import Source
from cloche._stream import StreamPosition
from cloche.clock import Clock
from cloche.errors import (
    BrokenInstanceError,
    ClocheError,
    ClosedError,
    DeadlineError,
    EncodeError,
    FuelError,
    GuestExitError,
    GuestTrapError,
    HardDeadlineError,
    ImageError,
    InternalError,
    LimitError,
    NodeError,
    NodeLoadError,
    NodeRaisedError,
    OutputError,
    ProtocolError,
    ServiceError,
    StreamLimitError,
)
from cloche.grants import Grants
from cloche.limits import Limits
from cloche.services import Service, ServiceCall, ServiceRecord
from cloche_wire.array import Array
from cloche_wire.record import Record
from cloche_wire.tagged import Opaque

if TYPE_CHECKING:
    from cloche._profile import Profile, profile

__version__ = "0.1.0"

__all__ = [
    "Array",
    "BrokenInstanceError",
    "ClocheError",
    "Clock",
    "ClosedError",
    "DeadlineError",
    "EncodeError",
    "FuelError",
    "Grants",
    "GuestExitError",
    "GuestTrapError",
    "HardDeadlineError",
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
    "Opaque",
    "OutputError",
    "Pool",
    "Profile",
    "ProtocolError",
    "Record",
    "Runtime",
    "Service",
    "ServiceCall",
    "ServiceError",
    "ServiceRecord",
    "Snapshot",
    "Source",
    "Stats",
    "StreamLimitError",
    "StreamPosition",
    "__version__",
    "profile",
]


def __getattr__(name: str) -> object:
    if name in ("Profile", "profile"):  # a tenth of the time that this import takes, and few need it
        from cloche import _profile

        return getattr(_profile, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
