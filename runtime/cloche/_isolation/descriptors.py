"""Descriptors that are never without an owner: an exception between two bytecodes (Ctrl-C) closes them instead of losing them.

`os.memfd_create` returns a number, which is lost if a signal's handler raises before it is stored. Here C code hands each
number to an object that closes it, without a bytecode in between.
"""

from __future__ import annotations

import _socket
import io
import os
from collections.abc import Iterable
from typing import Final

from cloche._wasm.scarce import nothing_left

__all__ = ["Descriptor", "Socket", "connected", "memory_file"]


class Descriptor(io.FileIO):
    """Closes its descriptor when it is dropped, and does not complain that nobody else has."""

    def __del__(self) -> None:
        self.close()


Socket = _socket.socket
"""What `socket.socket` is made of. `socket.socketpair` is Python code, in which numbers are without an owner."""

_NAME: Final = ("cloche",)


def memory_file() -> Descriptor:
    """A file in memory that can be sealed, and that no program started later inherits."""
    numbers: Iterable[int] = map(os.memfd_create, _NAME, (os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING,))
    return next(map(Descriptor, numbers, ("r+",)))


def connected(*, keeps_messages: bool = True) -> tuple[Socket, Socket]:
    """Two sockets that are connected with each other, and that no program started later inherits.

    Args:
        keeps_messages: a message arrives whole or not at all; otherwise bytes arrive in a stream.

    Raises:
        ClocheError: the system gives none.
    """
    try:
        return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET if keeps_messages else _socket.SOCK_STREAM)
    except OSError as error:
        raise nothing_left("to talk to a worker process", error) from error
