"""A worker that lies: the host refuses each lie, kills the worker, and never builds what it claims."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
import pytest

import cloche
from cloche._codec import check_items
from cloche._isolation import channel as _channel
from cloche._isolation import remote_instance as _remote_instance
from cloche._isolation.protocol import ANSWER, BODY, INLINE, LENGTH, RANGE, REQUEST, SNAPSHOT, Answer, Request
from cloche._isolation.remote_instance import RecordedRemoteInstance, RemoteInstance
from cloche._recording import NodeRecorder
from cloche._runtime.spending import _size
from cloche._wasm.call_state import CallState
from cloche.replay import Record
from cloche_wire import Failure, Op, Reply, tags
from tests.isolation.test_workers import eventually

LIMITS = cloche.Limits(deadline_s=5.0, reply_bytes=1 << 20, value_nodes=10_000)
OK = cbor2.dumps([0, "fine"])


class FakeProcess:
    """Stands where the host has a worker process: a thread of this one answers, by a script."""

    image = "0" * 64

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.cancelled: list[int] = []
        self.theirs: list[socket.socket] = []
        self.connected = threading.Event()

    def connect(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.append(theirs)
        self.connected.set()
        return 1, ours

    def enter(self, instance: RemoteInstance, channel: Any) -> None:
        pass

    leave = enter

    def cancel(self, number: int, request: int) -> None:
        self.cancelled.append(request)

    def end(self, cause: str = "") -> str:
        self.ended.append(cause)
        with contextlib.suppress(OSError):
            self.theirs[0].shutdown(socket.SHUT_RDWR)
        return cause or "killed by signal 9 (SIGKILL)"


def answer(kind: int = Answer.DONE, frame: bytes = OK, **fields: Any) -> bytes:
    """An answer as an honest worker sends it, but for what is given."""
    values = {
        "outside": 0,
        "told": 0,
        "number": 0,
        "ranges": 0,
        "length": len(frame),
        "logs": 0,
        "dropped": 0,
        "memory": 43 << 20,
        "fuel": 0,
        "spent": 0,
    } | fields
    return ANSWER.pack(kind, *values.values()) + frame


def numbered(reply: bytes, request: bytes) -> bytes:
    """The answer with the number of the request that it is for."""
    if len(reply) < ANSWER.size:
        return reply
    return reply[:4] + struct.pack("<Q", number_of(request)) + reply[12:]


def number_of(request: bytes) -> int:
    return int(REQUEST.unpack_from(request)[2])


Script = Callable[[socket.socket], None]


@pytest.fixture
def remote() -> Iterator[Callable[..., RemoteInstance]]:
    """Make an instance whose worker opens it honestly and then answers each request with the next of the answers."""
    threads: list[threading.Thread] = []
    made: list[RemoteInstance] = []
    gone = threading.Event()

    def make(
        *answers: bytes | Script,
        limits: cloche.Limits = LIMITS,
        logs: list[Any] | None = None,
        recorder: Any = None,
    ) -> RemoteInstance:
        process = FakeProcess()

        def work() -> None:
            process.connected.wait(10)
            channel = process.theirs[0]
            try:
                channel.send(numbered(answer(frame=b""), channel.recv(1 << 18)))
                for reply in answers:
                    if callable(reply):
                        reply(channel)
                        continue
                    channel.send(numbered(reply, channel.recv(1 << 18)))
            except OSError:
                pass
            gone.wait(10)
            channel.close()

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        records = logs if logs is not None else []
        kind: Any = RemoteInstance if recorder is None else partial(RecordedRemoteInstance, recorder)
        instance: RemoteInstance = kind(process, limits, CallState("liar"), lambda given, name: records.extend(given))
        made.append(instance)
        return instance

    yield make
    gone.set()
    for instance in made:
        instance.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def call(instance: RemoteInstance, value: Any = 1) -> Any:
    return instance.exchange(Op.PROCESS, [value], "data")


def test_an_honest_answer_is_a_value(remote):
    """The other tests would be worth nothing if this one failed."""
    instance = remote(answer())
    assert call(instance) == (Reply.RESULT, "fine")
    assert (instance.calls, instance.memory_bytes) == (1, 43 << 20)


@pytest.mark.parametrize(
    ("load", "said_ns", "used_s", "counted_ns"),
    [
        (1, 0, 0.25, 250_000_000),  # alone, it is measured from outside
        (1, (1 << 64) - 1, 0.25, 250_000_000),
        (2, 1_000, 0.25, 1_000),
        (2, (1 << 64) - 1, 0.25, None),  # no more than its process has used, and than has passed
        (2, (1 << 64) - 1, 0.0, 0),
    ],
)
def test_what_a_worker_says_of_its_processor_time(
    remote: Any, load: int, said_ns: int, used_s: float, counted_ns: int | None
) -> None:
    """A worker that was taken over pays neither nothing, nor lets another tenant pay without end."""
    instance = remote(
        lambda channel: (channel.recv(1 << 18), channel.send(numbered(answer(spent=said_ns), channel.recv(1 << 18))))
    )
    process = instance._process
    process.processor_s, process.load = 1.0, load
    instance.pay_from(0, 1000)
    call(instance)
    process.processor_s += used_s
    counted = instance.unpaid_ns(7)
    assert counted - 7 == counted_ns if counted_ns is not None else 0 < counted <= 250_000_007


def test_what_a_worker_says_of_its_memory_is_no_more_than_it_may_have(remote: Any) -> None:
    instance = remote(answer(memory=1 << 60))
    call(instance)
    assert _size(instance) == LIMITS.memory_bytes


def refused(instance: RemoteInstance, error: type[Exception] = cloche.ProtocolError, match: str | None = None) -> None:
    with pytest.raises(error, match=match) as caught:
        call(instance)
    assert instance.closed
    assert caught.value.node == "liar"
    with pytest.raises(cloche.ClosedError):
        call(instance)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (b"", "died"),
        (b"x", "1 bytes"),
        (random.Random(1).randbytes(ANSWER.size), "broke the protocol"),
        (answer(kind=99), "kind 99"),
        (answer(length=GIB), "instead of"),
        (answer(length=1), "instead of"),
        (answer(logs=GIB), "1073741824 bytes of logs"),
        (answer(logs=1024), "instead of"),
        (answer(ranges=GIB // 4), "268435456 ranges"),
        (answer(ranges=1024), "instead of"),
        (answer(outside=1), "area of 0"),
        (answer(outside=1, length=GIB), "area of 0"),
        (answer(kind=Answer.NEED, memory=GIB), "1073741824 bytes, "),
        (answer(kind=Answer.NEED, memory=(1 << 64) - 1), "bytes, "),
        (answer(kind=Answer.NEED, memory=0), "an answer of 0 bytes"),
        (answer(frame=RANGE.pack(4096, 4096, 0) + OK, ranges=1, length=len(OK)), "range"),
        (answer(frame=RANGE.pack(4096, 0xFFFF_FFFF, 0xFFFF_FFFF) + OK, ranges=1, length=len(OK)), "range"),
        (answer(frame=LENGTH.pack(GIB) + OK, logs=4, length=len(OK)), "log record"),
        (answer(frame=b"\1\1" + OK, logs=2, length=len(OK)), "log record"),
        (answer(kind=Answer.ASK), "asks for what it was not granted"),
        (answer(kind=Answer.FAILED), "not an error"),
        (answer(kind=Answer.FAILED, frame=b""), "not a log record"),
        (answer(kind=Answer.FAILED, frame=cbor2.dumps(["SystemExit", "x", True, {}])), "not an error"),
        (answer(kind=Answer.FAILED, frame=cbor2.dumps(["DeadlineError", "x", True, {}])), "facts"),
        (
            answer(
                kind=Answer.FAILED,
                frame=cbor2.dumps(["GuestExitError", "x", True, {"code": 1, "__class__": 2}]),
            ),
            "facts",
        ),
        (
            answer(kind=Answer.FAILED, frame=cbor2.dumps(["GuestExitError", "x", True, {"code": "1"}])),
            "facts",
        ),
    ],
)
def test_an_answer_that_breaks_the_rules_kills_the_worker(remote, lie, match):
    """Lengths are compared with what has come, before anything is copied."""
    instance = remote(lie)
    process = instance._process
    refused(instance, cloche.BrokenInstanceError, match)
    assert len(process.ended) == 1


@pytest.mark.parametrize(
    "frame",
    [
        pickle.dumps([0, "fine"]),
        b"",
        b"\xff",
        cbor2.dumps("fine"),
        cbor2.dumps([0]),
        cbor2.dumps([True, 1]),
        cbor2.dumps([99, 1]),
        cbor2.dumps([-1, 1]),
        b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
        b"\x82\x00" + b"\x81" * 5000 + b"\x00",
        b"\x82\x00\xd8\x23\x63a+b",
        b"\x82\x00\x9f\xff",
        b"\x82\x00\xd9\xc1\xc4\x82\x1a\x10\x00\x00\x00\x1a\x40\x00\x00\x00",
    ],
    ids=[
        "pickle",
        "nothing",
        "break",
        "no-list",
        "short",
        "bool",
        "kind",
        "negative",
        "claim",
        "deep",
        "regex",
        "endless",
        "gib-elsewhere",
    ],
)
def test_a_reply_that_makes_no_value_is_a_protocol_error(remote, frame):
    """The decoder is the one that guests meet; nothing is unpickled, and no foreign tag is decoded."""
    refused(remote(answer(frame=frame)))


def test_more_items_than_allowed_are_not_built(remote):
    """A guest's validator counts them; a worker may leave it out, so the host counts again."""
    many = b"\x82\x00\x9a\x00\x00\x60\x00" + b"\x80" * 0x6000
    assert len(many) <= INLINE
    refused(remote(answer(frame=many)), match="value_nodes=10000")


@pytest.mark.parametrize(
    ("frame", "items"),
    [(b"\x80", 1), (cbor2.dumps([1, "ab", b"\1\2", {"k": 2.5}, 1 << 40]), 8), (cbor2.dumps(cbor2.CBORTag(5, [1])), 3)],
)
def test_items_are_counted(frame, items):
    """Each scalar, container, key and tag is one."""
    check_items(frame, items)
    if items > 1:
        with pytest.raises(cloche.ProtocolError, match="items"):
            check_items(frame, items - 1)


def test_errors_are_built_from_a_table_and_their_text_is_made_harmless(remote):
    """Facts and text come from the worker; the class is one of ours."""
    frame = cbor2.dumps(
        ["GuestTrapError", "a\x1b[2Jb" + "x" * 9000, True, {"trap_code": "\x1b", "guest_traceback": "\x1b"}]
    )
    instance = remote(answer(kind=Answer.FAILED, frame=frame))
    with pytest.raises(cloche.GuestTrapError) as caught:
        call(instance)
    assert str(caught.value).startswith("a\\x1b[2Jbx") and len(str(caught.value)) < 2100
    assert caught.value.trap_code == "\\x1b"
    assert instance.closed


def test_a_broken_instance_stays_broken_though_the_worker_says_it_is_not(remote):
    """What is beyond use by its class is closed."""
    frame = cbor2.dumps(["GuestExitError", "x", False, {"code": 3}])
    refused(remote(answer(kind=Answer.FAILED, frame=frame)), cloche.GuestExitError)


def test_log_records_are_parsed_as_a_guests(remote):
    """Garbage is counted, not believed."""
    good = cbor2.dumps([20, "x", "hello\x1b", None, None, 0])
    logs = b"".join(LENGTH.pack(len(record)) + record for record in (good, b"garbage", b""))
    records: list[Any] = []
    instance = remote(answer(frame=logs + OK, logs=len(logs), length=len(OK), dropped=3), logs=records)
    call(instance)
    assert records[0].message == "hello\\x1b"
    assert instance.dropped_records == 5


def test_ranges_that_were_not_sent_are_asked_for(remote):
    """The worker sends what a reply seems to name; it may miss some, and the host then asks."""

    def read(channel: socket.socket) -> None:
        data, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        kind, _, _, _, _, _, address, length = REQUEST.unpack_from(data)
        assert (kind, address, length) == (Request.READ, 0x100000, 5000)
        os.pwrite(descriptors[0], b"y" * 5000, 0)
        os.close(descriptors[0])
        channel.send(numbered(answer(frame=b""), data))

    frame = cbor2.dumps([0, cbor2.CBORTag(tags.BYTES_AT, [0x100000, 5000])])
    assert call(remote(answer(frame=frame), read)) == (Reply.RESULT, b"y" * 5000)


@pytest.mark.parametrize("lead", [-1, 1, 1 << 40])
def test_an_answer_to_another_request_kills_the_worker(remote, lead):
    """To one that was answered, or that has not been made: an honest worker has no such answer."""

    def other(channel: socket.socket) -> None:
        request = channel.recv(1 << 18)
        channel.send(answer(number=number_of(request) + lead))

    refused(remote(other), match="an answer to request [0-9]+, not 2")


def test_an_answer_that_comes_twice_kills_the_worker(remote):
    """The second must not be the next call's."""

    def twice(channel: socket.socket) -> None:
        request = channel.recv(1 << 18)
        channel.send(numbered(answer(), request))
        channel.send(numbered(answer(), request))

    instance = remote(twice)
    assert call(instance) == (Reply.RESULT, "fine")
    refused(instance, match="an answer to request 2, not 3")


def interrupting(instance: RemoteInstance) -> None:
    """The next READ is interrupted once its request has been sent."""
    receive = instance._channel.receive

    def interrupted(most: int) -> Any:
        if not most:
            instance._channel.receive = receive
            raise KeyboardInterrupt
        return receive(most)

    instance._channel.receive = interrupted


def test_the_late_answer_of_an_interrupted_read_is_dropped(remote):
    """The node is as it was: reading changes nothing in it. The late answer is not the next call's."""
    points = cbor2.dumps([0, cbor2.CBORTag(tags.BYTES_AT, [0x100000, 5000])])

    def late(channel: socket.socket) -> None:
        read, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        request = channel.recv(1 << 18)
        os.close(descriptors[0])
        channel.send(numbered(answer(frame=cbor2.dumps([0, "late"])), read))
        channel.send(numbered(answer(), request))

    instance = remote(answer(frame=points), late)
    interrupting(instance)
    with pytest.raises(KeyboardInterrupt):
        call(instance)
    assert not instance.closed
    assert call(instance) == (Reply.RESULT, "fine")


def test_an_answer_that_was_dropped_is_not_dropped_again(remote):
    """One late answer for each interruption."""
    points = cbor2.dumps([0, cbor2.CBORTag(tags.BYTES_AT, [0x100000, 5000])])

    def flood(channel: socket.socket) -> None:
        read, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        channel.recv(1 << 18)
        os.close(descriptors[0])
        for _ in range(2):
            channel.send(numbered(answer(), read))

    instance = remote(answer(frame=points), flood)
    interrupting(instance)
    with pytest.raises(KeyboardInterrupt):
        call(instance)
    refused(instance, match="an answer to request 3, not 4")


def test_a_signal_that_comes_again_and_again_does_not_put_off_the_end(remote, monkeypatch):
    """A profiler's timer interrupts the waiting many times a second: the time allowed goes on."""
    monkeypatch.setattr(_channel, "GRACE_S", 0.5)
    gate = threading.Event()
    instance = remote(lambda channel: gate.wait(60), limits=cloche.Limits(deadline_s=0.1))
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        refused(instance, cloche.DeadlineError, "did not stop it")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gate.set()


def test_a_worker_that_takes_no_request_is_killed(remote, monkeypatch):
    """It reads nothing any more: the socket is full, and the host does not wait without end."""
    monkeypatch.setattr(_channel, "GRACE_S", 0.1)
    gate = threading.Event()
    instance = remote(lambda channel: gate.wait(60), limits=cloche.Limits(deadline_s=0.1))
    try:
        with pytest.raises(cloche.ProtocolError, match="takes no request"):
            while True:
                instance.name = "x" * 30_000
    finally:
        gate.set()
    assert instance.closed


def test_a_worker_that_answers_nothing_is_killed_after_the_grace(remote, monkeypatch):
    """Its own watchdog should have stopped the guest; this is for a worker that has none any more."""
    monkeypatch.setattr(_channel, "GRACE_S", 0.1)
    gate = threading.Event()
    instance = remote(lambda channel: gate.wait(10), limits=cloche.Limits(deadline_s=0.1))
    try:
        with pytest.raises(cloche.DeadlineError, match=r"did not stop it.*killed") as caught:
            call(instance)
    finally:
        gate.set()
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.1)
    assert instance._process.ended and instance.closed


def test_no_descriptor_is_taken_from_a_worker(remote):
    """They go one way only; what comes along is closed by the kernel."""

    def send(channel: socket.socket) -> None:
        request = channel.recv(1 << 16)
        with open(os.devnull) as file:
            socket.send_fds(channel, [numbered(answer(), request)], [file.fileno()] * 8)

    before = len(os.listdir("/proc/self/fd"))
    instance = remote(send)
    opened = len(os.listdir("/proc/self/fd"))
    assert call(instance) == (Reply.RESULT, "fine")
    assert opened > before
    eventually(lambda: len(os.listdir("/proc/self/fd")) == opened)  # once `send` has closed its own


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        SNAPSHOT.pack(43 << 20, 4, 64, GIB, 4096),
        SNAPSHOT.pack(43 << 20, GIB, 0, 0, 4096),
        SNAPSHOT.pack(43 << 20, 0, GIB, 0, 4096),
        SNAPSHOT.pack((1 << 64) - 1, 0, 0, 0, 4096),
        SNAPSHOT.pack(43 << 20, 4, 64, (1 << 64) - 1, 4096),
        SNAPSHOT.pack(43 << 20, 4, 64, 8, 4096),
        SNAPSHOT.pack(43 << 20, 4, 0, 0, 4096),
        SNAPSHOT.pack(43 << 20, 0, 0, 8, 4096),
    ],
)
def test_a_snapshot_that_is_none_kills_the_worker(remote, frame):
    """Its sizes are compared with the area and with memory_bytes."""
    instance = remote(answer(frame=frame))
    with pytest.raises(cloche.ProtocolError, match="broke the protocol"):
        instance.snapshot({})
    assert instance.closed


def in_area(content: bytes, frame: bytes) -> Script:
    """An answer with so much in the shared memory."""

    def work(channel: socket.socket) -> None:
        number = number_of(channel.recv(1 << 18))
        channel.send(answer(Answer.NEED, b"", memory=len(content), number=number))
        _, (descriptor,), _, _ = socket.recv_fds(channel, 1 << 18, 1)
        os.pwrite(descriptor, content, 0)
        os.close(descriptor)
        channel.send(answer(frame=frame, number=number))

    return work


STATE = [43 << 20, 4, 64, 8, 4096, 1, {}]
NO_RECORDINGS: list[Any] = [
    answer(frame=b""),
    answer(frame=b"\xff"),
    *(
        answer(frame=cbor2.dumps(frame))
        for frame in (
            7, [], [True, None, None], [True, None, None, -1], [True, None, None, GIB], [1, None, None, 0],
            [True, None, None, 1 << 80], [True, [1, 2], None, 0], [True, STATE, None, 0], [True, None, [*STATE[:4]], 0],
            [True, [1 << 70, *STATE[1:]], None, 0], [True, [43 << 20, -4, *STATE[2:]], None, 0],
            [True, [43 << 20, 0, 0, 0, -1, 1, {}], None, 0], [True, [43 << 20, 0, 0, 0, 4096, 1, {"clock": "no"}], None, 0],
        )
    ),
    in_area(b"x" * 100, cbor2.dumps([True, None, None, 100])),
    in_area(struct.pack("<BI", 6, 1 << 31) + b"x" * 95, cbor2.dumps([True, None, None, 100])),
    in_area(b"\xff" * 76 + b"x" * 24, cbor2.dumps([True, STATE, None, 24])),
]  # fmt: skip


@pytest.mark.parametrize("lie", NO_RECORDINGS, ids=range(len(NO_RECORDINGS)))
def test_a_recording_that_is_none_kills_the_worker(remote: Any, tmp_path: Path, lie: Any) -> None:
    """It is read as a stranger's file is. The call's own error comes through, without a recording."""
    failure = cbor2.dumps([int(Reply.FAILURE), Failure("call", "ValueError", "of the node").to_wire()])
    recorder = NodeRecorder(Record(folder=tmp_path), "guard", "0" * 64)
    instance = remote(answer(frame=failure), lie, recorder=recorder)
    kind, value = call(instance)
    with pytest.warns(RuntimeWarning, match="could not be recorded"), pytest.raises(cloche.NodeRaisedError) as caught:
        instance.finish(kind, value, Op.PROCESS)
    assert not caught.value.recording and not list(tmp_path.iterdir())
    assert instance.closed and instance._process.ended


def test_a_flood_of_events_is_refused(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five bytes of an event take two hundred in memory, and a worker that was taken over sends as many as it may."""
    monkeypatch.setattr(_remote_instance, "_UNPACKED_BYTES", 100_000)
    flood = struct.pack("<BI", 6, 0) * 10_000
    instance = remote(
        in_area(flood, cbor2.dumps([True, None, None, len(flood)])), recorder=NodeRecorder(Record(), "guard", "0" * 64)
    )
    with pytest.raises(cloche.ProtocolError, match="memory"):
        instance.kept()
    assert instance.closed


def test_bodies_lie_beside_the_frame_and_every_place_is_named(remote):
    """The host leaves the addresses open, and says exactly where they belong, whatever else the frame holds."""
    import numpy as np

    seen: list[bytes] = []

    def look(channel: socket.socket) -> None:
        socket_area = socket.recv_fds(channel, 1 << 18, 1)
        kind, *_, size, _ = REQUEST.unpack_from(socket_area[0])
        assert kind == Request.ROOM
        area = os.pread(socket_area[1][0], size, 0)
        os.close(socket_area[1][0])
        message = channel.recv(1 << 18)
        area = area or b""
        _, outside, _, bodies, _, length, _, _ = REQUEST.unpack_from(message)
        assert (outside, bodies) == (0, 3)
        frame = message[REQUEST.size + 3 * BODY.size :]
        assert len(frame) == length
        for position, _, count in BODY.iter_unpack(message[REQUEST.size : REQUEST.size + 3 * BODY.size]):
            assert frame[position - 1] == 0x1A
            seen.append(struct.unpack_from(">I", frame, position)[0].to_bytes(4))
            assert count in (5000, 4096 * 8, 6000)
        channel.send(numbered(answer(), message))

    # bytes that look like the host's own marks
    tricks = [b"\x1a\x40\x00\x00\x00", b"\x1a\x40\x00\x00\x01\x1a\xbf\xff\xff\xff", 0x4000_0000, 0xBFFF_FFFF]
    call(remote(look), [*tricks, b"x" * 5000, np.zeros(4096), *tricks, "y" * 6000])
    assert len(set(seen)) == 3


# ---- log records of a call that goes on
def packed(*records: Any) -> bytes:
    """Log records as a worker sends them."""
    frames = [cbor2.dumps(record) for record in records]
    return b"".join(LENGTH.pack(len(frame)) + frame for frame in frames)


def live(*records: Any, dropped: int = 0) -> bytes:
    """A message with the records of a call that goes on."""
    data = packed(*records)
    return answer(Answer.RECORDS, data, length=0, logs=len(data), dropped=dropped)


def record(text: str) -> list[Any]:
    return [20, "stdout", text, None, None, 0]


def in_turn(*replies: bytes) -> Script:
    """Answer one request with several messages."""

    def send(channel: socket.socket) -> None:
        request = channel.recv(1 << 18)
        for reply in replies:
            channel.send(numbered(reply, request))

    return send


def test_live_records_are_taken_as_they_come_and_kept_for_the_logger(remote):
    """Malformed ones are counted, whoever has made them."""
    logged: list[cloche.LogRecord] = []
    came: list[cloche.LogRecord] = []
    instance = remote(in_turn(live(record("a"), ["forged"]), live(record("b"), dropped=3), answer()), logs=logged)
    instance.on_record = came.append
    assert call(instance)[1] == "fine"
    assert [one.message for one in came[:2]] == ["a", "b"]
    assert came[2].message.startswith("4 of 6 log records dropped")
    assert logged == came


def test_live_records_that_nobody_wants_are_refused(remote):
    """They would be work without end."""
    instance = remote(in_turn(live(record("a"))))
    with pytest.raises(cloche.ProtocolError, match="it sends log records that nobody wants"):
        call(instance)


def test_live_records_without_an_end_are_refused_after_the_deadline(remote, monkeypatch):
    """Each one comes in time; the call does not end."""
    monkeypatch.setattr(_channel, "GRACE_S", 0.2)

    def endless(channel: socket.socket) -> None:
        request = channel.recv(1 << 18)
        while True:
            channel.send(numbered(live(record("a")), request))

    instance = remote(endless, limits=cloche.Limits(deadline_s=0.2, grace_s=0.1))
    came: list[cloche.LogRecord] = []
    instance.on_record = came.append
    with pytest.raises(cloche.ProtocolError, match="after its deadline"):
        call(instance)
    assert 0 < len(came) <= cloche.Limits().log_records + 1


def test_live_records_of_a_worker_that_dies_reach_the_logger(remote):
    logged: list[cloche.LogRecord] = []
    came: list[cloche.LogRecord] = []
    instance = remote(
        in_turn(live(record("last words"))), lambda channel: channel.shutdown(socket.SHUT_RDWR), logs=logged
    )
    instance.on_record = came.append
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        call(instance)
    assert [one.message for one in caught.value.last_logs] == ["last words"]
    assert logged == came == list(caught.value.last_logs)
