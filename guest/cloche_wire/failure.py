"""A node's exception as data: what crosses the boundary instead of an exception object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_MESSAGE = 16 * 1024
"""Characters kept of an exception's message; the rest is cut and said so."""
MAX_FRAMES = 64
"""Frames kept of a traceback: the outermost and the innermost half."""
MAX_CAUSES = 8
"""Chained exceptions kept."""
MAX_NOTES = 16
"""Notes (PEP 678) kept."""
MAX_CHARACTERS = 512 * 1024
"""Characters kept of one failure: messages, frames and notes, causes included."""
MAX_NUMBER = (1 << 31) - 1
"""Largest line number, and most frames left out."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a guest traceback. All of it is untrusted text."""

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
        phase: what the guest was doing: "compile", "import", "entry", "init", "call" or "encode".
        exc_type: qualified name of the class, without ``builtins.``.
        message: ``str(exception)``, at most MAX_MESSAGE characters.
        frames: outermost first, the node's own files and the libraries it called; the guest runtime's are left out.
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
        """This failure as a map of plain values."""
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
        """Check an untrusted map and make a Failure of it, in time linear in what is kept.

        Raises:
            ValueError: the map is not what `to_wire` makes, or a cap is passed.
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


class _Room:
    """How many characters may still be kept."""

    def __init__(self, left: int) -> None:
        self._left = left

    def text(self, text: str, most: int) -> str:
        kept = text[: min(most, self._left)]
        self._left -= len(kept)
        return kept


def _checked(value: Any, room: _Room) -> dict[str, Any]:
    """The fields of one failure of a chain, but for its cause."""
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
    """An `int` within reason: a bool is one, too, and a number of a million digits takes minutes to print."""
    return int(min(max(number, 0), MAX_NUMBER))
