"""Where two runs of the same calls part: the first place for each thing that is compared."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cloche._wasm import MASK_BYTES, PAGE_BYTES
from cloche.errors import ClocheError

if TYPE_CHECKING:
    from cloche._recording.calls import Message, RecordedCall
    from cloche._sandbox import Snapshot
    from cloche.limits import Limits

__all__ = ["Difference", "changed_words", "compare", "first_difference"]

_WORD_BYTES: Final = 8
_MOST_SHOWN: Final = 8
_STOPPED: Final = frozenset(("HardDeadlineError", "HardInterruptedError"))
"""How a call that was interrupted in the middle of its code may end. A replay stops it at a deadline in any case."""

_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80


@dataclass(frozen=True, slots=True)
class Difference:
    """A place at which a replay differs from its recording.

    Attributes:
        call: index of the call in the recording, from 0.
        number: number of the call on the node.
        what: "result", "logs", "request", "outcome", "imports" (the node has asked for other readings of clocks, random numbers or
            sleeps) or "memory".
        where: the place in it: a path in the value as ``result['rows'][3]``, the index of a log record or request, or addresses.
        recorded: what was recorded there, shortened.
        replayed: what the replay gave.
    """

    call: int
    number: int
    what: str
    where: str
    recorded: str
    replayed: str

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return f"call {self.number}: {self.what}{place}: recorded {self.recorded}, replayed {self.replayed}"


def first_difference(one: Any, other: Any, path: str) -> tuple[str, Any, Any] | None:
    """Path and values of the first place at which two decoded values differ; None: they are the same.

    Args:
        one: a value.
        other: another one.
        path: name of the value.
    """
    if type(one) is not type(other):
        return path, one, other
    if isinstance(one, dict):
        if list(one) != list(other):
            return f"the keys of {path}", list(one), list(other)
        places = ((f"{path}[{_SHOWN.repr(key)}]", one[key], other[key]) for key in one)
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f"len({path})", len(one), len(other)
        places = ((f"{path}[{index}]", *pair) for index, pair in enumerate(zip(one, other, strict=True)))
    else:
        return None if _are_same(one, other) else (path, one, other)
    for where, left, right in places:
        found = first_difference(left, right, where)
        if found is not None:
            return found
    return None


def _words(state: Snapshot) -> Iterator[tuple[int, bytes]]:
    """Address and content of each word of a state that differs from the image."""
    at = 0
    for index, page in enumerate(memoryview(state.pages).cast("I")):
        mask = int.from_bytes(state.masks[MASK_BYTES * index : MASK_BYTES * (index + 1)], "little")
        while mask:
            lowest = mask & -mask
            yield PAGE_BYTES * page + _WORD_BYTES * (lowest.bit_length() - 1), state.words[at : at + _WORD_BYTES]
            at += _WORD_BYTES
            mask ^= lowest


def changed_words(one: Snapshot, other: Snapshot) -> str:
    """Addresses of the first words of memory at which two states differ, and how many there are."""
    changed = sorted({address for address, _ in {*_words(one)} ^ {*_words(other)}})
    shown = ", ".join(f"{address:#x}" for address in changed[:_MOST_SHOWN])
    return f"{len(changed)} words: {shown}" + (", ..." if len(changed) > _MOST_SHOWN else "")


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if type(one).__module__ == "numpy":
        return (
            getattr(one, "dtype", None) == getattr(other, "dtype", None)
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    try:
        return bool(one == other)
    except Exception:  # a class of a library's own
        return repr(one) == repr(other)


def compare(index: int, recorded: RecordedCall, replayed: RecordedCall | None, strayed: bool) -> list[Difference]:
    """The differences between a call and its replay.

    Args:
        index: of the call in the recording.
        recorded: the call.
        replayed: its replay; None: there was none.
        strayed: whether the guest has asked the imports for other answers.
    """

    def differs(what: str, where: str, one: Any, other: Any) -> Difference:
        return Difference(index, recorded.number, what, where, _SHOWN.repr(one), _SHOWN.repr(other))

    if replayed is None:
        return [differs("outcome", "", recorded.error or "an answer", "nothing")]
    found: list[Difference] = []
    ends = {recorded.error, replayed.error}
    if len(ends) > 1 and (recorded.is_exact or not ends <= _STOPPED):
        found.append(differs("outcome", "", recorded.error or "an answer", replayed.error or "an answer"))
    if not recorded.is_exact:
        return found
    limits = recorded.limits
    pairs = zip(recorded.exchanges, replayed.exchanges, strict=False)
    for number, ((one, _), (other, _)) in enumerate(pairs):
        place = _parting(one, other, limits, f"request[{number}]")
        if place is not None:
            found.append(differs("request", *place))
            break
    else:
        counts = len(recorded.exchanges), len(replayed.exchanges)
        if counts[0] != counts[1]:
            found.append(differs("request", "len(requests)", *counts))
    if recorded.reply is not None and replayed.reply is not None:
        place = _parting(recorded.reply, replayed.reply, limits, "result")
        if place is not None:
            found.append(differs("result", *place))
    if recorded.records != replayed.records:
        found.append(_log_difference(differs, recorded, replayed))
    if strayed:
        found.append(differs("imports", "", "other readings, random numbers or sleeps", "too many or too few of them"))
    return found


def _parting(one: Message, other: Message, limits: Limits, name: str) -> tuple[str, Any, Any] | None:
    if one == other:
        return None
    try:
        left, right = one.value(limits), other.value(limits)
    except ClocheError:
        return name, f"{len(one.frame)} bytes and {len(one.parts)} long values", "others"
    if name == "result" and type(left) is list and type(right) is list and len(left) == len(right) == 2:
        if left[0] == right[0]:
            return first_difference(left[1], right[1], name)
        return "kind of reply", left[0], right[0]
    return first_difference(left, right, name)


def _log_difference(
    differs: Callable[[str, str, Any, Any], Difference], recorded: RecordedCall, replayed: RecordedCall
) -> Difference:
    one, other = recorded.logs, replayed.logs
    for index, (left, right) in enumerate(zip(recorded.records, replayed.records, strict=False)):
        if left != right:
            texts = [logs[index].message if index < len(logs) else "" for logs in (one, other)]
            return differs("logs", f"record {index}", *texts)
    return differs("logs", "number of records", len(recorded.records), len(replayed.records))
