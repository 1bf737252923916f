"""The node behind `cloche.repl.Repl`. It runs inside the sandbox; the host reads this file as text, and never imports it.

Snippets run in this interpreter, so they can change whatever is here: what the node replies is a stranger's word.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import io
import itertools
import linecache
import os
import sys
import tempfile
import traceback
from collections import deque
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from cloche_guest import services

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Session"]

_SOURCES = 100
"""Snippets whose lines tracebacks can show."""
_SNIPPET = "<snippet "
_FEATURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class Session:
    """Runs snippets one after the other in one namespace, as Python's interactive mode does."""

    def __init__(self) -> None:
        self._module = ModuleType("__main__")
        self._module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = self._module  # where pickle, dataclasses and typing look for what snippets define
        self._limit = 0
        self._output = _Output()
        # The same streams for all snippets: a log handler that one snippet has made is used by the next
        self._stdout, self._stderr = self._stream(), self._stream()
        self._numbers = itertools.count(1)
        self._features = 0
        self._outcomes: dict[int, list[Any]] = {}
        self._sources: deque[str] = deque()
        for folder in (Path.home(), tempfile.gettempdir()):
            with suppress(OSError):
                os.chdir(folder)
                break

    def process(self, code: str, ticket: int, oldest: int, output_bytes: int) -> Any:
        """Run a snippet.

        Args:
            code: its source.
            ticket: a number of the host's, for `outcome`.
            oldest: the least ticket whose outcome the host may still ask for.
            output_bytes: what is kept of the snippet's output, and characters of the text of its value.

        Returns:
            the outcome, and the value of the last expression: ``[output, text, failure, value]``. The failure is None or
            ``[type, message, traceback]``; the text is that of the value, or None if there is none. For code that awaits: a
            coroutine that gives this.
        """
        for number in [number for number in self._outcomes if number < oldest]:
            del self._outcomes[number]
        self._limit = output_bytes
        self._output.clear(output_bytes)
        for name in dir(services):  # each time: a restored session may have other services
            if not name.startswith("_"):
                self._module.__dict__.setdefault(name, getattr(services, name))
        filename = self._remembered(code)
        self._stdout, self._stderr = self._usable(self._stdout), self._usable(self._stderr)
        value, failure = None, None
        with redirect_stdout(self._stdout), redirect_stderr(self._stderr):
            try:
                parts = list(self._compiled(code, filename))
                if any(part.co_flags & inspect.CO_COROUTINE for part, _ in parts):
                    return self._awaited(parts, ticket)
                for part, is_last in parts:
                    found = eval(part, self._module.__dict__)
                    if is_last:
                        value = found
                text = self._shown(value)
            except BaseException as error:  # also SystemExit, and what the host raises here to end the call
                failure, text = self._described(error), None
        return self._outcome(ticket, value, text, failure)

    async def _awaited(self, parts: list[tuple[CodeType, bool]], ticket: int) -> Any:
        """Run a snippet that has an ``await`` outside of functions."""
        value, failure = None, None
        with redirect_stdout(self._stdout), redirect_stderr(self._stderr):
            try:
                for part, is_last in parts:
                    found = eval(part, self._module.__dict__)
                    if part.co_flags & inspect.CO_COROUTINE:
                        found = await found
                    if is_last:
                        value = found
                text = self._shown(value)
            except BaseException as error:
                failure, text = self._described(error), None
        return self._outcome(ticket, value, text, failure)

    def outcome(self, ticket: int) -> Any:
        """The outcome of a snippet without its value, which could not be sent."""
        try:
            return self._outcomes.pop(ticket)
        except KeyError:
            raise LookupError("another snippet has broken the session before this one's outcome was fetched") from None

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set names of the namespace."""
        self._module.__dict__.update(values)

    def value(self, name: str) -> Any:
        """The value of a name of the namespace."""
        try:
            return self._module.__dict__[name]
        except KeyError:
            raise NameError(f"name {name!r} is not defined") from None

    def names(self) -> list[str]:
        """The names that snippets have defined, or imported, sorted; without those that begin with an underscore."""
        names: list[Any] = list(self._module.__dict__)
        return sorted(name for name in names if isinstance(name, str) and not name.startswith("_"))

    def read_file(self, path: str) -> bytes:
        """The bytes of a file."""
        return Path(path).read_bytes()

    def write_file(self, path: str, data: bytes) -> None:
        """Write a file, and make the folders on the way to it."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)

    def _stream(self) -> io.TextIOWrapper:
        bytes_out: Any = self._output
        return io.TextIOWrapper(bytes_out, "utf-8", "backslashreplace", write_through=True)

    def _usable(self, stream: io.TextIOWrapper) -> io.TextIOWrapper:
        """A stream, or a new one in place of one that a snippet has detached."""
        try:
            stream.closed  # noqa: B018  # raises
        except ValueError:
            return self._stream()
        return stream

    def _outcome(self, ticket: int, value: Any, text: str | None, failure: list[str] | None) -> list[Any]:
        outcome = [self._output.text(), text, failure]
        self._outcomes[ticket] = outcome
        return [*outcome, value]

    def _remembered(self, code: str) -> str:
        """The name of a snippet's source, under which tracebacks and `inspect.getsource` find its lines."""
        filename = f"{_SNIPPET}{next(self._numbers)}>"
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        self._sources.append(filename)
        if len(self._sources) > _SOURCES:
            linecache.cache.pop(self._sources.popleft(), None)
        return filename

    def _compiled(self, code: str, filename: str) -> Iterator[tuple[CodeType, bool]]:
        """The code objects of a snippet, each with whether it is the last expression."""
        module = ast.parse(code, filename)
        last = module.body.pop() if module.body and isinstance(module.body[-1], ast.Expr) else None
        pieces: list[tuple[ast.Module | ast.Expression, str]] = []
        if module.body:
            pieces.append((module, "exec"))
        if isinstance(last, ast.Expr):
            pieces.append((ast.Expression(last.value), "eval"))
        for piece, mode in pieces:
            flags = self._features | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compiled = compile(piece, filename, mode, flags, dont_inherit=True)
            self._features |= compiled.co_flags & _FEATURES  # `from __future__` holds for later snippets, too
            yield compiled, mode == "eval"

    def _shown(self, value: Any) -> str | None:
        if value is None:
            return None
        self._module.__dict__["_"] = value
        return _cut(repr(value), self._limit)

    def _described(self, error: BaseException) -> list[str]:
        """``[type, message, traceback]`` of an exception, also of those with which the host ends a call."""
        name = type(error).__name__
        try:
            message = str(error)
        except Exception:  # `__str__` can be a snippet's
            message = ""
        try:
            report = traceback.TracebackException(type(error), error, _own(error.__traceback__), compact=True)
            lines = "".join(report.format())
        except Exception:
            lines = f"{name}: {message}\n"
        return [_cut(text, self._limit) for text in (name, message, lines)]


class _Output(io.BufferedIOBase):
    """The bytes of a snippet's output: the first half of the limit, and the last."""

    def __init__(self) -> None:
        self.clear(1)

    def clear(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._first = bytearray()
        self._last = bytearray()
        self._dropped = 0

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: a snippet that closes its stdout, as with ``with sys.stdout:``, would silence the next ones."""

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        size, room = view.nbytes, self._half - len(self._first)
        self._first += view[:room] if room > 0 else b""
        self._last += view[max(0, room) :]
        if len(self._last) > 2 * self._half:
            self._trim()
        return size

    def _trim(self) -> None:
        excess = len(self._last) - self._half
        if excess > 0:
            del self._last[:excess]
            self._dropped += excess

    def text(self) -> str:
        self._trim()
        gap = f"\n... {self._dropped} bytes of output are left out ...\n".encode() if self._dropped else b""
        return (bytes(self._first) + gap + bytes(self._last)).decode("utf-8", "replace")


def _cut(text: str, limit: int) -> str:
    half = max(1, limit // 2)
    if len(text) <= 2 * half:
        return text
    return f"{text[:half]}\n... {len(text) - 2 * half} characters are left out ...\n{text[-half:]}"


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in a snippet; None if no part does, as for a snippet that cannot be compiled."""
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(_SNIPPET):
        trace = trace.tb_next
    return trace
