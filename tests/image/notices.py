"""A host of a few lines, on the real image: raises notices while the guest runs, from another thread or from inside an import."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

import wasmtime

from cloche_wire import Op, Reply
from cloche_wire.abi import LAYOUT_WORDS, NOTICE_NONE, NOTICE_WORDS
from imagebuild import cbor, driver

MAX_NODES, MAX_DEPTH = 1 << 20, 100
EINTR = 27

_LIMITS = {
    "reply_bytes": 1 << 24,
    "output_bytes": 1 << 24,
    "value_depth": 100,
    "value_nodes": 1 << 20,
    "log_bytes": 1 << 16,
    "stack_depth": 1000,
}


class Outside(driver.Outside):
    """The imports: real time, and what a test has put in the place of a wait.

    Attributes:
        on_sleep: called with the nanoseconds; its answer is `sleep`'s.
        on_call: its answer is `call`'s.
        on_poll: its answer is `poll`'s.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_sleep: Callable[[int], int] = lambda ns: time.sleep(ns / 1e9) or 0
        self.on_call: Callable[[], int] = lambda: 0
        self.on_poll: Callable[[], int] = lambda: 0

    def clock(self, clock: int) -> int:
        return time.monotonic_ns()

    def sleep(self, ns: int) -> int:
        return self.on_sleep(ns)

    def call(self, address: int, size: int) -> int:
        return self.on_call()

    def poll(self) -> int:
        return self.on_poll()


class Host:
    """One instance with one node.

    Attributes:
        outside: what the imports do.
        layout: the words of `LAYOUT_WORDS`, by name.
    """

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, abi: dict[str, Any], source: str) -> None:
        self.outside = Outside()
        self._guest = guest = driver.Guest(engine, module, abi, self.outside)
        self._base = ctypes.addressof(guest.memory.data_ptr(guest.store).contents)
        words = self._words("cloche_layout", len(LAYOUT_WORDS))
        self.layout: dict[str, int] = dict(zip(LAYOUT_WORDS, words, strict=True))
        self._notice = self._words("cloche_notice", len(NOTICE_WORDS))
        self._breaker = ctypes.c_uint32.from_address(self._base + self.layout["breaker"])
        kind, value = self.send(Op.LOAD, _load(source))
        assert kind is Reply.RESULT, value

    def _words(self, name: str, count: int) -> Any:
        address = self._guest.global_value(name) & driver.MASK32
        return (ctypes.c_uint32 * count).from_address(self._base + address)

    @property
    def request(self) -> int:
        """The notice that waits."""
        return int(self._notice[0])

    def notify(self, notice: int) -> None:
        """Write a notice and the bit, as the host's other thread does."""
        self._notice[0] = notice
        self.remind()

    def remind(self) -> None:
        """Set the bit again. Not atomic with the guest's own changes of the word, so the guest may lose it."""
        self._breaker.value |= self.layout["breaker_bit"]

    def send(self, op: Op, *operands: Any) -> tuple[Reply, Any]:
        """One request."""
        guest = self._guest
        message = cbor.dumps([int(op), 1, *operands])
        at = guest.put(message)
        packed = guest.call("node_call", at, len(message), MAX_NODES, MAX_DEPTH)
        guest.call("node_free", at)
        assert packed >> 32, f"no reply: {packed}"
        kind, value = cbor.Reader(guest.read_packed(packed), guest.read).item()
        return Reply(kind), value

    def word(self, address: int) -> int:
        """A word of the guest's memory, also while it runs."""
        return int(ctypes.c_uint32.from_address(self._base + address).value)

    def bytes(self, address: int, size: int) -> bytes:
        """Some of the guest's memory, also while it runs."""
        return ctypes.string_at(self._base + address, size)


def interrupt(host: Host, notice: int, after_s: float, send: Callable[[], Any]) -> Any:
    """What `send` returns, while another thread raises a notice once `after_s` seconds have passed, and repeats its bit."""
    ended = threading.Event()

    def raise_it() -> None:
        if not ended.wait(after_s):
            host.notify(notice)
            while not ended.wait(0.001) and host.request != NOTICE_NONE:
                host.remind()

    thread = threading.Thread(target=raise_it)
    thread.start()
    try:
        return send()
    finally:
        ended.set()
        thread.join()


def _load(source: str) -> dict[str, Any]:
    return {
        "name": "node",
        "modules": {"node": ["node.py", source]},
        "main": "node",
        "entry": "Node",
        "params": {},
        "session_id": None,
        "log_level": 10,
        "seed": bytes(32),
        "limits": _LIMITS,
        "packages": {},
    }
