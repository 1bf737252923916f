"""Stopping a guest by locking its memory: whatever happens at that moment, the process lives and the error is right."""

from __future__ import annotations

import faulthandler
import os
import random
import threading
import time

import cbor2
import pytest

from cloche import DeadlineError, ImageError, Limits
from cloche._broken import Cancelled
from cloche._wasm.engine import options
from cloche._guard import Guard
from cloche_wire import Op, Reply

from . import guests
from .test_asks import Echo, asking

READS = "(loop $l (drop (i32.load (i32.const 64))) (br $l)) (unreachable)"
WRITES = "(loop $l (i32.store (i32.const 64) (i32.const 1)) (br $l)) (unreachable)"
GROWS = "(loop $l (drop (memory.grow (i32.const 1))) (i32.store (i32.const 64) (i32.const 1)) (br $l)) (unreachable)"
RECURSES = "(loop $l (drop (call $deep (i32.const 1000))) (br $l)) (unreachable)"
DEEP = """(func $deep (param i32) (result i32) (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
  (else (i32.add (i32.load8_u (i32.const 9)) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))"""
SHORT = Limits(deadline_s=0.02, memory_bytes=32 << 20)
LONG = Limits(deadline_s=60, memory_bytes=32 << 20)


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
    """At its next load or store, also while it grows its memory."""
    instance = guarded(body, extra=DEEP, limits=SHORT)
    with pytest.raises(DeadlineError, match=r"Limits\.deadline_s=0\.02") as caught:
        call(instance)
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.02)
    assert instance.closed


def test_logs_are_delivered_after_the_stop(guarded):
    """The memory is accessible again by then."""
    instance = guarded(f"(i32.store (i32.const {guests.RING + 20}) (i32.const 7)) {READS}", limits=SHORT)
    with pytest.raises(DeadlineError) as caught:
        call(instance)
    assert [record.message for record in caught.value.last_logs if "7 log records dropped" in record.message]
    assert guarded.records == list(caught.value.last_logs)


def test_a_stop_before_the_guest_is_entered_keeps_it_out(guarded):
    """The deadline may come while the host still writes the request."""
    instance = guarded(guests.ANSWER_NULL)
    host = instance.host
    host.begin()
    instance._engine.watchdog.cancel(host)
    assert not host.guard.enter()
    assert call(instance) == (Reply.RESULT, None)  # a call that begins later is not meant


def test_faulthandler_switched_on_while_the_guest_runs_does_no_harm(guarded):
    """It would get the fault first, and end the process."""
    was = faulthandler.is_enabled()
    faulthandler.disable()
    try:
        instance = guarded(READS, limits=Limits(deadline_s=0.1, memory_bytes=32 << 20))
        timer = threading.Timer(0.03, faulthandler.enable)
        timer.start()
        with pytest.raises(DeadlineError):
            call(instance)
    finally:
        faulthandler.enable() if was else faulthandler.disable()


def test_cancel_stops_a_call_without_a_deadline(guarded):
    """From another thread, at once."""
    instance = guarded(WRITES, limits=Limits(deadline_s=None, memory_bytes=32 << 20))
    done = threading.Event()

    def cancel():  # a call that begins later is not meant: so again and again
        while not done.wait(0.005):
            instance.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(Cancelled):
            call(instance)
    finally:
        done.set()
        thread.join()
    assert instance.closed


def test_the_guest_waits_locked_out_while_the_host_answers(guarded):
    """The host may use the memory in there; the guest does not run on after the deadline."""

    class Slow(Echo):
        def echo(self, operands):
            deadline = instance.host.deadline
            while time.monotonic() < deadline + 0.02:
                time.sleep(0.005)
            assert not instance.host.guard.protected
            instance._memory.read(guests.REPLY, 64, 64)
            return operands

    instance = guarded(**asking(cbor2.dumps([16, 1]), after="(unreachable)"), desks=[Slow()], limits=SHORT)
    with pytest.raises(DeadlineError):
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
    instance = guarded(**made, desks=[Echo()], limits=SHORT)
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
            instance = guarded(WRITES, limits=Limits(deadline_s=0.002, memory_bytes=32 << 20), pages=40)
            views.append(instance.share(10_000))
            with pytest.raises(DeadlineError):
                call(instance)
    finally:
        done.set()
        thread.join()
    assert seen[0]


def test_only_the_pages_of_living_views_are_left_out(guarded):
    """What else lies in the memory is locked."""
    instance = guarded(guests.ANSWER_NULL)
    memory, base = instance._memory, instance._memory.stretches()[0][0]
    assert memory.stretches() == [(base, 16 * 65536)]
    view = memory.share(5000)
    start = memory.shared(view)
    first, last = start & -4096, (start + 5000 + 4095) & -4096
    assert memory.stretches(1 << 20, unpinned=True) == [(base, first), (base + last, (1 << 20) - last)]
    del view
    assert memory.stretches(1 << 20, unpinned=True) == [(base, 1 << 20)]


def test_a_deadline_that_comes_as_the_guest_returns_does_no_harm(guarded):
    """It is either in time or late, and the next call of one that was in time works."""
    count = 3000
    body = f"(local $i i32) (loop $l (i32.store (i32.const 64) (local.get $i))\
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count})))) {guests.ANSWER_NULL}"
    luck = random.Random(1)
    instance = guarded(body, limits=LONG)
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
            except Cancelled:
                results[False] += 1
                current[0] = type(instance)(engine, LONG, "fake", lambda records, name: None)
    finally:
        done.set()
        thread.join()
        current[0].close()


def test_an_interrupt_while_the_memory_is_made_accessible_leaves_it_accessible(guarded, monkeypatch):
    """KeyboardInterrupt may be raised between any two bytecodes of the main thread. The guest is beyond use, its logs are not."""
    instance = guarded(f"(i32.store (i32.const {guests.RING + 20}) (i32.const 7)) {READS}", limits=SHORT)
    guard, leave, raised = instance.host.guard, Guard.leave, []

    def interrupted(self):
        if self is guard and self.protected and not raised:
            raised.append(1)
            raise KeyboardInterrupt
        leave(self)

    monkeypatch.setattr(Guard, "leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(instance)
    assert raised
    assert instance.closed
    assert "7 log records dropped" in guarded.records[0].message


def test_a_store_whose_memory_was_locked_is_not_used_again(guarded):
    """Not even if its guest had just returned."""
    instance = guarded(guests.ANSWER_NULL)
    cell, cells = instance._cell, instance._engine.cells
    call(instance)
    cell.guard.used = True
    instance.close(keep=True)
    assert cell not in cells._idle


def test_deadlines_on_eight_threads_stay_apart(guarded):
    """Each locks its own memory."""
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
    assert outcomes == [[Reply.RESULT if body == guests.ANSWER_NULL else DeadlineError] * 4 for body in bodies]


def test_a_child_of_a_fork_can_stop_its_own_guests(guarded):
    """Whatever the parent's threads held at that moment."""
    busy = guarded(WRITES, limits=Limits(deadline_s=0.2, memory_bytes=32 << 20))
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


def test_another_platform_is_refused(monkeypatch):
    """It is proved on Linux alone."""
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ValueError, match=r"guard.*Linux only"):
        options("guard")
