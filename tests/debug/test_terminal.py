"""The debugger on a terminal: what is typed, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.debug import opened
from tests.debug.client import PATIENCE_S
from tests.debug.conftest import PROGRAM


def talked(
    node: cloche.Node, commands: str, *data: Any, printed: list[str] | None = None, **options: Any
) -> tuple[Any, list[str]]:
    """Call a node while commands are typed. Returns its result, and the lines that were printed."""
    typed: Iterator[str] = iter(commands.split(";"))
    printed = [] if printed is None else printed

    def read(prompt: str) -> str:
        try:
            line = next(typed)
        except StopIteration:
            raise EOFError from None
        printed.append(prompt + line)
        return line

    def restore(snapshot: cloche.Snapshot) -> Any:
        return node._restore(snapshot, node.name, False, True).__cloche__

    with opened(node.__cloche__, restore, read=read, write=printed.append, **options):
        return node.process(*data), printed


def test_a_walk(load: Callable[..., cloche.Node]) -> None:
    """Forwards, backwards, and a look around."""
    node = load(PROGRAM, grants=cloche.Grants(seed=1, clock=cloche.Clock("virtual")))
    result, printed = talked(node, "n;n;s;p i + 40;w;b 4;c;a;bn;bs;c;total = 7;u;p total;cl;c", 2)
    assert result == 1
    text = "\n".join(printed)
    assert printed[:3] == ["entry", "> node.py(11) Sums.process()", "-> total = 0"]
    assert "(cloche) p i + 40\n40\n" in text
    assert "  node.py(13) Sums.process()\n> node.py(3) square()\n" in text
    assert "1: node.py:4" in text
    assert "(cloche) a\ni = 0\nresult = 0\n" in text
    assert "(cloche) bn\n> node.py(3) square()\n-> result = i * i\n" in text
    assert "(cloche) bs\n> node.py(13) Sums.process()\n" in text


def test_the_end_of_the_input_ends_the_call(load: Callable[..., cloche.Node]) -> None:
    """As pdb's does."""
    with pytest.raises(cloche.CallInterruptedError):
        talked(load(PROGRAM), "n", 1)


def test_breakpoint_in_the_node(load: Callable[..., cloche.Node]) -> None:
    """What pdb's users write stops this debugger as well, and nothing else."""
    node = load("def process(n):\n    breakpoint()\n    return n\n")
    result, printed = talked(node, "p n;c", 5, stop_on_entry=False)
    assert result == 5
    assert printed[:2] == ["breakpoint: breakpoint()", "> node.py(2) process()"]
    assert "5" in printed


def test_an_exception_stops_before_the_node_is_left(load: Callable[..., cloche.Node]) -> None:
    """Without being asked for: that is what a debugger is opened for."""
    node = load("def process(n):\n    x = 3\n    return x / n\n")
    lines: list[str] = []
    with pytest.raises(cloche.NodeRaisedError, match="ZeroDivisionError"):
        talked(node, "x + 1;bn;bn;n;p x;c;c", 0, stop_on_entry=False, printed=lines)
    assert lines[0] == "ZeroDivisionError: division by zero (leaves the node)"
    places = [line for line in lines if line.startswith("> ")]
    assert places == [f"> node.py({line}) process()" for line in (3, 3, 2, 3, 3)]


NODES = "def double(item):\n    twice = 2 * item\n    return twice\n"


def test_the_command_on_a_terminal(tmp_path: Path) -> None:
    """``cloche debug`` with its input, and commands on stdin."""
    (tmp_path / "nodes.py").write_text(NODES)
    (tmp_path / "in.jsonl").write_text("21\n4\n")
    done = subprocess.run(
        [sys.executable, "-m", "cloche", "debug", "nodes.py", "--input", "in.jsonl", "--break", "3"],
        cwd=tmp_path, input="p twice\nc\nc\n", capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert "42" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("8")
    assert "-> return twice" in done.stdout


def test_the_command_for_an_editor(tmp_path: Path) -> None:
    """The protocol on stdin and stdout, as editors start an adapter."""
    path = tmp_path / "nodes.py"
    path.write_text(NODES)
    (tmp_path / "in.jsonl").write_text("21\n")
    requests: list[tuple[str, dict[str, Any]]] = [
        ("initialize", {}),
        ("launch", {}),
        ("setBreakpoints", {"source": {"path": str(path)}, "breakpoints": [{"line": 3}]}),
        ("configurationDone", {}),
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "cloche", "debug", "nodes.py", "--input", "in.jsonl", "--stdio"],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None

        def send(command: str, arguments: dict[str, Any]) -> None:
            body = json.dumps({"type": "request", "seq": 1, "command": command, "arguments": arguments}).encode()
            assert process.stdin is not None
            process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            process.stdin.flush()

        def wait(event: str) -> dict[str, Any]:
            assert process.stdout is not None
            while True:
                length = int(process.stdout.readline().split(b":")[1])
                process.stdout.readline()
                message = json.loads(process.stdout.read(length))
                if event in (message.get("event"), message.get("command")):
                    found: dict[str, Any] = message.get("body") or {}
                    return found

        for command, arguments in requests:
            send(command, arguments)
        assert wait("stopped")["reason"] == "breakpoint"
        send("stackTrace", {"threadId": 1})
        assert wait("stackTrace")["stackFrames"][0]["source"] == {"name": "nodes.py", "path": str(path)}
        send("continue", {"threadId": 1})
        wait("terminated")
        process.stdin.close()
        assert b"42" in process.stderr.read()
    assert process.returncode == 0
