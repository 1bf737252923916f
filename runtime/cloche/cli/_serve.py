"""`Server`: a small web page that shows a running pipeline: ``GET /`` is the page, ``GET /status.json`` what it shows.

It can only be read. Names in it come from strangers: they travel as JSON, and the page sets them as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import ipaddress
import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cloche.cli import _page
from cloche.cli._console import InputError, say
from cloche.texts import line, name

if TYPE_CHECKING:
    from cloche.cli._options import Address
    from cloche.cli._watch import Watch
    from cloche.pipeline import Graph

__all__ = ["Server"]

_MOST: Final = 16
"""Connections at one time. Others are closed at once, so that nobody can take up the program's threads."""
_PATIENCE_S: Final = 10.0
"""Seconds for a request to arrive, and for an answer to be taken."""


def _source(text: str) -> str:
    """A script or style as the policy of the page names it: by its digest, so that no other one runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_source(_page.SCRIPT)}",
        f"style-src {_source(_page.STYLE)}",
        "img-src data:",  # the page's empty icon
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server:
    """Serves the page while the block runs.

    Args:
        address: where it listens.
        watch: the pipeline.
        graph: its nodes and connections.
        title: its name.

    Raises:
        InputError: the address cannot be listened at.

    Attributes:
        url: where the page is.
    """

    def __init__(self, address: Address, watch: Watch, graph: Graph, title: str) -> None:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self._server = _Server(found[0][0], found[0][4], _Pages(address, watch, graph, title))
        except OSError as error:
            raise InputError(f"--serve: {address.host}:{address.port} cannot be served: {error}") from error
        host, port = self._server.socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        say(f"serving {self.url}")
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            say(
                f"warning: whoever reaches {host}:{port} can see this pipeline's names and figures; there is no password"
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="cloche-serve", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Pages:
    """What is served, and to whom."""

    def __init__(self, address: Address, watch: Watch, graph: Graph, title: str) -> None:
        self._host = address.host.lower()
        self._watch = watch
        self._graph = graph
        self._title = name(title)

    def allows(self, given: list[str]) -> bool:
        """Whether a request's Host headers name this server.

        A page elsewhere can give its own name this server's address (DNS rebinding), and would then be allowed to read the
        answers: but its requests have that name. So a host is an address, localhost, or the name that was given to ``--serve``.
        """
        if len(given) != 1:
            return False
        host = given[0].strip().lower()
        if host.startswith("["):
            host, bracket, port = host[1:].partition("]")
            if not bracket or (port and not _is_port(port.removeprefix(":"))):
                return False
        else:
            host, colon, port = host.partition(":")
            if colon and not _is_port(port):
                return False
        if host in ("localhost", self._host):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def found(self, path: str) -> tuple[str, bytes] | None:
        """The type and the content of a path; None if there is none."""
        match path.partition("?")[0]:
            case "/":
                return "text/html; charset=utf-8", _page.page(html.escape(self._title), self._watch.heads).encode()
            case "/status.json":
                return "application/json", json.dumps(self._status()).encode()
            case _:
                return None

    def _status(self) -> dict[str, Any]:
        nodes = []
        for figures in self._watch.look():
            one = figures.status
            counts = one.counts
            nodes.append(
                {
                    "id": name(one.node),
                    "place": one.place,
                    "host": name(one.host),
                    "items": counts.items,
                    "outputs": counts.outputs,
                    "rate": round(figures.rate, 1),
                    "p50_s": one.p50_s,
                    "p99_s": one.p99_s,
                    "memory_bytes": one.memory_bytes,
                    "waiting": one.waiting,
                    "room": one.room,
                    "failed": counts.failed,
                    "retried": counts.retried,
                    "rejected": counts.rejected,
                    "breaks": counts.breaks,
                }
            )
        edges = [
            {"from": edge.source, "to": edge.target, "label": name(" to ".join(filter(None, (edge.key, edge.port))))}
            for edge in self._graph.edges
        ]
        return {
            "version": 1,
            "pipeline": self._title,
            "seconds": round(self._watch.seconds, 1),
            "nodes": nodes,
            "edges": edges,
            "hosts": [
                {
                    "name": name(figures.status.name),
                    "machine": name(figures.status.machine),
                    "chains": [name(chain.name) for chain in figures.status.chains],
                    "load": round(figures.load, 3),
                    "memory_bytes": figures.memory_bytes,
                    "is_draining": figures.status.is_draining,
                }
                for figures in self._watch.hosts()
            ],
            "events": [{"seconds_ago": round(ago, 1), "text": line(text)} for ago, text in self._watch.events()],
        }


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False  # a reader that stalls must not hold up the end of the run
    request_queue_size = _MOST

    def __init__(self, family: socket.AddressFamily, address: Any, pages: _Pages) -> None:
        self.address_family = family
        self.pages = pages
        self._free = threading.BoundedSemaphore(_MOST)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the name of this host, which takes seconds to look up where there is no network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "cloche", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a reader that has gone is none of the run's."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S
    server_version = "cloche"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        pages = self.server.pages
        if not pages.allows(self.headers.get_all("Host", [])):
            self._send(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"this is another server\n", with_body)
            return
        found = pages.found(self.path)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there is no such page\n", with_body)
            return
        self._send(HTTPStatus.OK, *found, with_body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, with_body: bool) -> None:
        self.send_response(status)
        for key, value in _HEADERS.items():
            self.send_header(key, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As the base class, which sends it for what is malformed, but without repeating anything of the request."""
        is_method = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if is_method else HTTPStatus(code)
        self.close_connection = True
        self.send_response(status)
        if is_method:
            self.send_header("Allow", "GET, HEAD")
        for key, value in _HEADERS.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Log nothing: stderr is the run's."""


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
