"""Rehearses the life of a node before the image's snapshot is taken, so that the first calls of an instance are fast.

While code runs, CPython specialises bytecode, fills caches and assigns version tags. Instances map the image copy-on-write, so each
of these writes would cost every instance a page. After the rehearsal, they are part of the image.
"""

from __future__ import annotations

import linecache
import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

from cloche_guest import Cancelled, DeadlineExceeded, asking
from cloche_guest.dispatch import Guest
from cloche_wire.messages import Ask, Op, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROUNDS: Final = 24
"""Repetitions of the rehearsal. CPython specialises an instruction after 2 to 16 runs, depending on its kind."""

_SOURCE: Final = '''
import logging
import sys
from dataclasses import dataclass
from cloche_guest import services

class Rehearsal:
    """All the shapes of a node, at least once."""

    def __init__(self, factor=1, **config):
        self.factor = factor
        self.config = config
        self.count = 0
        self.logger = logging.getLogger(type(self).__name__)

    def initialize(self):
        self.logger.info("ready %s", self.factor)

    def process(self, data):
        self.count += 1
        if type(data) is not str:
            return data
        if data == "raise":
            raise ValueError("rehearsed")
        if data == "print":
            print("line", 1)
            self.logger.warning("said %d", 1, extra={"field": 1})
        if data == "ask":
            return services.rehearsed(data, n=1)
        if data == "wait":
            return self.later(data)
        if data == "yield":
            return self.several(data)
        return data

    async def later(self, data):
        return data

    def several(self, data):
        yield data
        yield data

    def flush(self):
        return None

    def cleanup(self):
        self.logger.info("done %d", self.count)
'''


class _Quiet:
    """A host that discards records and requests, but encodes them first, because that code must be rehearsed, too."""

    def __init__(self, dumps: Callable[[Any], bytes]) -> None:
        self._dumps = dumps

    def emit(self, record: list[Any], /) -> None:
        self._dumps(record)

    def begin_item(self, number: int, /) -> None:
        pass

    def written(self, output: Any, /) -> Any:
        return output

    def hold(self, stream: int, record: list[Any] | None, /) -> bool:
        return True

    def count_output(self, size: int, /) -> None:
        pass

    def configure(
        self, reply_bytes: int, output_bytes: int, value_nodes: int, value_depth: int, stack_depth: int, /
    ) -> None:
        pass

    def call(self, request: list[Any], /) -> list[Any] | None:
        self._dumps(request)
        return [True, ["rehearsed"] if request[0] == Ask.SERVICES else request[-1]]

    def on_pause(self, function: Callable[[], object] | None, /) -> None:
        pass

    def scratch(self, size: int, /) -> None:
        pass

    def tree(self, place: str, block: bytes, /) -> str:
        return f"/{place}"


def _messages() -> list[list[Any]]:
    """The messages of one rehearsal: load, calls with values of many types, a stream, cleanup."""
    load = {
        "name": "rehearsal",
        "modules": {"rehearsal": ["rehearsal.py", _SOURCE]},
        "main": "rehearsal",
        "entry": "Rehearsal",
        "params": {"factor": 2, "name": "rehearsal"},
        "session_id": None,
        "log_level": logging.INFO,
        "seed": bytes(32),
        "limits": {
            "reply_bytes": 1 << 20,
            "output_bytes": 1 << 20,
            "value_depth": 64,
            "value_nodes": 1000,
            "log_bytes": 1 << 16,
            "stack_depth": 10_000,
        },
        "packages": {},
    }
    values: list[Any] = [1, 2.5, None, True, "text", "ü", b"bytes", (1, 2), {3}, 1 << 80]
    values += [{"a": 1, "b": 2.5, "c": "text", "d": True, "e": None}, list(range(20)), {"k": [{"n": 1}]}]
    values += ["print", "raise", "wait", "yield", "ask"]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        values += [numpy.arange(6.0).reshape(2, 3), numpy.zeros(2048, "f4"), numpy.float32(1), numpy.ones(3, bool)]
    stream: list[list[Any]] = [
        [Op.STREAM_OPEN, 2],
        [Op.STREAM_FEED, 2, 1],
        [Op.STREAM_FEED, 2, "yield"],
        [Op.STREAM_NEXT, 2],
    ]
    stream += [[Op.STREAM_NEXT, 2], [Op.STREAM_BATCH, 2, [[1, 2.5, "text"], False]]]
    stream += [[Op.STREAM_BATCH, 2, [[1, (2, 3), "yield", None], False]]]
    stream += [[Op.STREAM_END, 2], [Op.STREAM_OPEN, 2], [Op.STREAM_CLOSE, 2]]
    return [
        [Op.LOAD, 1, load],
        [Op.INVOKE, 2, "initialize"],
        *([Op.PROCESS, 2, value] for value in values),
        [Op.GET, 2, "count"],
        [Op.RESEED, 2, bytes(32)],
        *stream,
        [Op.INVOKE, 2, "flush"],
        [Op.INVOKE, 2, "cleanup"],
    ]


def rehearse(codec: Any, encode: Callable[[Any], Any], decode: Callable[[int, Any], Any]) -> None:
    """Run the rehearsal, and restore the visible state of the interpreter afterwards.

    Args:
        codec: the module ``_cloche``.
        encode: `values.encode`, for values that the C codec does not handle.
        decode: `values.decode`, for tags that the C codec does not handle.

    Raises:
        RuntimeError: a reply was a failure where a result was expected, or the reverse. The image would be broken.
    """
    before: tuple[Any, ...] = (
        dict(sys.modules),
        sys.meta_path[:],
        warnings.filters[:],
        set(logging.root.manager.loggerDict),
    )
    streams = sys.stdin, sys.stdout, sys.stderr
    for _ in range(_ROUNDS):
        quiet = _Quiet(codec.dumps)
        guest = Guest(quiet)
        asking.bind(quiet.call)
        guest.streams.install()
        uninstall = guest.logs.install()
        codec.register(guest.handle, encode, decode, guest.fail, guest.recover, DeadlineExceeded, Cancelled)
        try:
            for message in _messages():
                _answer(guest, codec, message)
        finally:
            uninstall()
            guest.close()
            asking.bind(None)
            sys.stdin, sys.stdout, sys.stderr = streams
            _restore(*before)


def _answer(guest: Guest, codec: Any, message: Sequence[Any]) -> None:
    reply = guest.handle(codec.loads(codec.dumps(list(message))))
    codec.dumps(list(reply))
    wanted = type(message[-1]) is str and message[-1] == "raise"
    if (reply[0] == Reply.FAILURE) != wanted:
        raise RuntimeError(f"the rehearsal of {message!r:.200} answered {reply!r:.2000}")


def _restore(modules: dict[str, Any], finders: list[Any], filters: list[Any], loggers: set[str]) -> None:
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.meta_path[:] = finders
    warnings.filters[:] = filters  # type: ignore[index]  # a list, although its stubs say Sequence
    warnings._filters_mutated()  # type: ignore[attr-defined]  # needed after a direct change of the filters
    linecache.clearcache()
    logging.root.setLevel(logging.WARNING)
    for name in set(logging.root.manager.loggerDict) - loggers:
        del logging.root.manager.loggerDict[name]
