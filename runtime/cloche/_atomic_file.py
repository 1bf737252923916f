"""Files that appear under their name when they are complete, or not at all: after an error, a kill or a power cut as well."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import IO, Final

__all__ = ["AtomicFile"]

_LOOKS: Final = 20
"""How often two looks at a file may disagree before it is taken for one without a name."""


class AtomicFile:
    """A draft beside the file, which takes the file's name in one step. Readers see the old file or the new one, never a part.

    Use it as a context manager, which gives the draft, opened for bytes; or call `commit` or `discard` yourself.

    A file that is replaced keeps its permissions, and a symbolic link to it stays a link. What is no regular file (a pipe,
    /dev/null), or has no name (a pipe that is /dev/stdout), is written to directly: it cannot be replaced.

    Args:
        path: the file. Its folder must exist.
        mode: permissions of a file that is not there yet; None: as the umask has it.
        sync: whether `commit` waits until the file is on the disk. Without it a power cut may leave a damaged file under the name.

    Attributes:
        file: the draft, open for reading and writing.

    Raises:
        OSError: the draft cannot be made.
    """

    _draft: Path | None = None
    """The draft's path; None: there is none, or it has the file's name."""

    def __init__(self, path: str | os.PathLike[str], mode: int | None = None, *, sync: bool = True) -> None:
        if os.fspath(path).endswith(os.sep):  # as `open` does; `Path` would drop the slash and make a file
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        self._is_synced = sync
        self._path = Path(os.path.realpath(path))  # a rename would replace the link instead of what it leads to
        found = _status(path)
        if found is not None and not _is_replaceable(path, self._path):
            self.file: IO[bytes] = Path(path).open("wb")  # noqa: SIM115  # closed by `commit` or `discard`
            return
        # before it is made: an interrupt right after that would leave it behind
        self._draft = self._path.with_name(f".{self._path.name[:40]}.{os.urandom(8).hex()}.part")
        # O_EXCL: in a folder that others can write to, a file or link of that name could be theirs
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        permissions = 0o666 if mode is None else mode
        try:
            self.file = open(self._draft, "w+b", opener=lambda name, _: os.open(name, flags, permissions))  # noqa: SIM115  # as above
        except OSError as error:
            self._draft = None  # it is not there, or is another's
            error.filename = os.fspath(path)  # the file that the caller knows of
            raise
        if found is not None:
            os.fchmod(self.file.fileno(), stat.S_IMODE(found.st_mode) & 0o777)

    def __del__(self) -> None:
        if self._draft is not None:  # an exception came before the block, or while it was left
            self._draft.unlink(missing_ok=True)

    def commit(self) -> None:
        """Write all to disk and give the file its name.

        Raises:
            OSError: there is no room, or the name cannot be taken. `discard` removes the draft then.
        """
        self.file.flush()
        if self._draft is None:
            self.file.close()
            return
        if self._is_synced:
            os.fsync(self.file.fileno())  # before the rename: a power cut would leave a file of zeros under the name
        self.file.close()
        self._draft.replace(self._path)
        self._draft = None
        if self._is_synced:
            _sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove the draft, and leave the old file as it is. After `commit` it does nothing."""
        try:
            self.file.close()
        except OSError:  # what was buffered does not fit: nobody wants it
            pass
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)
            self._draft = None

    def __enter__(self) -> IO[bytes]:
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """What the system says of a file, or of what a link to it leads to; None if there is none."""
    try:
        return Path(path).stat()
    except FileNotFoundError:
        return None


def _is_replaceable(path: str | os.PathLike[str], real: Path) -> bool:
    """Whether a file is a regular one whose path is `real`. A link of a descriptor (/dev/fd/1) may lead to a path that is none."""
    for _ in range(_LOOKS):  # another process may replace or remove the file between the two
        found, named = _status(path), _status(real)
        if found is None:
            return True
        if not stat.S_ISREG(found.st_mode):
            return False
        if named is not None and os.path.samestat(found, named):
            return True
    return False


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to disk, if its file system can: otherwise a power cut may forget the file's name."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that can be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
