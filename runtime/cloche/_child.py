"""`start`: a process with this one's interpreter and modules, and a connection to it. What it runs has all rights of this user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["start"]


def start(
    module: str,
    *,
    descriptors: Sequence[int] = (),
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Run a module as the main program of a new process. It ends when it finds the other end of its connection closed.

    Args:
        module: its dotted name. Its arguments are the descriptor of its connection, and those of `descriptors`.
        descriptors: more descriptors that it gets.
        variables: environment variables, besides this process' own.
        **options: of `subprocess.Popen`.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(ours.detach())
        passed = [theirs.fileno(), *descriptors]
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)  # it may start elsewhere
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, passed)],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, **(variables or {})},
            **options,
        )
    return process, connection
