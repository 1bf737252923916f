"""One guest: the instance that runs it in this process, its log records, snapshots, load request, and why it ended."""

from cloche._sandbox.failures import raise_failure
from cloche._sandbox.instance import Instance
from cloche._sandbox.interface import GIVEN, PHASES, Exchange, Observer, Sandbox, Stats, Watch
from cloche._sandbox.live import LiveRecords
from cloche._sandbox.replies import CheckedSandbox
from cloche._sandbox.request_handlers import request_handlers
from cloche._sandbox.sinks import Sink, report
from cloche._sandbox.snapshot import Snapshot, checked
from cloche._sandbox.termination import CallUsage, interruption, name_limit
from cloche._sandbox.watched import Watched, WatchedInstance

__all__ = [
    "GIVEN",
    "PHASES",
    "CallUsage",
    "CheckedSandbox",
    "Exchange",
    "Instance",
    "LiveRecords",
    "Observer",
    "Sandbox",
    "Sink",
    "Snapshot",
    "Stats",
    "Watch",
    "Watched",
    "WatchedInstance",
    "checked",
    "interruption",
    "name_limit",
    "raise_failure",
    "report",
    "request_handlers",
]
