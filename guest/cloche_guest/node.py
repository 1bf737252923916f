"""`Node`: one loaded node, whether a class or a function, plain or async, with or without generators.

`Node.call` is what one call of the node invokes; `settle` turns a returned coroutine, generator or awaitable into a plain value.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cloche_guest.loop import Loop

PLAIN: Final[set[type]] = {
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset,
}  # fmt: skip
"""Types of results that need no `settle`; `boot` adds numpy's array."""

_KNOWN_METHODS: Final = (
    "process", "aprocess", "initialize", "cleanup", "flush", "get_config", "get_capabilities",
)  # fmt: skip
_NONE: Final = object()
_MOST_NAME: Final = 200
"""Characters of a method's name that an error shows."""
_STREAM_TYPES: Final = ("AsyncIter", "AsyncGen")


class Node:
    """A loaded node.

    Args:
        target: the node's instance, or the function.
        entry: name of the class or function.

    Attributes:
        target: the node's instance, or the function.
        is_function: whether the node is a function.
        entry: name of the class or function.
        is_streaming: the node's flag of that name.
        takes_stream: whether `process` takes the whole input of a stream as an async iterator.
        is_source: whether `process` makes outputs without input.
        can_be_alone: whether `process` can be called without an argument.
        is_sink: the node's flag of that name.
        spread: whether `process` has several required parameters, so that a tuple in a stream is spread over them.
        call: the callable for a single call.
        process: the node's own method, or the function.
    """

    def __init__(self, target: Any, entry: str) -> None:
        self.target = target
        self.entry = entry
        self.is_function = not callable(getattr(target, "process", None)) and not callable(
            getattr(target, "aprocess", None)
        )
        process = target if self.is_function else getattr(target, "aprocess", None)
        self.process: Callable[..., Any] = process if callable(process) else target.process
        required, optional, keywords = _arity(self.process)
        self.can_be_alone = required == 0 and not keywords
        self.is_streaming = self._flag("is_streaming")
        self.takes_stream = self.is_streaming and required + optional > 0 and _is_over_stream(self.process)
        self.is_source = self.can_be_alone and (optional == 0 or self._flag("is_source"))
        self.is_sink = self._flag("is_sink")
        self.spread = required > 1
        self.call: Callable[..., Any] = self._call_streaming if self.takes_stream else self.process

    def method(self, name: str) -> Callable[..., Any] | None:
        """A method of the node by its name; None if there is none, or if the node is a function."""
        found = None if self.is_function else getattr(self.target, name, None)
        return found if callable(found) else None

    def callable(self, name: str | None) -> Callable[..., Any]:
        """What CALL calls: a public method of the node by its name, or for None what PROCESS calls.

        Raises:
            AttributeError: the node has no public method of that name; the message lists those that it has.
        """
        if name is None:
            return self.call
        if self.is_function:
            if name == "process":
                return self.call
            raise AttributeError(f"{self.entry} is a function, which has no methods: call it with process()")
        if not name.isidentifier() or name.startswith("_"):
            raise AttributeError(f"{name[:_MOST_NAME]!r} is not a public method of {self.entry}: {self._listed('')}")
        found = getattr(self.target, name, _NONE)
        if found is _NONE:
            raise AttributeError(f"{self.entry} has no method {name[:_MOST_NAME]!r}: {self._listed(name)}")
        if not callable(found):
            raise AttributeError(
                f"{name!r} of {self.entry} is {type(found).__name__}, not a method: get() reads it ({self._listed('')})"
            )
        return self.call if self.takes_stream and found == self.process else found

    def _listed(self, name: str) -> str:
        """The public methods, for an error; with the one that is named nearly like `name`."""
        try:
            names = dir(self.target)
        except Exception:  # `__dir__` is code of the node
            names = dir(type(self.target))
        public = [one for one in names if not one.startswith("_") and self._is_method(one)]
        close = difflib.get_close_matches(name[:_MOST_NAME], public, n=1)
        listed = f"it has {', '.join(public[:20])}{', ...' if len(public) > 20 else ''}"
        return f"did you mean {close[0]!r}? {listed}" if close else listed

    def _is_method(self, name: str) -> bool:
        """Whether an attribute can be called, without running a property."""
        try:
            found = inspect.getattr_static(self.target, name)
        except AttributeError:  # `__dir__` can name what is not there
            return False
        return callable(found) or isinstance(found, (classmethod, staticmethod))

    def describe(self) -> dict[str, Any]:
        """The value of the reply to LOAD; see docs/reference/wire.md."""
        return {
            "entry": self.entry,
            "kind": "function" if self.is_function else "class",
            "is_streaming": self.is_streaming,
            "is_source": self.is_source,
            "is_sink": self.is_sink,
            "methods": [name for name in _KNOWN_METHODS if self.method(name)],
        }

    def _flag(self, name: str) -> bool:
        """The value of a flag: an attribute, a property or a method. A flag that raises counts as false."""
        try:
            value = getattr(self.target, name, False)
            return bool(value() if callable(value) else value)
        except Exception:  # the flag runs code of the node
            return False

    def _call_streaming(self, *items: Any, **keywords: Any) -> Any:
        """A single call of a node that takes a whole stream: the positional arguments become its stream."""
        if not items and self.can_be_alone:
            return self.process(**keywords)
        return self.process(_items(items), **keywords)


def settle(result: Any, loop: Loop, max_items: int) -> Any:
    """Make a node's result a plain value: await it, and collect the outputs of a generator in a list.

    Args:
        result: the value that the node returned.
        loop: event loop for awaiting.
        max_items: maximum number of outputs of a generator.

    Raises:
        ValueError: the generator yielded more outputs; it has been closed.
    """
    result = resolve(result, loop)
    if type(result) in PLAIN:
        return result
    if is_iterator(result):
        return _collect(result, max_items)
    if is_async_iterator(result):
        return loop.drive(_acollect(result, max_items))
    return result


def resolve(result: Any, loop: Loop) -> Any:
    """Await a node's result, if it can be awaited. Iterators of outputs are returned unchanged."""
    while type(result) not in PLAIN:
        if type(result) is CoroutineType:
            result = loop.drive(result)
        elif hasattr(type(result), "__await__"):
            result = loop.drive(_await(result))
        else:
            break
    return result


def is_iterator(value: Any) -> bool:
    """Whether a result is a sequence of outputs: a generator, or any other iterator."""
    kind = type(value)
    return hasattr(kind, "__next__") and hasattr(kind, "__iter__")


def is_async_iterator(value: Any) -> bool:
    """Whether a result is an async generator, or any other async iterator."""
    kind = type(value)
    return hasattr(kind, "__anext__") and hasattr(kind, "__aiter__")


def _collect(iterator: Iterator[Any], limit: int) -> list[Any]:
    outputs: list[Any] = []
    for output in iterator:
        if len(outputs) == limit:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            raise _too_many(limit)
        outputs.append(output)
    return outputs


async def _acollect(iterator: AsyncIterator[Any], limit: int) -> list[Any]:
    outputs: list[Any] = []
    async for output in iterator:
        if len(outputs) == limit:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()
            raise _too_many(limit)
        outputs.append(output)
    return outputs


def _too_many(limit: int) -> ValueError:
    return ValueError(f"one call yielded more than {limit} outputs (value_nodes): use stream(), which takes any number")


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _items(items: tuple[Any, ...]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _arity(process: Callable[..., Any]) -> tuple[int, int, bool]:
    """Number of positional parameters without and with default, and whether a keyword argument is required.

    ``*args`` counts as one with default.
    """
    function = getattr(process, "__func__", process)
    if type(function) is FunctionType and not function.__dict__:
        # the result of `inspect.signature` in far less time, for functions without __wrapped__ and __signature__
        code = function.__code__
        optional = len(function.__defaults__ or ())
        required = code.co_argcount - optional - (function is not process)
        if required >= 0:
            keywords = code.co_kwonlyargcount > len(function.__kwdefaults__ or ())
            return required, optional + bool(code.co_flags & inspect.CO_VARARGS), keywords
    try:
        parameters = list(inspect.signature(process).parameters.values())
    except (TypeError, ValueError):
        return 1, 0, False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    optional = len(positional) - required + any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return required, optional, any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)


def _is_over_stream(process: Callable[..., Any]) -> bool:
    """Whether `process` takes the whole input of a stream: an async generator, or its first parameter is annotated so."""
    function = inspect.unwrap(process.func if isinstance(process, functools.partial) else process)
    if inspect.isasyncgenfunction(function):
        return True
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
    except (TypeError, ValueError, StopIteration):
        return False
    return any(name in str(first.annotation) for name in _STREAM_TYPES)
