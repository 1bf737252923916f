"""The command line in a process of its own, which is forked from one that has imported everything: a new interpreter imports for most of a second.

Where a test is about how the program itself starts or ends, it starts ``python -m cloche`` instead.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Forking", "forking"]

_MOST = 1 << 20
_MODULES = "asyncio", "numpy", "pydantic", "rich.live", "rich.table", "soundfile", "structlog", "yaml"
_TREE = Path(__file__).parents[1]


class Forking:
    """Runs the command line: as ``subprocess.run([sys.executable, "-m", "cloche", ...])`` with pipes, and the same that comes back.

    Args:
        control: the socket to the process that is forked.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def run(
        self, *arguments: str, cwd: Path, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        order = {"arguments": arguments, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        with ExitStack() as stack:
            stdin_read, stdin_write = os.pipe()
            stdout_read, stdout_write = os.pipe()
            stderr_read, stderr_write = os.pipe()
            socket.send_fds(self._control, [json.dumps(order).encode()], [stdin_read, stdout_write, stderr_write])
            for descriptor in (stdin_read, stdout_write, stderr_write):
                os.close(descriptor)
            pid = int(self._control.recv(_MOST))
            pool = stack.enter_context(ThreadPoolExecutor(3))
            fed = pool.submit(_feed, stdin_write, stdin.encode())
            printed = [pool.submit(_rest, descriptor) for descriptor in (stdout_read, stderr_read)]
            try:
                code = int(self._control.recv(_MOST))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            fed.result()
            stdout, stderr = (each.result().decode() for each in printed)
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)


def _feed(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as pipe:
        try:
            pipe.write(content)
            pipe.flush()
        except BrokenPipeError:  # the command has enough
            pass


def _rest(descriptor: int) -> bytes:
    with open(descriptor, "rb") as pipe:
        return pipe.read()


@contextmanager
def forking() -> Iterator[Forking]:
    """Start the process that is forked, and end it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(300)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                cwd=_TREE, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        yield Forking(ours)
    process.wait(60)


def _serve(control: socket.socket) -> list[str]:
    """Fork for each order. It returns in the forked processes alone, with the arguments of the command."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MOST, 3)
        if not message:
            raise SystemExit
        pid = os.fork()
        if pid == 0:
            control.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
            os.closerange(3, max(descriptors) + 1)
            order: dict[str, Any] = json.loads(message)
            os.environ.clear()
            os.environ.update(order["env"])
            os.chdir(order["cwd"])
            sys.path[0] = order["cwd"]
            return list(order["arguments"])
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _import_all() -> None:
    from hypothesis import given, strategies

    import cloche
    import cloche.cli

    for name in _MODULES:
        importlib.import_module(name)
    for name in cloche.__all__:
        getattr(cloche, name)
    for module in pkgutil.walk_packages(cloche.cli.__path__, "cloche.cli."):
        if "_main" not in module.name:  # those that are run
            importlib.import_module(module.name)
    given(strategies.none())(lambda _: None)()  # it looks for generators of numbers once, by the collector
    gc.collect()
    gc.freeze()
    threads = threading.active_count(), len(os.listdir("/proc/self/task"))
    assert threads == (1, 1), f"a process with threads cannot be forked: {threads}"


if __name__ == "__main__":
    _import_all()
    sys.argv = ["cloche", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    runpy.run_module("cloche.cli", run_name="__main__", alter_sys=True)
