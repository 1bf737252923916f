"""Record a node's calls, and make them again bit for bit: anywhere with the same image, without the services and files they used.

- `Record`: how calls are recorded, for ``record`` of `Runtime.load`.
- `Recording`: recorded calls as data: from `Node.recording`, or `Recording.open` of a file.
- `replay`: makes them all again, and says where the replay parts from the recording (`Report`).
- `Session`: makes them one at a time.
- `ReloadReport`: what `Node.reload` has come to.
"""

from cloche._recording import MAX_BYTES, SUFFIX, Difference, Record, RecordedCall, Recording
from cloche._runtime.reloading import ReloadReport
from cloche._sandbox import ELSEWHERE
from cloche.replay.report import Report, replay
from cloche.replay.session import DEADLINE_S, Session, Step

__all__ = [
    "DEADLINE_S",
    "ELSEWHERE",
    "MAX_BYTES",
    "SUFFIX",
    "Difference",
    "Record",
    "RecordedCall",
    "Recording",
    "ReloadReport",
    "Report",
    "Session",
    "Step",
    "replay",
]
