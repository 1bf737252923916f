"""`Recording`: recorded calls as data, in a file or from one. docs/reference/recordings.md is the specification of the file.

A file may be a stranger's: everything in it is checked here, or is bytes that only a guest will see.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cloche import _container
from cloche._atomic_file import AtomicFile
from cloche._html import table
from cloche._recording.calls import RecordedCall, calls_of
from cloche._sandbox import Snapshot
from cloche._sandbox import tape as on
from cloche._sandbox.tape_bytes import packed, unpacked
from cloche.errors import ClocheError
from cloche.limits import Limits
from cloche.texts import clean
from cloche.texts import name as cleaned

__all__ = ["MAX_BYTES", "SUFFIX", "Recording"]

SUFFIX: Final = ".cloche"
MAX_BYTES: Final = 512 << 20
"""Bytes that a recording may take in memory, unless its reader allows more."""
_PLAIN: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MOST_NAME: Final = 60
_KIND: Final = "recording"
_VERSION: Final = 1
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MAX_ABOUT: Final = 1 << 20
_MAX_MESSAGE: Final = 4096
_TEXTS: Final = ("image", "name", "cloche", "python", "metering", "error", "message")
_FLAGS: Final = ("granted", "redacted", "first")


@dataclass(frozen=True, slots=False, repr=False, eq=False)
class Recording:
    """Recorded calls of one node: a state, and what went into and came out of the guest since then.

    Make one by ``record`` of `Runtime.load` and `Node.recording`; read one by `Recording.open`. It is data: nothing of it runs
    until it is replayed, and then in a sandbox without any grant.

    Attributes:
        name: the node's name.
        image: sha256 of the image's module: it can be replayed with the same image only.
        limits: the node's limits.
        metering: the metering under which it was recorded. It can be replayed under any.
        events: the events, see docs/reference/recordings.md.
        state: the state before the first call; None: the calls begin with the loading of the node.
        after: the state after the last call; None: the node broke in it.
        error: name of the class of the error in which the last call ended; "": it is not about a failure.
        message: that error's text.
        granted: whether the node had services or mounts.
        redacted: whether values were left out: then it cannot be replayed.
        first: whether the first call is the first one after the node was loaded.
        made: when the recording was made.
        cloche: version of Cloche that made it.
        python: version of Python that made it.
    """

    name: str
    image: str
    limits: Limits
    metering: str
    events: tuple[on.Event, ...] = field(repr=False)
    state: Snapshot | None = None
    after: Snapshot | None = None
    error: str = ""
    message: str = ""
    granted: bool = False
    redacted: bool = False
    first: bool = False
    made: datetime = _EPOCH
    cloche: str = ""
    python: str = ""

    @property
    def digest(self) -> str:
        """Digest of the guest's memory after the last call; "" if the node broke in it."""
        return "" if self.after is None else self.after.memory_digest

    @cached_property
    def calls(self) -> tuple[RecordedCall, ...]:
        """The calls, in order."""
        return tuple(calls_of(self.events, self.limits))

    def __repr__(self) -> str:
        failed = f", failed with {self.error}" if self.error else ""
        return f"<cloche.replay.Recording of {self.name!r}, {len(self.calls)} calls{failed}, image {self.image[:12]}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, Any]] = [("calls", len(self.calls)), ("made", self.made.isoformat(" ", "seconds"))]
        if self.error:
            rows.append(("error", f"{self.error}: {self.message}"))
        rows += [("image", self.image[:12]), ("metering", self.metering)]
        return table(f"Recording of {self.name}", rows)

    @staticmethod
    def file_name(node: str) -> str:
        """The beginning of the name of a file with recorded calls of that node."""
        return _PLAIN.sub("-", node)[:_MOST_NAME].strip("-.") or "node"

    def to_bytes(self) -> bytes:
        """The recording as bytes: versioned, compressed, with a digest at its end."""
        about = {name: getattr(self, name) for name in (*_TEXTS, *_FLAGS)}
        about["limits"] = dataclasses.asdict(self.limits)
        about["made"] = self.made.timestamp()
        sections = {"about": _container.json_bytes(about), "events": packed(self.events)}
        for name, state in (("state", self.state), ("after", self.after)):
            if state is not None:
                sections[name] = state.to_bytes()
        return _container.write(_KIND, _VERSION, sections)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the recording to a file, which only its owner can read. Returns the file's path.

        Raises:
            OSError: the file cannot be written.
        """
        with AtomicFile(path, 0o600) as file:
            file.write(self.to_bytes())
        return Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Recording:
        """Read a file that `save` has written.

        Args:
            path: the file. It may be a stranger's.
            max_bytes: bytes that it may take in memory.

        Raises:
            ClocheError: the file is no recording, is damaged, or takes more.
            OSError: the file cannot be read.
        """
        with Path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
        return cls.from_bytes(data, max_bytes=max_bytes)

    @classmethod
    def from_bytes(cls, data: bytes, *, max_bytes: int = MAX_BYTES) -> Recording:
        """Check and read the bytes of `to_bytes`. Raises as `open` does."""
        if len(data) > max_bytes:
            raise ClocheError(f"the recording takes more than max_bytes={max_bytes}")
        container = _container.read(data, _KIND, _VERSION, max_bytes=max_bytes)
        about = _container.json_map(container.section("about", _MAX_ABOUT), "the description of the recording")
        states: dict[str, Any] = {"state": None, "after": None}
        left = max_bytes
        for name in states:
            if name in container.names:
                states[name] = state = Snapshot.from_bytes(container.section(name), max_bytes=left)
                left = max(0, left - state.size_bytes)
        try:
            values: dict[str, Any] = {name: _checked(about[name], str) for name in _TEXTS}
            values |= {name: _checked(about[name], bool) for name in _FLAGS}
            values["limits"] = Limits(**_checked(about["limits"], dict))
            values["made"] = datetime.fromtimestamp(_checked(about["made"], float), UTC)
        except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise ClocheError(f"the recording's description is malformed: {clean(str(error), 200)}") from error
        values["message"] = clean(values["message"], _MAX_MESSAGE)
        for name in set(_TEXTS) - {"message"}:
            values[name] = cleaned(values[name])
        if any(state is not None and state.image != values["image"] for state in states.values()):
            raise ClocheError("the recording's states belong to another image")
        return cls(**values, **states, events=tuple(unpacked(container.section("events"), left)))


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
