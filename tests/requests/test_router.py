"""The import `call` under attack: any address, any length, any bytes, and an allocator that lies. Guests are inline WebAssembly."""

from __future__ import annotations

import cbor2
import pytest

from cloche import EncodeError, Limits, ProtocolError
from cloche._requests.router import ENOSYS, RequestRefused
from cloche_wire import Op, Reply, abi
from tests import fake_guests as guests

REQUEST = guests.REPLY + 64
"""Where a guest's request lies."""


class Echo:
    """A handler that answers 16 with its operands, and keeps them."""

    def __init__(self):
        self.asked = []
        self.closed = 0
        self.operations = {16: self.echo, 17: self.refuse, 18: lambda _: object(), 19: self.fail, 20: self.interrupt}

    def echo(self, operands):
        self.asked.append(operands)
        return operands

    def refuse(self, operands):
        raise RequestRefused(44)

    def fail(self, operands):
        raise ZeroDivisionError("a bug of the handler")

    def interrupt(self, operands):
        raise KeyboardInterrupt

    def on_encode_error(self, operands, error):
        assert isinstance(error, EncodeError)
        return ["TypeError", "on_encode_error"]

    def close(self):
        self.closed += 1


def asking(request=b"", *, address=REQUEST, length=None, after=""):
    """A guest that router once, and replies with what it was answered: [RESULT, the answer]."""
    n = len(request) if length is None else length
    body = f"""(local $answer i64)
      (local.set $answer (call $call (i32.const {address}) (i32.const {n})))
      {after}
      (if (i64.eqz (i64.shr_u (local.get $answer) (i64.const 32))) (then (return
        (block (result i64) (i32.store8 (i32.const {guests.REPLY + 2}) (i32.wrap_i64 (local.get $answer))) {guests.ANSWER_NULL}))))
      (i32.store16 (i32.sub (i32.wrap_i64 (i64.shr_u (local.get $answer) (i64.const 32))) (i32.const 2)) (i32.const 0x0082))
      (i64.add (i64.sub (local.get $answer) (i64.const {2 << 32})) (i64.const 2))"""
    data = b"\x82\x00\xf6" + bytes(61) + request
    return {"body": body, "data": data, "alloc": SPACED}


SPACED = (
    guests.ALLOC.replace("(local.get $n)))", "(i32.add (local.get $n) (i32.const 16))))") + "(i32.const 8) (i32.add)"
)
"""Room before each block, so that the fake guest can put a reply's head there."""


def ask(enter, request=b"", *, handlers=None, limits=None, check=None, alloc=None, **parts):
    made = asking(request, **parts)
    if check is not None:
        made["check"] = check
    if alloc is not None:
        made["alloc"] = alloc
    instance = enter(**made, handlers=[Echo()] if handlers is None else handlers, limits=limits)
    return instance, instance.exchange(Op.PROCESS, [1], "data")


def test_a_request_is_answered(enter):
    """[ask, *operands] -> [true, value], in a block of the guest's allocator."""
    handler = Echo()
    _, reply = ask(enter, cbor2.dumps([16, "a", {"b": 2.5}]), handlers=[handler])
    assert reply == (Reply.RESULT, [True, ["a", {"b": 2.5}]])
    assert handler.asked == [["a", {"b": 2.5}]]


def test_a_refusal_is_answered_as_data(enter):
    """The guest decides what to raise."""
    assert ask(enter, cbor2.dumps([17]))[1] == (Reply.RESULT, [False, 44])


def test_an_unknown_ask_is_enosys(enter):
    """An image may know more than what is granted here."""
    assert ask(enter, cbor2.dumps([99]))[1] == (Reply.RESULT, [False, ENOSYS])


def test_without_grants_there_is_no_answer(enter):
    """Nothing is decoded, nothing looked at."""
    assert ask(enter, b"\xff\xff", handlers=[])[1] == (Reply.RESULT, abi.ANSWER_NONE)


def test_an_answer_that_cannot_be_sent_is_the_desks_to_explain(enter):
    """The host's mistake, but the guest must not wait for ever."""
    assert ask(enter, cbor2.dumps([18]))[1] == (Reply.RESULT, [False, ["TypeError", "on_encode_error"]])


def test_an_exception_of_the_hosts_own_code_reaches_the_caller_as_it_is(enter):
    """A signal's handler may raise anywhere: nobody can tell its exception from a bug's, and neither may be hidden."""
    with pytest.raises(ZeroDivisionError):
        ask(enter, cbor2.dumps([19]))


def test_ctrl_c_while_a_desk_works_ends_the_call(enter):
    """It is the host's."""
    with pytest.raises(KeyboardInterrupt):
        ask(enter, cbor2.dumps([20]))


SIZE = 16 * 65536


@pytest.mark.parametrize(
    ("address", "length"),
    [(0, 4), (-16, 4), (-1, -1), (SIZE, 1), (SIZE - 1, 2), (REQUEST, -1), (REQUEST, SIZE), (-8, 16), (0, 0), (REQUEST, 0)],
    ids=["null", "end of 4 GiB", "all ones", "behind", "across", "huge", "too long", "wrapping", "nothing", "empty"],
)  # fmt: skip
def test_any_address_and_length_is_a_protocol_error(enter, address, length):
    """They are checked before a byte is read, also if the validator has been persuaded to pass them."""
    handler = Echo()
    with pytest.raises(ProtocolError) as caught:
        ask(enter, cbor2.dumps([16]), address=address, length=length, handlers=[handler])
    assert caught.value.node == "fake" and handler.asked == [] and handler.closed == 1


@pytest.mark.parametrize(
    "request_bytes",
    [b"\xff", b"\x81", b"\xa0", b"\x80", b"\x81\xf5", b"\x81\xf9\x4c\x00", b"\x10", b"\x82\x10\xc4\x82\x1b" + b"\xff" * 8 + b"\x01",
     b"\x82\x10" + b"\x81" * 2000 + b"\x00", b"\x82\x10\xd8\x23\x62(a", b"\x82\x10\xd8\x1d\x00", b"\x82\x10\xa2\x01\x01\x01\x01"],
    ids=["break", "truncated", "map", "empty", "true", "float", "int", "bignum decimal", "deep", "regex", "shared", "double key"],
)  # fmt: skip
def test_any_bytes_are_a_protocol_error(enter, request_bytes):
    """The decoder is strict by itself, also if the validator has been persuaded to pass them."""
    handler = Echo()
    with pytest.raises(ProtocolError):
        ask(enter, request_bytes, handlers=[handler])
    assert handler.asked == []


def test_what_the_validator_refuses_is_not_read(enter):
    """The decoder never sees it."""
    with pytest.raises(ProtocolError, match="not well-formed"):
        ask(enter, cbor2.dumps([16]), check="(i32.const 0)")


def test_too_many_items_are_refused_as_data(enter):
    """A well-formed request of too many items is its node's failure, not the end of the instance."""
    passes = "(i32.eq (local.get $nodes) (i32.const -1))"
    _, (kind, answer) = ask(enter, cbor2.dumps([16, [1] * 100]), check=passes)
    assert (kind, answer) == (Reply.RESULT, [False, ["ValueError", "request: more than 1000000 items (value_nodes)"]])


def test_a_request_is_bounded_by_reply_bytes(enter):
    """What the host copies for a guest has a limit."""
    limits = Limits(memory_bytes=32 << 20, reply_bytes=1024)
    with pytest.raises(ProtocolError, match="limit 1024"):
        ask(enter, cbor2.dumps([16, b"x" * 1024]), limits=limits)


@pytest.mark.parametrize(
    "alloc", ["(i32.const -16)", f"(i32.const {SIZE - 1})", f"(i32.const {SIZE})"], ids=["end", "last byte", "behind"]
)
def test_an_answers_block_outside_of_memory_is_a_protocol_error(enter, alloc):
    """The guest's allocator is the guest's code; the request buffer is allocated before, so the first block is good."""
    first = (
        f"(if (i32.eq (local.get $n) (i32.const {abi.REQUEST_BUFFER_BYTES})) (then (return (i32.const {guests.HEAP}))))"
    )
    with pytest.raises(ProtocolError, match="refused|outside"):
        ask(enter, cbor2.dumps([16]), alloc=first + alloc)


def test_no_block_for_the_answer_is_told_to_the_guest(enter):
    """An honest guest raises MemoryError then."""
    first = (
        f"(if (i32.eq (local.get $n) (i32.const {abi.REQUEST_BUFFER_BYTES})) (then (return (i32.const {guests.HEAP}))))"
    )
    assert ask(enter, cbor2.dumps([16]), alloc=first + "(i32.const 0)")[1] == (Reply.RESULT, abi.ANSWER_NO_MEMORY)


@pytest.mark.parametrize("where", ["alloc", "check"])
def test_asking_from_inside_an_answer_is_a_protocol_error(enter, where):
    """node_alloc and node_check run on behalf of the host, which has answered nothing yet."""
    again = f"(drop (call $call (i32.const {REQUEST}) (i32.const 1)))"
    if where == "alloc":
        first = f"(if (i32.eq (local.get $n) (i32.const {abi.REQUEST_BUFFER_BYTES})) (then (return (i32.const {guests.HEAP}))))"
        parts = {"alloc": f"{first} {again} (i32.const {guests.HEAP})"}
    else:
        parts = {"check": f"{again} (i32.const 1)"}
    with pytest.raises(ProtocolError, match="again"):
        ask(enter, cbor2.dumps([16]), **parts)


@pytest.mark.parametrize("where", ["alloc", "check"])
def test_a_trap_inside_an_answer_is_the_guests(enter, where):
    """Its code is told, as if it had happened anywhere else."""
    from cloche import GuestTrapError

    first = (
        f"(if (i32.eq (local.get $n) (i32.const {abi.REQUEST_BUFFER_BYTES})) (then (return (i32.const {guests.HEAP}))))"
    )
    crash = "(i32.div_s (i32.const 1) (i32.const 0))"
    with pytest.raises(GuestTrapError) as caught:
        ask(enter, cbor2.dumps([16]), **{where: first + crash if where == "alloc" else crash})
    assert caught.value.trap_code == "INTEGER_DIVISION_BY_ZERO"


@pytest.mark.parametrize("where", ["alloc", "check"])
def test_a_loop_inside_an_answer_ends_at_the_deadline(enter, where):
    """The deadline is the call's, whoever entered the guest."""
    from cloche import DeadlineError

    first = (
        f"(if (i32.eq (local.get $n) (i32.const {abi.REQUEST_BUFFER_BYTES})) (then (return (i32.const {guests.HEAP}))))"
    )
    loop = "(loop $l (br $l)) (unreachable)"
    limits = Limits(deadline_s=0.05, memory_bytes=32 << 20)
    with pytest.raises(DeadlineError):
        ask(enter, cbor2.dumps([16]), limits=limits, **{where: first + loop if where == "alloc" else loop})
