"""`LiveRecords`: the log records of one call that its caller wants while the call runs (``on_log`` of `Node.with_options`).

The guest calls the import `poll` after each record, and waits there until the host has taken it. So nothing writes to the log ring
while the host reads it, and a record is taken once. What is read is as hostile as after a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from cloche._records import LogRecord
from cloche._sandbox import logs

__all__ = ["LiveRecords"]


class LiveRecords:
    """Counts and keeps the records of one call, and passes the first ones on at once.

    Args:
        put: takes a record. It returns at once, and raises no `Exception`.
        most: `Limits.log_records`. `put` gets the first ones, because it is not known how many there will be; the logger gets the
            newest ones after the call.
        call: number of the call on the node.
    """

    __slots__ = ("_call", "_count", "_lost", "_most", "_newest", "_parser", "_put")

    def __init__(self, put: Callable[[LogRecord], object], most: int, call: int) -> None:
        self._call = call
        self._parser = logs.Parser(call)
        self._put = put
        self._most = most
        self._newest: deque[LogRecord] = deque(maxlen=most)
        self._count = 0
        self._lost = 0

    def take(self, frames: Iterable[bytes], lost: int) -> None:
        """Take untrusted records from the ring.

        Args:
            frames: the records, oldest first.
            lost: number of records that the ring had no room for.
        """
        self._lost += lost
        for frame in frames:
            self._add(self._parser.take(frame))

    def _add(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            self._count += 1
            self._newest.append(record)
            if self._count <= self._most:
                self._put(record)

    def end(self) -> tuple[list[LogRecord], int]:
        """The records for the logger, the newest ones, and how many are missing. A warning about those is the last record."""
        self._add(self._parser.finish())
        records = list(self._newest)
        missing = self._lost + self._parser.refused + self._count - len(records)
        if missing:
            records.append(logs.about_missing(missing, len(records), self._most, self._call))
            self._put(records[-1])
        return records, missing
