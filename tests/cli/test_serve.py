"""``--serve`` over HTTP: who gets what, and that nobody can do anything with it but read."""

from __future__ import annotations

import html
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from cloche.cli import _page
from cloche.cli._console import InputError
from cloche.cli._options import Address
from cloche.cli._serve import Server
from cloche.cli._watch import HEADS, Watch
from cloche.pipeline import NodeSpec, Pipeline

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x1b[31m{title}"
"""A name that is a stranger's."""


class Gate:
    """Items that pass when the test says so."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, item: int) -> int:
        self.opened.wait(100)
        return item


@pytest.fixture
def served() -> Iterator[Server]:
    """A running pipeline of three native nodes, of which the last one waits, and its server."""
    gate = Gate()
    nodes = [
        NodeSpec(abs, id="first", placement="native"),
        NodeSpec(abs, id="small", placement="inline"),
        NodeSpec(gate, id="last", placement="native", queue=7),
    ]
    with Pipeline(nodes) as pipeline:
        watch = Watch(pipeline)
        outputs = pipeline.run(range(40))
        taker = threading.Thread(target=lambda: list(outputs))
        taker.start()
        try:
            with Server(Address("127.0.0.1", 0), watch, pipeline.graph, HOSTILE) as server:
                yield server
        finally:
            gate.opened.set()
            taker.join(100)


def ask(
    server: Server, path: str = "/status.json", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of an answer."""
    host, port = server.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for key, value in {"Host": f"{host}:{port}", **headers}.items():
            if value:
                connection.putheader(key, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def raw(server: Server, request: bytes) -> bytes:
    """What comes back for these bytes."""
    host, port = server.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        answer = b""
        while block := connection.recv(1 << 16):
            answer += block
    return answer


def test_the_status_has_each_node(served: Server) -> None:
    """As the terminal's table has it, and the graph."""
    status = json.loads(ask(served)[2])
    while status["nodes"][2]["waiting"] < 4 or status["nodes"][0]["items"] < 7:
        status = json.loads(
            ask(served)[2]
        )  # a queue of 7 before the closed gate fills, and is half full at least from then on
    assert [node["id"] for node in status["nodes"]] == ["first", "small", "last"]
    first, small, last = status["nodes"]
    assert first["items"] >= 7
    assert first["p50_s"] > 0
    assert first["p99_s"] >= first["p50_s"]
    assert (first["memory_bytes"], small["place"], last["room"]) == (None, "inline", 7)
    assert status["edges"] == [
        {"from": "first", "to": "small", "label": ""},
        {"from": "small", "to": "last", "label": ""},
    ]
    assert "\u202e" not in status["pipeline"] and "\x1b" not in status["pipeline"]


def test_the_page_needs_nothing_else(served: Server) -> None:
    """No other file, no other host; its policy names its own script and style by their digests."""
    status, headers, content = ask(served, "/")
    text = content.decode()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert 'name="viewport"' in text
    assert text.count("<script") == text.count("</script>") == 1
    assert "<img" not in text and html.escape("<img src=x") in text
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "") and "https:" not in text
    assert "{title}" not in _page.page("x", HEADS)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:4711", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("192.168.3.4:80", 200),
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1:80@evil.example", 403),
        ("[::1]evil", 403),
        ("[::1", 403),
        ("::1", 403),
        ("2130706433", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/status.json", "/other"])
def test_a_page_elsewhere_cannot_take_this_address(served: Server, path: str, host: str, status: int) -> None:
    """DNS rebinding: the browser believes that its answers are the other page's own."""
    got, headers, content = ask(served, path, Host=host)
    assert got == (404 if (status, path) == (200, "/other") else status)
    if status == 403:
        assert b"first" not in content
        assert headers["content-type"].startswith("text/plain")


def test_two_hosts_are_none(served: Server) -> None:
    answer = raw(served, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert b" 403 " in answer.splitlines()[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "X"])
def test_nothing_can_be_done(served: Server, method: str) -> None:
    """It is for reading."""
    status, headers, content = ask(served, "/status.json", method)
    assert (status, headers["allow"], content) == (405, "GET, HEAD", b"")


def test_head_has_no_content(served: Server) -> None:
    status, headers, content = ask(served, "/", "HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["content-length"]) > 1000


@pytest.mark.parametrize("path", ["/../../etc/passwd", "//evil.example/", "/status.json/", "/%2e%2e/", "/status.jso"])
def test_there_is_no_other_page(served: Server, path: str) -> None:
    assert ask(served, path)[0] == 404


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"<script>alert(1)</script> / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
    ],
    ids=["tls", "no path", "version", "method", "long path", "headers"],
)
def test_what_is_malformed_is_refused_and_not_repeated(served: Server, request_bytes: bytes) -> None:
    answer = raw(served, request_bytes)
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert b"alert" not in answer and b"aaaa" not in answer
    assert ask(served)[0] == 200


def test_many_connections_take_up_few_threads(served: Server) -> None:
    """A reader that opens hundreds and says nothing holds up neither the run nor its end."""
    host, port = served.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    before = threading.active_count()
    held = [socket.create_connection((host, int(port)), timeout=60) for _ in range(100)]
    try:
        for connection in held[50:]:
            connection.settimeout(60)
            assert connection.recv(1) == b""  # it was closed at once
        assert threading.active_count() <= before + 17
    finally:
        for connection in held:
            connection.close()


def pipeline() -> Pipeline:
    return Pipeline([NodeSpec(abs, id="one", placement="native")])


def test_an_address_that_is_taken_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken, pipeline() as made:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--serve: 127.0.0.1:{port} cannot be served"):
            Server(Address("127.0.0.1", port), Watch(made), made.graph, "p")
    assert capsys.readouterr().err == ""


def test_another_address_than_the_loopback_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    """It has to be asked for, and then everybody can read it; a name of another page is refused all the same."""
    with pipeline() as made, Server(Address("0.0.0.0", 0), Watch(made), made.graph, "p") as server:
        warned = capsys.readouterr().err
        assert "warning: whoever reaches 0.0.0.0:" in warned
        assert ask(server)[0] == 200
        assert ask(server, Host="evil.example")[0] == 403


def test_it_ends_with_the_run(served: Server) -> None:
    """A reader that stalls in the middle of its request does not hold it up."""
    host, port = served.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as stalled:
        stalled.sendall(b"GET / HT")
        served.__exit__(None, None, None)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)
