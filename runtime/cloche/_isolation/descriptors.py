"""File descriptors that always have an owner, so that an exception between two bytecodes (Ctrl-C) closes them.

`os.memfd_create` returns a number. If a signal handler raises before the number is stored, the descriptor leaks. Here C code
(`map`) passes each number to an object that closes it, without a bytecode in between.
"""

from __future__ import annotations

import _socket
import io
import os
from collections.abc import Iterable
from typing import Final

from cloche._wasm import out_of_resources

__all__ = ["Descriptor", "Socket", "connected", "memory_file"]


class Descriptor(io.FileIO):
    """A descriptor that is closed when the object is dropped, without the ResourceWarning of `io.FileIO`."""

    def __del__(self) -> None:
        self.close()


Socket = _socket.socket
"""Base class of `socket.socket`. `socket.socketpair` is Python code, and can leak a descriptor as described above."""

_NAME: Final = ("cloche",)


def memory_file() -> Descriptor:
    """A new file in memory (memfd) that can be sealed, and is not inherited by other programs."""
    numbers: Iterable[int] = map(os.memfd_create, _NAME, (os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING,))
    return next(map(Descriptor, numbers, ("r+",)))


def connected(*, keeps_messages: bool = True) -> tuple[Socket, Socket]:
    """Two sockets connected with each other, which other programs do not inherit.

    Args:
        keeps_messages: True for messages that arrive whole or not at all (SOCK_SEQPACKET), False for a stream of bytes.

    Raises:
        ClocheError: the process has no descriptor or no memory left.
    """
    try:
        return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET if keeps_messages else _socket.SOCK_STREAM)
    except OSError as error:
        raise out_of_resources("to talk to a worker process", error) from error
