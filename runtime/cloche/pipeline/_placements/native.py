"""`Native`: a node as ordinary Python of this process (placements "native" and "inline"). It has all rights of this user."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import linecache
import pickle
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from cloche._pickles import refuses_to_pickle
from cloche.errors import ClocheError
from cloche.pipeline._needs import check_needs
from cloche.pipeline.placement import BatchResult, State
from cloche.pipeline.spec import NodeSpec
from cloche.source import Source
from cloche_guest import entry
from cloche_guest.node import PLAIN, Node, is_async_iterator, is_iterator

__all__ = ["Native", "as_exception", "found_target"]

_END: Final = object()
_importing: Final = threading.RLock()
"""Held while a node's module is executed: two runs get the same one."""


class Native:
    """One copy of a node in this process.

    Args:
        spec: the node's specification.
        target: its class or function.
        name: its name in errors.
        session_id: as for `Runtime.load`.
        begin_item: called with the number of each item of a batch before it is worked on.
        given: makes of each output, at once, what is given; None: the output itself, which the node may go on changing.
    """

    def __init__(
        self,
        spec: NodeSpec,
        target: Any,
        name: str,
        session_id: str | None,
        begin_item: Callable[[int], object] = lambda _: None,
        given: Callable[[Any], Any] | None = None,
    ) -> None:
        self._begin_item = begin_item
        self._given = given
        self._spec = spec
        self._target = target
        self._name = name
        self._session_id = session_id
        self._node: Node | None = None
        self._whole: _WholeStream | None = None
        self._runner: asyncio.Runner | None = None
        self._is_over = False
        self._pulled: Generator[Any] | None = None
        """The outputs of a node that is a source, once one has been asked for."""
        self._before: list[Any] = []
        """What a new stream of a node that takes the whole stream gave before its first item."""

    def prepare(self) -> None:
        """See `Prepared`."""
        with _exits_as_errors():
            self._prepare()

    def is_source(self) -> bool:
        """See `Prepared`."""
        return self._node is not None and self._node.is_source

    def start(self) -> BatchResult:
        """See `Placement`."""
        with _exits_as_errors():
            if self._node is None:
                self._prepare()
            self._finished(self._method("initialize"))
            return BatchResult([self._open()], self._is_over)

    def _prepare(self) -> None:
        built = entry.build(self._target, dict(self._spec.params), self._session_id)
        self._node = Node(built, getattr(self._target, "__qualname__", self._name))
        check_needs(self._name, self._finished(self._method("get_capabilities")), self._spec.place)

    def _open(self) -> list[Any]:
        assert self._node is not None
        if not self._node.takes_stream:
            return []
        self._whole = _WholeStream(self._node.process, self._loop, self._given)
        return self._with_last(self._whole.advance())

    def _with_last(self, outputs: list[Any]) -> list[Any]:
        """Outputs of a node that takes the whole stream, with its last ones if it has returned."""
        if self._whole is not None and self._whole.ended and not self._is_over:
            self._is_over = True
            outputs += self._outputs(self._method("flush"))
        return outputs

    @property
    def _loop(self) -> asyncio.Runner:
        """The event loop of this node, made when a coroutine needs it."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def _method(self, name: str) -> Any:
        assert self._node is not None
        method = self._node.method(name)
        return None if method is None else method()

    def _finished(self, result: Any) -> Any:
        """A result of the node, awaited if it can be. Iterators of outputs are returned unchanged."""
        if inspect.isawaitable(result):
            return self._loop.run(_awaited(result))
        return result

    def _outputs(self, result: Any) -> list[Any]:
        """The outputs that a result of process or flush stands for: None is none, an iterator has several."""
        given = self._given
        if type(result) in PLAIN:  # nearly always, and far faster than the questions below
            return [] if result is None else [result if given is None else given(result)]
        result = self._finished(result)
        if is_iterator(result):
            return _listed(result, given)
        if is_async_iterator(result):
            return self._loop.run(_collected(result, given))
        return [] if result is None else [result if given is None else given(result)]

    def call(self, items: Sequence[Any], *, end: bool = False) -> BatchResult:
        """See `Placement`."""
        if self.is_source():
            return BatchResult([], True) if self._is_over else self._next_output()
        outcomes: list[list[Any] | Exception] = []
        for number, item in enumerate(items):
            if self._is_over:
                break
            self._begin_item(number)
            try:
                outcomes.append(self._before + self._one(item))
                self._before = []
            except BaseException as error:
                outcomes.append(as_exception(error))
                if self._whole is not None:  # it gets a new stream for the items behind
                    self._before += self._open()
                return BatchResult(outcomes, self._is_over)
        if end and not self._is_over:
            self._begin_item(len(items))
            self._is_over = True
            try:
                last = [] if self._whole is None else self._whole.end()
                outcomes.append(self._before + last + self._outputs(self._method("flush")))
            except BaseException as error:
                outcomes.append(as_exception(error))
        return BatchResult(outcomes, self._is_over)

    def _next_output(self) -> BatchResult:
        """The next output of a source, or its end. After an exception it has no more."""
        self._begin_item(0)
        try:
            if self._pulled is None:
                self._pulled = self._source_outputs()
            for output in self._pulled:
                if output is not None:
                    return BatchResult([[output]])
        except BaseException as error:
            self._is_over = True
            return BatchResult([as_exception(error)], True)
        self._is_over = True
        return BatchResult([], True)

    def _source_outputs(self) -> Generator[Any]:
        assert self._node is not None
        result = self._finished(self._node.process())
        if is_async_iterator(result):
            try:
                while (output := self._loop.run(_next(result))) is not _END:
                    yield output
            finally:
                self._loop.run(_closed(result))
        elif is_iterator(result):
            yield from result
        else:
            yield result
        yield from self._outputs(self._method("flush"))

    def _one(self, item: Any) -> list[Any]:
        node = self._node
        assert node is not None
        if self._whole is not None:
            return self._with_last(self._whole.feed(item))
        result = node.process(*item) if node.spread and type(item) is tuple else node.process(item)
        return self._outputs(result)

    def snapshot(self) -> State:
        """See `Placement`. The node is pickled; a function has no state."""
        if self._whole is not None or self.is_source():
            what = "is a source" if self._whole is None else "takes the whole stream"
            raise ClocheError(f"node {self._name!r} {what}, so its state cannot be saved natively: run it in a sandbox")
        assert self._node is not None
        if self._node.is_function:
            return b""
        try:
            return pickle.dumps(self._node.target)
        except Exception as error:
            why = refuses_to_pickle(self._node.target) or str(error)
            raise ClocheError(
                f"the state of node {self._name!r} cannot be saved: it cannot be pickled ({why}). "
                "Give it __getstate__, or run it in a sandbox"
            ) from error

    def restore(self, state: State) -> None:
        """See `Placement`. The state is unpickled: it has to come from somebody whom you trust as much as the node's code."""
        if not isinstance(state, bytes):
            raise ClocheError(f"the state of {self._name!r} is not that of a native node")
        self._before = []
        self._node = Node(
            pickle.loads(state) if state else self._target, getattr(self._target, "__qualname__", self._name)
        )

    def stop(self) -> None:
        """See `Placement`."""
        node, whole, self._whole = self._node, self._whole, None
        pulled, self._pulled = self._pulled, None
        try:
            if whole is not None:
                whole.close()
            if pulled is not None:
                pulled.close()
            if node is not None:
                self._finished(self._method("cleanup"))
        finally:
            self._node = None
            runner, self._runner = self._runner, None
            if runner is not None:
                runner.close()

    def interrupt(self) -> None:
        """See `Placement`. Does nothing: Python code of this process cannot be ended from outside."""


class _WholeStream:
    """A node that takes the whole input as an async iterator, fed item by item.

    Args:
        process: its method.
        runner: runs it.
        given: as for `Native`.

    Attributes:
        ended: whether the node has returned.
    """

    def __init__(
        self, process: Callable[..., Any], runner: asyncio.Runner, given: Callable[[Any], Any] | None = None
    ) -> None:
        self._runner = runner
        self._given = given
        self._process = process
        self._outputs: list[Any] = []
        self._items: list[Any] = []
        self._input_ended = False
        self._wakes: asyncio.Event | None = None
        self._rests: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self.ended = False

    def advance(self) -> list[Any]:
        """Run until the node wants an item that is not there, or returns. Its outputs meanwhile."""
        self._runner.run(self._until_it_rests())
        outputs, self._outputs = self._outputs, []
        return outputs

    def feed(self, item: Any) -> list[Any]:
        """Give it an item."""
        self._items.append(item)
        return self.advance()

    def end(self) -> list[Any]:
        """End its input."""
        self._input_ended = True
        return self.advance()

    def close(self) -> None:
        """Close the node's generator."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._runner.run(_settled(self._task))

    async def _until_it_rests(self) -> None:
        if self._task is None:
            self._wakes, self._rests = asyncio.Event(), asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())
        assert self._wakes is not None
        assert self._rests is not None
        self._rests.clear()
        self._wakes.set()
        rests = asyncio.ensure_future(self._rests.wait())
        await asyncio.wait({self._task, rests}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self.ended = True
            rests.cancel()
            self._task.result()

    async def _run(self) -> None:
        result = self._process(self._input())
        if inspect.isawaitable(result):
            result = await result
        given = self._given
        if is_async_iterator(result):
            async for output in result:
                if output is not None:
                    self._outputs.append(output if given is None else given(output))
        elif is_iterator(result):
            self._outputs += _listed(result, given)
        elif result is not None:
            self._outputs.append(result if given is None else given(result))

    async def _input(self) -> AsyncIterator[Any]:
        assert self._wakes is not None
        assert self._rests is not None
        while True:
            if self._items:
                yield self._items.pop(0)
            elif self._input_ended:
                return
            else:
                self._wakes.clear()
                self._rests.set()
                await self._wakes.wait()


@contextmanager
def _exits_as_errors() -> Iterator[None]:
    """Have `as_exception` make an error of what a node raises in the block."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise as_exception(error) from error


def as_exception(error: BaseException) -> Exception:
    """What a node has raised, as an error of an item: exits and cancellations of a node's code are not those of the host."""
    if isinstance(error, Exception):
        return error
    made = RuntimeError(f"{type(error).__qualname__}: {error}")
    made.__cause__ = error
    return made


async def _awaited(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result


def _listed(result: Iterator[Any], given: Callable[[Any], Any] | None) -> list[Any]:
    if given is None:
        return [output for output in result if output is not None]
    return [given(output) for output in result if output is not None]


async def _collected(result: AsyncIterator[Any], given: Callable[[Any], Any] | None) -> list[Any]:
    if given is None:
        return [output async for output in result if output is not None]
    return [given(output) async for output in result if output is not None]


async def _next(result: AsyncIterator[Any]) -> Any:
    return await anext(result, _END)


async def _closed(result: AsyncIterator[Any]) -> None:
    close = getattr(result, "aclose", None)
    if close is not None:
        await close()


async def _settled(task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task})


def found_target(spec: NodeSpec, source: Any) -> Any:
    """The class or function of a node that runs natively.

    Args:
        spec: its specification.
        source: a class, a function, a `Source`, the path of a .py file or package, or the dotted name of a module.

    Raises:
        ImportError: the code cannot be imported.
        LookupError: it has no such entry.
    """
    if not isinstance(source, (str, Source)) and not hasattr(source, "__fspath__"):
        return source
    return entry.find(_module(source), spec.entry)


def _module(source: Any) -> ModuleType:
    """A module of a node's code. One of a text or file is named by its content, so that pickles find it in each process."""
    if isinstance(source, Source):
        own = f"cloche_node_{sha256(source.text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
        module = ModuleType(own)
        module.__file__ = source.filename
        linecache.cache[source.filename] = (len(source.text), None, source.text.splitlines(True), source.filename)
        return _imported(module, lambda: exec(compile(source.text, source.filename, "exec"), module.__dict__))
    path = Path(source).resolve()
    if not path.exists():
        return importlib.import_module(str(source))
    if path.is_dir():
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        return importlib.import_module(path.name)
    spec = importlib.util.spec_from_file_location(f"cloche_node_{sha256(path.read_bytes()).hexdigest()[:16]}", path)
    assert spec is not None
    assert spec.loader is not None
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    return _imported(module, lambda: loader.exec_module(module))


def _imported(module: ModuleType, execute: Callable[[], object]) -> ModuleType:
    """The module of that name, which is executed if there is none yet."""
    with _importing:
        if (known := sys.modules.get(module.__name__)) is not None:
            return known
        sys.modules[module.__name__] = module  # first: its classes look for it
        try:
            execute()
        except BaseException:
            del sys.modules[module.__name__]
            raise
        return module
