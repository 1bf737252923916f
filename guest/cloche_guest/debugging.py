"""`Debugger`: stops the node at breakpoints, steps and exceptions, and then does what the host's debugger says.

It stands on `sys.monitoring`: a line without a breakpoint costs something once, and nothing afterwards. At a stop it makes a
request of the host (Ask.DEBUG), and each answer is a command, until one says how to go on. This module is imported only when the
host debugs. The node shares this interpreter, so it can end the tracing or tell lies; the host trusts what comes from here no more
than any reply.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from contextlib import suppress
from operator import eq, ge, gt, le, lt
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from cloche_guest import Interrupted, asking
from cloche_guest.failure import text
from cloche_guest.inspecting import Expired, Inspector, explained
from cloche_guest.modules import PACKAGES
from cloche_wire.messages import Ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from cloche_guest._host import Host

_ASK: Final = int(Ask.DEBUG)
_OWN: Final = __file__.removesuffix("debugging.py")
_WIRE: Final = _OWN.replace("cloche_guest", "cloche_wire")
_LIBRARY: Final = ("<cloche>/", "<frozen ", "<debugger>", _OWN, _WIRE)
_LEAST: Final = (3, 13)  # frames whose variables can be changed
_SHOW_MESSAGE: Final = 500
_SUSPENDS: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_QUIET: Final = (StopIteration, StopAsyncIteration, GeneratorExit, Interrupted)
_HITS: Final = re.compile(r"\s*(>=|<=|==|>|<|%|)\s*(\d{1,9})\s*")
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "": eq, "==": eq, ">=": ge, "<=": le, ">": gt, "<": lt, "%": lambda count, number: number > 0 and count % number == 0,
}  # fmt: skip


class _Point:
    """A breakpoint.

    Args:
        number: what the host calls it.
        condition: expression that must be true; "": none.
        hits: how often it must have been reached, such as ">= 5"; "": any number.
        log: text to log instead of stopping, with expressions in braces; "": it stops.

    Raises:
        ValueError: `hits` cannot be understood.
        SyntaxError: `condition` is not an expression.
    """

    def __init__(self, number: int, condition: str, hits: str, log: str = "") -> None:
        self.number = number
        self.condition = compile(condition.strip(), "<debugger>", "eval") if condition.strip() else None
        self.log = log
        self._count = 0
        self._compare: Callable[[int, int], bool] = ge
        self._number = 1
        if hits.strip():
            found = _HITS.fullmatch(hits)
            if found is None:
                raise ValueError(f"{hits[:50]!r} is not a number of hits such as 5, >= 5 or % 5")
            self._compare, self._number = _COMPARE[found[1]], int(found[2])

    def counts(self) -> bool:
        """Count a hit; whether that is one to stop at."""
        self._count += 1
        return self._compare(self._count, self._number)


class _Counter:
    """Counts the lines that the node's own code begins, so that a second run can be stopped at any of them.

    Attributes:
        count: lines begun so far.
        until: the count at which to stop; 0: none.
        is_quiet: whether nothing else stops the node before that.
        over: count of the line before the present one that is no deeper in the stack; 0: there is none.
        hit: count of the last line with a breakpoint before the present one, likewise.
    """

    def __init__(self, until: int, is_quiet: bool) -> None:
        self.count = 0
        self.until = until
        self.is_quiet = is_quiet and until > 0
        self.over = self.hit = self._last_hit = 0
        self._last = [0]

    def enter(self) -> None:
        """A function of the node begins, or goes on."""
        self._last.append(0)

    def leave(self) -> None:
        """A function of the node ends, or is suspended."""
        if len(self._last) > 1:
            self._last.pop()

    def line(self) -> None:
        """A line begins."""
        self.count += 1
        self.hit = self._last_hit
        self.over = next((last for last in reversed(self._last) if last), 0)
        self._last[-1] = self.count

    def breakpoint(self) -> None:
        """The present line has a breakpoint that would stop the node."""
        self._last_hit = self.count


class Debugger:
    """The debugger of one node; construction starts it.

    Args:
        host: functions of the host.
        settings: ``own``: whether only the node's own code is stopped in, not that of packages; and what the command "breakpoints"
            takes.

    Attributes:
        placed: the answer to "breakpoints".

    Raises:
        RuntimeError: the node has occupied every tool of `sys.monitoring`.
    """

    def __init__(self, host: Host, settings: dict[str, Any]) -> None:
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is None or tuple(sys.version_info) < _LEAST:
            raise RuntimeError("this debugger needs Python 3.13: natively, use one of this process")
        tool = next((number for number in (0, 3, 4, 1, 2, 5) if monitoring.get_tool(number) is None), None)
        if tool is None:
            raise RuntimeError("the node uses all tool ids of sys.monitoring: none is left for the debugger")
        self._host = host
        self._monitoring, self._tool, self._events = monitoring, tool, monitoring.events
        self._only_own = settings["own"]
        self._paths: dict[str, dict[int, _Point]] = {}
        self._functions: dict[str, _Point] = {}
        self._raised = self._uncaught = False
        self._files: dict[str, dict[int, _Point]] = {}
        self._armed: dict[int, tuple[CodeType, int]] = {}
        self._mode = "continue"
        self._is_entry = False
        self._frame: FrameType | None = None
        self._entered: tuple[FrameType, _Point] | None = None
        self._counter: _Counter | None = None
        self._is_inside = self._is_working = self._is_stopped = False
        monitoring.use_tool_id(tool, "cloche debugger")
        for event, function in self._callbacks().items():
            monitoring.register_callback(tool, event, function)
        self.placed = self._set_breakpoints(settings)
        self._hook = sys.breakpointhook
        sys.breakpointhook = self._break
        host.on_pause(self._pause)

    def stop(self) -> None:
        """End the tracing."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._host.on_pause(None)
        if sys.breakpointhook == self._break:
            sys.breakpointhook = self._hook
        monitoring, tool = self._monitoring, self._tool
        self._frame = self._entered = None
        with suppress(ValueError):  # the node has freed the tool id
            for code, _ in self._armed.values():
                monitoring.set_local_events(tool, code, 0)
            monitoring.set_events(tool, 0)
            for event in self._callbacks():
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)
        self._armed.clear()

    def command(self, name: str, *operands: Any) -> Any:
        """Carry out a command between two calls: "breakpoints", "enter", "count" or "source"."""
        if name == "breakpoints":
            return self._set_breakpoints(*operands)
        if name == "enter":
            self._is_entry = True
            self._resume("step", None)
            return None
        if name == "count":
            self._counter = _Counter(*operands)
            self._apply(again=True)
            return None
        return Inspector([], self._is_user).command(name, *operands)

    # ---- breakpoints

    def _set_breakpoints(self, wanted: dict[str, Any]) -> list[Any]:
        """Replace all breakpoints. Returns, for each: its number, its line (0: none yet), and why it has none."""
        answers: list[Any] = []
        self._paths, self._functions = {}, {}
        self._files.clear()
        for path, rows in wanted["lines"].items():
            points = self._paths[path] = {}
            file = next((known for known in list(linecache.cache) if self._is_user(known) and _fits(path, known)), None)
            for number, line, *conditions in rows:
                try:
                    points[line] = _Point(number, *conditions)
                except (SyntaxError, ValueError) as error:
                    answers.append([number, 0, explained(error)[1]])
                    continue
                if file is None:
                    answers.append([number, 0, "no module of this file has been imported yet"])
                else:
                    answers.append([number, _placed(file, line), ""])
        for number, name, *conditions in wanted["functions"]:
            try:
                self._functions[name] = _Point(number, *conditions)
                answers.append([number, 0, ""])
            except (SyntaxError, ValueError) as error:
                answers.append([number, 0, explained(error)[1]])
        self._raised, self._uncaught = wanted["raised"], wanted["uncaught"]
        self._apply(again=True)
        for frame in _callers(sys._getframe()):
            self._arm(frame.f_code)
        return answers

    def _points(self, file: str) -> dict[int, _Point]:
        """The breakpoints in a file, by the line where the node can be stopped."""
        found = self._files.get(file)
        if found is None:
            found = self._files[file] = {
                _placed(file, line): point
                for path, points in self._paths.items()
                if _fits(path, file)
                for line, point in points.items()
            }
        return found

    def _arm(self, code: CodeType) -> None:
        """Have the lines of a function reported, if one of them has a breakpoint."""
        if self._is_user(code.co_filename):
            points = self._points(code.co_filename)
            if points and any(line in points for _, _, line in code.co_lines()):
                self._watch(code, self._events.LINE)

    def _watch(self, code: CodeType, events: int) -> None:
        known = self._armed.get(id(code), (code, 0))[1]
        if events | known != known:
            self._armed[id(code)] = code, known | events
            with suppress(ValueError):  # the node has freed the tool id
                self._monitoring.set_local_events(self._tool, code, known | events)

    def _is_user(self, file: str) -> bool:
        """Whether the node is stopped in the code of a file."""
        return not file.startswith(_LIBRARY) and not (self._only_own and file.startswith(f"/{PACKAGES}/"))

    # ---- events

    def _callbacks(self) -> dict[int, Callable[..., Any]]:
        events = self._events
        return {
            events.PY_START: self._started,
            events.PY_RESUME: self._started,
            events.PY_THROW: self._thrown,
            events.LINE: self._line,
            events.PY_RETURN: self._returned,
            events.PY_YIELD: self._yielded,
            events.RAISE: self._raising,
            events.PY_UNWIND: self._unwound,
        }

    def _apply(self, *, again: bool) -> None:
        """Have the interpreter report what is needed now; `again`: also where a callback has said that it needs no more."""
        events = self._events
        wanted = 0
        if self._paths or self._functions:
            wanted |= events.PY_START | events.PY_RESUME
        if self._raised:
            wanted |= events.RAISE
        if self._uncaught or self._frame is not None:
            wanted |= events.PY_UNWIND
        if self._mode == "step":
            wanted |= events.LINE
        if self._counter is not None:
            wanted |= events.LINE | events.PY_START | events.PY_RESUME | events.PY_THROW
            wanted |= events.PY_RETURN | events.PY_YIELD | events.PY_UNWIND
        with suppress(ValueError):  # the node has freed the tool id
            self._monitoring.set_events(self._tool, wanted)
            if again:
                self._monitoring.restart_events()

    def _started(self, code: CodeType, _offset: int) -> Any:
        if not self._is_user(code.co_filename):
            return self._monitoring.DISABLE
        if self._is_inside:
            return None
        self._arm(code)
        point = self._functions and (self._functions.get(code.co_qualname) or self._functions.get(code.co_name))
        if point:
            self._entered = sys._getframe(1), point
            self._watch(code, self._events.LINE)
        if self._counter is not None:
            self._counter.enter()
            return None
        return None if point else self._monitoring.DISABLE

    def _thrown(self, code: CodeType, _offset: int, _error: BaseException) -> None:
        if self._counter is not None and not self._is_inside and self._is_user(code.co_filename):
            self._counter.enter()

    def _line(self, code: CodeType, line: int) -> Any:
        if not self._is_user(code.co_filename):
            return self._monitoring.DISABLE
        if self._is_inside:
            return None
        frame, counter = sys._getframe(1), self._counter
        if counter is not None:
            counter.line()
        reached = [self._points(code.co_filename).get(line)]
        entered, self._entered = self._entered, None
        if entered is not None and entered[0] is frame:
            reached.append(entered[1])
        reason, said, numbers = "", "", []
        for point in reached:
            if point is not None and (why := self._hit(point, frame)) is not None:
                said = said or why
                numbers.append(point.number)
        if numbers:
            reason = "breakpoint" if reached[-1] is None or len(reached) == 1 else "function breakpoint"
            if counter is not None:
                counter.breakpoint()
        elif self._mode == "step" or frame is self._frame:
            reason = "entry" if self._is_entry else "step"
        if counter is not None and counter.is_quiet:
            reason = ""
        also = reason
        if counter is not None and counter.count == counter.until:
            reason, counter.is_quiet = "travel", False
        if reason:
            self._stop(_live(frame), {"reason": reason, "text": said, "points": numbers, "also": also})
            return None  # the user may have set a breakpoint here
        if counter is None and self._mode == "continue" and reached == [None]:
            return self._monitoring.DISABLE
        return None

    def _returned(self, code: CodeType, _offset: int, _value: Any) -> Any:
        return self._left(code, sys._getframe(1), suspends=False)

    def _yielded(self, code: CodeType, _offset: int, _value: Any) -> Any:
        return self._left(code, sys._getframe(1), suspends=True)

    def _left(self, code: CodeType, frame: FrameType, *, suspends: bool) -> Any:
        """A function returns or is suspended: "next" goes on in its caller."""
        if self._is_inside:
            return None
        counts = self._counter is not None and self._is_user(code.co_filename)
        if counts and self._counter is not None:
            self._counter.leave()
        if frame is self._frame:
            caller = self._caller(frame)
            if not (suspends and (caller is None or code.co_flags & _SUSPENDS)):  # else it will go on itself
                self._follow(caller)
        elif self._frame is None and not counts:
            return self._monitoring.DISABLE
        return None

    def _raising(self, code: CodeType, _offset: int, error: BaseException) -> None:
        """Stop where an exception is raised, or comes out of a library: once for each."""
        if self._is_inside or not self._raised or not self._is_user(code.co_filename) or isinstance(error, _QUIET):
            return
        below = error.__traceback__.tb_next if error.__traceback__ is not None else None
        if not any(self._is_user(frame.f_code.co_filename) for frame, _ in _traced(below)):
            self._fail(_live(sys._getframe(1)), error, "raised")

    def _unwound(self, code: CodeType, _offset: int, error: BaseException) -> None:
        if self._is_inside:
            return
        frame = sys._getframe(1)
        if self._counter is not None and self._is_user(code.co_filename):
            self._counter.leave()
        if frame is self._frame:
            self._follow(self._caller(frame))
        if not self._uncaught or not self._is_user(code.co_filename) or isinstance(error, _QUIET):
            return
        if self._caller(frame) is None:
            frames = [*reversed(list(_traced(error.__traceback__))), *_live(frame)[1:]]
            self._fail(frames, error, "uncaught")

    def _pause(self) -> None:
        """The host wants a word; it called this between two instructions."""
        if self._is_inside:
            if self._is_working:
                raise Expired
            return
        self._stop(_live(sys._getframe(1)), {"reason": "pause", "text": "", "points": []})

    def _break(self, *_arguments: Any, **_keywords: Any) -> None:
        """The node has called ``breakpoint()``."""
        if not self._is_inside and not (self._counter is not None and self._counter.is_quiet):
            self._stop(_live(sys._getframe(1)), {"reason": "breakpoint", "text": "breakpoint()", "points": []})

    # ---- a stop

    def _fail(self, frames: list[tuple[FrameType, int]], error: BaseException, kind: str) -> None:
        if self._counter is not None and self._counter.is_quiet:
            return
        self._is_inside = True
        try:
            name, message = self._explained(error)
        finally:
            self._is_inside = False
        said = f"{name}: {message[:_SHOW_MESSAGE]}"
        self._stop(frames, {"reason": "exception", "text": said, "points": [], "exception": [name, message, kind]})

    def _stop(self, frames: list[tuple[FrameType, int]], event: dict[str, Any]) -> None:
        """Tell the host, and do what it says until it says how to go on."""
        counter = self._counter
        if counter is not None:
            event |= {"count": counter.count, "over": counter.over, "hit": counter.hit}
        self._is_inside = True
        try:
            inspector = Inspector(frames, self._is_user)
            answer = asking.ask([_ASK, "stopped", event])
            while answer[0] != "go":
                said = self._answer(inspector, *answer)
                try:
                    answer = asking.ask([_ASK, *said])
                except (TypeError, ValueError, MemoryError) as error:  # more than the node's limits let through
                    answer = asking.ask([_ASK, "failed", explained(error)])
            self._resume(answer[1], frames[0][0], *answer[2:])
        except (Interrupted, Expired):
            raise
        except Exception:  # the host does not debug this node
            self.stop()
        finally:
            self._is_inside = self._is_entry = False

    def _answer(self, inspector: Inspector, name: str, *operands: Any) -> tuple[str, Any]:
        """Carry out a command: "result" and its value, or "failed" and the exception."""
        try:
            if name == "breakpoints":
                return "result", self._set_breakpoints(*operands)
            self._is_working = True
            try:
                return "result", inspector.command(name, *operands)
            finally:
                self._is_working = False
        except Interrupted:
            raise
        except Expired:
            return "failed", ["TimeoutError", "it took too long"]
        except BaseException as error:
            return "failed", self._explained(error)

    def _explained(self, error: BaseException) -> list[str]:
        """Type and message of an exception, whose ``__str__`` is code of the node."""
        self._is_working = True
        try:
            return explained(error)
        finally:
            self._is_working = False

    def _hit(self, point: _Point, frame: FrameType) -> str | None:
        """Whether to stop at a breakpoint: None if not, else what to say."""
        self._is_inside = self._is_working = True
        try:
            inspector = Inspector(_live(frame, 1), self._is_user)
            if point.condition is not None and not inspector.value(point.condition):
                return None
            if not point.counts():
                return None
            if not point.log:
                return ""
            said = re.sub(r"\{([^{}]+)\}", lambda found: _plain(inspector, found[1]), point.log)
        except Interrupted:
            raise
        except Expired:
            return "its condition took too long"
        except BaseException as error:
            return "its condition raised " + ": ".join(self._explained(error))[:_SHOW_MESSAGE]
        finally:
            self._is_inside = self._is_working = False
        self._is_inside = True
        try:
            asking.ask([_ASK, "output", text(said, _SHOW_MESSAGE)])
        except Interrupted:
            raise
        except Exception:  # the host does not debug this node
            self.stop()
        finally:
            self._is_inside = False
        return None

    def _resume(self, mode: str, frame: FrameType | None, until: int = 0, is_quiet: bool = False) -> None:
        """Go on.

        Args:
            mode: "same" (as before a pause), "continue", "step" (into calls), "next" (over them), "out" (of the function) or
                "detach".
            frame: where the node has stopped.
            until: count of lines at which to stop in any case; 0: none.
            is_quiet: whether nothing else stops it before that.
        """
        if mode == "detach":
            self.stop()
            return
        if self._counter is not None:
            self._counter.until, self._counter.is_quiet = until, is_quiet
        if mode == "same":
            return
        self._mode, self._frame = mode, None
        if mode == "next":
            self._follow(frame)
        elif mode == "out":
            self._follow(None if frame is None else self._caller(frame))
        else:
            self._apply(again=mode == "step")

    def _follow(self, frame: FrameType | None) -> None:
        """Stop at the next line of that frame; None: the node goes on."""
        self._frame = frame
        events = self._events
        if frame is None:
            self._mode = "continue"
        else:
            self._watch(frame.f_code, events.LINE | events.PY_RETURN | events.PY_YIELD)
        self._apply(again=True)

    def _caller(self, frame: FrameType) -> FrameType | None:
        """The next frame of the node's own code below in the stack."""
        return next((one for one in _callers(frame.f_back) if self._is_user(one.f_code.co_filename)), None)


def _callers(frame: FrameType | None) -> Any:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _live(frame: FrameType, most: int = 0) -> list[tuple[FrameType, int]]:
    """Frames of the stack with their lines, the innermost first, without those of the guest runtime."""
    found = []
    for one in _callers(frame):
        if not one.f_code.co_filename.startswith((_OWN, _WIRE)):
            found.append((one, one.f_lineno or 0))
            if len(found) == most:
                break
    return found or [(frame, frame.f_lineno or 0)]


def _traced(trace: TracebackType | None) -> Any:
    """Frames of a traceback with their lines, the outermost first, without those of the guest runtime."""
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith((_OWN, _WIRE)):
            yield trace.tb_frame, trace.tb_lineno or 0
        trace = trace.tb_next


def _plain(inspector: Inspector, expression: str) -> str:
    """The value of an expression in a log message: a text as it is, anything else as it is shown."""
    value = inspector.value(expression)
    return text(value, _SHOW_MESSAGE) if type(value) is str else inspector.shown(value)


def _fits(path: str, file: str) -> bool:
    """Whether a path of the host's is that of a file as the guest calls it."""
    if path == file:
        return True
    name = re.sub(rf"^/{PACKAGES}/[^/]+/", "", file).replace("\\", "/").lstrip("/")
    return bool(name) and not name.startswith("<") and f"/{path}".replace("\\", "/").endswith(f"/{name}")


_lines: dict[str, list[int]] = {}


def _placed(file: str, line: int) -> int:
    """The first line from there on at which code begins; the line itself if it is after all of them, or the source is not known."""
    known = _lines.get(file)
    if known is None:
        try:
            known = _lines[file] = sorted(_begun(compile("".join(linecache.getlines(file)), file, "exec")))
        except Exception:  # not a source
            known = _lines[file] = []
    return next((one for one in known if one >= line), line)


def _begun(code: CodeType) -> set[int]:
    found = {line for _, _, line in code.co_lines() if line}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _begun(constant)
    return found
