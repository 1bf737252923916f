"""`Adapter`: the Debug Adapter Protocol, as messages that come in and go out. It knows no socket and no thread of its own.

https://microsoft.github.io/debug-adapter-protocol/specification. A request that needs the stopped node is put into a mailbox, and
carried out in the talk on the thread that makes the node's call; all others are answered at once.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from cloche.debug._breakpoints import FunctionPoint, LinePoint
from cloche.debug._events import (
    MAX_ROWS,
    Frame,
    GuestError,
    Placed,
    Stop,
    Variable,
    read_frames,
    read_names,
    read_placed,
    read_scopes,
    read_variable,
    read_variables,
)
from cloche.debug._frontend import Arrived, Asking, Back, Command, Desk, Go, Mailbox, Mode, Talk
from cloche.debug._paths import Paths

__all__ = ["Adapter"]

_THREAD: Final = 1
_MOST_CHILDREN: Final = 1000
_MOST_POINTS: Final = 1000
_CAPABILITIES: Final = {
    "supportsConfigurationDoneRequest": True,
    "supportsFunctionBreakpoints": True,
    "supportsConditionalBreakpoints": True,
    "supportsHitConditionalBreakpoints": True,
    "supportsLogPoints": True,
    "supportsEvaluateForHovers": True,
    "supportsStepBack": True,
    "supportsSetVariable": True,
    "supportsCompletionsRequest": True,
    "supportsExceptionInfoRequest": True,
    "supportsDelayedStackTraceLoading": True,
    "supportsTerminateRequest": True,
    "supportTerminateDebuggee": True,
    "exceptionBreakpointFilters": [
        {"filter": "raised", "label": "Raised exceptions", "default": False},
        {"filter": "uncaught", "label": "Exceptions that leave the node", "default": True},
    ],
}
_GOES: Final[dict[str, Mode]] = {"continue": "continue", "next": "next", "stepIn": "step", "stepOut": "out"}
_REASONS: Final = {"travel": "step"}


class Refused(Exception):
    """A request cannot be carried out; the message says why."""


class Adapter:
    """One client of the protocol. Implements `Frontend`.

    Args:
        desk: the session.
        send: sends a message to the client. It is called on several threads, one at a time.
        paths: the paths of files.
        join: called when the client wants to see the node's stops.
        leave: called when it wants to see no more.
        interrupt: ends the node's call.

    Attributes:
        is_ready: set once the client has set its breakpoints.
    """

    def __init__(
        self,
        desk: Desk,
        send: Callable[[dict[str, Any]], None],
        paths: Paths,
        *,
        join: Callable[[bool], None],
        leave: Callable[[], None],
        interrupt: Callable[[], object],
    ) -> None:
        self._desk = desk
        self._send = send
        self._paths = paths
        self._join, self._leave, self._interrupt = join, leave, interrupt
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._jobs: Mailbox[dict[str, Any] | None] = Mailbox()
        self._is_stopped = self._is_over = False
        self._stop: Stop | None = None
        self._shown: dict[int, tuple[int, str]] = {}
        self.is_ready = threading.Event()

    # ---- the client

    def receive(self, message: dict[str, Any]) -> bool:
        """Take a message of the client. Returns whether more are to come."""
        if message.get("type") != "request" or type(message.get("command")) is not str:
            return True  # a response: nothing here sends requests
        command: str = message["command"]
        if command in _IN_TALK or (command in _BREAKPOINTS and self._is_stopped):
            if self._is_stopped:
                self._jobs.put(message)
            else:
                self._fail(message, "the node is running: pause it first")
            return True
        try:
            body = self._answer(command, _arguments(message))
        except Refused as refused:
            self._fail(message, str(refused))
            return True
        self._succeed(message, body)
        match command:
            case "initialize":
                self._event("initialized")
            case "disconnect" | "terminate":
                if command == "terminate" or _arguments(message).get("terminateDebuggee") is True:
                    self._interrupt()
                self.end()
                return False
        return True

    def end(self) -> None:
        """The client has gone, or is to go: the node goes on without a debugger."""
        if not self._is_over:
            self._is_over = True
            self.is_ready.set()
            self._leave()
            self._jobs.put(None)

    def over(self) -> None:
        """Tell the client that there is nothing more to debug."""
        if not self._is_over:
            self._event("terminated")
            self._event("exited", {"exitCode": 0})

    def _answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        match command:
            case "initialize":
                return dict(_CAPABILITIES)
            case "attach" | "launch":
                self._attach(arguments)
            case "configurationDone":
                self.is_ready.set()
            case "threads":
                return {"threads": [{"id": _THREAD, "name": self._desk.node}]}
            case "pause":
                self._desk.wants_pause = True
            case "setBreakpoints" | "setFunctionBreakpoints" | "setExceptionBreakpoints":
                numbers = self._set(command, arguments)
                self._desk.sync()
                return self._points(numbers)
            case "disconnect" | "terminate":
                pass
            case "loadedSources":
                return {"sources": []}
            case _:
                raise Refused(f"unknown command {command[:50]!r}")
        return None

    def _attach(self, arguments: dict[str, Any]) -> None:
        mappings = arguments.get("pathMappings")
        if type(mappings) is list:
            rows = [row for row in mappings[:_MOST_POINTS] if type(row) is dict]
            pairs = [(row.get("localRoot"), row.get("remoteRoot")) for row in rows]
            self._paths.map([(one, other) for one, other in pairs if type(one) is str and type(other) is str])
        self._join(arguments.get("stopOnEntry") is True)

    def _set(self, command: str, arguments: dict[str, Any]) -> list[int]:
        """Change breakpoints. Returns the numbers of the new ones."""
        points = self._desk.breakpoints
        if command == "setExceptionBreakpoints":
            filters = arguments.get("filters")
            chosen = filters if type(filters) is list else []
            points.set_exceptions(raised="raised" in chosen, uncaught="uncaught" in chosen)
            return []
        rows = arguments.get("breakpoints")
        rows = [row for row in rows if type(row) is dict][:_MOST_POINTS] if type(rows) is list else []
        if command == "setFunctionBreakpoints":
            functions = [
                FunctionPoint(_text(row, "name"), _text(row, "condition"), _text(row, "hitCondition")) for row in rows
            ]
            points.set_functions(functions)
            return [point.number for point in functions]
        source = arguments.get("source")
        if type(source) is not dict:
            raise Refused("setBreakpoints needs a source")
        number, path = source.get("sourceReference"), source.get("path")
        file = self._paths.numbered(number) if type(number) is int and number else None
        if file is None:
            if type(path) is not str:
                raise Refused("this source has no path, and is none of the node's")
            file = self._paths.to_guest(path)
        lines = [
            LinePoint(row["line"], _text(row, "condition"), _text(row, "hitCondition"), _text(row, "logMessage"))
            for row in rows
            if type(row.get("line")) is int and 0 < row["line"] < 1 << 31
        ]
        points.set_lines(file, lines)
        return [point.number for point in lines]

    def _points(self, numbers: list[int]) -> dict[str, Any]:
        """The breakpoints of these numbers, as the client wants them."""
        found = [self._point(number) for number in numbers]
        with self._lock:
            for number, row in zip(numbers, found, strict=True):
                self._shown[number] = row.get("line", 0), row.get("message", "")
        return {"breakpoints": found}

    def _point(self, number: int) -> dict[str, Any]:
        points = self._desk.breakpoints
        for path, rows in points.lines.items():
            for row in rows:
                if row.number == number:
                    placed: dict[str, Any] = {"line": row.placed} if row.placed else {}
                    shown = {"id": number, "verified": bool(row.placed), **placed, "source": self._source(path)}
                    return shown if row.placed else {**shown, "message": row.problem or "not known to the node yet"}
        for function in points.functions:
            if function.number == number:
                problem = {"message": function.problem} if function.problem else {}
                return {"id": number, "verified": not function.problem, **problem}
        return {"id": number, "verified": False}

    # ---- the node (Frontend)

    def talk(self, stop: Stop) -> Talk:
        """See `Frontend`."""
        self._stop = stop
        self._is_stopped = True
        self._announce(stop)
        message: dict[str, Any] | None = None
        try:
            while True:
                self._desk.wait(self._jobs)
                message = self._jobs.take()
                if message is None:
                    yield Go("detach")
                    return
                try:
                    going = yield from self._job(message)
                except (GuestError, Refused) as failed:
                    self._fail(message, str(failed))
                    continue
                if isinstance(going, Arrived):
                    if going.mode in ("continue", "detach"):
                        yield Go(going.mode)
                        return
                    self._stop, self._is_stopped = stop, True
                    self._announce(stop)
                elif going is not None:
                    yield Go(going)
                    return
        except GeneratorExit:  # the call has ended, perhaps in the middle of a command
            if self._is_stopped and message is not None:
                self._fail(message, "the node's call has ended")
            self.gone()
            raise

    def output(self, text: str) -> None:
        """See `Frontend`."""
        self._event("output", {"category": "console", "output": f"{text}\n"})

    def placed(self, places: Sequence[Placed]) -> None:
        """See `Frontend`."""
        for place in places:
            with self._lock:
                known = self._shown.get(place.number)
            row = self._point(place.number)
            if known is not None and known != (row.get("line", 0), row.get("message", "")):
                with self._lock:
                    self._shown[place.number] = row.get("line", 0), row.get("message", "")
                self._event("breakpoint", {"reason": "changed", "breakpoint": row})

    def gone(self) -> None:
        """See `Frontend`."""
        self._is_stopped = False
        kept: list[None] = []
        while self._jobs.done():
            message = self._jobs.take()
            if message is None:
                kept.append(None)
            else:
                self._fail(message, "the node is running: pause it first")
        for end in kept:
            self._jobs.put(end)

    def _announce(self, stop: Stop) -> None:
        body: dict[str, Any] = {
            "reason": _REASONS.get(stop.reason, stop.reason),
            "threadId": _THREAD,
            "allThreadsStopped": True,
        }
        if stop.text:
            body["text"] = stop.text
        if stop.points:
            body["hitBreakpointIds"] = list(stop.points)
        self._event("stopped", body)

    def _job(self, message: dict[str, Any]) -> Generator[Any, Any, Mode | Arrived | None]:
        """Carry out a request that needs the stopped node. Returns how the node goes on; None: it stays."""
        command, arguments = message["command"], _arguments(message)
        if command in _GOES:
            self._is_stopped = False
            self._succeed(message, {"allThreadsContinued": True} if command == "continue" else None)
            return _GOES[command]
        if command in ("stepBack", "reverseContinue"):
            return (yield from self._back(message, command))
        if command in _BREAKPOINTS:
            numbers = self._set(command, arguments)
            points = self._desk.breakpoints
            places = read_placed((yield Command("breakpoints", (points.to_guest(),), changes=True)))
            points.place(places)
            self._succeed(message, self._points(numbers))
            return None
        body = yield from _IN_TALK[command](self, arguments)
        self._succeed(message, body)
        return None

    def _back(self, message: dict[str, Any], command: str) -> Generator[Any, Any, Arrived]:
        """Go back. The answer comes first: in the past, other requests are answered before this one has ended."""
        self._is_stopped = False
        self._succeed(message, None)
        try:
            arrived: Arrived = yield Back("line" if command == "stepBack" else "breakpoint")
        except GuestError as failed:
            self.output(f"cannot go back: {failed.message or failed}")
            return Arrived("next")
        return arrived

    def _stack(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        start, count = _count(arguments, "startFrame", 0), _count(arguments, "levels", MAX_ROWS) or MAX_ROWS
        total, frames = read_frames((yield Command("stack", (start, min(count, MAX_ROWS)))))
        rows = [self._frame(number, frame) for number, frame in enumerate(frames, start)]
        return {"stackFrames": rows, "totalFrames": total}

    def _frame(self, number: int, frame: Frame) -> dict[str, Any]:
        row = {
            "id": number + 1,
            "name": frame.name,
            "line": frame.line,
            "column": 1,
            "source": self._source(frame.file),
        }
        return row if frame.is_own else {**row, "presentationHint": "subtle"}

    def _source(self, file: str) -> dict[str, Any]:
        path = self._paths.to_editor(file)
        if path is not None:
            return {"name": path.replace("\\", "/").rpartition("/")[2], "path": path}
        name = file.rpartition("/")[2] or file
        if file.startswith("<cloche>/"):  # the image has no source of the standard library
            return {"name": name, "path": file, "presentationHint": "deemphasize"}
        return {"name": name, "path": file, "sourceReference": self._paths.number(file)}

    def _scopes(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        scopes = read_scopes((yield Command("scopes", (_frame_number(arguments),))))
        return {
            "scopes": [
                {
                    "name": scope.name,
                    "variablesReference": scope.reference,
                    "namedVariables": scope.count,
                    "expensive": scope.name != "Locals",
                    **({"presentationHint": "locals"} if scope.name == "Locals" else {}),
                }
                for scope in scopes
            ]
        }

    def _variables(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        reference = _count(arguments, "variablesReference", 0)
        start, wanted = _count(arguments, "start", 0), _count(arguments, "count", 0) or _MOST_CHILDREN
        wanted = min(wanted, _MOST_CHILDREN)
        found: list[Variable] = []
        while len(found) < wanted:
            size = min(MAX_ROWS, wanted - len(found))
            rows = read_variables((yield Command("children", (reference, start + len(found), size))))
            found += rows
            if len(rows) < size:
                break
        shown = [_variable(row) for row in found]
        if len(found) == _MOST_CHILDREN and not arguments.get("count"):
            shown.append({"name": "...", "value": f"only {_MOST_CHILDREN} are shown", "variablesReference": 0})
        return {"variables": shown}

    def _evaluate(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        changes = arguments.get("context") in ("repl", None)
        operands = _text(arguments, "expression"), _frame_number(arguments)
        row = _variable(read_variable((yield Command("evaluate", operands, changes))))
        return {**row, "result": row.pop("value")}

    def _assign(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        operands = _count(arguments, "variablesReference", 0), _text(arguments, "name"), _text(arguments, "value"), 0
        return _variable(read_variable((yield Command("assign", operands, changes=True))))

    def _complete(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        begun = _text(arguments, "text")[: max(0, _count(arguments, "column", 1) - 1)]
        names = read_names((yield Command("complete", (begun, _frame_number(arguments)))))
        return {"targets": [{"label": name} for name in names]}

    def _text_of(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        number = _count(arguments, "sourceReference", 0)
        file = self._paths.numbered(number)
        if file is None:
            raise Refused(f"there is no source {number}")
        text = yield Command("source", (file,))
        return {"content": text if type(text) is str else "", "mimeType": "text/x-python"}

    def _exception(self, arguments: dict[str, Any]) -> Asking[dict[str, Any]]:
        yield from ()  # the node has said it already
        found = self._stop.exception if self._stop is not None else None
        if found is None:
            raise Refused("the node has not stopped at an exception")
        return {
            "exceptionId": found.exc_type,
            "description": found.message,
            "breakMode": "unhandled" if found.is_uncaught else "always",
        }

    # ---- messages

    def _event(self, name: str, body: dict[str, Any] | None = None) -> None:
        self._put({"type": "event", "event": name, **({"body": body} if body is not None else {})})

    def _succeed(self, request: dict[str, Any], body: dict[str, Any] | None) -> None:
        self._respond(request, {"success": True, **({"body": body} if body is not None else {})})

    def _fail(self, request: dict[str, Any], why: str) -> None:
        error = {"id": 1, "format": "{why}", "variables": {"why": why}, "showUser": False}
        self._respond(request, {"success": False, "message": why, "body": {"error": error}})

    def _respond(self, request: dict[str, Any], rest: dict[str, Any]) -> None:
        sequence = request.get("seq")
        number = sequence if type(sequence) is int else 0
        self._put({"type": "response", "request_seq": number, "command": request["command"], **rest})

    def _put(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._send({"seq": next(self._numbers), **message})


_IN_TALK: Final[dict[str, Any]] = {
    **dict.fromkeys((*_GOES, "stepBack", "reverseContinue")),
    "stackTrace": Adapter._stack,  # noqa: SLF001  # its own
    "scopes": Adapter._scopes,  # noqa: SLF001
    "variables": Adapter._variables,  # noqa: SLF001
    "setVariable": Adapter._assign,  # noqa: SLF001
    "evaluate": Adapter._evaluate,  # noqa: SLF001
    "completions": Adapter._complete,  # noqa: SLF001
    "source": Adapter._text_of,  # noqa: SLF001
    "exceptionInfo": Adapter._exception,  # noqa: SLF001
}
_BREAKPOINTS: Final = frozenset({"setBreakpoints", "setFunctionBreakpoints", "setExceptionBreakpoints"})


def _variable(row: Variable) -> dict[str, Any]:
    return {"name": row.name, "value": row.text, "type": row.type, "variablesReference": row.reference}


def _arguments(message: dict[str, Any]) -> dict[str, Any]:
    arguments = message.get("arguments")
    return arguments if type(arguments) is dict else {}


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return value if type(value) is str else ""


def _count(row: dict[str, Any], key: str, otherwise: int) -> int:
    value = row.get(key)
    return value if type(value) is int and 0 <= value < 1 << 31 else otherwise


def _frame_number(arguments: dict[str, Any]) -> int:
    return max(0, _count(arguments, "frameId", 1) - 1)
