"""The main program of a host process of a `LocalCluster`: serves the driver at the socket whose descriptor is its argument."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from cloche.cluster._messages import Reply, raised
from cloche.cluster.server import THREADS, Server
from cloche.errors import EncodeError


def main(descriptor: int) -> None:
    """Serve a driver until it closes the socket.

    Args:
        descriptor: of the socket to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends this process when it wants to
    with suppress(OSError):  # there is no stderr
        os.dup2(2, 1)  # what a node prints is no result of the program whose stdout this is
    connection = Connection(descriptor)
    sending = threading.Lock()
    server = Server(f"process {os.getpid()}")

    def serve(number: bytes, order: tuple[Any, ...]) -> None:
        answer = server.do(order[1], *order[2]) if order[0] == "do" else server.call(order[1], order[2])
        try:
            data = pickle.dumps(answer)
        except Exception as error:
            failed = raised(EncodeError(f"cannot be sent from the host of its node: {error}", "an output"))
            data = pickle.dumps((Reply(failed=failed), []) if order[0] == "call" else failed)
        with sending, suppress(OSError):  # the driver is gone, which `recv_bytes` finds as well
            connection.send_bytes(number + data)

    interrupting = ThreadPoolExecutor(4, thread_name_prefix="cloche-interrupt")
    with ThreadPoolExecutor(THREADS, thread_name_prefix="cloche-serve") as pool:
        while True:
            try:
                data = connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(0)  # nobody wants what is under way
            number = data[:8]
            try:
                order = pickle.loads(memoryview(data)[8:])
            except Exception as error:
                told = f"cannot be read at a host: {error}. Define its class in a module that can be imported there"
                with sending:
                    connection.send_bytes(number + pickle.dumps(raised(EncodeError(told, "an item"))))
                continue
            if order[:2] == ("do", "interrupt"):
                interrupting.submit(serve, number, order)  # all other threads may wait for what it is to end
            else:
                pool.submit(serve, number, order)


if __name__ == "__main__":
    main(int(sys.argv[1]))
