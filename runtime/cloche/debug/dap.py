"""A debug server for editors: the Debug Adapter Protocol over TCP on this machine, or over stdin and stdout."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from cloche.debug._adapter import Adapter
from cloche.debug._framing import FramingError, Stream, frame, read_message
from cloche.debug._paths import Paths
from cloche.debug._session import Session

__all__ = ["Client", "Pipe", "Server"]

_HOST: Final = "127.0.0.1"
_SEND_TIMEOUT: Final = struct.pack("ll", 10, 0)
"""A ``struct timeval``: seconds after which a client that reads nothing is given up."""


class Client:
    """One client. `serve` reads its requests until it goes.

    Args:
        session: the session that it debugs.
        source: where its messages come from.
        send: sends bytes to it.
        paths: the paths of files.

    Attributes:
        adapter: speaks the protocol with it.
    """

    def __init__(self, session: Session, source: Stream, send: Callable[[bytes], object], paths: Paths) -> None:
        self._session = session
        self._source, self._send_bytes = source, send
        self._is_deaf = False
        self.adapter = Adapter(
            session, self._send, paths, join=self._join, leave=session.leave, interrupt=session.interrupt
        )

    def serve(self) -> None:
        """Read and answer requests until the client disconnects, goes, or sends what is no message."""
        try:
            while (message := read_message(self._source)) is not None:
                if not self.adapter.receive(message):
                    break
        except (FramingError, OSError, ValueError):  # ValueError: the stream was closed
            pass
        finally:
            self.adapter.end()

    def _join(self, stop_on_entry: bool) -> None:
        self._session.stop_on_entry = self._session.stop_on_entry or stop_on_entry
        self._session.join(self.adapter)

    def _send(self, message: dict[str, Any]) -> None:
        if self._is_deaf:
            return
        try:
            self._send_bytes(frame(message))
        except (
            OSError,
            ValueError,
        ):  # it has gone, which `serve` notices, or does not read: no call waits for it again
            self._is_deaf = True


class Server:
    """Waits for clients on a port of this machine, and serves one at a time.

    Any program of this machine can connect, and then run code in the node's sandbox, but nothing outside of it.

    Args:
        session: the session that clients debug.
        port: the port; 0: one that is free.
        paths: the paths of files.

    Attributes:
        address: host and port.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, session: Session, port: int, paths: Paths) -> None:
        self._session, self._paths = session, paths
        self._listening = socket.create_server((_HOST, port), backlog=1)
        self.address: tuple[str, int] = (_HOST, self._listening.getsockname()[1])
        self._is_closed = False
        self._ready = threading.Event()
        self._client: Client | None = None
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="cloche-dap", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until a client has set its breakpoints, or has gone again."""
        self._ready.wait()

    def close(self) -> None:
        """Tell the client that it is over, and close its connection."""
        self._is_closed = True
        if self._client is not None:
            self._client.adapter.over()
        for one in (self._connection, self._listening):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # it was closed
                break
            with connection, connection.makefile("rb") as source:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
                client = Client(self._session, source, connection.sendall, self._paths)
                client.adapter.is_ready = self._ready
                self._client, self._connection = client, connection
                if not self._is_closed:
                    client.serve()
                self._client = self._connection = None


class Pipe:
    """Serves one client on a pair of streams, such as stdin and stdout.

    Args:
        session: the session that the client debugs.
        source: where its messages come from.
        send: sends bytes to it.
        paths: the paths of files.
    """

    address = None

    def __init__(self, session: Session, source: Stream, send: Callable[[bytes], object], paths: Paths) -> None:
        self._client = Client(session, source, send, paths)
        threading.Thread(target=self._client.serve, name="cloche-dap", daemon=True).start()

    def wait(self) -> None:
        """Wait until the client has set its breakpoints, or has gone again."""
        self._client.adapter.is_ready.wait()

    def close(self) -> None:
        """Tell the client that it is over. Its thread ends with the stream."""
        self._client.adapter.over()
        self._client.adapter.end()
