"""`Profiler`: counts and times the node's function calls in a calling context tree, between PROFILE "start" and "stop".

This module is imported only when the host starts a profile. The node shares this interpreter, so it can stop the tracing or forge
the figures, and the host trusts a profile no more than any other reply. But the size of a profile is bounded, whatever the node
does.
"""

from __future__ import annotations

import sys
from array import array
from contextlib import suppress
from time import perf_counter_ns
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final

from cloche_guest.failure import text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

MAX_NODES: Final = 4096
"""Nodes of the tree between one "take" and the next. Further calls get no node; their time counts for the calling function."""
MAX_FUNCTIONS: Final = 1024
"""Functions distinguished in one profile. Further functions share the entry "(other functions)"."""

_MAX_TEXT: Final = 200
"""Characters kept of a function's name and of a file's name."""
_OWN: Final = __file__.removesuffix("profile.py")
_CALIBRATION: Final = 100
monitoring: Any = getattr(sys, "monitoring", None)  # from Python 3.12 on
_C: Final = -1  # key of all calls into C on the stack: the innermost one always ends first


class Tree:
    """A calling context tree: one node for each chain of callers, with its number of calls and its nanoseconds.

    A node is ``[index, calls, nanoseconds, {key: child}, parent's index, index in functions]``. A call for which there is no node
    left is on the stack with None, and so are the calls inside it.

    Attributes:
        functions: name, file and line of each function so far.
        dropped: calls without a node since the last `take`.
    """

    def __init__(self) -> None:
        self.functions: list[tuple[str, str, int]] = [("(other functions)", "", 0)]
        self.dropped = 0
        self._sent = 0
        self._numbers: dict[int | str, int] = {}
        self._kept: list[
            object
        ] = []  # objects whose ids are keys, kept alive because the id of a freed object can be reused
        self._stable = {MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType}
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            self._stable |= {type(getattr(numpy, name, len)) for name in ("add", "sum")}
        self._stack: list[tuple[list[Any] | None, int, int]] = []
        self._reset()

    def _reset(self) -> None:
        self._nodes: list[list[Any]] = []
        self._root: list[Any] = [-1, 0, 0, {}, -1, 0]
        self._stack.clear()

    def enter(self, code: CodeType) -> None:
        """Record that a Python function starts, or resumes after a yield."""
        stack, key = self._stack, id(code)
        parent = stack[-1][0] if stack else self._root
        node = None
        if parent is not None:
            node = parent[3].get(key) or self._add(parent, key, code)
        else:
            self.dropped += 1
        stack.append((node, key, perf_counter_ns()))

    def enter_c(self, function: Any) -> None:
        """Record that a call of anything else than a Python function starts."""
        kind = type(function)
        if kind is FunctionType or kind is MethodType:
            return
        key: int | str
        if kind is BuiltinFunctionType:
            key = function.__qualname__
        elif kind in self._stable or issubclass(kind, type):
            key = id(function)
        else:
            function, key = kind, id(kind)
        stack = self._stack
        parent = stack[-1][0] if stack else self._root
        node = None
        if parent is not None:
            node = parent[3].get(key) or self._add(parent, key, function)
        else:
            self.dropped += 1
        stack.append((node, _C, perf_counter_ns()))

    def leave(self, code: CodeType) -> None:
        """Record that a Python function returns, yields or raises."""
        now, key, stack = perf_counter_ns(), id(code), self._stack
        if stack and stack[-1][1] != key and all(entry[1] != key for entry in stack):
            return  # the call had begun before the profile
        while stack:
            node, found, began = stack.pop()
            if node is not None:
                node[1] += 1
                node[2] += now - began
            if found == key:
                return

    def leave_c(self) -> None:
        """Record that a call into C returns or raises."""
        now, stack = perf_counter_ns(), self._stack
        if stack and stack[-1][1] == _C:
            node, _, began = stack.pop()
            if node is not None:
                node[1] += 1
                node[2] += now - began

    def _add(self, parent: list[Any], key: int | str, function: Any) -> list[Any] | None:
        if len(self._nodes) >= MAX_NODES:
            self.dropped += 1
            return None
        number = self._numbers.get(key)
        if number is None:
            if len(self.functions) < MAX_FUNCTIONS:
                number = self._numbers[key] = len(self.functions)
                self.functions.append(_described(function))
                self._kept.append(function)
            else:
                key = number = 0
                found: list[Any] | None = parent[3].get(key)
                if found is not None:
                    return found
        node = [len(self._nodes), 0, 0, {}, parent[0], number]
        self._nodes.append(node)
        parent[3][key] = node
        return node

    def take(self) -> list[Any]:
        """Return what was counted since the last `take`, in the form of docs/reference/wire.md, and start over."""
        numbers = array("q")
        for _, calls, spent, _, parent, function in self._nodes:
            numbers.extend((parent, function, calls, spent))
        if sys.byteorder == "big":
            numbers.byteswap()
        fresh = self.functions[self._sent :]
        self._sent += len(fresh)
        dropped, self.dropped = self.dropped, 0
        self._reset()
        return ["\n".join(f"{name}\n{file}\n{line}" for name, file, line in fresh), numbers.tobytes(), dropped]


class Profiler:
    """Traces the interpreter's calls into a `Tree`; construction starts it.

    Args:
        builtins: whether to count calls into C as well: of built-in functions, of numpy's functions, of classes.

    Attributes:
        tree: the calls counted so far.
        cost: nanoseconds that the profiler itself adds to each call: to the called function, and to its caller.
    """

    def __init__(self, builtins: bool) -> None:
        self.tree = Tree()
        self._tool = -1
        self._builtins = builtins
        self._begin()
        self.cost = _calibrate(self.tree)

    def _begin(self) -> None:
        if monitoring is None:
            sys.setprofile(_legacy(self.tree, self._builtins))
            return
        tool = next((number for number in (2, 3, 4, 1, 0, 5) if monitoring.get_tool(number) is None), None)
        if tool is None:
            raise RuntimeError("the node uses all tool ids of sys.monitoring: none is left for the profiler")
        monitoring.use_tool_id(tool, "cloche")
        self._tool = tool
        callbacks = _callbacks(self.tree, self._builtins)
        for event, function in callbacks.items():
            monitoring.register_callback(tool, event, function)
        events = monitoring.events
        # C_RETURN and C_RAISE are enabled together with CALL, and must not be set by themselves
        wanted = sum(event for event in callbacks if event not in (events.C_RETURN, events.C_RAISE))
        monitoring.set_events(tool, wanted)
        monitoring.restart_events()

    def stop(self) -> None:
        """Stop tracing."""
        if monitoring is None:
            sys.setprofile(None)
            return
        with suppress(ValueError):  # the node has freed the tool id
            monitoring.set_events(self._tool, 0)
            for event in _callbacks(self.tree, self._builtins):
                monitoring.register_callback(self._tool, event, None)
            monitoring.free_tool_id(self._tool)


def _callbacks(tree: Tree, builtins: bool) -> dict[int, Callable[..., Any]]:
    """Event -> callback, for sys.monitoring. A callback that returns DISABLE is not called for that place in the code again."""
    events, disable, own = monitoring.events, monitoring.DISABLE, _OWN
    enter, leave, enter_c, leave_c, stack = tree.enter, tree.leave, tree.enter_c, tree.leave_c, tree._stack

    def started(code: CodeType, _offset: int) -> Any:
        if code.co_filename.startswith(own):
            return disable
        if stack or _called_by_own():
            enter(code)
        return None

    def thrown(code: CodeType, _offset: int, _error: BaseException) -> None:
        if not code.co_filename.startswith(own) and (stack or _called_by_own()):
            enter(code)

    def ended(code: CodeType, _offset: int, _value: Any) -> Any:
        return disable if code.co_filename.startswith(own) else leave(code)

    def unwound(code: CodeType, _offset: int, _error: BaseException) -> None:
        if not code.co_filename.startswith(own):
            leave(code)

    def called(code: CodeType, _offset: int, function: Any, _first: Any) -> Any:
        if code.co_filename.startswith(own):
            return disable
        if stack:
            enter_c(function)
        return None

    def returned(code: CodeType, _offset: int, _function: Any, _first: Any) -> None:
        if not code.co_filename.startswith(own):
            leave_c()

    wanted: dict[int, Callable[..., Any]] = {
        events.PY_START: started,
        events.PY_RESUME: started,
        events.PY_THROW: thrown,
        events.PY_RETURN: ended,
        events.PY_YIELD: ended,
        events.PY_UNWIND: unwound,
    }
    if builtins:
        wanted |= {events.CALL: called, events.C_RETURN: returned, events.C_RAISE: returned}
    return wanted


def _legacy(tree: Tree, builtins: bool) -> Callable[[FrameType, str, Any], None]:
    """The callback for sys.setprofile, before Python 3.12 (only natively); a yield is a "return", a resumption a "call"."""
    enter, leave, enter_c, leave_c = tree.enter, tree.leave, tree.enter_c, tree.leave_c
    stack, own = tree._stack, _OWN

    def event(frame: FrameType, what: str, argument: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(own):
            return
        if what == "call":
            if stack or _called_by_own():
                enter(code)
        elif what == "return":
            leave(code)
        elif builtins and stack:
            if what == "c_call":
                enter_c(argument)
            else:
                leave_c()

    return event


def _called_by_own() -> bool:
    """Whether the guest runtime called the function of the current event. Natively, other code runs between the node's calls."""
    caller = sys._getframe(2).f_back  # frame 0 is this function, 1 the callback, 2 the function of the event
    return caller is not None and caller.f_code.co_filename.startswith(_OWN)


def _calibrate(tree: Tree) -> list[int]:
    """Measure what the profiler adds to each call, in nanoseconds: to the called function, and to its caller."""
    code = compile("def nothing(): pass\ndef often(times):\n for _ in times: nothing()\n", "calibration", "exec")
    space: dict[str, Any] = {}
    exec(code, space)  # compiled under another file name, because functions of this file are not counted
    inner, outer = [], []
    for _ in range(5):
        tree._reset()
        space["often"](range(_CALIBRATION))
        often, nothing = tree._nodes
        inner.append(nothing[2] // _CALIBRATION)
        outer.append((often[2] - nothing[2]) // _CALIBRATION)
    tree._reset()
    return [min(inner), min(outer)]


def _described(function: Any) -> tuple[str, str, int]:
    """Name, file and line of a Python function; name, module and 0 of anything else. No text contains a line break."""
    if type(function) is CodeType:
        return _line(function.co_qualname), _line(function.co_filename), function.co_firstlineno
    if issubclass(type(function), type):
        name = type.__dict__["__qualname__"].__get__(function)
        module = function.__dict__.get("__module__") if type(function) is type else None
    else:  # a type implemented in C: reading these attributes runs no code of the node
        name = getattr(function, "__qualname__", None) or getattr(function, "__name__", "?")
        module = getattr(function, "__module__", None)
        if module is None and hasattr(function, "__objclass__"):
            module = getattr(function.__objclass__, "__module__", None)
    return _line(name), _line(module) if isinstance(module, str) else "", 0


def _line(value: Any) -> str:
    return text(value, _MAX_TEXT).replace("\n", "\\n") if isinstance(value, str) else "?"
