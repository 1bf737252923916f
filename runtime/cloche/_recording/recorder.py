"""`NodeRecorder`: keeps the tape of one node, makes recordings of it, and writes a file when a call fails."""

from __future__ import annotations

import contextlib
import copy
import platform
import secrets
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cloche._recording.files import NUMBERS
from cloche._recording.recording import SUFFIX, Recording
from cloche._recording.redaction import redacted
from cloche._sandbox import Tape
from cloche.errors import ClocheError
from cloche.texts import clean

if TYPE_CHECKING:
    from cloche._recording.settings import Record
    from cloche._sandbox import Recorded

__all__ = ["NodeRecorder", "recording_of", "version"]


class NodeRecorder:
    """Records one node, over all the instances that it has.

    Args:
        settings: how.
        metering: the runtime's.
        image: sha256 of its image's module.

    Attributes:
        tape: the node's last calls.
    """

    def __init__(self, settings: Record, metering: str, image: str) -> None:
        self.tape = Tape(settings.calls, settings.max_bytes)
        self._settings = settings
        self._metering = metering
        self._image = image
        self._has_warned = False

    def successor(self) -> NodeRecorder:
        """A recorder with the same settings and files, and a tape of its own: for the node that is to take this one's place."""
        made = copy.copy(self)
        made.tape = Tape(self._settings.calls, self._settings.max_bytes)
        return made

    def recording(self, sandbox: Recorded, error: BaseException | None = None) -> Recording:
        """A recording of the node's last calls. The caller holds the node's lock.

        Args:
            sandbox: the node's present sandbox.
            error: in which the last call ended; None: the recording is not about a failure.
        """
        kept = sandbox.kept()
        made = Recording(
            name=sandbox.name,
            image=self._image,
            limits=sandbox.limits,
            metering=self._metering,
            events=kept.events,
            state=kept.state,
            after=kept.after,
            error="" if error is None else type(error).__name__,
            message="" if error is None else clean(str(error)),
            granted=sandbox.is_granted,
            first=kept.is_first,
            made=datetime.now(UTC),
            cloche=version(),
            python=platform.python_version(),
        )
        return made if self._settings.redact is None else redacted(made, self._settings.redact)

    def failed(self, sandbox: Recorded, error: ClocheError) -> None:
        """See `cloche._sandbox.Recorder`. What goes wrong here costs the file, not the call's own error."""
        if self._settings.folder is None or error.recording:
            return
        try:
            path = self._write(sandbox, error)
        except Exception as failure:
            if not self._has_warned:
                self._has_warned = True
                with contextlib.suppress(Exception):  # a warning may be an error
                    warnings.warn(
                        f"a failed call of node {sandbox.name!r} could not be recorded: {failure}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
            return
        error.recording = str(path)

    def _write(self, sandbox: Recorded, error: ClocheError) -> Path:
        settings = self._settings
        assert settings.folder is not None
        folder = Path(settings.folder)
        folder.mkdir(parents=True, exist_ok=True)
        recording = self.recording(sandbox, error)
        stem = Recording.file_name(sandbox.name)
        # random: processes of two containers, which share the folder, have the same numbers
        name = f"{stem}-{recording.made:%Y%m%dT%H%M%S}-{next(NUMBERS)}-{secrets.token_hex(4)}{SUFFIX}"
        path = recording.save(folder / name)
        settings.files.add(path, settings.max_files)
        return path


def recording_of(sandbox: Recorded | None, name: str) -> Recording:
    """A recording of a node's last calls.

    Args:
        sandbox: its sandbox; None: it is not recorded.
        name: the node's name.

    Raises:
        ClocheError: it is not recorded.
    """
    if sandbox is None or not isinstance(sandbox.recorder, NodeRecorder):
        raise ClocheError(f"node {name!r} is not recorded: load it with record=...")
    return sandbox.recorder.recording(sandbox)


def version() -> str:
    """This Cloche's version; "" if it is not installed."""
    from importlib import metadata  # slow to import

    try:
        return metadata.version("cloche")
    except metadata.PackageNotFoundError:
        return ""
