"""Requests of running guests, and the handlers that answer them. Operands are untrusted, and a node takes one call at a time."""

from cloche._requests.debug_router import Debugged, DebugHandler, DebugRouter, Tape
from cloche._requests.node_lock import NodeLock, exclusive, hold, is_inside, is_nested, run_inside
from cloche._requests.router import (
    FramedRequestRouter,
    GuestRequestRouter,
    Operation,
    RequestHandler,
    RequestRefused,
    RequestRouter,
)
from cloche._requests.service_handler import ServiceHandler
from cloche._requests.service_threads import ASYNC_PORTAL

__all__ = [
    "ASYNC_PORTAL",
    "DebugHandler",
    "DebugRouter",
    "Debugged",
    "FramedRequestRouter",
    "GuestRequestRouter",
    "NodeLock",
    "Operation",
    "RequestHandler",
    "RequestRefused",
    "RequestRouter",
    "ServiceHandler",
    "Tape",
    "exclusive",
    "hold",
    "is_inside",
    "is_nested",
    "run_inside",
]
