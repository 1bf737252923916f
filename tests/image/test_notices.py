"""Notices on the real image: the guest raises what the host wrote, wherever it is, and can be used again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from cloche._wasm import image as artifact
from cloche_wire import Op, Reply
from cloche_wire.abi import (
    ANSWER_INTERRUPTED,
    NOTICE_CANCEL,
    NOTICE_DEADLINE,
    NOTICE_NONE,
    NOTICE_POLL,
)
from imagebuild import driver
from tests.compiled import kept
from tests.image.notices import EINTR, Host, interrupt

pytestmark = pytest.mark.image

NODE = """
import asyncio, logging, re, sys, time
from cloche_guest import Cancelled, DeadlineExceeded, Interrupted, services

log = logging.getLogger("node")

class Loud:
    def __str__(self):
        while True: pass

class Final:
    def __del__(self):
        for number in range(20000): pass

class Node:
    def __init__(self):
        self.entered = self.left = self.caught = 0

    def process(self, what):
        result = getattr(self, what)()
        return result

    def count(self):
        return [self.entered, self.left, self.caught]

    def loop(self):
        self.entered += 1
        try:
            while True: pass
        finally:
            self.left += 1

    def catch(self):
        try:
            while True: pass
        except DeadlineExceeded:
            self.caught += 1
            return "late"

    def stubborn(self):
        while True:
            try:
                while True: pass
            except Exception:
                self.caught += 1

    def regex(self): return re.match("(a+)+b", "a" * 60)
    def integer(self): return str(3 ** 3000000)
    def sleep(self): time.sleep(1000)
    def service(self): return services.wait()
    def file(self): return open("/data/file").read()
    async def asleep(self): await asyncio.sleep(1000)
    async def spin(self):
        while True: await asyncio.sleep(0)
    async def both(self): await asyncio.gather(self.spin(), self.spin())
    def gather(self): asyncio.run(self.both())  # which cancels the one that goes on; left running, it could take the next notice
    def run(self): asyncio.run(self.spin())
    def describe(self): raise ValueError(Loud())
    def final(self):
        while True: Final()
    def logs(self):
        while True:
            log.warning("%s", [1, 2], extra={"x": {"y": 1}})
            if log.handlers: break
    def encode(self): return [{str(number): (number, {number})} for number in range(20000)]
    def items(self):
        self.entered += 1
        try:
            for number in range(1000000): yield number if number % 1000 == 999 else None
        finally:
            self.left += 1
    async def aitems(self):
        self.entered += 1
        try:
            for number in range(1000000):
                await asyncio.sleep(0)
                if number % 100 == 99: yield number
        finally:
            self.left += 1
"""
ENDLESS = [
    "loop",
    "stubborn",
    "regex",
    "integer",
    "spin",
    "gather",
    "run",
    "describe",
    "final",
    "logs",
    "items",
    "aitems",
]
WAITING = ["sleep", "service", "file", "asleep"]


@pytest.fixture(scope="module")
def host(abi: dict[str, Any]) -> Host:
    """A guest with the node above."""
    engine, wasm = driver.engine(), artifact.find().wasm

    def compiled(folder: Path) -> Path:
        made = folder / "image.cwasm"
        made.write_bytes(wasmtime.Module(engine, wasm.read_bytes()).serialize())
        return made

    file = kept("image", compiled, ["wasmtime", version("wasmtime")], [wasm, Path(driver.__file__)])
    return Host(engine, wasmtime.Module.deserialize_file(engine, str(file)), abi, NODE)


def assert_usable(host: Host) -> None:
    """It answers, nothing waits, nothing is left of the call before."""
    assert host.request == NOTICE_NONE
    kind, value = host.send(Op.PROCESS, "count")
    assert kind is Reply.RESULT
    assert value[0] == value[1], "a finally block did not run"


def waits_for_a_notice(host: Host) -> Callable[..., int]:
    """A host function that waits until there is a notice, and says that it has given up."""

    def wait(*_: int) -> int:
        while host.request == NOTICE_NONE:
            time.sleep(0.0005)
        return EINTR

    return wait


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_computes_raises_the_notice(host: Host, kind: str) -> None:
    """In Python code, in long C functions, in the event loop, in what is not the node's own."""
    for notice, named in ((NOTICE_DEADLINE, "DeadlineExceeded"), (NOTICE_CANCEL, "Cancelled")):
        reply, failure = interrupt(host, notice, 0.01, lambda: host.send(Op.PROCESS, kind))
        assert (reply, failure["type"]) == (Reply.FAILURE, f"cloche_guest.{named}")
        assert_usable(host)


@pytest.mark.parametrize("kind", WAITING)
def test_what_waits_for_the_host_raises_the_notice(host: Host, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import answers that the host has given up, and the guest asks why."""
    monkeypatch.setattr(host.outside, "on_sleep", waits_for_a_notice(host))
    monkeypatch.setattr(host.outside, "on_call", lambda: waits_for_a_notice(host)() and ANSWER_INTERRUPTED)
    reply, failure = interrupt(host, NOTICE_DEADLINE, 0.01, lambda: host.send(Op.PROCESS, kind))
    assert (reply, failure["type"]) == (Reply.FAILURE, "cloche_guest.DeadlineExceeded")
    assert_usable(host)


def test_a_node_may_catch_it_and_answer(host: Host) -> None:
    """Then the call has its result."""
    assert interrupt(host, NOTICE_DEADLINE, 0.01, lambda: host.send(Op.PROCESS, "catch")) == (Reply.RESULT, "late")
    assert_usable(host)


def test_a_wait_that_ends_without_a_notice_is_an_interrupted_call(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits: the node sees what an interrupted system call gives."""
    monkeypatch.setattr(host.outside, "on_call", lambda: ANSWER_INTERRUPTED)
    reply, failure = host.send(Op.PROCESS, "service")
    assert (reply, failure["type"]) == (Reply.FAILURE, "InterruptedError")


@pytest.mark.parametrize(
    ("answer", "named"),
    [(NOTICE_DEADLINE, "DeadlineExceeded"), (NOTICE_CANCEL, "Cancelled")],
)
def test_poll_asks_the_host_what_it_is(host: Host, monkeypatch: pytest.MonkeyPatch, answer: int, named: str) -> None:
    """And goes on if it is nothing."""
    asked: list[int] = []

    def poll() -> int:
        asked.append(1)
        if len(asked) < 3:
            host.notify(NOTICE_POLL)  # another signal, while the host looks at the first
            return NOTICE_NONE
        return answer

    monkeypatch.setattr(host.outside, "on_poll", poll)
    reply, failure = interrupt(host, NOTICE_POLL, 0.01, lambda: host.send(Op.PROCESS, "loop"))
    assert (reply, failure["type"], len(asked)) == (Reply.FAILURE, f"cloche_guest.{named}", 3)
    assert_usable(host)


def test_a_notice_that_comes_too_late_does_not_reach_the_next_call(host: Host) -> None:
    """What waits at the end of a call is forgotten."""
    for _ in range(50):
        interrupt(host, NOTICE_DEADLINE, 0.0, lambda: host.send(Op.PROCESS, "count"))
        assert_usable(host)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_a_notice_at_random_moments_leaves_the_node_usable(host: Host, seed: int, thorough: bool) -> None:
    """Every kind of node and every phase of a call, with --all a thousand times."""
    source = random.Random(seed)
    outcomes = set()
    for _ in range(1000 if thorough else 100):
        kind = source.choice([*ENDLESS, "encode", "catch", "items", "aitems"])
        notice = source.choice([NOTICE_DEADLINE, NOTICE_CANCEL] if kind != "catch" else [NOTICE_DEADLINE])
        reply, value = interrupt(
            host, notice, 0.02 * source.random() ** 2, lambda kind=kind: host.send(Op.PROCESS, kind)
        )
        outcomes.add(value["type"] if reply is Reply.FAILURE else "result")
        assert_usable(host)
    assert outcomes <= {"cloche_guest.DeadlineExceeded", "cloche_guest.Cancelled", "result"}


def test_a_running_guest_can_be_read(host: Host) -> None:
    """The layout table leads from the thread state to the names of the functions that run, and to their lines."""
    layout, stacks = host.layout, []

    def word(address: int) -> int:
        return host.word(address)

    def text(address: int) -> str:
        state = word(address + layout["text_state"])
        assert word(address + layout["object_type"]) == layout["text_type"]
        assert state & layout["text_compact_bit"] and state & layout["text_ascii_bit"]
        assert state >> layout["text_kind_shift"] & layout["text_kind_mask"] == 1
        return host.bytes(address + layout["text_ascii_data"], word(address + layout["text_length"])).decode()

    def look(*_: int) -> int:
        frame, names = word(layout["current_frame"]), []
        while frame:
            code = word(frame + layout["frame_executable"])
            if host.bytes(frame + layout["frame_owner"], 1)[0] != layout["frame_owned_by_cstack"]:
                assert word(code + layout["object_type"]) == layout["code_type"]
                table = word(code + layout["code_linetable"])
                assert word(table + layout["object_type"]) == layout["bytes_type"]
                assert host.bytes(table + layout["bytes_data"], word(table + layout["object_size"]))
                at = word(frame + layout["frame_instr_ptr"]) - code - layout["code_instructions"]
                assert 0 <= at < 2 * word(code + layout["object_size"])
                names.append((text(word(code + layout["code_filename"])), text(word(code + layout["code_qualname"]))))
            frame = word(frame + layout["frame_previous"])
        stacks.append(names)
        return 0

    before = host.outside.on_sleep
    host.outside.on_sleep = look
    try:
        assert host.send(Op.PROCESS, "sleep")[0] is Reply.RESULT
    finally:
        host.outside.on_sleep = before
    assert stacks[0][:2] == [("node.py", "Node.sleep"), ("node.py", "Node.process")]
