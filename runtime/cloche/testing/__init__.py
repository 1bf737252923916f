"""Tests of nodes without WebAssembly: `LocalGuest` runs a node in this process, with the dispatch code of the guest.

A `LocalGuest` is a `cloche.Node`: it has the same methods, errors and mapping of values, and starts in milliseconds. It is not a
sandbox: the node runs as ordinary Python code of this process, without a deadline, and can do whatever the process can.

>>> from cloche.testing import LocalGuest
>>> with LocalGuest(cloche.Source("def double(x): print(x); return 2 * x")) as node:
...     node.process(21), [record.message for record in node.records]
(42, ['21'])

`cloche.testing.plugin` has a fixture that runs a test twice: in a `LocalGuest` and in the sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from cloche import source as _source
from cloche._keywords import teaches
from cloche._records import LogRecord
from cloche._runtime import ELSEWHERE, LoadOptions, Node, NodeCalls, Runtime
from cloche._sandbox import Sink, load_request, raise_failure, request_handlers
from cloche._wasm import CallState, ClockAndRandomState
from cloche.errors import ClocheError
from cloche.grants import Grants
from cloche.limits import Limits
from cloche.replay import Report
from cloche.replay import replay as _replay
from cloche.services import Service
from cloche.source import Source
from cloche.testing._coverage import CoveredLines, coverage
from cloche.testing._local import LocalInstance
from cloche_guest import asking
from cloche_wire import Op, Reply

__all__ = ["CoveredLines", "LocalGuest", "coverage", "replay", "services"]


def replay(path: str | os.PathLike[str], *, runtime: Runtime | None = None) -> Report:
    """Make the calls of a recording again, and fail unless everything is the same (docs/how-to/record-and-replay.md).

    Args:
        path: the recording's file.
        runtime: where it runs; None: a runtime of its own.

    Raises:
        AssertionError: the replay parts from the recording; the message says where.
        ClocheError: the file is no recording, or cannot be replayed.
    """
    report = _replay(path, runtime=runtime)
    if not report:
        raise AssertionError(str(report))
    return report


class LocalGuest(Node):
    """A node that runs in this process, for tests.

    Differences from the sandbox: threads, files and sockets work; time, memory and recursion are not limited; the clocks and
    ``os.urandom`` are those of this process, whatever is granted; `asyncio.run` uses asyncio's usual loop; and installed packages
    take precedence over granted ones. Snapshots and clones are refused. Grants of mounts and scratch files are refused as well,
    because the node sees the files of this machine.

    Args:
        source: as for `Runtime.load`.
        entry: as for `Runtime.load`.
        params: as for `Runtime.load`.
        name: the node's name in log records and errors; None: the entry's name.
        limits: only the limits on values, streams, output and logs have an effect.
        grants: granted packages can be imported, and granted services called.
        session_id: as for `Runtime.load`.
        seed: 32 bytes that seed `random` and numpy's generator; None: leave this process's generators as they are.
        capture: whether stdout and stderr become log records and stdin is empty; False: they stay this process's, for a debugger.

    Raises:
        NodeLoadError: as for `Runtime.load`.
        ClocheError: `grants` has mounts or scratch_bytes.
        TypeError: as for `Runtime.load`.
    """

    @teaches(elsewhere=ELSEWHERE)
    def __init__(
        self,
        source: Source | str | os.PathLike[str],
        entry: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        limits: Limits | None = None,
        grants: Grants | None = None,
        session_id: str | None = None,
        seed: bytes | None = None,
        capture: bool = True,
    ) -> None:
        options = LoadOptions(
            entry=entry,
            params=params,
            name=name,
            limits=Limits() if limits is None else limits,
            grants=Grants() if grants is None else grants,
            session_id=session_id,
        )
        limits, grants = options.limits, options.grants
        if grants.mounts or grants.scratch_bytes:
            raise ClocheError(
                "a LocalGuest has this machine's files and no others: test what Grants.mounts and scratch_bytes give with a Runtime"
            )
        modules = _source.read(source, packages=bool(grants.packages))
        label = options.label(modules.main)
        host = CallState(label)
        made = request_handlers(grants, limits, host, Sink())
        instance = LocalInstance(limits, host, frozenset(modules.files), capture, made, variables=bool(grants.env))
        try:
            seed = seed or (b"" if grants.seed is None else ClockAndRandomState.of(grants.clock, grants.seed).seed)
            # unpickling opaque objects runs code, and there is no sandbox here
            message = replace(options, grants=replace(grants, opaque=False)).request(modules, grants.archives(), seed)
            kind, value = instance.exchange(Op.LOAD, [message], "")
            if kind is Reply.FAILURE:
                raise_failure(value, label, Op.LOAD)
        except BaseException:
            instance.close()
            raise
        info = load_request.read_info(value)
        assert info is not None  # not None: the reply comes from our own code
        if not options.is_named:
            instance.name = info["entry"]
        super().__init__(NodeCalls(instance, info), _refuse)
        self._local = instance

    @property
    def records(self) -> Sequence[LogRecord]:
        """The log records so far, with the lines that the node printed, as the host's logger would get them."""
        return tuple(self._local.records)

    @property
    def target(self) -> Any:
        """The node itself: the instance of its class, or the function. It is no copy: a test can look into it, or change it."""
        return self._local.target


@contextmanager
def services(**functions: Callable[..., Any] | Service) -> Iterator[None]:
    """Put functions into `cloche_guest.services` inside the ``with`` block, for tests that import and call a node's code directly.

    They are called like the services of a host: arguments and results are encoded and decoded, signatures are checked, and the text
    of exceptions is withheld.

    Args:
        functions: as for `Grants.services`.
    """
    host = CallState("test")
    made = request_handlers(Grants(services=functions), Limits(), host, Sink())
    instance = LocalInstance(Limits(), host, frozenset(), capture=False, handlers=made)
    before = asking.bind(instance.call)
    try:
        yield
    finally:
        asking.bind(before)
        instance.close()  # ends the grant of the services


def _refuse(*_: object) -> NoReturn:
    raise ClocheError("a LocalGuest cannot be restored: use a Runtime")
