"""`Repl`: an interactive Python session in a sandbox. Snippets run one after the other and share their names.

>>> from cloche.repl import Repl
>>> with cloche.Runtime() as runtime, Repl(runtime) as repl:
...     repl.run("x = 20\\nprint('hello')")
...     repl.run("x + 1").value
21

For tools that give a language model an interpreter, for notebooks, for teaching. What a snippet does becomes a value, an
`Execution`, and never an exception of the host: errors, deadlines and crashes are in it.
"""

from __future__ import annotations

import itertools
import reprlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, Literal

from cloche._arguments import checked_count
from cloche._keywords import teaches
from cloche._runtime.closing import Closable
from cloche._runtime.recovery import MAX_RESTARTS, OnBreak
from cloche.errors import BrokenInstanceError, CallInterruptedError, ClocheError, DeadlineError, NodeRaisedError
from cloche.source import Source

if TYPE_CHECKING:
    from cloche._runtime.runtime import Runtime
    from cloche._sandbox.snapshot import Snapshot
    from cloche.grants import Grants
    from cloche.limits import Limits

__all__ = ["Execution", "Failure", "Repl"]

_RESTARTS: Final = 1_000_000
"""A session is brought back however often its snippets break it in a row: each time because the caller wants to run another one."""
_ROOM: Final = 100
"""Characters beyond `output_bytes` for the line that says how much was left out."""

Kind = Literal["raised", "deadline", "interrupted", "broken"]
State = Literal["kept", "before", "lost"]


@dataclass(frozen=True, slots=True)
class Failure:
    """How a snippet failed.

    Attributes:
        kind: "raised": it raised an exception. "deadline": it was interrupted at its deadline. "interrupted": by
            `Repl.interrupt`, or because the session was closed. "broken": it crashed the sandbox, or
            did not stop at its deadline, or passed a limit whose end is a break.
        type: the exception's class, e.g. "ZeroDivisionError". Untrusted text, as all that comes from a snippet.
        message: the exception's text.
        traceback: the snippet's lines and the exception, as Python shows them; "" if nothing is known of them.
        state: what has become of the session's names and files. "kept": all that the snippet did until it failed is there.
            "before": they are as before the snippet. "lost": they are those of a new session.
    """

    kind: Kind
    type: str
    message: str
    traceback: str = ""
    state: State = "kept"


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of one snippet. Everything in it is untrusted. ``str(execution)`` is what an interactive session would show.

    Attributes:
        output: what the snippet printed to stdout and stderr, in order. Of more than the session's `output_bytes`, the middle is
            left out; of a snippet that broke the sandbox there is none.
        text: the ``repr`` of the value of its last line, if that is an expression with another value than None.
        value: that value itself; None if there is none, or if it cannot be sent.
        unsent: why the value could not be sent; "" if it was.
        failure: how it failed; None if it did not.
    """

    output: str = ""
    text: str | None = None
    value: Any = None
    unsent: str = ""
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether the snippet ran to its end."""
        return self.failure is None

    def __str__(self) -> str:
        parts = [self.output]
        if self.text is not None:
            parts.append(self.text)
        if self.failure is not None:
            parts.append(self.failure.traceback or f"{self.failure.type}: {self.failure.message}")
            if (note := _NOTES[self.failure.state]) is not None:
                parts.append(note)
        return "\n".join(part.removesuffix("\n") for part in parts if part)


_NOTES: Final[dict[State, str | None]] = {
    "kept": None,
    "before": "The interpreter had to be ended. Names and files are as they were before this code.",
    "lost": "The interpreter had to be ended, and is a new one: all names and files are gone.",
}


class Repl(Closable):
    """An interactive Python session in a sandbox of its own. Thread-safe: snippets run one at a time.

    Names, imports and files (in the sandbox's home folder, which is the current one) last from one snippet to the next. The value
    of the last expression is the name ``_``. ``await`` may stand outside of functions. Each service that `grants` has is a
    function that snippets can call by its name.

    Args:
        runtime: where the session's sandbox is made.
        limits: limits of the session; None: the runtime's. `Limits.deadline_s` is the time of one snippet.
        grants: what snippets may use besides Python; None: nothing.
        name: the session's name in logs and errors.
        output_bytes: what is kept of the output of one snippet; also the characters of the text of its value.
        on_break: what the session is after a snippet that broke it. "restore": as before that snippet; for this the sandbox's state
            is copied after each snippet, at least 0.6 MB in some 0.3 ms. "restart": a new session. "raise": closed.
        snapshot: of another session (`snapshot`): this one goes on from there; None: a new session.

    Attributes:
        node: the session as a node, for `Node.stats`, `Node.where` and the like.

    Raises:
        ClocheError: as for `Runtime.load`, or `Runtime.restore`.
        TypeError: an argument has the wrong class; the message names the argument.
        ValueError: `output_bytes` is less than 1.
    """

    @teaches()
    def __init__(
        self,
        runtime: Runtime,
        *,
        limits: Limits | None = None,
        grants: Grants | None = None,
        name: str = "repl",
        output_bytes: int = 64 << 10,
        on_break: OnBreak = "restore",
        snapshot: Snapshot | None = None,
    ) -> None:
        if not hasattr(runtime, "load"):
            raise TypeError(f"runtime is {reprlib.repr(runtime)}: give a cloche.Runtime")
        self._output_bytes = checked_count("output_bytes", output_bytes)
        restarts = MAX_RESTARTS if on_break == "raise" else _RESTARTS
        if snapshot is None:
            source = Source(Path(__file__).with_name("session.py").read_text("utf-8"), "cloche/repl/session.py")
            self.node = runtime.load(
                source,
                "Session",
                name=name,
                limits=limits,
                grants=grants,
                on_break=on_break,
                max_restarts=restarts,
            )
        else:
            self.node = runtime.restore(
                snapshot, name=name, limits=limits, grants=grants, on_break=on_break, max_restarts=restarts
            )
        self._tickets = itertools.count(1)
        self._under_way: set[int] = set()
        self._lock = threading.Lock()

    @teaches()
    def run(self, code: str, *, deadline_s: float | EllipsisType | None = ...) -> Execution:
        """Run a snippet. Whatever it does is in the result.

        Args:
            code: Python source: statements, whose last may be an expression.
            deadline_s: seconds that it may take, in place of `Limits.deadline_s`; None: as long as it takes.

        Raises:
            EncodeError: `code` is longer than `Limits.request_bytes`.
            ClosedError: the session is closed.
            TypeError: `code` is not a text, or `deadline_s` not a number.
            ValueError: `deadline_s` is out of range.
        """
        node = self.node.with_options(deadline_s=deadline_s)
        with self._ticket(code) as (ticket, oldest):
            try:
                return self._read(node.process(code, ticket, oldest, self._output_bytes))
            except ClocheError as error:
                if (unsent := _unsent(error)) is None:
                    return _failed(error)
            try:
                return self._read(node.call("outcome", ticket), unsent)
            except ClocheError as error:
                return _failed(error)

    @teaches()
    async def arun(self, code: str, *, deadline_s: float | EllipsisType | None = ...) -> Execution:
        """As `run`, awaitable under asyncio and trio. Cancelling the task interrupts the snippet."""
        node = self.node.with_options(deadline_s=deadline_s)
        with self._ticket(code) as (ticket, oldest):
            try:
                return self._read(await node.aprocess(code, ticket, oldest, self._output_bytes))
            except ClocheError as error:
                if (unsent := _unsent(error)) is None:
                    return _failed(error)
            try:
                return self._read(await node.acall("outcome", ticket), unsent)
            except ClocheError as error:
                return _failed(error)

    def assign(self, values: Mapping[str, Any] | None = None, /, **names: Any) -> None:
        """Set names of the session: ``repl.assign(rows=[1, 2])``, or with a mapping.

        Raises:
            EncodeError: a value cannot be sent.
            TypeError: a name is not a text.
        """
        assigned: dict[Any, Any] = {**(values or {}), **names}
        if wrong := [name for name in assigned if not isinstance(name, str)]:
            raise TypeError(f"{reprlib.repr(wrong[0])} is no name: give texts")
        self.node.call("assign", assigned)

    def value(self, name: str) -> Any:
        """A copy of the value that a name of the session has.

        Raises:
            NodeRaisedError: there is no such name (``exc_type`` "NameError"), or its value cannot be sent.
        """
        return self.node.call("value", name)

    def names(self) -> list[str]:
        """The names that snippets have defined or imported, sorted; without those that begin with an underscore. Untrusted."""
        found = self.node.call("names")
        return found if type(found) is list and all(type(name) is str for name in found) else []

    def read_file(self, path: str) -> bytes:
        """The content of a file of the sandbox. A relative path begins at the session's current folder.

        Raises:
            NodeRaisedError: the file cannot be read (``exc_type`` "FileNotFoundError" ...), or is larger than `Limits.reply_bytes`.
        """
        found = self.node.call("read_file", path)
        if type(found) is not bytes:
            raise ClocheError(
                f"the session {self.node.name!r} returned no bytes for a file: its snippets have changed it"
            )
        return found

    def write_file(self, path: str, content: bytes | str) -> None:
        """Write a file of the sandbox, and make the folders on the way to it. Text is written as UTF-8.

        Raises:
            NodeRaisedError: the file cannot be written (``exc_type`` "OSError" if the folder is full ...).
            TypeError: `content` is neither bytes nor a text.
        """
        if isinstance(content, str):
            content = content.encode()
        elif not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"content is {reprlib.repr(content)}: give bytes or a text")
        self.node.call("write_file", path, bytes(content))

    def snapshot(self) -> Snapshot:
        """The session's whole state: names, imports and files. ``Repl(runtime, snapshot=...)`` goes on from there."""
        return self.node.snapshot()

    def interrupt(self) -> bool:
        """End the snippet that runs, from any thread: a stop button. The session goes on.

        Returns:
            whether a snippet was running. Its execution has a failure of the kind "interrupted", or "broken" if it did not stop.
        """
        return self.node.interrupt()

    def close(self, timeout: float | None = None) -> None:
        """End the session. Calling it again does nothing.

        Args:
            timeout: seconds for which a snippet that runs is waited for; then it is interrupted. None: as long as it takes.
        """
        self.node.close(timeout)

    async def aclose(self, timeout: float | None = None) -> None:
        """As `close`, awaitable."""
        await self.node.aclose(timeout)

    def __repr__(self) -> str:
        return repr(self.node).replace("cloche.Node", "cloche.repl.Repl", 1)

    @contextmanager
    def _ticket(self, code: str) -> Iterator[tuple[int, int]]:
        """A number for one snippet, and the least one of those under way: the session forgets the outcomes before that."""
        if not isinstance(code, str):
            raise TypeError(f"code is {reprlib.repr(code)}: give Python source as a text")
        with self._lock:
            ticket = next(self._tickets)
            self._under_way.add(ticket)
            oldest = min(self._under_way)
        try:
            yield ticket, oldest
        finally:
            with self._lock:
                self._under_way.discard(ticket)

    def _read(self, outcome: Any, unsent: str = "") -> Execution:
        """The execution that the session reports. Snippets can change the session, so any value can come here."""
        most = self._output_bytes + _ROOM
        match outcome:
            case [str(output), None | str() as text, None, *rest] if len(rest) <= 1:
                execution = Execution(output, text, rest[0] if rest else None, unsent)
                texts = [output, text or ""]
            case [str(output), None, [str(kind), str(message), str(traceback)], *rest] if len(rest) <= 1:
                execution = Execution(output, failure=Failure(_kind(kind), kind, message, traceback))
                texts = [output, kind, message, traceback]
            case _:
                texts = []
        if not texts or max(map(len, texts)) > most:
            return Execution(failure=Failure("raised", "RuntimeError", "the snippets have changed the session itself"))
        return execution


def _kind(name: str) -> Kind:
    return "deadline" if name == "DeadlineExceeded" else "interrupted" if name == "Cancelled" else "raised"


def _unsent(error: ClocheError) -> str | None:
    """Why a snippet's value could not be sent, if that is what the error says: the rest of the outcome can then be asked for."""
    if not isinstance(error, NodeRaisedError) or error.failure.phase != "encode":
        return None
    return error.message.replace("result[3]", "value", 1)


def _failed(error: ClocheError) -> Execution:
    """What came of a snippet whose call raised.

    Raises:
        ClocheError: `error`, if it is not the snippet's doing.
    """
    match error:
        case BrokenInstanceError():
            state: State = "before" if error.recovered == "restore" else "lost"
            return Execution(failure=Failure("broken", type(error).__name__, str(error), state=state))
        case DeadlineError():
            return Execution(failure=Failure("deadline", "DeadlineExceeded", str(error), error.guest_traceback))
        case CallInterruptedError():
            return Execution(failure=Failure("interrupted", "Cancelled", str(error), error.guest_traceback))
        case NodeRaisedError():
            return Execution(failure=Failure("raised", error.exc_type, error.message, error.guest_traceback))
    raise error
