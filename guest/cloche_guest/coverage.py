"""`Coverage`: which lines of the node's own source have run, between PROFILE "cover" and "uncover".

This module is imported only when the host asks for it. Code of the wanted files gets events of its lines when it begins, and each
of them comes once: so a loop costs what it costs without. The node shares this interpreter, and can keep lines back or make some
up; but the host has said which files it wants to hear of, a file is named by its number there, and nothing else can be named.
"""

from __future__ import annotations

import sys
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

_MAX_LINE: Final = (1 << 32) - 1


class Coverage:
    """Notes the lines that run; construction begins it.

    Args:
        files: file names of code objects whose lines are wanted.

    Raises:
        RuntimeError: the node has occupied all tools of `sys.monitoring`; or this Python has none.
    """

    def __init__(self, files: Sequence[str]) -> None:
        monitoring: Any = getattr(sys, "monitoring", None)  # from Python 3.12 on
        if monitoring is None:
            raise RuntimeError("lines are noted from Python 3.12 on")
        free = (number for number in (1, 3, 4, 2, 0, 5) if monitoring.get_tool(number) is None)
        tool = next(free, None)
        if tool is None:
            raise RuntimeError("the node uses all tool ids of sys.monitoring: none is left for its coverage")
        self._monitoring = monitoring
        self._tool: int = tool
        self._fresh: list[set[int]] = [set() for _ in files]
        wanted = {file: (fresh, set[int]()) for file, fresh in zip(files, self._fresh, strict=True)}
        events, never = monitoring.events, monitoring.DISABLE

        def started(code: CodeType, _offset: int) -> Any:
            if code.co_filename in wanted:
                monitoring.set_local_events(tool, code, events.LINE)
            return never

        def line(code: CodeType, number: int) -> Any:
            fresh, known = wanted[code.co_filename]
            if number not in known:
                fresh.add(number)
                known.add(number)
            return never

        self._callbacks = {events.PY_START: started, events.PY_RESUME: started, events.LINE: line}
        monitoring.use_tool_id(tool, "cloche coverage")
        for event, callback in self._callbacks.items():
            monitoring.register_callback(tool, event, callback)
        monitoring.set_events(tool, events.PY_START | events.PY_RESUME)
        monitoring.restart_events()  # of code that has run in a clone's template

    def take(self) -> bytes:
        """The lines that have run for the first time since the last `take`: number of the file and line, in 32 bits each."""
        numbers = array("I")
        for number, lines in enumerate(self._fresh):
            for line in sorted(lines):
                if 0 < line <= _MAX_LINE:
                    numbers.extend((number, line))
            lines.clear()
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tobytes()

    def stop(self) -> None:
        """End it."""
        monitoring, tool = self._monitoring, self._tool
        with suppress(ValueError):  # the node has freed the tool id
            monitoring.set_events(tool, 0)
            for event in self._callbacks:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)
