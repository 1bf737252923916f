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
    def from_wire(cls, value: Any, depth: int = 0) -> Failure:
        """Check an untrusted map and make a Failure of it.

        Raises:
            ValueError: the map is not what `to_wire` makes, or a cap is passed.
        """
        if type(value) is not dict or depth > MAX_CAUSES:
            raise ValueError("a failure is a map, chained at most MAX_CAUSES deep")
        match value:
            case {
                "phase": str(phase),
                "type": str(exc_type),
                "message": str(message),
                "frames": list(frames),
                "omitted": int(omitted),
                "cause": cause,
                "explicit": bool(explicit),
                "notes": list(notes),
            } if len(frames) <= MAX_FRAMES and len(notes) <= MAX_NOTES and len(message) <= MAX_MESSAGE + 64:
                pass
            case _:
                raise ValueError("a failure lacks a field, or one has the wrong type or size")
        lines = []
        for frame in frames:
            match frame:
                case [str(file), int(line), str(function), str(text)]:
                    lines.append(Frame(file[:1024], line, function[:1024], text[:1024]))
                case _:
                    raise ValueError("a frame is [file, line, function, text]")
        if not all(type(note) is str for note in notes):
            raise ValueError("a note is text")
        return cls(
            phase[:32],
            exc_type[:1024],
            message,
            tuple(lines),
            omitted,
            None if cause is None else cls.from_wire(cause, depth + 1),
            explicit,
            tuple(note[:MAX_MESSAGE] for note in notes),
        )

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
