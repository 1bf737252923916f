"""`Codec`: Python values to and from the frames that cross the boundary (docs/reference/wire.md).

Guest bytes are hostile until this module has decoded them.

cbor2 reads and writes the CBOR. Before encoding, `encoder` replaces each value that CBOR has no type for by a tag with content.
While decoding, `_Lifter` turns tags into values and charges what they cost (the rule is in `cloche_wire.cost`).

Two kinds of errors: `TooCostly` and `UnusableKeys` refuse one value of an otherwise sound frame, and the guest stays usable.
`ProtocolError` means that the bytes break the protocol, which no honest guest does.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import cbor2

from cloche._codec.cbor import TooLarge, write_listless, write_within
from cloche._codec.cbor import write as write_cbor
from cloche._codec.encoder import (
    ATOMS,
    CONVERSIONS,
    UNCOMPARABLE,
    Lowering,
    comes_again,
    is_flat,
    is_plain,
    path,
)
from cloche._codec.hash_floods import COMPACTED, FractionHashes, charge_dict, charge_frozenset, charge_set
from cloche._codec.locate import locate
from cloche._codec.optional_numpy import load_numpy
from cloche.errors import EncodeError, ProtocolError
from cloche.texts import clean
from cloche_wire import Failure, Reply, tags
from cloche_wire import values as wire
from cloche_wire.arrays import ARRAY_TAGS
from cloche_wire.cost import Budget, TooCostly

if TYPE_CHECKING:
    from cloche.limits import Limits

__all__ = ["REFUSED", "Codec", "Refused", "TooCostly", "UnusableKeys", "decode_record", "refusal", "refused_reply"]

_MALFORMED: Final = (cbor2.CBORError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""Exceptions that malformed guest bytes can provoke in cbor2 and in the decoders."""
_RECORD_DEPTH: Final = 8
"""Nesting allowed in a log record."""
_FEW: Final = 256
"""Items of a message that is written in one piece, and measured then. A larger one is measured while it is written."""
_SPARSE: Final = 5
"""A set of fewer items keeps them in the set object itself, so that copying would save no memory."""


class UnusableKeys(Exception):
    """The items of a set, or the keys of a dict, have become equal, unhashable or incomparable by being sent.

    An honest node can send such a set: two distinct objects with equal fields arrive as two equal `Record`s.

    Attributes:
        steps: indexes and keys that lead from the message to the set or dict, outermost first.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[Any] = []


REFUSED: Final = (TooCostly, UnusableKeys)
"""Errors that refuse one value and leave the guest usable; `Refused` is the type of both."""
Refused = TooCostly | UnusableKeys


class Codec:
    """Encodes messages to one instance and decodes its replies. Not thread-safe: the caller holds the node's lock.

    Args:
        limits: limits of the instance; `value_depth`, `value_nodes`, `request_bytes` and `reply_bytes` apply here.
        place: copies a body into a new block of guest memory, which the guest owns from then on; returns the block's address.
        lift: takes address and length, checks the range, and returns a view of that guest memory.
        free: frees a block (by address) whose message will not be sent; None: blocks need not be freed.
        shared: takes the bytes of an array, and returns their address in the buffer that host and guest share, or 0 if the bytes
            lie elsewhere; None: there is no shared buffer.
        pin: takes address and length, and returns a read-only view that keeps that guest memory mapped as long as the view exists;
            None: `lift` does so already.

    Attributes:
        sent_bytes: always 0, but in a `Counted` codec: bytes that were encoded since somebody has set it to 0, with their bodies.
        received_bytes: likewise of what was decoded.
    """

    __slots__ = (
        "_copies",
        "_decoders",
        "_depth",
        "_free",
        "_lifter",
        "_place",
        "_reply_bytes",
        "_request_bytes",
        "_shared",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(
        self,
        limits: Limits,
        place: Callable[[Any], int],
        lift: Callable[[int, int], memoryview],
        free: Callable[[int], object] | None = None,
        shared: Callable[[memoryview], int] | None = None,
        pin: Callable[[int, int], memoryview] | None = None,
    ) -> None:
        self.sent_bytes = self.received_bytes = 0
        self._depth = limits.value_depth
        self._copies = limits.value_nodes
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
        """Encode a message ``[op, call, *operands]``, or an answer to a request ``[granted, value]``.

        Bodies of at least `abi.OUT_OF_LINE_BYTES` are placed in guest memory; the frame holds their addresses.

        Args:
            message: the message or answer; it is not changed.
            root: name of the operand in the path of an error, e.g. "params".

        Returns:
            the frame.

        Raises:
            EncodeError: an operand cannot be sent, or frame and bodies together are larger than ``request_bytes``. All bodies
                that had been placed are freed.
        """
        if len(message) == 3:  # one operand: nearly every message
            op, call, operand = message
            kind = type(operand)
            write: Callable[[Any], bytes] | None = None
            if kind in ATOMS:
                write = write_listless
            elif kind is dict and is_flat(operand):
                write = write_listless if len(operand) <= _FEW else partial(self._write_within, listless=True)
            elif kind is dict or kind is list:
                write = self._plain_writer(operand)
            if write is not None:
                try:
                    frame: bytes = _FRAME_STARTS[op] + call.to_bytes(8, "big") + write(operand)
                except UnicodeEncodeError:
                    pass  # a lone surrogate: the encoder below sends it as a tag
                except TooLarge as error:
                    self._too_large(error.size, root)
                else:
                    if len(frame) > self._request_bytes:
                        self._too_large(len(frame), root)
                    return frame
        elif len(message) == 2 and type(message[0]) is not bool:  # a stream step without an item
            alone: bytes = _SHORT_FRAME_STARTS[message[0]] + message[1].to_bytes(8, "big")
            return alone
        # an `Op` becomes an int, because cbor2 writes an enum far more slowly
        if type(message[0]) is not int and type(message[0]) is not bool:
            message = [int(message[0]), *message[1:]]
        lowering = Lowering(self._depth, self._copies, self._request_bytes, self._shared)
        try:
            return self._write(lowering.message(message, root), lowering, root)
        except TooLarge as error:
            self._too_large(error.size, root)

    def _plain_writer(self, operand: list[Any] | dict[Any, Any]) -> Callable[[Any], bytes] | None:
        """The function that can write the operand unchanged, or None if the operand needs `Lowering`."""
        allowed = self._copies
        found = [allowed, False]
        if not is_plain(operand, self._depth - 1, found):
            if found[0] >= 0 or comes_again(operand):
                return None
            allowed = sys.maxsize  # so many items, each in one place
            found = [allowed, False]
            if not is_plain(operand, self._depth - 1, found):
                return None
        if allowed - found[0] > _FEW:
            return partial(self._write_within, listless=not found[1])
        return write_cbor if found[1] else write_listless

    def _write_within(self, operand: list[Any] | dict[Any, Any], *, listless: bool) -> bytes:
        return write_within(operand, self._request_bytes, listless=listless)

    def _write(self, lowered: list[Any], lowering: Lowering, root: str) -> bytes:
        """Place the bodies in guest memory, and write the frame with their addresses."""
        placed: list[int] = []
        try:
            for body, place in lowering.bodies:
                place[0] = self._place(body)
                placed.append(place[0])
            frame = self._written(lowered, lowering)
        except (EncodeError, TooLarge):
            for address in placed if self._free else ():
                self._free(address)  # type: ignore[misc]  # the loop is empty without `_free`
            raise
        return frame

    def _written(self, lowered: list[Any], lowering: Lowering) -> bytes:
        room = self._request_bytes - lowering.outside
        if lowering.items > _FEW:
            return write_within(lowered, room, lowering.outside)
        frame: bytes = write_cbor(lowered)
        if len(frame) > room:
            raise TooLarge(len(frame) + lowering.outside)
        return frame

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
        """Decode a frame that the image's validator has accepted: well-formed, within `value_nodes` and `value_depth`.

        Args:
            frame: the guest's bytes.
            lease: return large arrays of numbers as read-only views of guest memory instead of copies.

        Raises:
            TooCostly: decoding one of the values would cost more than its size allows. The guest stays usable.
            UnusableKeys: the items of a set or the keys of a dict are not distinct and hashable. The guest stays usable.
            ProtocolError: the bytes break the protocol in a way that the validator does not check.
        """
        lifter = self._lifter
        lifter.lease = lease
        lifter.size = size = len(frame)
        lifter.left = self._reply_bytes - size
        lifter.budget = None
        lifter.fractions = None
        try:
            # cbor2 counts up to three levels (tag, record, container) where value_depth counts one
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
            # not caused by the bytes (Ctrl-C, a signal handler, RecursionError): raised without cbor2's wrapper
            if not isinstance(cause, _MALFORMED):
                raise cause from None
            raise ProtocolError(f"the guest's bytes break the protocol: {clean(str(cause), 200)}") from error

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the frame decoded last, including the bodies it pointed to."""
        return self._reply_bytes - self._lifter.left


class Counted(Codec):
    """Mixin: a codec that counts bytes."""

    __slots__ = ()

    def encode(self, message: list[Any], root: str) -> bytes:
        """As `Codec.encode`."""
        frame = super().encode(message, root)
        self.sent_bytes += len(frame)
        return frame

    def decode(self, frame: bytes, *, lease: bool = False) -> Any:
        """As `Codec.decode`."""
        try:
            return super().decode(frame, lease=lease)
        finally:
            self.received_bytes += self.decoded_bytes

    def _written(self, lowered: list[Any], lowering: Lowering) -> bytes:
        frame = super()._written(lowered, lowering)
        self.sent_bytes += lowering.outside
        return frame


class CountedCodec(Counted):
    """A `Codec` that counts bytes."""

    __slots__ = ()


def refusal(error: Refused, root: str, steps: list[Any]) -> str:
    """The message for a refused value: its path, then the reason.

    Args:
        error: the error that `Codec.decode` raised.
        root: name of the value at which `steps` begin.
        steps: the error's steps, without those that lead to `root`.
    """
    return f"{path(root, steps)}: {error}"


_FRAME_STARTS: Final = tuple(b"\x83" + write_listless(op) + b"\x1b" for op in range(256))
"""By op: the first bytes of a frame ``[op, call, operand]``, up to the eight bytes of the call's number."""
_SHORT_FRAME_STARTS: Final = tuple(b"\x82" + start[1:] for start in _FRAME_STARTS)
"""By op: the first bytes of a frame ``[op, call]``, likewise."""


def refused_reply(error: Refused) -> list[Any]:
    """The failure that replaces a reply with a refused value, in the form that the guest uses for a value it cannot encode."""
    return [int(Reply.FAILURE), Failure("encode", "ValueError", refusal(error, "result", error.steps[1:])).to_wire()]


class _Lifter:
    """Decoders of the tags that read guest memory or cost more than linear time, for one message at a time.

    `Budget.lifted` counts the values that may spend of the budget, so that `locate` can find the one that was refused.

    Args:
        lift: see `Codec`.
        pin: see `Codec`.

    Attributes:
        size: bytes of the frame.
        left: bytes of guest memory that the message may still point to.
        budget: units that the message may still spend; None until a value spends, since most messages need no budget.
        fractions: hashes of the message's fractions; None until there is one.
        lease: see `Codec.decode`.
    """

    __slots__ = ("_lift", "_pin", "budget", "fractions", "lease", "left", "size")

    def __init__(self, lift: Callable[[int, int], memoryview], pin: Callable[[int, int], memoryview]) -> None:
        self._lift = lift
        self._pin = pin
        self.size = 0
        self.budget: Budget | None = None
        self.fractions: FractionHashes | None = None
        self.lease = False
        self.left = 0

    def spend(self, values: int = 1) -> Budget:
        """The message's budget, made at first use. Counts `values` more values that may spend of it."""
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
            raise _unusable_keys("an item of a set", error) from None
        if len(made) != len(items):
            raise UnusableKeys(_ITEM_TWICE)
        return made.copy() if _SPARSE <= len(made) <= COMPACTED else made

    def frozenset(self, content: Any, _immutable: bool) -> Any:
        items, budget = _sequence(content), self.spend()
        try:
            charge_frozenset(items, budget)
            made = frozenset(set(items) if len(items) <= COMPACTED else items)
        except UNCOMPARABLE as error:
            raise _unusable_keys("an item of a frozenset", error) from None
        if len(made) != len(items):
            raise UnusableKeys(_ITEM_TWICE)
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
            raise _unusable_keys("a key of a dict", error) from None
        if len(made) != len(keys):
            raise UnusableKeys("a dict has a key twice, once its keys have arrived: " + CONVERSIONS)
        return made

    def fraction(self, content: Any, _immutable: bool) -> Any:
        value = wire.lift(tags.FRACTION, content)
        if self.fractions is None:
            self.fractions = FractionHashes()
        self.fractions.charge(value, self.spend())
        return value

    def checked_array(self, content: Any, _immutable: bool) -> Any:
        """An array whose bytes are validated (bools, characters). Always copied: a guest could change a view after validation."""
        load_numpy()
        if type(content) is list and content and type(content[-1]) is memoryview:
            content[-1] = bytearray(content[-1])
        return wire.lift(tags.NDARRAY, content, self.spend())

    def scalar(self, content: Any, _immutable: bool) -> Any:
        load_numpy()
        return wire.lift(tags.SCALAR, content, self.spend())


_ITEM_TWICE: Final = "a set has an item twice, once its items have arrived: " + CONVERSIONS


def _unusable_keys(what: str, error: Exception) -> UnusableKeys:
    return UnusableKeys(f"{what} has no hash or cannot be compared, once it has arrived: {clean(str(error), 200)}")


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
        raise ValueError("a text with surrogates is a byte string")
    return content.decode("utf-8", "surrogatepass")


def _refuse(tag: int, _content: Any, _immutable: bool) -> NoReturn:
    raise ValueError(f"tag {tag} is not of the protocol")


_SPENDING: Final = frozenset({tags.SET, tags.FROZENSET, tags.MAP, tags.NDARRAY, tags.SCALAR, tags.FRACTION})
"""Tags whose values may spend of a `Budget`."""

# cbor2's built-in decoders (regular expressions, mails, shared references ...) would otherwise run on guest bytes
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
    """Decode a log record: a list of plain values. The image's validator has not checked it, so the bytes can be anything.

    Raises:
        ValueError: the bytes are not exactly one well-formed list, nest more than 8 deep, or contain a tag or a map key other than
            text.
    """
    # cbor2 ignores bytes behind the first item: a trailer that no guest can guess proves that the record was the only item
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
        raise ValueError("not a log record: not exactly one list")
    return record


_NO_TAGS: Final = {
    tag: partial(_refuse, tag) for tag in {*_DECODERS, *_SPENDING, tags.BYTES_AT, tags.TEXT_AT, tags.BODY_AT, 2, 3}
}
