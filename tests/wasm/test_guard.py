"""Stopping a guest by locking its stop page: whatever happens at that moment, the process lives and the error is right."""

from __future__ import annotations

import faulthandler
import os
import random
import threading
import time

import cbor2
import pytest

from cloche import DeadlineError, HardDeadlineError, ImageError, Limits, ProtocolError
from cloche._wasm.engine import options
from cloche.errors import HardInterruptedError
from cloche_wire import Op, Reply
from tests import fake_guests as guests
from tests.requests.test_router import Echo, asking

READS = "(loop $l (drop (i32.load (i32.const 64))) (br $l)) (unreachable)"
WRITES = "(loop $l (i32.store (i32.const 64) (i32.const 1)) (br $l)) (unreachable)"
GROWS = "(loop $l (drop (memory.grow (i32.const 1))) (drop (i32.load (i32.const 64))) (br $l)) (unreachable)"
RECURSES = "(loop $l (drop (call $deep (i32.const 1000))) (br $l)) (unreachable)"
DEEP = """(func $deep (param i32) (result i32) (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
  (else (i32.add (i32.load8_u (i32.const 9)) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))"""
SHORT = Limits(deadline_s=0.02, grace_s=0, memory_bytes=32 << 20)
LONG = Limits(deadline_s=60, memory_bytes=32 << 20)


def spin(count):
    """Reads the stop page so often, and answers."""
    return f"""(local $i i32) (loop $l (drop (i32.load (i32.const 64)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count})))) {guests.ANSWER_NULL}"""


def call(instance):
    return instance.exchange(Op.PROCESS, [1], "data")


@pytest.fixture
def guarded(enter):
    """As `enter`, with metering="guard"."""

    def make(*args, **options):
        return enter(*args, metering="guard", **options)

    make.records = enter.records
    return make


@pytest.mark.parametrize("body", [READS, WRITES, GROWS, RECURSES], ids=["reads", "writes", "grows", "recurses"])
def test_a_loop_ends_at_its_deadline(guarded, body):
    """At its next load from the stop page, also while it grows its memory."""
    instance = guarded(body, extra=DEEP, limits=SHORT)
    with pytest.raises(HardDeadlineError, match=r"Limits\.deadline_s=0\.02") as caught:
        call(instance)
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.02)
    assert instance.closed


def test_a_guest_that_hears_no_notice_has_the_grace(guarded):
    """Such a guest has no interpreter: it is stopped when the grace is over."""
    instance = guarded(READS, limits=Limits(deadline_s=0.02, grace_s=0.03, memory_bytes=32 << 20))
    with pytest.raises(HardDeadlineError, match=r"went on for 0\.03 s of grace") as caught:
        call(instance)
    assert caught.value.reached >= 0.05
    assert instance.closed


def test_a_guest_that_ends_within_its_grace_has_answered(guarded):
    """Its answer counts, though it was told to stop; the next call is a new one."""
    instance = guarded(spin(2_000_000), limits=Limits(deadline_s=0.001, grace_s=60, memory_bytes=32 << 20))
    for _ in range(3):
        assert call(instance) == (Reply.RESULT, None)
    assert not instance.closed


def test_logs_are_delivered_after_the_stop(guarded):
    """The ring does not lie in the stop page."""
    instance = guarded(f"(i32.store (i32.const {guests.RING + 20}) (i32.const 7)) {READS}", limits=SHORT)
    with pytest.raises(HardDeadlineError) as caught:
        call(instance)
    assert [record.message for record in caught.value.last_logs if "7 log records dropped" in record.message]
    assert guarded.records == list(caught.value.last_logs)


def test_a_cancel_between_two_calls_is_for_neither(guarded):
    """There is no call to cancel; the one that begins later is not meant."""
    instance = guarded(guests.ANSWER_NULL)
    assert call(instance) == (Reply.RESULT, None)
    instance.cancel()
    instance.cancel(instance.serial)
    assert call(instance) == (Reply.RESULT, None)


def test_a_cancel_for_an_earlier_call_does_not_meet_the_one_under_way(guarded):
    """It comes from another thread, however late."""
    instance = guarded(spin(20_000_000), limits=LONG)
    call(instance)
    earlier, done = instance.serial, threading.Event()

    def cancel():
        while not done.is_set():
            instance.cancel(earlier)

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        assert call(instance) == (Reply.RESULT, None)
        assert instance.told is None
    finally:
        done.set()
        thread.join()


def test_faulthandler_switched_on_while_the_guest_runs_does_no_harm(guarded):
    """It would get the fault first, and end the process."""
    was = faulthandler.is_enabled()
    faulthandler.disable()
    try:
        instance = guarded(READS, limits=Limits(deadline_s=0.1, grace_s=0, memory_bytes=32 << 20))
        timer = threading.Timer(0.03, faulthandler.enable)
        timer.start()
        with pytest.raises(DeadlineError):
            call(instance)
    finally:
        faulthandler.enable() if was else faulthandler.disable()


@pytest.mark.parametrize("grace_s", [0.0, 0.02])
def test_cancel_stops_a_call_without_a_deadline(guarded, grace_s):
    """From another thread, at once or after the grace."""
    instance = guarded(WRITES, limits=Limits(deadline_s=None, grace_s=grace_s, memory_bytes=32 << 20))
    with guests.cancelling(instance), pytest.raises(HardInterruptedError):
        call(instance)
    assert instance.closed


def test_a_guest_whose_request_outlives_the_deadline_does_not_run_on(guarded):
    """The host may use its memory meanwhile."""

    class Slow(Echo):
        def echo(self, operands):
            deadline = instance.host.deadline
            while time.monotonic() < deadline + 0.02:
                time.sleep(0.005)
            instance._memory.read(guests.REPLY, 64, 64)
            assert instance.where() == ()
            return operands

    instance = guarded(**asking(cbor2.dumps([16, 1]), after="(unreachable)"), handlers=[Slow()], limits=SHORT)
    with pytest.raises(HardDeadlineError):
        call(instance)


@pytest.mark.parametrize("where", ["check", "alloc"])
def test_a_guest_that_the_host_enters_again_is_stopped_too(guarded, where):
    """node_check and node_alloc run on behalf of a host function."""
    request = cbor2.dumps([16, "x" * 100])
    made = asking(request)
    if where == "check":
        made["check"] = f"(local $i i32) {READS}"
    else:  # only the second block, the answer's: the first is the request buffer
        made["alloc"] = f"{guests.ALLOC} (if (i32.ge_u (local.get $at) (i32.const {guests.HEAP + 8})) (then {READS}))"
    instance = guarded(**made, handlers=[Echo()], limits=SHORT)
    with pytest.raises(DeadlineError):
        call(instance)


def test_views_stay_accessible_while_the_guest_is_stopped(guarded):
    """Any thread of the host may hold an array that lies in a guest's memory; it must never fault there."""
    done = threading.Event()
    views = []
    seen = [0]

    def use():
        while not done.is_set():
            for view in tuple(views):
                view[0] = view[-1] = 1
                seen[0] += 1

    thread = threading.Thread(target=use)
    thread.start()
    try:
        for _ in range(60):
            instance = guarded(WRITES, limits=Limits(deadline_s=0.002, grace_s=0, memory_bytes=32 << 20), pages=40)
            views.append(instance.share(10_000))
            with pytest.raises(DeadlineError):
                call(instance)
    finally:
        done.set()
        thread.join()
    assert seen[0]


def test_a_cancel_that_comes_as_the_guest_returns_does_no_harm(guarded):
    """It is either in time or late, and the next call of one that was in time works."""
    limits = Limits(deadline_s=60, grace_s=0, memory_bytes=32 << 20)
    luck = random.Random(1)
    instance = guarded(spin(3000), limits=limits)
    engine = instance._engine
    results = {True: 0, False: 0}
    done = threading.Event()
    current = [instance]

    def disturb():
        while not done.is_set():
            current[0].cancel()
            time.sleep(luck.random() * 2e-4)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        while sum(results.values()) < 1000 or min(results.values()) < 20:
            try:
                assert call(current[0]) == (Reply.RESULT, None)
                results[True] += 1
            except HardInterruptedError:
                results[False] += 1
                current[0] = type(instance)(engine, limits, "fake", lambda records, name: None)
    finally:
        done.set()
        thread.join()
        current[0].close()


def test_an_exception_of_the_host_stops_a_guest_that_goes_on(guarded):
    """KeyboardInterrupt, while Python answers a request: the guest is told to end its call, and stopped if it does not."""

    class Interrupting(Echo):
        def echo(self, operands):
            raise KeyboardInterrupt

    parts = asking(cbor2.dumps([16, 1]), after=READS)
    instance = guarded(**parts, handlers=[Interrupting()], limits=Limits(grace_s=0.02, memory_bytes=32 << 20))
    with pytest.raises(KeyboardInterrupt):
        call(instance)
    assert instance.closed


def test_a_store_whose_guest_was_stopped_is_not_used_again(guarded):
    """Whatever it was in the middle of."""
    instance = guarded(READS, limits=SHORT)
    stores = instance._engine.stores
    with pytest.raises(HardDeadlineError):
        call(instance)
    instance.close(keep=True)
    assert not stores._idle


STOP_PAGE = [(16, 64), (4096, 64), (65535, 64), (8, 70_000)]


@pytest.mark.parametrize(("address", "length"), STOP_PAGE)
def test_no_range_in_the_stop_page_is_read(guarded, address, length):
    """The host would fault there while it is locked: a view of a lease lives on, and another thread may read it at that moment."""
    instance = guarded(guests.ANSWER_NULL)
    for look in (instance._memory.read, instance._memory.view, instance._memory.pin):
        with pytest.raises(ProtocolError, match="refused"):
            look(address, length, 1 << 20)
    with pytest.raises(ProtocolError, match="refused"):
        instance._memory.checked(address, length)


def test_no_block_in_the_stop_page_is_shared(guarded):
    """The guest's allocator may say what it likes: its records lie in the guest's memory."""
    alloc = (
        f"{guests.ALLOC} (if (i32.ge_u (local.get $at) (i32.const {guests.HEAP + 8})) (then (return (i32.const 64))))"
    )
    instance = guarded(guests.ANSWER_NULL, alloc=alloc)
    with pytest.raises(ProtocolError, match="refused"):
        instance.share(64)


def test_deadlines_on_eight_threads_stay_apart(guarded):
    """Each has a stop page of its own."""
    bodies = [READS, WRITES, GROWS, guests.ANSWER_NULL] * 2
    jobs = [[guarded(body, limits=LONG if body == guests.ANSWER_NULL else SHORT) for _ in range(4)] for body in bodies]
    outcomes: list[list[object]] = [[] for _ in jobs]

    def run(index):
        for instance in jobs[index]:
            try:
                outcomes[index].append(call(instance)[0])
            except Exception as error:
                outcomes[index].append(type(error))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [[Reply.RESULT if body == guests.ANSWER_NULL else HardDeadlineError] * 4 for body in bodies]


def test_a_child_of_a_fork_can_stop_its_own_guests(guarded):
    """Whatever the parent's threads held at that moment."""
    busy = guarded(WRITES, limits=Limits(deadline_s=0.2, grace_s=0, memory_bytes=32 << 20))
    own = guarded(READS, limits=SHORT)
    ended = []

    def run():
        try:
            call(busy)
        except DeadlineError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    child = os.fork()
    if not child:
        try:
            call(own)
        except DeadlineError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert len(ended) == 1


def test_a_module_with_bulk_memory_is_refused(guarded):
    """wasmtime would run it in native code, on memory that may be locked."""
    with pytest.raises(ImageError, match=r"(?s)guard.*bulk memory"):
        guarded("(memory.fill (i32.const 0) (i32.const 0) (i32.const 9)) (unreachable)")


def test_a_platform_without_a_stop_page_is_refused(monkeypatch):
    """The message says what works there."""
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ValueError, match=r"guard.*win32.*epoch"):
        options("guard")
