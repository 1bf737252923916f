"""One guest: the instance that runs it in this process, its log records, snapshots, load request, and why it ended."""

from cloche._sandbox.carried import Carried
from cloche._sandbox.difference import Base, Difference
from cloche._sandbox.failures import raise_failure, read_failure
from cloche._sandbox.generators import with_generators, without_generators
from cloche._sandbox.instance import Instance
from cloche._sandbox.interface import (
    GIVEN,
    PHASES,
    Exchange,
    Observer,
    Recorded,
    Recorder,
    SampleSource,
    Sandbox,
    Stats,
    Watch,
)
from cloche._sandbox.live import LiveRecords
from cloche._sandbox.recorded import RecordedInstance, ReportsFailures, WatchedRecordedInstance, note_failure
from cloche._sandbox.replayed import ELSEWHERE, Intercept, ReplayedInstance, call_of
from cloche._sandbox.replies import CheckedSandbox
from cloche._sandbox.request_handlers import request_handlers
from cloche._sandbox.sinks import Sink, report
from cloche._sandbox.snapshot import Snapshot, checked, described, read_sections, sections
from cloche._sandbox.tape import Kept, Tape
from cloche._sandbox.tape_bytes import packed, unpacked
from cloche._sandbox.termination import CallUsage, interruption, name_limit
from cloche._sandbox.watched import Watched, WatchedInstance

__all__ = [
    "ELSEWHERE",
    "GIVEN",
    "PHASES",
    "Base",
    "CallUsage",
    "Carried",
    "CheckedSandbox",
    "Difference",
    "Exchange",
    "Instance",
    "Intercept",
    "Kept",
    "LiveRecords",
    "Observer",
    "Recorded",
    "RecordedInstance",
    "Recorder",
    "ReplayedInstance",
    "ReportsFailures",
    "SampleSource",
    "Sandbox",
    "Sink",
    "Snapshot",
    "Stats",
    "Tape",
    "Watch",
    "Watched",
    "WatchedInstance",
    "WatchedRecordedInstance",
    "call_of",
    "checked",
    "described",
    "interruption",
    "name_limit",
    "note_failure",
    "packed",
    "raise_failure",
    "read_failure",
    "read_sections",
    "report",
    "request_handlers",
    "sections",
    "unpacked",
    "with_generators",
    "without_generators",
]
