"""A guest that lies about a batch of items: what has become of them, and how many it has begun. It gets no item done twice, and no more time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche import HardDeadlineError, Limits, ProtocolError
from cloche._codec import write_cbor
from cloche._runtime.batches import Batches
from cloche._runtime.calls import NodeCalls
from cloche._runtime.stream import StreamSession
from cloche._sandbox.instance import Instance
from cloche_wire import Reply
from tests import fake_guests as guests
from tests.limits import patient

BEGUN = f"(i32.const {guests.NOTICE + 8})"
COUNTS_UP = f"(loop $l (i32.store {BEGUN} (i32.add (i32.load {BEGUN}) (i32.const 1))) (br $l)) (unreachable)"
ALL_AT_ONCE = f"(i32.store {BEGUN} (i32.const -1)) (loop $l (br $l)) (unreachable)"
DOWN_AND_UP = f"(loop $l (i32.store {BEGUN} (i32.const 0)) (i32.store {BEGUN} (i32.const 2)) (br $l)) (unreachable)"
FAILURE = {"type": "ValueError", "message": "no", "traceback": "", "phase": "call"}


def batches(instance: Instance) -> Batches:
    calls = NodeCalls(instance, {"methods": []})
    return Batches(calls, StreamSession(calls))


LIES: dict[str, Any] = {
    "nothing": None,
    "no list": 7,
    "empty": [],
    "too short": [[[1], [2]], None],
    "single outputs, one too few": [[1]],
    "single outputs, one too many": [[1, 2, 3]],
    "single outputs that are no list": [{0: 1, 1: 2}],
    "single outputs that are a text": ["12"],
    "single outputs that are none": [None],
    "single outputs in a dict": {0: [1, 2]},
    "too long": [[[1], [2]], None, False, 1],
    "one outcome too few": [[[1]], None, False],
    "one too many": [[[1], [2], [3]], None, False],
    "one too many, and ended": [[[1], [2], [3]], None, True],
    "an outcome that is no list": [[[1], 2], None, False],
    "an outcome that is None": [[None, [1]], None, False],
    "a dict of outcomes": [{0: [1], 1: [2]}, None, False],
    "a failure behind all": [[[1], [2]], FAILURE, False],
    "a failure that is none": [[[1]], {}, False],
    "a failure of another class": [[[1]], "failed", False],
    "a failure with numbers": [[[1]], {"type": 1, "message": 2}, False],
    "ended is a number": [[[1], [2]], None, 1],
    "ended is missing": [[[1], [2]], None, None],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_malformed_result_breaks_the_sandbox_and_is_believed_in_no_part(
    enter: Callable[..., Instance], lie: str
) -> None:
    data = write_cbor([int(Reply.BATCH), LIES[lie]])
    instance = enter(f"(i64.const {guests.REPLY << 32 | len(data)})", data=data)
    with pytest.raises(ProtocolError):
        batches(instance).send([1, 2])
    assert instance.closed


@pytest.mark.parametrize(
    "kind", [kind for kind in Reply if kind not in (Reply.BATCH, Reply.FAILURE)], ids=lambda kind: kind.name
)
def test_another_kind_of_reply_is_no_answer(enter: Callable[..., Instance], kind: Reply) -> None:
    data = write_cbor([int(kind), [[[1], [2]], None, False]])
    instance = enter(f"(i64.const {guests.REPLY << 32 | len(data)})", data=data)
    with pytest.raises(ProtocolError):
        batches(instance).send([1, 2])


def test_a_guest_that_gives_outcomes_singly_for_ever_is_stopped(enter: Callable[..., Instance]) -> None:
    """It refuses to send them together, and then answers each question with one more."""
    failure, one = write_cbor([int(Reply.FAILURE), FAILURE]), write_cbor([int(Reply.RESULT), [1]])
    body = f"""(global.set $asked (i32.add (global.get $asked) (i32.const 1)))
      (if (result i64) (i32.eq (global.get $asked) (i32.const 1))
        (then (i64.const {guests.REPLY << 32 | len(failure)}))
        (else (i64.const {guests.REPLY + len(failure) << 32 | len(one)})))"""
    instance = enter(body, data=failure + one, extra="(global $asked (mut i32) (i32.const 0))")
    with pytest.raises(ProtocolError):
        batches(instance).send([1, 2, 3])
    assert instance.closed


@pytest.mark.parametrize("body", [COUNTS_UP, ALL_AT_ONCE, DOWN_AND_UP], ids=["counts up", "all at once", "down and up"])
def test_a_guest_that_lies_about_the_items_it_has_begun_is_stopped(enter: Callable[..., Instance], body: str) -> None:
    """It wins the deadlines of the items that it has got, and no more. A hang here is a failure."""
    instance = enter(body, limits=Limits(deadline_s=0.05, memory_bytes=32 << 20))
    with pytest.raises(HardDeadlineError):
        batches(instance).send([1, 2, 3, 4])


def test_a_call_that_is_no_batch_wins_nothing_by_that(enter: Callable[..., Instance]) -> None:
    instance = enter(COUNTS_UP, limits=Limits(deadline_s=0.05, memory_bytes=32 << 20))
    with pytest.raises(HardDeadlineError):
        instance.exchange(1, [1], "data")


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_slow_item_has_the_whole_deadline_wherever_it_is_in_its_batch(runtimes: Any, isolation: Any) -> None:
    """Each of them takes most of a deadline; together they take several."""
    source = cloche.Source(
        "import time\ndef node(x):\n    end = time.monotonic() + x\n    while time.monotonic() < end: pass\n    return x\n"
    )
    with runtimes(isolation).load(source, limits=patient(deadline_s=2.0)) as node:
        calls = node.__cloche__
        stream = StreamSession(calls)
        stream.open()
        items = [0.0] * 20 + [0.5, 0.0, 1.0, 0.9, 0.0, 1.0, 0.9]
        began = time.monotonic()
        result = Batches(calls, stream).send(items)
        assert time.monotonic() - began > 4  # the sleepless waits of the node alone
    assert [outcome[0] for outcome in result.outcomes if isinstance(outcome, list)] == items
