"""One guest: the instance that runs it in this process, its log records, snapshots, load request, and why it ended."""

from cloche._sandbox.failures import raise_failure
from cloche._sandbox.instance import Instance
from cloche._sandbox.interface import GIVEN, PHASES, Observer, Sandbox, Stats
from cloche._sandbox.replies import CheckedSandbox
from cloche._sandbox.request_handlers import request_handlers
from cloche._sandbox.snapshot import PAGE_BYTES, Snapshot
from cloche._sandbox.termination import CallUsage, Cancelled, CancelledHard, interruption, name_limit

__all__ = [
    "GIVEN",
    "PAGE_BYTES",
    "PHASES",
    "CallUsage",
    "Cancelled",
    "CancelledHard",
    "CheckedSandbox",
    "Instance",
    "Observer",
    "Sandbox",
    "Snapshot",
    "Stats",
    "interruption",
    "name_limit",
    "raise_failure",
    "request_handlers",
]
