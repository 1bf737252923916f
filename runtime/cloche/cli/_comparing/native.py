"""`Native`: the side on which a node has all rights of this user. It runs in a process of its own, so that it can hang or crash."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

from cloche._child import start
from cloche.cli._comparing.life import Outcome, Way
from cloche.grants import Grants
from cloche.limits import Limits

__all__ = ["Native"]

_MEMORY: Final = 8 << 30
"""Bytes of address space of a process whose node is called with made-up inputs."""
_LOAD_S: Final = 60.0
_END_S: Final = 10.0
"""Seconds in which a node can answer what is no call with an item, beyond the time that it may take for one."""


class _NoAnswer(Exception):
    """The process has ended, or did not answer in time."""


class Native:
    """A node outside of the sandbox.

    Args:
        path: its file or folder, or the name of its module.
        entry: its class or function.
        params: keyword arguments of its ``__init__``.
        grants: packages and variables; all else is this machine's.
        limits: of the sandbox; those on values and logs hold natively as well.
        folder: the process' working folder; None: this one.
        call_s: seconds that a call may take.
        hash_seed: seed of the hashes of texts, which the order in sets depends on.
        made_up: whether the node is called with inputs that nobody chose.
    """

    def __init__(
        self,
        path: str,
        entry: str | None,
        params: dict[str, Any],
        grants: Grants,
        limits: Limits,
        *,
        folder: str | None,
        call_s: float,
        hash_seed: int,
        made_up: bool,
    ) -> None:
        given = replace(grants, mounts={}, scratch_bytes=0)
        here = Path(path)
        self._order = (str(here.absolute()) if here.exists() else path, entry, params, given, limits)
        self._folder, self._call_s, self._hash_seed = folder, call_s, hash_seed
        self._memory = _MEMORY if made_up else 0
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_loaded = False
        self.memory_bytes = 0

    def begin(self) -> Outcome:
        """See `Side`. After a break in a new process."""
        if self._connection is None:
            self._spawn()
        if not self._is_loaded:
            try:
                self._ask(_LOAD_S, "load", *self._order, self._memory)
            except _NoAnswer as error:
                return _broken(error)
            self._is_loaded = True
        return self._outcome(_LOAD_S, "begin")

    def call(self, item: Any, *, spread: bool = False) -> Outcome:
        """See `Side`."""
        return self._outcome(self._call_s, "call", item, spread=spread)

    def stream(self, items: Sequence[Any] | None) -> Outcome:
        """See `Side`."""
        outcome = self._outcome(self._call_s * (1 + len(items or ())), "stream", items)
        if outcome.kind == "broken":
            outcome.value = []
        return outcome

    def state(self, names: Sequence[str]) -> dict[str, Outcome]:
        """See `Side`."""
        try:
            found: dict[str, Outcome] = self._ask(_END_S, "state", list(names))
        except _NoAnswer:
            return {}
        return found

    def names(self) -> list[str]:
        """See `Side`."""
        try:
            found: list[str] = self._ask(_END_S, "names")
        except _NoAnswer:
            return []
        return found

    def finish(self) -> Outcome:
        """See `Side`."""
        return self._outcome(self._call_s + _END_S, "finish")

    def seconds(self, items: Sequence[Any], most_s: float, way: Way) -> float | None:
        """See `Side`."""
        try:
            found: float | None = self._ask(self._call_s * (2 + len(items)) + most_s, "seconds", items, most_s, way)
            self.memory_bytes = self._ask(_END_S, "peak")
        except _NoAnswer:
            return None
        return found

    def close(self) -> None:
        """End the process, with all that it has started."""
        self._is_loaded = False
        connection, self._connection = self._connection, None
        process, self._process = self._process, None
        if connection is not None:
            connection.close()
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def __enter__(self) -> Self:
        """Start the process, so that two of them start at the same time."""
        self._spawn()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self) -> None:
        self._process, self._connection = start(
            "cloche.cli._comparing.native_main",
            variables={"PYTHONHASHSEED": str(self._hash_seed)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            start_new_session=True,
        )

    def _outcome(self, seconds: float, verb: str, *arguments: Any, **keywords: Any) -> Outcome:
        try:
            found: Outcome = self._ask(seconds, verb, *arguments, **keywords)
        except _NoAnswer as error:
            return _broken(error)
        return found

    def _ask(self, seconds: float, verb: str, *arguments: Any, **keywords: Any) -> Any:
        connection = self._connection
        if connection is None:
            raise _NoAnswer("it has ended")
        try:
            connection.send_bytes(pickle.dumps((verb, arguments, keywords)))
            if not connection.poll(seconds):
                self.close()
                raise _NoAnswer(f"it did not answer within {seconds:g} s")
            # the process has all rights of this user already: what it sends can do nothing more
            return pickle.loads(connection.recv_bytes())
        except _NoAnswer:
            raise
        except Exception:  # it has ended, or the node has tampered with what is sent
            process = self._process
            code = None if process is None else _code(process)
            self.close()
            raise _NoAnswer(f"its process ended with {code}") from None


def _code(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "no code"
    return f"signal {-code}" if code < 0 else f"code {code}"


def _broken(error: _NoAnswer) -> Outcome:
    return Outcome("broken", None, ("natively", str(error)))
