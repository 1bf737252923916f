"""Samples of a node in a worker process: the worker samples it, on a socket of its own, and the host asks for what was found.

What comes back is as hostile as the worker may be: all numbers are checked, and texts are the node's word in any case.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import decode_record, write_cbor
from cloche._wasm.sampler import LANES, NO_PARENT, Found, FoundFunction, FoundLane, FoundNode, FoundPlace, Sampler
from cloche.errors import ClocheError
from cloche.texts import clean

if TYPE_CHECKING:
    from cloche._isolation.descriptors import Socket
    from cloche._sandbox import Instance

__all__ = ["RemoteSampler", "serve_samples"]

_LENGTH: Final = struct.Struct("<I")
_MOST_BYTES: Final = 8 << 20
_ANSWER_S: Final = 10.0
"""Seconds for which the host waits for samples."""
_FRESH_S: Final = 0.05
"""Seconds for which an answer is new enough: making one is work of the worker's for which no call has asked (`rlimits`)."""
_MOST: Final = (2048, 8192, 16384)
"""Functions, places and nodes that the core's sampler keeps (runtime/native/sampler.c)."""
_MOST_NUMBER: Final = (1 << 63) - 1
_NOTHING: Final = Found([], [], [FoundNode(NO_PARENT, NO_PARENT, 0, 0)] * LANES, [FoundLane(0, 0, 0, 0, 0, 0)])
_SAY: Final = b"?"


def serve_samples(instance: Instance | None, channel: socket.socket, period_s: float) -> None:
    """Sample a node, and tell the host what was found whenever it asks, until it closes the socket. On a thread of the worker."""
    with channel, suppress(OSError):
        try:
            if instance is None:
                raise ClocheError("the node is closed")
            sampler = Sampler(instance.layout(), period_s)
            word = sampler.word(0)
            instance.sample(word)
        except ClocheError as error:
            _send(channel, write_cbor([str(error)]))
            return
        try:
            _send(channel, write_cbor([""]))
            while channel.recv(1):
                found = sampler.read()
                _send(
                    channel,
                    write_cbor([found.functions, found.places, found.nodes[:1] + found.nodes[LANES:], found.lanes[0]]),
                )
        finally:
            instance.end_sample(word)
            sampler.end()


def _send(channel: socket.socket, frame: bytes) -> None:
    channel.sendall(_LENGTH.pack(len(frame)) + frame)


class RemoteSampler:
    """The host's end: see `cloche._sandbox.SampleSource`.

    Args:
        channel: a socket whose other end the worker has got.
        node: the node's name.

    Raises:
        ClocheError: the worker does not sample it.
    """

    def __init__(self, channel: Socket, node: str) -> None:
        self._channel: Socket | None = channel
        self._last = _NOTHING
        self._asked = -math.inf
        self._lock = threading.RLock()
        channel.settimeout(_ANSWER_S)
        match self._answer(channel):
            case [str(problem)] if not problem:
                return
            case [str(problem)]:
                self._close()
                raise ClocheError(f"node {node!r} is not sampled: {clean(problem, 500)}")
        self._close()
        raise ClocheError(f"node {node!r} is not sampled: its worker process does not answer")

    def read(self) -> Found:
        """What was found so far, or a moment ago. If the worker has ended, what it has said last."""
        with self._lock:
            if time.monotonic() > self._asked + _FRESH_S:
                self._ask()
            return self._last

    def end(self) -> None:
        """End the sampling; `read` says then what was found until now. Again: does nothing."""
        with self._lock:
            self._ask()
            self._close()

    def _ask(self) -> None:
        if self._channel is None:
            return
        try:
            with suppress(OSError):  # it has ended, or does not answer
                self._channel.sendall(_SAY)
            self._last = _found(self._answer(self._channel))
        except (TypeError, ValueError):
            self._close()
        self._asked = time.monotonic()

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is None:
            return
        until = time.monotonic() + _ANSWER_S
        try:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_WR)
                while channel.recv(1 << 16) and time.monotonic() < until:  # until the worker has ended its sampler
                    pass
        finally:
            channel.close()

    @staticmethod
    def _answer(channel: Socket) -> list[Any]:
        """The next answer; []: there is none."""
        until = time.monotonic() + _ANSWER_S
        try:
            (length,) = _LENGTH.unpack(_some(channel, _LENGTH.size, until))
            return decode_record(_some(channel, length, until)) if length <= _MOST_BYTES else []
        except (OSError, ValueError, struct.error):
            return []


def _some(channel: Socket, length: int, until: float) -> bytes:
    content = bytearray()
    while len(content) < length:
        part = channel.recv(min(length - len(content), 1 << 16))
        if not part or time.monotonic() > until:
            raise OSError
        content += part
    return bytes(content)


def _found(answer: list[Any]) -> Found:
    """What an answer says.

    Raises:
        TypeError: it is malformed.
        ValueError: likewise.
    """
    functions, places, nodes, lane = answer
    if any(len(items) > most for items, most in zip((functions, places, nodes), _MOST, strict=True)):
        raise ValueError("more than a sampler finds")
    made_functions = [FoundFunction(_text(file), _text(name), _number(line, 1 << 31)) for file, name, line in functions]
    made_places = [FoundPlace(_number(of, len(functions) - 1), _number(line, 1 << 31)) for of, line in places]
    made_nodes = list(_NOTHING.nodes)
    for index, (parent, place, samples, spent) in enumerate(nodes):
        counts = _number(samples, _MOST_NUMBER), _number(spent, _MOST_NUMBER)
        if not index:
            made_nodes[0] = FoundNode(NO_PARENT, NO_PARENT, *counts)
            continue
        above = _number(parent, LANES + index - 2)
        made_nodes.append(FoundNode(above, _number(place, len(places) - 1), *counts))
    return Found(
        made_functions, made_places, made_nodes, [FoundLane(*(_number(count, _MOST_NUMBER) for count in lane))]
    )


def _number(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is no number up to {most}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    return value
