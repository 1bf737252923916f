"""``cloche replay``: makes the calls of a recording again, and says whether all is the same, and where it is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cloche import Runtime
from cloche.cli._console import Bar, say
from cloche.replay import Recording, Report, replay
from cloche.texts import clean

if TYPE_CHECKING:
    from cloche.metering import Metering

__all__ = ["run"]


def run(path: str, metering: Metering, deadline_s: float | None, as_json: bool, quiet: bool) -> bool:
    """Replay a recording, and print the report on stdout.

    Args:
        path: the recording's file.
        metering: how the guest's time is bounded.
        deadline_s: seconds that each call may take; None: as long as it takes.
        as_json: print the report as one JSON object.
        quiet: print nothing unless the replay differs.

    Returns:
        whether everything that could be compared is the same.

    Raises:
        ClocheError: the file is no recording, or cannot be replayed.
        OSError: it cannot be read.
    """
    recording = Recording.open(path)
    with Runtime(metering=metering, progress=say) as runtime, Bar(recording.name, len(recording.calls), quiet) as bar:
        report = replay(recording, runtime=runtime, deadline_s=deadline_s, progress=lambda _at, _all: bar.advance(1))
    if as_json:
        print(_json(report))
    elif not (quiet and report):
        print("\n".join(clean(line) for line in str(report).splitlines()))
    return bool(report)


def _json(report: Report) -> str:
    recording = report.recording
    return json.dumps(
        {
            "version": 1,
            "same": bool(report),
            "node": recording.name,
            "calls": report.calls,
            "recorded_calls": len(recording.calls),
            "memory": report.memory,
            "digest": report.digest,
            "recorded_digest": recording.digest,
            "recorded_error": recording.error or None,
            "error": type(report.error).__name__ if report.error is not None else None,
            "inexact": list(report.inexact),
            "differences": [
                {"call": one.call, "number": one.number, "what": one.what, "where": one.where,
                 "recorded": one.recorded, "replayed": one.replayed}
                for one in report.differences
            ],
            "seconds": report.seconds,
        },
        indent=2,
    )  # fmt: skip
