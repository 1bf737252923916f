"""For authors of nodes: the guest's own dispatch in this process, without WebAssembly.

A `LocalGuest` is a `cloche.Node`: the same methods, errors and mapping of values, in milliseconds. It is no sandbox:
the node runs as ordinary Python of this process, without a deadline, and can do what the process can.

>>> from cloche.testing import LocalGuest
>>> with LocalGuest(cloche.Source("def double(x): print(x); return 2 * x")) as node:
...     node.process(21), [record.message for record in node.records]
(42, ['21'])

`cloche.testing.plugin` has a fixture that runs a test in both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from cloche import source as _source
from cloche._records import LogRecord
from cloche._runtime import LoadOptions, Node, NodeCalls
from cloche._sandbox import load_request, raise_failure, request_handlers
from cloche._sandbox import logs as _logs
from cloche._wasm import CallState, ClockAndRandomState
from cloche.errors import ClocheError
from cloche.grants import Grants
from cloche.limits import Limits
from cloche.services import Service
from cloche.source import Source
from cloche.testing._local import LocalInstance
from cloche_guest import asking
from cloche_wire import Op, Reply

__all__ = ["LocalGuest", "services"]


class LocalGuest(Node):
    """A node that runs in this process, for tests.

    Differences from the sandbox: threads, files and sockets are there; time, memory and recursion are not limited; the clocks
    and ``os.urandom`` are this process's, whatever is granted; asyncio has its usual loop inside `asyncio.run`, and packages
    installed here come before granted ones. Snapshots and clones are refused, and so are grants of mounts and scratch files:
    the files are this machine's.

    Args:
        source: as in `Runtime.load`.
        entry: as in `Runtime.load`.
        params: as in `Runtime.load`.
        name: for records and errors; None: the entry's name.
        limits: those on values, output and logs hold.
        grants: its packages become importable, its services can be called.
        session_id: handed to nodes that keep sessions.
        seed: 32 bytes for `random` and numpy's generator; None: leave this process's as they are.
        capture: whether stdout and stderr become records and stdin is empty; False leaves them to a debugger.

    Raises:
        NodeLoadError: as in `Runtime.load`.
        ClocheError: `grants` has mounts or scratch_bytes.
        TypeError: as in `Runtime.load`.
    """

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
        made = request_handlers(grants, limits, host, _logs.DefaultLogger())
        instance = LocalInstance(limits, host, frozenset(modules.files), capture, made, variables=bool(grants.env))
        try:
            seed = seed or (b"" if grants.seed is None else ClockAndRandomState.of(grants.clock, grants.seed).seed)
            # opaque objects are unpickled by the node, which belongs into a sandbox
            message = replace(options, grants=replace(grants, opaque=False)).request(modules, seed)
            kind, value = instance.exchange(Op.LOAD, [message], "")
            if kind is Reply.FAILURE:
                raise_failure(value, label, Op.LOAD)
        except BaseException:
            instance.close()
            raise
        info = load_request.read_info(value)
        assert info is not None  # its guest is this process
        if not options.is_named:
            instance.name = info["entry"]
        super().__init__(NodeCalls(instance, info), _refuse)
        self._local = instance

    @property
    def records(self) -> Sequence[LogRecord]:
        """What the node has logged and printed so far, as the host's logger would get it."""
        return tuple(self._local.records)


@contextmanager
def services(**functions: Callable[..., Any] | Service) -> Iterator[None]:
    """In the block, `cloche_guest.services` has these functions, for tests that import a node's code and call it directly.

    They are called as a host's are: arguments and results are encoded and decoded, signatures checked, failures made anonymous.

    Args:
        functions: as for `Grants.services`.
    """
    host = CallState("test")
    made = request_handlers(Grants(services=functions), Limits(), host, _logs.DefaultLogger())
    instance = LocalInstance(Limits(), host, frozenset(), capture=False, handlers=made)
    before = asking.bind(instance.call)
    try:
        yield
    finally:
        asking.bind(before)
        instance.close()  # forgets what it granted


def _refuse(*_: object) -> NoReturn:
    raise ClocheError("a LocalGuest cannot be restored: use a Runtime")
