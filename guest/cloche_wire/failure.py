"""`Failure`: a node's exception as data, since exception objects do not cross the boundary."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

MAX_MESSAGE = 16 * 1024
"""Characters kept of an exception's message; a note at the end says how many were cut."""
MAX_FRAMES = 64
"""Frames kept of a traceback: half of them outermost, half innermost."""
MAX_CAUSES = 8
"""Exceptions kept of a chain of causes."""
MAX_NOTES = 16
"""Notes (PEP 678) kept."""
MAX_CHARACTERS = 512 * 1024
"""Characters kept of one failure: messages, frames and notes, causes included."""
MAX_NUMBER = (1 << 31) - 1
"""Largest line number, and largest number of frames left out."""


_OWN_ITEMS, _FRAME_ITEMS = 19, 5
"""Items of a failure on the wire without frames and notes, with those of the reply around it; and of a frame."""
_OWN_BYTES, _ITEM_BYTES = 100, 5
"""Bytes that the keys of a failure take, and what is before the text of an item at most."""
_DEPTH = 4
"""Levels of containers of a failure without a cause: the reply, the failure, its frames, a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a guest traceback. All fields are untrusted.

    Attributes:
        file: file name, as the guest's code object has it.
        line: line number; 0: not known.
        function: name of the function.
        text: the source line, stripped; empty if there is none.
    """

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        head = f'  File "{self.file}", line {self.line}, in {self.function}'
        return f"{head}\n    {self.text}" if self.text else head


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that a node raised.

    Attributes:
        phase: what the guest was doing: "compile", "import", "entry", "init", "call", "encode" or (in log records) "log".
        exc_type: qualified name of the class, without ``builtins.``.
        message: ``str(exception)``, at most MAX_MESSAGE characters.
        frames: outermost first; only frames of the node's own files and of libraries it called, not of the guest runtime.
        omitted: how many frames were left out in the middle.
        cause: the exception's ``__cause__`` or unsuppressed ``__context__``.
        explicit: whether `cause` was given with ``raise ... from``.
        notes: ``__notes__`` (PEP 678).
    """

    phase: str
    exc_type: str
    message: str
    frames: tuple[Frame, ...] = ()
    omitted: int = 0
    cause: Failure | None = None
    explicit: bool = False
    notes: tuple[str, ...] = field(default=())

    def to_wire(self) -> dict[str, Any]:
        """Convert to a map of plain values."""
        return {
            "phase": self.phase,
            "type": self.exc_type,
            "message": self.message,
            "frames": [[f.file, f.line, f.function, f.text] for f in self.frames],
            "omitted": self.omitted,
            "cause": self.cause.to_wire() if self.cause else None,
            "explicit": self.explicit,
            "notes": list(self.notes),
        }

    @classmethod
    def from_wire(cls, value: Any) -> Failure:
        """Make a `Failure` of an untrusted map, in time linear in the characters kept.

        Raises:
            ValueError: `to_wire` does not make such a map, or one of the maxima above is exceeded.
        """
        room = _Room(MAX_CHARACTERS)
        chain: list[dict[str, Any]] = []
        while value is not None:
            if len(chain) > MAX_CAUSES:
                raise ValueError("a failure is chained at most MAX_CAUSES deep")
            chain.append(_checked(value, room))
            value = value["cause"]
        failure = None
        for fields in reversed(chain):
            failure = cls(**fields, cause=failure)
        if failure is None:
            raise ValueError("a failure is a map")
        return failure

    def fitted(self, items: int, size: int, depth: int) -> Failure:
        """As much of the failure as fits a reply with small limits: causes go first, then frames, notes and the message's end.

        Args:
            items: items that the failure may have on the wire (`Limits.value_nodes`).
            size: bytes that it may take there, as far as they are a text's (`Limits.reply_bytes`).
            depth: levels of containers that it may have (`Limits.value_depth`).
        """
        links: list[Failure] = []
        link: Failure | None = self
        while link is not None:
            links.append(link)
            link = link.cause
        for kept in range(min(len(links), max(1, depth - _DEPTH + 1)), 0, -1):
            if sum(one._items() for one in links[:kept]) <= items and sum(one._size() for one in links[:kept]) <= size:
                return self if kept == len(links) else _chained(links[:kept])
        return self._alone(items, size)

    def _items(self) -> int:
        return _OWN_ITEMS + _FRAME_ITEMS * len(self.frames) + len(self.notes)

    def _size(self) -> int:
        frames = sum(_bytes(frame.file) + _bytes(frame.function) + _bytes(frame.text) for frame in self.frames)
        texts = _bytes(self.exc_type) + _bytes(self.message) + sum(map(_bytes, self.notes)) + frames
        return _OWN_BYTES + texts + _ITEM_BYTES * self._items()

    def _alone(self, items: int, size: int) -> Failure:
        """The failure without causes, and without what else does not fit."""
        one = replace(self, cause=None, explicit=False)
        for _ in range(len(self.notes)):
            if one._items() > items or one._size() > size:
                one = replace(one, notes=one.notes[:-1])
        while one.frames and (one._items() > items or one._size() > size):
            middle = (len(one.frames) - 1) // 2
            one = replace(one, frames=one.frames[:middle] + one.frames[middle + 1 :], omitted=one.omitted + 1)
        spare = size - one._size() + _bytes(one.message)
        return replace(one, message=one.message.encode()[: max(0, spare)].decode(errors="ignore"))

    def format(self) -> str:
        """The traceback as Python would print it."""
        parts = []
        if self.cause:
            link = (
                "The above exception was the direct cause of the following exception:"
                if self.explicit
                else "During handling of the above exception, another exception occurred:"
            )
            parts += [self.cause.format(), "", link, ""]
        if self.frames:
            parts.append("Traceback (most recent call last):")
            half = len(self.frames) // 2 if self.omitted else len(self.frames)
            parts += [str(frame) for frame in self.frames[:half]]
            if self.omitted:
                parts.append(f"  [{self.omitted} frames left out]")
                parts += [str(frame) for frame in self.frames[half:]]
        parts.append(f"{self.exc_type}: {self.message}" if self.message else self.exc_type)
        parts += self.notes
        return "\n".join(parts)


def _chained(links: list[Failure]) -> Failure:
    """The first of the failures, with the others as its causes."""
    *before, last = links
    failure = replace(last, cause=None, explicit=False)
    for link in reversed(before):
        failure = replace(link, cause=failure)
    return failure


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


class _Room:
    """Counts the characters of one failure, and cuts texts once `left` characters are used up."""

    def __init__(self, left: int) -> None:
        self._left = left

    def text(self, text: str, most: int) -> str:
        kept = text[: min(most, self._left)]
        self._left -= len(kept)
        return kept


def _checked(value: Any, room: _Room) -> dict[str, Any]:
    """Check one failure of a chain; the arguments for `Failure`, without the cause."""
    match value:
        case {
            "phase": str(phase),
            "type": str(exc_type),
            "message": str(message),
            "frames": list(frames),
            "omitted": int(omitted),
            "cause": dict() | None,
            "explicit": bool(explicit),
            "notes": list(notes),
        } if len(frames) <= MAX_FRAMES and len(notes) <= MAX_NOTES and len(message) <= MAX_MESSAGE + 64:
            pass
        case _:
            raise ValueError("a failure lacks a field, or one has the wrong type or size")
    if any(type(note) is not str for note in notes):
        raise ValueError("a note is text")
    lines = []
    for frame in frames:
        match frame:
            case [str(file), int(line), str(function), str(text)]:
                lines.append((file, line, function, text))
            case _:
                raise ValueError("a frame is [file, line, function, text]")
    return {
        "phase": phase[:32],
        "exc_type": room.text(exc_type, 1024),
        "message": room.text(message, MAX_MESSAGE + 64),
        "frames": tuple(
            Frame(room.text(file, 1024), _number(line), room.text(function, 1024), room.text(text, 1024))
            for file, line, function, text in lines
        ),
        "omitted": _number(omitted),
        "explicit": explicit,
        "notes": tuple(room.text(note, MAX_MESSAGE) for note in notes),
    }


def _number(number: int) -> int:
    """Limit a number to 0 to MAX_NUMBER, since a million digits take minutes to print; a bool becomes an int."""
    return int(min(max(number, 0), MAX_NUMBER))
