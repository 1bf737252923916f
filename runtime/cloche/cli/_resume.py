"""`Progress`: the file of ``--checkpoint``: a checkpoint of the pipeline, and how far its output was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cloche import ClocheError, _container
from cloche._atomic_file import AtomicFile
from cloche.cli._console import InputError
from cloche.cli._journal import Kept
from cloche.pipeline import Checkpoint

__all__ = ["Progress"]

_KIND: Final = "run"
_VERSION: Final = 2
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
        about = _container.json_bytes({"output": self.output, "reading": self.reading})
        body = _container.write(_KIND, _VERSION, {"about": about, "checkpoint": self.checkpoint.to_bytes()})
        with AtomicFile(path, mode=0o600) as file:  # a node's state may be anything
            file.write(body)

    @classmethod
    def load(cls, path: str) -> Self:
        """Read a file of `save`.

        Raises:
            InputError: it is no such file, or is damaged.
            OSError: it cannot be read.
        """
        if Path(path).stat().st_size > _MOST_BYTES:
            raise InputError(f"--resume: {path} is no checkpoint of cloche run: it is too large")
        try:
            content = _container.read(Path(path).read_bytes(), _KIND, _VERSION, max_bytes=_MOST_BYTES)
            about = _container.json_map(content.section("about"), "its description")
            match about:
                case {"output": [int(length), str(sha256)], "reading": dict(reading)}:
                    return cls(Checkpoint.from_bytes(content.section("checkpoint")), (length, sha256), reading)
                case _:
                    raise ClocheError("its description is of another version")
        except ClocheError as error:
            raise InputError(
                f"--resume: {path} is no checkpoint of cloche run, or is damaged ({error}): give a file of --checkpoint"
            ) from error

    def check_reading(self, reading: dict[str, Any]) -> None:
        """Check that the input is cut into the same items.

        Raises:
            InputError: it is not.
        """
        for key, value in reading.items():
            if (before := self.reading.get(key)) != value:
                raise InputError(f"--resume: the interrupted run had {key} {before!r}, and this one has {value!r}")
