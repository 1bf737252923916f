"""What a return, a trap or a stop of the guest means to the host; guests are inline WebAssembly."""

from __future__ import annotations

import faulthandler
import threading

import pytest

from cloche import (
    ClosedError,
    DeadlineError,
    FuelError,
    GuestExitError,
    GuestTrapError,
    HardDeadlineError,
    ImageError,
    Limits,
    OutputError,
    ProtocolError,
)
from cloche._codec import write_cbor
from cloche._sandbox.instance import Instance
from cloche_wire import Op, Reply, abi
from tests import fake_guests as guests

LOOP = "(loop $l (br $l)) (unreachable)"
OUT_OF_BOUNDS = "(drop (i32.load (i32.const -16))) (unreachable)"
SHORT = Limits(deadline_s=0.05, memory_bytes=32 << 20)


def call(instance):
    return instance.exchange(Op.PROCESS, [1], "data")


def test_reply_is_returned_as_kind_and_value(enter):
    """The plain path: bytes in, bytes out."""
    assert call(enter()) == (Reply.RESULT, None)


def test_calls_are_counted(enter):
    """The call number ties log records to calls."""
    instance = enter()
    call(instance), call(instance)
    assert instance.calls == 2


def test_endless_loop_ends_at_its_deadline_and_closes_the_instance(enter):
    """A deadline is the node's own limit: the error names it, its value, and the instance is gone."""
    instance = enter(LOOP, limits=SHORT)
    with pytest.raises(DeadlineError, match=r"Limits\.deadline_s=0\.05") as caught:
        call(instance)
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.05)
    assert isinstance(caught.value, TimeoutError)
    assert instance.closed
    with pytest.raises(ClosedError):
        call(instance)


@pytest.mark.parametrize("metering", ["epoch", "guard", "fuel", "none"])
def test_sleep_ends_at_the_deadline_under_every_metering(enter, metering):
    """Epochs and fuel do not interrupt host code, so the host's sleep watches the deadline itself."""
    instance = enter(f"(drop (call $sleep (i64.const {10**15}))) {guests.ANSWER_NULL}", limits=SHORT, metering=metering)
    with pytest.raises(DeadlineError):
        call(instance)


def test_a_deadline_of_one_store_does_not_stop_another(enter):
    """An epoch counts for the whole engine; each store looks at its own deadline."""
    patient = enter(
        f"(local $i i64) (loop $l (local.set $i (i64.add (local.get $i) (i64.const 1)))"
        f" (br_if $l (i32.or (i32.gt_u (local.get $n) (i32.const 100)) (i64.lt_u (local.get $i) (i64.const 300000000)))))"
        f" {guests.ANSWER_NULL}",
        limits=Limits(deadline_s=60, memory_bytes=32 << 20),
    )
    hasty = Instance(
        patient._engine, Limits(deadline_s=0.005, memory_bytes=32 << 20), "hasty", lambda records, name: None
    )
    results = []
    thread = threading.Thread(target=lambda: results.append(call(patient)))
    thread.start()
    with pytest.raises(DeadlineError):
        hasty.exchange(Op.PROCESS, ["a longer request loops for ever" * 9], "data")
    thread.join()
    assert results == [(Reply.RESULT, None)]


def test_endless_loop_runs_out_of_fuel(enter):
    """Fuel is a count of instructions, the same on every machine."""
    instance = enter(LOOP, metering="fuel", limits=Limits(fuel=100_000, memory_bytes=32 << 20))
    with pytest.raises(FuelError) as caught:
        call(instance)
    assert (caught.value.limit, caught.value.value) == ("fuel", 100_000)


def test_cancel_from_another_thread_stops_an_endless_loop(enter):
    """What `aprocess` builds on: the caller is told that the instance is gone."""
    instance = enter(LOOP, limits=Limits(deadline_s=60, memory_bytes=32 << 20))
    with guests.cancelling(instance), pytest.raises(Exception, match="interrupted by its caller"):
        call(instance)
    assert instance.closed


@pytest.mark.parametrize(
    ("body", "code"),
    [("(unreachable)", "UNREACHABLE"), (OUT_OF_BOUNDS, "MEMORY_OUT_OF_BOUNDS"),
     ("(drop (i32.div_s (i32.const 1) (i32.const 0))) (unreachable)", "INTEGER_DIVISION_BY_ZERO")],
    ids=["unreachable", "out-of-bounds", "division"],
)  # fmt: skip
def test_trap_names_its_code_and_closes_the_instance(enter, body, code):
    """Also with faulthandler on, as under pytest."""
    instance = enter(body)
    with pytest.raises(GuestTrapError) as caught:
        call(instance)
    assert caught.value.trap_code == code
    assert instance.closed


@pytest.mark.parametrize("switch", ["on", "off"])
def test_faulthandler_switched_after_the_engine_does_not_turn_a_trap_into_a_crash(enter, switch):
    """faulthandler installs its own SIGSEGV handler, or takes wasmtime's away with its own."""
    was = faulthandler.is_enabled()
    try:
        faulthandler.enable() if switch == "off" else faulthandler.disable()
        instance = enter(OUT_OF_BOUNDS)
        faulthandler.disable() if switch == "off" else faulthandler.enable()
        with pytest.raises(GuestTrapError):
            call(instance)
    finally:
        faulthandler.enable() if was else faulthandler.disable()


def test_endless_recursion_is_a_trap(enter):
    """wasmtime bounds the native stack below what the thread has."""
    instance = enter(
        "(call $deep (i64.const 0))",
        extra="(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))",
    )
    with pytest.raises(GuestTrapError, match="recursed") as caught:
        call(instance)
    assert caught.value.trap_code == "STACK_OVERFLOW"


def test_endless_recursion_is_a_trap_on_a_thread_with_a_small_stack_too(enter):
    """Such a thread hands the call to one with enough stack."""
    deep = "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))"
    instance = enter("(call $deep (i64.const 0))", extra=deep)
    caught = []
    restored = threading.Event()

    def run():
        restored.wait()  # the size is the process's: what the call takes for it, it would put back
        try:
            call(instance)
        except GuestTrapError as error:
            caught.append(error.trap_code)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    restored.set()
    thread.join()
    assert caught == ["STACK_OVERFLOW"]


def test_exit_ends_the_instance_with_its_code(enter):
    """The guest never returns from exit, whatever its code says next."""
    instance = enter(f"(call $exit (i32.const 7)) {guests.ANSWER_NULL}")
    with pytest.raises(GuestExitError) as caught:
        call(instance)
    assert caught.value.code == 7


def test_exit_with_the_reserved_code_is_the_output_limit(enter):
    """The shim counts output and leaves by that code."""
    with pytest.raises(OutputError) as caught:
        call(enter(f"(call $exit (i32.const {abi.EXIT_OUTPUT | 5_000_000})) (unreachable)"))
    assert caught.value.limit == "output_bytes"


def pack(address, length):
    value = address << 32 | length
    return f"(i64.const {value - (1 << 64) if value >> 63 else value})"


@pytest.mark.parametrize(
    "body",
    [pack(0xFFFF_FFF0, 3), pack(0xFFFF_FFFF, 0xFFFF_FFFF), pack(16 * 65536 - 1, 3), pack(guests.REPLY, 0xFFFF_FFFF),
     pack(0, 0), pack(0, abi.REPLY_INVALID), pack(0, 77), pack(guests.REPLY, 0), pack(guests.REPLY, 2)],
    ids=["end", "wrap", "last byte", "huge", "none", "invalid", "unknown code", "empty", "truncated"],
)  # fmt: skip
def test_reply_outside_or_malformed_is_a_protocol_error(enter, body):
    """Any i64 may come back: address and length are checked before a byte is read."""
    instance = enter(body)
    with pytest.raises(ProtocolError):
        call(instance)
    assert instance.closed


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x81\x00", b"\x83\x00\x00\x00", b"\x82\x18\x63\xf6", b"\x82\x61\x30\xf6", b"\x82\x20\xf6", b"\xa0"],
    ids=["int", "short", "long", "unknown kind", "text kind", "negative kind", "map"],
)  # fmt: skip
def test_reply_of_another_shape_is_a_protocol_error(enter, data):
    """Well-formed CBOR is not yet a reply."""
    with pytest.raises(ProtocolError):
        call(enter(pack(guests.REPLY, len(data)), data=data))


@pytest.mark.parametrize("address", [1, 8, abi.STOP_PAGE_BYTES - 1])
def test_nothing_of_a_guest_is_taken_from_the_stop_page(enter, address):
    """It may become inaccessible at any moment of a call, and a host that reads there then would crash."""
    low = f"(i32.store8 (i32.const {address}) (i32.const 0xf6)) {pack(address, 1)}"
    with pytest.raises(ProtocolError, match="refused"):
        call(enter(low))


@pytest.mark.parametrize("address", [1, 8, abi.STOP_PAGE_BYTES - 1])
def test_no_buffer_is_shared_in_the_stop_page(enter, address):
    """Whatever the guest's allocator says: the host would write to it while the guest is stopped."""
    first = "(if (i32.gt_u (local.get $n) (i32.const 1000)) (then (return (i32.const 0x80000))))"
    instance = enter(alloc=f"{first} (i32.const {address})")
    with pytest.raises(ProtocolError, match="refused"):
        instance.share(100)


def test_reply_longer_than_the_limit_is_refused_before_it_is_copied(enter):
    """reply_bytes bounds what the host buffers for a guest."""
    with pytest.raises(ProtocolError, match="limit 1024"):
        call(enter(pack(guests.REPLY, 1025), limits=Limits(reply_bytes=1024, memory_bytes=32 << 20)))


@pytest.mark.parametrize(
    "address", ["(i32.const 0)", "(i32.const -8)", "(i32.const 1048570)"], ids=["null", "wrapping", "end"]
)
def test_alloc_outside_memory_is_refused_at_load(enter, address):
    """The request buffer would otherwise be written there."""
    with pytest.raises(Exception, match=r"refused|outside|no 65536 bytes left"):
        enter(alloc=address)


@pytest.mark.parametrize("ring", [0, -64, 16 * 65536 - 8])
def test_ring_outside_memory_is_refused_at_load(enter, ring):
    """Its place comes from the module, so it is checked once."""
    with pytest.raises(ProtocolError, match="log ring"):
        enter(ring=ring)


@pytest.mark.parametrize(
    ("used", "head"), [(0xFFFF_FFFF, 0), (abi.RING_CAPACITY + 1, 0), (8, 0xFFFF_FFFF), (8, abi.RING_CAPACITY), (4, 0), (3, 0)],
    ids=["used wraps", "used over", "head wraps", "head over", "length over", "no length"],
)  # fmt: skip
def test_garbled_ring_costs_records_and_nothing_else(enter, used, head):
    """A node with a memory bug can write any header and any bytes there."""
    store = f"(i32.store (i32.const {guests.RING + 12}) (i32.const {used - (1 << 32) if used >> 31 else used}))"
    store += f"(i32.store (i32.const {guests.RING + 8}) (i32.const {head - (1 << 32) if head >> 31 else head}))"
    store += f"(i32.store (i32.const {guests.RING + 32}) (i32.const -1))"
    instance = enter(store + guests.ANSWER_NULL)
    assert call(instance) == (Reply.RESULT, None)
    assert call(instance) == (Reply.RESULT, None)
    assert [record.logger for record in enter.records if record.logger != "cloche"] == []


_HELD = guests.RING + abi.RING_HEADER_BYTES + abi.RING_CAPACITY


@pytest.mark.parametrize(
    "length", [0, 8, 7, abi.RING_HELD_BYTES, abi.RING_HELD_BYTES + 1, 0xFFFF_FFFF],
    ids=["none", "a record", "cut", "whole place", "over", "wraps"],
)  # fmt: skip
@pytest.mark.parametrize("breaks", [True, False], ids=["break", "at rest"])
def test_garbled_held_line_costs_that_line_and_nothing_else(enter, length, breaks):
    """It is read after a break, and only then."""
    record = write_cbor([1, b"late\n"])
    stores = (
        "".join(f"(i32.store8 (i32.const {_HELD + index}) (i32.const {byte}))" for index, byte in enumerate(record))
        + f"(i32.store (i32.const {guests.RING + 24}) (i32.const {length - (1 << 32) if length >> 31 else length}))"
    )
    instance = enter(stores + ("(unreachable)" if breaks else guests.ANSWER_NULL))
    if breaks:
        with pytest.raises(GuestTrapError):
            call(instance)
    else:
        assert call(instance) == (Reply.RESULT, None)
    found = [record.message for record in enter.records if record.logger == "stdout"]
    assert found == (["late"] if breaks and length == len(record) else [])


def test_foreign_import_is_refused(enter):
    """A module that wants a file call is not the image."""
    wasi = guests.PROLOGUE + '(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))'
    with pytest.raises(ImageError, match="fd_write"):
        enter(imports=wasi)


def test_missing_import_is_refused(enter):
    """An image of another ABI."""
    with pytest.raises(ImageError, match="import"):
        enter("(unreachable)", imports=guests.PROLOGUE.replace('"clock"', '"time"'))


def test_closing_frees_at_once(enter):
    """Not at some garbage collection: the store's memory is gone when close returns."""
    instance = enter()
    assert instance.memory_bytes == 16 * 65536
    instance.close()
    assert instance.memory_bytes == 0


def test_deadline_does_not_fire_between_calls(enter):
    """Time that passes at rest is not the node's."""
    instance = enter(limits=Limits(deadline_s=0.5, memory_bytes=32 << 20))
    call(instance)
    threading.Event().wait(0.7)
    assert call(instance) == (Reply.RESULT, None)


def test_eight_threads_with_faults_of_every_kind_stay_apart(enter):
    """wasmtime-py's own host functions mix up exceptions between threads; these do not."""
    kinds = [(LOOP, HardDeadlineError), ("(unreachable)", GuestTrapError), ("(call $exit (i32.const 3)) (unreachable)", GuestExitError),
             (guests.ANSWER_NULL, None)] * 2  # fmt: skip
    long = Limits(deadline_s=60, memory_bytes=32 << 20)
    jobs = [[enter(body, limits=SHORT if body == LOOP else long) for _ in range(3)] for body, _ in kinds]
    outcomes: list[list[object]] = [[] for _ in kinds]

    def run(index):
        for instance in jobs[index]:
            try:
                outcomes[index].append(call(instance)[0])
            except Exception as error:
                outcomes[index].append(type(error))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(kinds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [[expected or Reply.RESULT] * 3 for _, expected in kinds]
