"""The path of a refused value in its frame, found by a second pass, so that decoding does not have to track paths."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

from cloche._codec.encoder import NO_NAME
from cloche_wire import tags

__all__ = ["locate"]

_NAMELESS: Final = frozenset({tags.SET, tags.FROZENSET, tags.MAP})
_TEXT: Final = 3
_ARRAY: Final = 4
_MAP: Final = 5
_TAG: Final = 6


@dataclass(slots=True)
class _Open:
    """An array, map or tag that the scan is inside of.

    Attributes:
        major: CBOR major type: _ARRAY, _MAP or _TAG.
        number: number in the head: length of the array, pairs of the map, or the tag.
        left: items whose end has not been seen yet; keys and values of a map count separately.
        key: the last text key seen, if this is a map.
    """

    major: int
    number: int
    left: int
    key: Any = None

    def step(self, enclosing: _Open | None) -> Any:
        """The index or key of the current item; `enclosing` is the container or tag that this one lies in."""
        if self.major == _MAP:
            return self.key
        if enclosing is not None and enclosing.major == _TAG and enclosing.number in _NAMELESS:
            return NO_NAME
        return self.number - self.left


def locate(frame: bytes, ordinal: int, wanted: Container[int]) -> list[Any]:
    """The indexes and keys that lead from the frame's outermost value to one tag, outermost first.

    Args:
        frame: CBOR, well-formed up to the end of that tag.
        ordinal: position of the tag among those in `wanted`, from 1, in the order in which their contents end. cbor2 calls the
            decoders of tags in that order.
        wanted: tag numbers to count.

    Returns:
        the steps; empty if there are fewer such tags.
    """
    enclosing: list[_Open] = []
    at = 0
    while at < len(frame):
        major, number, at = _head(frame, at)
        text = None
        if major in (_ARRAY, _MAP, _TAG):
            count = 1 if major == _TAG else number * (1 + (major == _MAP))
            if count:
                enclosing.append(_Open(major, number, count))
                continue
        elif major in (2, _TEXT):
            text = frame[at : at + number] if major == _TEXT else None
            at += number
        while enclosing:  # an item has ended; if it is the last one of its container, that container has ended too
            inner = enclosing[-1]
            if inner.major == _MAP and inner.left % 2 == 0 and text is not None:
                inner.key = text.decode(errors="replace")
            inner.left -= 1
            text = None
            if inner.left:
                break
            enclosing.pop()
            if inner.major == _TAG and inner.number in wanted:
                ordinal -= 1
                if not ordinal:
                    pairs = zip(enclosing, [None, *enclosing], strict=False)
                    return [one.step(outer) for one, outer in pairs if one.major != _TAG]
    return []


def _head(frame: bytes, at: int) -> tuple[int, int, int]:
    """The head at offset `at`: its major type, its number, and the offset behind the head (RFC 8949, section 3)."""
    first = frame[at]
    major, short = first >> 5, first & 31
    if short < 24:
        return major, short, at + 1
    end = at + 1 + (1 << (short - 24))
    return major, int.from_bytes(frame[at + 1 : end], "big"), end
