"""A client of the Debug Adapter Protocol, as an editor is one: it speaks to a real server over a socket."""

from __future__ import annotations

import json
import socket
from collections import deque
from typing import Any

PATIENCE_S = 120


class Refusal(Exception):
    """The server has refused a request."""


class Client:
    """One connection.

    Args:
        address: of the server.

    Attributes:
        events: events that nobody has waited for yet.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, PATIENCE_S)
        self._stream = self.socket.makefile("rb")
        self._sequence = 0
        self.events: deque[dict[str, Any]] = deque()
        self._responses: dict[int, dict[str, Any]] = {}

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Make a request, and return the body of the response."""
        return self.response(self.post(command, **arguments))

    def post(self, command: str, **arguments: Any) -> int:
        """Send a request, and return its number."""
        self._sequence += 1
        message = {"seq": self._sequence, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self.socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return self._sequence

    def response(self, number: int) -> Any:
        """Wait for the response to a request."""
        while number not in self._responses:
            self._read()
        found = self._responses.pop(number)
        if not found["success"]:
            raise Refusal(found["message"])
        return found.get("body")

    def wait(self, event: str) -> Any:
        """Wait for an event, and return its body."""
        while True:
            for found in self.events:
                if found["event"] == event:
                    self.events.remove(found)
                    return found.get("body")
            self._read()

    def begin(self, path: str, *lines: int | dict[str, Any], **arguments: Any) -> list[dict[str, Any]]:
        """Attach, with breakpoints at lines of a file; returns what the server says about them."""
        assert self("initialize", adapterID="test")["supportsStepBack"]
        self.wait("initialized")
        self("attach", **arguments)
        rows = [line if isinstance(line, dict) else {"line": line} for line in lines]
        placed = self("setBreakpoints", source={"path": path}, breakpoints=rows)["breakpoints"]
        self("configurationDone")
        return list(placed)

    def place(self) -> tuple[str, int]:
        """Function and line of the innermost frame, after waiting for a stop."""
        self.wait("stopped")
        return self.top()

    def top(self) -> tuple[str, int]:
        """Function and line of the innermost frame."""
        frame = self("stackTrace", threadId=1)["stackFrames"][0]
        return frame["name"], frame["line"]

    def go(self, command: str) -> tuple[str, int]:
        """Go on, and return the place of the next stop."""
        self(command, threadId=1)
        return self.place()

    def variables(self, reference: int | None = None) -> dict[str, str]:
        """The local variables, or the parts of a value."""
        if reference is None:
            reference = self("scopes", frameId=1)["scopes"][0]["variablesReference"]
        return {row["name"]: row["value"] for row in self("variables", variablesReference=reference)["variables"]}

    def evaluate(self, expression: str, context: str = "repl") -> str:
        """The value of an expression in the innermost frame."""
        return str(self("evaluate", expression=expression, frameId=1, context=context)["result"])

    def close(self) -> None:
        """Close the connection, without a word."""
        self._stream.close()
        self.socket.close()

    def _read(self) -> None:
        length = 0
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            if name == b"Content-Length":
                length = int(value)
        if not length:
            raise EOFError("the server has closed the connection")
        message = json.loads(self._stream.read(length))
        if message["type"] == "event":
            self.events.append(message)
        else:
            self._responses[message["request_seq"]] = message
