"""Values to and from the frames that cross the boundary (docs/reference/wire.md). What a guest sends is hostile until decoded.

cbor2 does the work; `_lowering` first turns a value that it has no types for into one that it has. The rule of
`cloche_wire.cost` holds for each message. `TooCostly` and `NotKeys` refuse one value, and leave the guest as it is; `ProtocolError`
is for bytes that no honest guest sends.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import cbor2

from cloche._arrays import load_numpy
from cloche._cbor import write as write_cbor
from cloche._cbor import write_listless
from cloche._floods import COMPACTED, FractionHashes, charge_dict, charge_frozenset, charge_set
from cloche._locate import locate
from cloche._lowering import ARRIVALS, ATOMS, HAS_LIST, UNCOMPARABLE, Lowering, is_flat, is_plain, path
from cloche._texts import clean
from cloche.errors import EncodeError, ProtocolError
from cloche_wire import Failure, Reply, tags
from cloche_wire import values as wire
from cloche_wire.arrays import ARRAY_TAGS
from cloche_wire.cost import Budget, TooCostly

if TYPE_CHECKING:
    from cloche.limits import Limits

__all__ = ["REFUSED", "Codec", "NotKeys", "Refused", "TooCostly", "decode_record", "refusal", "refused_reply"]

_MALFORMED: Final = (cbor2.CBORError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""What bytes that are not of the protocol can provoke."""
_RECORD_DEPTH: Final = 8
_SPARSE: Final = 5
"""A set of fewer items has no table of its own."""


class NotKeys(Exception):
    """The items of a set, or the keys of a dict, are no longer different, or have no hash, once they have arrived.

    A node can have such a set: an object that is equal to nothing but itself arrives as a `Record`, which is equal to others.

    Attributes:
        steps: as those of `TooCostly`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[Any] = []


REFUSED: Final = (TooCostly, NotKeys)
Refused = TooCostly | NotKeys


class Codec:
    """The codec of one instance.

    Args:
        limits: of the instance.
        place: copies a buffer into a block of guest memory that then belongs to the guest, and returns its address.
        lift: address, length -> a view of guest memory; it checks the range.
        free: gives back a block whose message will not be sent.
        shared: the address of an array's bytes, if they lie in a buffer that host and guest share; else 0.
        pin: address, length -> a read-only view of guest memory that keeps it mapped for as long as it lives.
    """

    __slots__ = ("_decoders", "_depth", "_free", "_lifter", "_place", "_reply_bytes", "_request_bytes", "_shared")

    def __init__(
        self,
        limits: Limits,
        place: Callable[[Any], int],
        lift: Callable[[int, int], memoryview],
        free: Callable[[int], object] | None = None,
        shared: Callable[[memoryview], int] | None = None,
        pin: Callable[[int, int], memoryview] | None = None,
    ) -> None:
        self._depth = limits.value_depth
        self._request_bytes = limits.request_bytes
        self._reply_bytes = limits.reply_bytes
        self._place = place
        self._free = free
        self._shared = shared
        self._lifter = lifter = _Lifter(lift, pin or lift)
        self._decoders = {
            **_DECODERS,
            tags.BYTES_AT: lifter.byte_string,
            tags.TEXT_AT: lifter.text,
            tags.BODY_AT: lifter.body,
            tags.NDARRAY: lifter.checked_array,
            tags.SCALAR: lifter.scalar,
            tags.SET: lifter.set,
            tags.FROZENSET: lifter.frozenset,
            tags.MAP: lifter.map,
            tags.FRACTION: lifter.fraction,
        }

    def encode(self, message: list[Any], root: str) -> bytes:
        """The frame of a message ``[op, call, *operands]``, or of an answer ``[granted, value]``.

        Large bodies are placed in guest memory.

        Args:
            message: what to send.
            root: what to call the operand in the path of an error.

        Raises:
            EncodeError: an operand cannot be sent, or all is larger than ``request_bytes``. Nothing stays placed.
        """
        if len(message) == 2 and type(message[0]) is not bool:  # a step of a stream
            alone: bytes = _ALONE[message[0]] + message[1].to_bytes(8, "big")
            return alone
        if len(message) == 3:  # one operand, as a rule
            op, call, operand = message
            kind = type(operand)
            write: Callable[[Any], bytes] | None = None
            if kind in ATOMS or (kind is dict and is_flat(operand)):
                write = write_listless
            elif kind is dict or kind is list:
                write = self._plain_writer(operand)
            if write is not None:
                try:
                    frame: bytes = _BEGINNINGS[op] + call.to_bytes(8, "big") + write(operand)
                except UnicodeEncodeError:
                    pass  # lone surrogates
                else:
                    if len(frame) > self._request_bytes:
                        self._too_large(len(frame), root)
                    return frame
        if type(message[0]) is not int and type(message[0]) is not bool:  # an Op: cbor2 takes the long way for an enum
            message = [int(message[0]), *message[1:]]
        lowering = Lowering(self._depth, self._shared)
        lowered = lowering.message(message, root)
        if lowering.outside > self._request_bytes:
            self._too_large(lowering.outside, root)
        return self._write(lowered, lowering, root)

    def _plain_writer(self, operand: list[Any] | dict[Any, Any]) -> Callable[[Any], bytes] | None:
        """What writes the operand as it is; None: it has to be lowered."""
        seen: set[int] = set()
        if not is_plain(operand, self._depth - 1, seen):
            return None
        return write_cbor if HAS_LIST in seen else write_listless

    def _write(self, lowered: list[Any], lowering: Lowering, root: str) -> bytes:
        """Place the bodies, and write the frame that names their places."""
        placed: list[int] = []
        try:
            for body, place in lowering.bodies:
                place[0] = self._place(body)
                placed.append(place[0])
            frame = write_cbor(lowered)
            self._check_size(frame, lowering, root)
        except EncodeError:
            for address in placed if self._free else ():
                self._free(address)  # type: ignore[misc]  # not None: see above
            raise
        return frame

    def _check_size(self, frame: bytes, lowering: Lowering, root: str) -> None:
        if len(frame) + lowering.outside > self._request_bytes:
            self._too_large(len(frame) + lowering.outside, root)

    def _too_large(self, size: int, root: str) -> NoReturn:
        allowed = self._request_bytes
        raise EncodeError(
            f"{size} bytes are more than Limits.request_bytes={allowed} allows",
            root,
            limit="request_bytes",
            value=allowed,
            reached=size,
        )

    def decode(self, frame: bytes, *, lease: bool = False) -> Any:
        """The value of a frame that the image's validator has passed: well-formed, of few enough nodes, not too deep.

        Args:
            frame: what the guest's memory held.
            lease: give large arrays of numbers as read-only views of guest memory instead of copies.

        Raises:
            TooCostly: a value in it costs more than its size allows. The guest is as it was.
            NotKeys: a set or dict in it cannot be made of what has arrived. The guest is as it was.
            ProtocolError: all the same, it makes no value.
        """
        lifter = self._lifter
        lifter.lease = lease
        lifter.size = size = len(frame)
        lifter.left = self._reply_bytes - size
        lifter.budget = None
        lifter.fractions = None
        try:
            # a container within a record within a tag takes three of cbor2's levels, and one of ours
            return cbor2.loads(
                frame,
                semantic_decoders=self._decoders,
                tag_hook=_refuse_tag,
                max_depth=3 * self._depth + 8,
                allow_indefinite=False,
                allow_duplicate_keys=False,
                strict_hashable_types=True,
            )
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, REFUSED):
                cause.steps = locate(frame, lifter.spend(0).lifted, _SPENDING)
                raise cause from None
            if not isinstance(
                cause, _MALFORMED
            ):  # not about the reply: Ctrl-C, a signal's handler, the end of the stack
                raise cause from None  # cbor2 has wrapped it
            raise ProtocolError(f"the reply is not of the protocol: {clean(str(cause), 200)}") from error

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the frame decoded last, and of what it pointed to."""
        return self._reply_bytes - self._lifter.left


def refusal(error: Refused, root: str, steps: list[Any]) -> str:
    """What to say of a refused value: where it is, and why.

    Args:
        error: as `Codec.decode` raised it.
        root: what to call the value that `steps` lead from.
        steps: those of the error, or the last of them.
    """
    return f"{path(root, steps)}: {error}"


_BEGINNINGS: Final = tuple(b"\x83" + write_listless(op) + b"\x1b" for op in range(256))
"""How a frame ``[op, call, operand]`` begins, up to the eight bytes of the call's number."""
_ALONE: Final = tuple(b"\x82" + start[1:] for start in _BEGINNINGS)
"""And one without an operand."""


def refused_reply(error: Refused) -> list[Any]:
    """The reply that stands for one with a value that was refused: the node's failure, as if the guest had refused to send it."""
    return [int(Reply.FAILURE), Failure("encode", "ValueError", refusal(error, "result", error.steps[1:])).to_wire()]


class _Lifter:
    """Lifts what needs more than its content: `left` bytes of guest memory at most, and what `budget` has.

    Values that may spend of the budget count in its `lifted`: so `locate` finds the one that was refused.
    """

    __slots__ = ("_lift", "_pin", "budget", "fractions", "lease", "left", "size")

    def __init__(self, lift: Callable[[int, int], memoryview], pin: Callable[[int, int], memoryview]) -> None:
        self._lift = lift
        self._pin = pin
        self.size = 0
        self.budget: Budget | None = None  # made when it is needed: most messages need none
        self.fractions: FractionHashes | None = None  # as well
        self.lease = False
        self.left = 0

    def spend(self, values: int = 1) -> Budget:
        """What the message may spend, when it begins to, with so many more values counted."""
        budget = self.budget
        if budget is None:
            budget = self.budget = Budget(self.size)
        budget.lifted += values
        return budget

    def _range(self, content: Any) -> tuple[int, int]:
        if type(content) is not list or list(map(type, content)) != [int, int]:
            raise ValueError("out of line is [address, length]")
        address, length = content
        if address < 0 or not 0 <= length <= self.left:
            raise ValueError(f"{length} bytes out of line, {self.left} left of Limits.reply_bytes")
        self.left -= length
        return address, length

    def byte_string(self, content: Any, _immutable: bool) -> bytes:
        return bytes(self._lift(*self._range(content)))

    def text(self, content: Any, _immutable: bool) -> str:
        return str(self._lift(*self._range(content)), "utf-8")

    def body(self, content: Any, _immutable: bool) -> bytearray | memoryview:
        place = self._range(content)
        return self._pin(*place) if self.lease else bytearray(self._lift(*place))

    def set(self, content: Any, _immutable: bool) -> Any:
        items, budget = _sequence(content), self.spend()
        try:
            charge_set(items, budget)
            made = set(items)
        except UNCOMPARABLE as error:
            raise _no_keys("an item of a set", error) from None
        if len(made) != len(items):
            raise NotKeys(_ITEM_TWICE)
        return made.copy() if _SPARSE <= len(made) <= COMPACTED else made

    def frozenset(self, content: Any, _immutable: bool) -> Any:
        items, budget = _sequence(content), self.spend()
        try:
            charge_frozenset(items, budget)
            made = frozenset(set(items) if len(items) <= COMPACTED else items)
        except UNCOMPARABLE as error:
            raise _no_keys("an item of a frozenset", error) from None
        if len(made) != len(items):
            raise NotKeys(_ITEM_TWICE)
        return made

    def map(self, content: Any, _immutable: bool) -> dict[Any, Any]:
        keys, values = _sequence(content)[::2], content[1::2]
        if len(keys) != len(values):
            raise ValueError("a map has a value for each key")
        budget = self.spend()
        try:
            charge_dict(keys, budget)
            made = dict(zip(keys, values, strict=True))
        except UNCOMPARABLE as error:
            raise _no_keys("a key of a dict", error) from None
        if len(made) != len(keys):
            raise NotKeys("a dict has a key twice, once its keys have arrived: " + ARRIVALS)
        return made

    def fraction(self, content: Any, _immutable: bool) -> Any:
        value = wire.lift(tags.FRACTION, content)
        if self.fractions is None:
            self.fractions = FractionHashes()
        self.fractions.charge(value, self.spend())
        return value

    def checked_array(self, content: Any, _immutable: bool) -> Any:
        """An array whose bytes are checked for more than their number (bools, characters): no view the guest can change."""
        load_numpy()
        if type(content) is list and content and type(content[-1]) is memoryview:
            content[-1] = bytearray(content[-1])
        return wire.lift(tags.NDARRAY, content, self.spend())

    def scalar(self, content: Any, _immutable: bool) -> Any:
        load_numpy()
        return wire.lift(tags.SCALAR, content, self.spend())


_ITEM_TWICE: Final = "a set has an item twice, once its items have arrived: " + ARRIVALS


def _no_keys(what: str, error: Exception) -> NotKeys:
    return NotKeys(f"{what} has no hash or cannot be compared, once it has arrived: {clean(str(error), 200)}")


def _lift(tag: int, content: Any, _immutable: bool) -> Any:
    return wire.lift(tag, content)


def _lift_array(tag: int, content: Any, _immutable: bool) -> Any:
    load_numpy()
    return wire.lift(tag, content)


def _sequence(content: Any) -> list[Any]:
    if type(content) is not list:
        raise ValueError("a tag has content of the wrong type")
    return content


def _lift_numbers(content: Any, _immutable: bool) -> list[Any]:
    if (
        type(content) is not list
        or len(content) != 2
        or content[0] not in (0, 1)
        or type(content[1]) not in (bytes, bytearray)
    ):
        raise ValueError("numbers are [0 or 1, bytes]")
    kind, data = content
    if len(data) % 8:
        raise ValueError("numbers take 8 bytes each")
    if sys.byteorder == "little":
        return memoryview(data).cast(tags.NUMBERS_FORMATS[kind]).tolist()
    numbers = array(tags.NUMBERS_FORMATS[kind], data)
    numbers.byteswap()
    return numbers.tolist()


def _lift_tuple(content: Any, _immutable: bool) -> tuple[Any, ...]:
    return tuple(_sequence(content))


def _lift_surrogates(content: Any, _immutable: bool) -> str:
    if type(content) is not bytes:
        raise ValueError("a text is bytes")
    return content.decode("utf-8", "surrogatepass")


def _refuse(tag: int, _content: Any, _immutable: bool) -> NoReturn:
    raise ValueError(f"tag {tag} is not of the protocol")


_SPENDING: Final = frozenset({tags.SET, tags.FROZENSET, tags.MAP, tags.NDARRAY, tags.SCALAR, tags.FRACTION})
"""Tags whose values may spend of a `Budget`."""

# cbor2 has decoders of its own: for regular expressions, mails, shared references ... None of them may run.
_FOREIGN: Final = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 52, 54, 100, 256, 260, 261, 1004, 55799)
_DECODERS: Final[dict[int, Callable[[Any, bool], Any]]] = {
    **{tag: partial(_refuse, tag) for tag in _FOREIGN},
    **{tag: partial(_lift_array if tag in ARRAY_TAGS else _lift, tag) for tag in wire.LIFTED_TAGS},
    tags.TUPLE: _lift_tuple,
    tags.NUMBERS: _lift_numbers,
    tags.SURROGATES: _lift_surrogates,
}


def _refuse_tag(tag: Any, _immutable: bool) -> NoReturn:
    raise ValueError(f"tag {tag.tag} is not of the protocol")


def decode_record(frame: bytes) -> list[Any]:
    """A log record: a list of plain values. No validator has seen it, and the guest may have written any bytes there.

    Raises:
        ValueError: not exactly one well-formed list, nested more than 8 deep, with a tag or with keys other than text.
    """
    # cbor2 stops behind the first item; a second one that no guest can guess shows that nothing else stood there
    end = os.urandom(16)
    try:
        pair = cbor2.loads(
            b"\x82" + frame + b"\x50" + end,
            semantic_decoders=_NO_TAGS,
            tag_hook=_refuse_tag,
            max_depth=_RECORD_DEPTH + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except Exception as error:
        cause = error.__cause__ or error
        if not isinstance(cause, _MALFORMED):
            raise cause from None
        raise ValueError(f"not a log record: {clean(str(cause), 200)}") from None
    record = pair[0]
    if pair[1] != end or type(record) is not list:
        raise ValueError("not a log record: not a list, or not one alone")
    return record


_NO_TAGS: Final = {
    tag: partial(_refuse, tag) for tag in {*_DECODERS, *_SPENDING, tags.BYTES_AT, tags.TEXT_AT, tags.BODY_AT, 2, 3}
}
