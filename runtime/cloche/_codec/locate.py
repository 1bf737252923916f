"""Where in a frame a value lies: found again after it was refused, so that decoding keeps no path."""

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
    """An array, map or tag whose end has not been seen: what is left of its `count` items, and the last key, if it is a map."""

    major: int
    number: int
    left: int
    key: Any = None

    def step(self, around: _Open | None) -> Any:
        if self.major == _MAP:
            return self.key
        if around is not None and around.major == _TAG and around.number in _NAMELESS:
            return NO_NAME
        return self.number - self.left


def locate(frame: bytes, ordinal: int, wanted: Container[int]) -> list[Any]:
    """The indexes and keys on the way to a tag.

    Args:
        frame: well-formed as far as that tag.
        ordinal: which one, from 1, of those wanted, in the order in which their contents end: the order of lifting.
        wanted: numbers of tags.
    """
    around: list[_Open] = []
    at = 0
    while at < len(frame):
        major, number, at = _head(frame, at)
        text = None
        if major in (_ARRAY, _MAP, _TAG):
            count = 1 if major == _TAG else number * (1 + (major == _MAP))
            if count:
                around.append(_Open(major, number, count))
                continue
        elif major in (2, _TEXT):
            text = frame[at : at + number] if major == _TEXT else None
            at += number
        while around:  # an item has ended, and with it perhaps what it is the last item of
            inner = around[-1]
            if inner.major == _MAP and inner.left % 2 == 0 and text is not None:
                inner.key = text.decode(errors="replace")
            inner.left -= 1
            text = None
            if inner.left:
                break
            around.pop()
            if inner.major == _TAG and inner.number in wanted:
                ordinal -= 1
                if not ordinal:
                    pairs = zip(around, [None, *around], strict=False)
                    return [one.step(outer) for one, outer in pairs if one.major != _TAG]
    return []


def _head(frame: bytes, at: int) -> tuple[int, int, int]:
    """Major type, number, and where what follows begins (RFC 8949, section 3)."""
    first = frame[at]
    major, short = first >> 5, first & 31
    if short < 24:
        return major, short, at + 1
    end = at + 1 + (1 << (short - 24))
    return major, int.from_bytes(frame[at + 1 : end], "big"), end
