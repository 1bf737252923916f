"""`Progress`: the file of ``--checkpoint``: a checkpoint of the pipeline, and how far its output was written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cloche._atomic_file import AtomicFile
from cloche.cli._console import InputError
from cloche.cli._journal import Kept
from cloche.pipeline import Checkpoint

__all__ = ["Progress"]

_MAGIC: Final = b"cloche run 1\n"
_DIGEST: Final = hashlib.sha256().digest_size
_MOST_BYTES: Final = (1 << 30) + (1 << 20)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        checkpoint: the states of its nodes.
        output: what its output has.
        reading: how its input is cut into items: a run that cut it otherwise would go on at another place.
    """

    checkpoint: Checkpoint
    output: Kept
    reading: dict[str, Any]

    def save(self, path: str) -> None:
        """Write it to a file, in one step: a run that is killed leaves the checkpoint before."""
        head = json.dumps({"output": self.output, "reading": self.reading}).encode() + b"\n"
        body = _MAGIC + head + self.checkpoint.to_bytes()
        with AtomicFile(path, mode=0o600) as file:  # a node's state may be anything
            file.write(body + hashlib.sha256(body).digest())

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a file of `save`.

        Raises:
            InputError: it is no such file, or is damaged.
            OSError: it cannot be read.
        """
        if Path(path).stat().st_size > _MOST_BYTES:
            raise InputError(f"--resume: {path} is no checkpoint of cloche run: it is too large")
        data = Path(path).read_bytes()
        body, digest = data[:-_DIGEST], data[-_DIGEST:]
        if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
            raise InputError(
                f"--resume: {path} is no checkpoint of cloche run, or is damaged: give a file of --checkpoint"
            )
        head, _, states = body[len(_MAGIC) :].partition(b"\n")
        match json.loads(head):
            case {"output": [int(length), str(sha256)], "reading": dict(reading)}:
                return cls(Checkpoint.from_bytes(states), (length, sha256), reading)
            case _:
                raise InputError(f"--resume: {path} is of another version of cloche run")

    def check_reading(self, reading: dict[str, Any]) -> None:
        """Check that the input is cut into the same items.

        Raises:
            InputError: it is not.
        """
        for key, value in reading.items():
            if (before := self.reading.get(key)) != value:
                raise InputError(f"--resume: the interrupted run had {key} {before!r}, and this one has {value!r}")
