"""`Node`: one loaded node, whether a class or a function, plain or async, with or without generators.

`Node.call` is what one call of the node invokes; `settle` turns a returned coroutine, generator or awaitable into a plain value.
"""

from __future__ import annotations

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
        required, optional = _arity(self.process)
        self.is_streaming = self._flag("is_streaming")
        self.takes_stream = self.is_streaming and _is_over_stream(self.process)
        self.is_source = required == 0 and (optional == 0 or self._flag("is_source"))
        self.is_sink = self._flag("is_sink")
        self.spread = required > 1
        self.call: Callable[..., Any] = self._call_streaming if self.takes_stream else self.process

    def method(self, name: str) -> Callable[..., Any] | None:
        """A method of the node by its name; None if there is none, or if the node is a function."""
        found = None if self.is_function else getattr(self.target, name, None)
        return found if callable(found) else None

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

    def _call_streaming(self, *items: Any) -> Any:
        """A single call of a node that takes a whole stream: the arguments become its stream."""
        return self.process(_items(items))


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


def _arity(process: Callable[..., Any]) -> tuple[int, int]:
    """Number of positional parameters without and with default; ``*args`` counts as one with default."""
    function = getattr(process, "__func__", process)
    if type(function) is FunctionType and not function.__dict__:
        # the result of `inspect.signature` in far less time, for functions without __wrapped__ and __signature__
        code = function.__code__
        optional = len(function.__defaults__ or ())
        required = code.co_argcount - optional - (function is not process)
        if required >= 0:
            return required, optional + bool(code.co_flags & inspect.CO_VARARGS)
    try:
        parameters = list(inspect.signature(process).parameters.values())
    except (TypeError, ValueError):
        return 1, 0
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    return required, len(positional) - required + any(p.kind is p.VAR_POSITIONAL for p in parameters)


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
