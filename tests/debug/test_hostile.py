"""A debugger reads what a stranger's node says, and runs its code to show it. Neither may harm, hold or fool the host."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import cloche
from cloche.debug import _session
from cloche.debug._session import Session
from tests.debug.client import PATIENCE_S, Client, Refusal
from tests.debug.conftest import PROGRAM, Debugged, result

Make = Callable[..., Debugged]

REPRS = """\
class Loops:
    def __repr__(self):
        while True:
            try:
                while True: pass
            except Exception:
                pass
class Long:
    def __repr__(self):
        return "x" * 100_000_000
class Raises:
    def __repr__(self):
        raise SystemExit("now")
class Lies(list):
    def __len__(self):
        return 1 << 60
    def __iter__(self):
        while True:
            yield self
def process(n):
    loops, long, raises, lies, deep = Loops(), Long(), Raises(), Lies([1]), []
    for _ in range(100_000):
        deep = [deep]
    huge, many = 1 << 10_000_000, {i: "y" * 10_000 for i in range(1000)}
    return "done"
"""


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set how long the next commands may take. Without it, that is longer than any machine needs."""
    sessions: list[Session] = []
    begin = Session.__init__

    def noted(self: Session, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **{**options, "evaluate_s": PATIENCE_S})
        sessions.append(self)

    def limit(seconds: float) -> None:
        for session in sessions:
            session.evaluate_s = seconds

    monkeypatch.setattr(Session, "__init__", noted)
    return limit


def test_values_that_do_not_want_to_be_shown(debugged: Make, hurry: Callable[[float], None]) -> None:
    """Each is shown in some way, and the node goes on."""
    made = debugged(REPRS)
    client = made.client
    client.begin("node.py", 1 + REPRS.splitlines().index('    return "done"'))
    call = made.call(1)
    client.place()
    reference = client("scopes", frameId=1)["scopes"][0]["variablesReference"]
    hurry(0.2)
    shown = client.variables(reference)
    hurry(PATIENCE_S)
    assert all(len(text) < 5000 for text in shown.values())
    assert "took too long" in shown["loops"]
    assert shown["long"] == "<Long>"  # whatever is not the interpreter's own is not asked any more
    assert client.evaluate("long")[:20] in ("x" * 20, "<Long: repr() raised")
    assert client.evaluate("many")[:10] == "{0: 'yyyyy"
    assert "bits" in client.evaluate("huge")
    assert client.evaluate("raises") == "<Raises: repr() raised SystemExit>"
    reference = client("evaluate", expression="lies", frameId=1)["variablesReference"]
    assert client.variables(reference) == {"0": "1"}
    client("disconnect")
    assert result(call) == "done"


@pytest.mark.parametrize("expression", ["[0 for _ in iter(int, 1)]", "9**9**9"])
def test_an_expression_that_never_ends(debugged: Make, hurry: Callable[[float], None], expression: str) -> None:
    """It is given up, and the node stays where it is."""
    made = debugged()
    client = made.client
    client.begin("node.py", 3)
    call = made.call(1)
    client.place()
    hurry(0.5)
    with pytest.raises(Refusal, match="too long|MemoryError|has ended") as refused:
        client.evaluate(expression)
    if "has ended" in str(refused.value):  # on a machine that was too busy to hear of it in time
        with pytest.raises(cloche.ClocheError):
            result(call)
        return
    hurry(PATIENCE_S)
    assert client.evaluate("i") == "0"
    client("disconnect")
    assert result(call) == 0


def test_an_expression_that_nothing_interrupts(debugged: Make, hurry: Callable[[float], None]) -> None:
    """One long function in C never looks up: the sandbox is stopped."""
    made = debugged()
    client = made.client
    client.begin("node.py", 3)
    call = made.call(1)
    client.place()
    hurry(0.2)
    with pytest.raises(Refusal, match="has ended"):
        client.evaluate("sum(range(10**13))")
    with pytest.raises(cloche.BrokenInstanceError):
        result(call)


def test_an_expression_that_swallows_its_end(debugged: Make, hurry: Callable[[float], None]) -> None:
    """The call is interrupted then, as by `Node.interrupt`."""
    made = debugged()
    client = made.client
    client.begin("node.py", 3)
    call = made.call(1)
    client.place()
    program = "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n"
    hurry(0.2)
    client.post("evaluate", expression=program, frameId=1, context="repl")
    assert "is interrupted" in client.wait("output")["output"]
    with pytest.raises((cloche.CallInterruptedError, cloche.BrokenInstanceError)):
        result(call)


TAMPERING = [
    "import sys\nfor t in range(6):\n    try: sys.monitoring.free_tool_id(t)\n    except ValueError: pass",
    "import sys\nfor t in range(6):\n    if sys.monitoring.get_tool(t): sys.monitoring.set_events(t, 0)",
    "import sys\nfor e in range(18):\n    sys.monitoring.register_callback(0, 1 << e, lambda *a: 1/0)",
    "import cloche_guest.debugging as d\nd.Debugger._line = d.Debugger._stop = lambda *a: 1/0",
    "import cloche_guest.asking as a\na.ask = lambda r: None",
    "import sys; del sys.monitoring",
]


@pytest.mark.parametrize("program", TAMPERING)
def test_a_node_that_tampers_with_the_debugger(debugged: Make, program: str) -> None:
    """It gets rid of it, at most: its call ends, and so does the debugger."""
    lines = "".join(f"    {line}\n" for line in program.splitlines())
    made = debugged(f"def process(n):\n{lines}    n += 1\n    return n\n")
    client = made.client
    client.begin("node.py", {"line": 2 + len(program.splitlines()), "condition": "False"})
    call = made.call(1)
    try:
        assert result(call) == 2
    except cloche.ClocheError:  # its own callback raised, perhaps where that harms the node alone
        pass


FORGERIES = [
    '["stopped", {"reason": "step", "text": "\\x1b[2J" * 10000, "points": list(range(10**5)), "count": -1, "exception": ["\\u202e", "", ""]}]',
    '["stopped", {"reason": "none", "text": "", "points": []}]',
    '["stopped", 7]',
    '["result", 1]',
    '["failed", ["A", "B"]]',
    '["output", "\\x1b]0;title\\x07" * 1000]',
    '["nothing"]',
    "[]",
]


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_node_that_speaks_for_the_debugger(debugged: Make, forged: str) -> None:
    """What it says is checked and cleaned; a malformed request ends it, as any does."""
    made = debugged(f"import _cloche\ndef process(n):\n    answer = _cloche.call([3, *{forged}])\n    return n\n")
    client = made.client
    client.begin("node.py")
    call: Future[Any] = made.call(1)
    if '"step"' in forged:
        stopped = client.wait("stopped")
        assert "\x1b" not in stopped["text"]
        assert len(stopped["text"]) < 20_000
        with pytest.raises(Refusal, match="has ended"):
            client("stackTrace", threadId=1)
    try:
        assert result(call) == 1
    except (cloche.ProtocolError, cloche.CallInterruptedError, cloche.NodeRaisedError):
        pass


def test_a_flood_of_messages_is_cut(debugged: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million outputs would fill the editor, and the host."""
    monkeypatch.setattr(_session, "_MOST_OUTPUTS", 30)
    made = debugged(
        "import _cloche\ndef process(n):\n    for _ in range(n): _cloche.call([3, 'output', 'x'])\n    return n\n"
    )
    client = made.client
    client.begin("node.py")
    assert result(made.call(50)) == 50
    client("threads")
    assert sum(event["event"] == "output" for event in client.events) == 30
    assert client.events[-1]["body"]["output"] == "further messages of this call are not shown\n"


MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 99999999999999\r\n\r\n",
    b"Content-Length: 5000000\r\n\r\n",
    b"Content-Length: 2\r\n\r\n[]",
    b"Content-Length: 3\r\n\r\n{{{",
    b"x" * 10_000,
    b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000,
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_message_ends_the_connection(debugged: Make, data: bytes) -> None:
    """And nothing else: the stopped node goes on, and the next client is served."""
    made = debugged()
    client = made.client
    client.begin("node.py", 3)
    call = made.call(1)
    client.place()
    with contextlib.suppress(OSError):  # the server may have closed the connection before it has read all
        client.socket.sendall(data)
        client.socket.shutdown(socket.SHUT_WR)
    assert result(call) == 0
    second = Client(made.address)
    assert second("initialize")["supportsStepBack"]
    second.close()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("setBreakpoints", {"source": 1, "breakpoints": [1, None, {"line": "x"}, {"line": 10**30}]}),
        ("setBreakpoints", {"source": {"path": "node.py"}, "breakpoints": {"line": 3}}),
        ("setBreakpoints", {"source": {"sourceReference": 10**40}}),
        ("variables", {"variablesReference": "x", "count": -1}),
        ("variables", {"variablesReference": 1 << 40}),
        ("evaluate", {"expression": None, "frameId": {}}),
        ("evaluate", {"expression": "(" * 10_000, "frameId": 1}),
        ("evaluate", {"expression": "i", "frameId": 10**6}),
        ("setVariable", {"variablesReference": 99, "name": 3, "value": []}),
        ("stackTrace", {"startFrame": 10**6, "levels": 10**6}),
        ("scopes", {"frameId": 10**9}),
        ("source", {"sourceReference": 77}),
        ("completions", {"text": "\ud800", "column": 10**9}),
        ("attach", {"pathMappings": [1, {"localRoot": 3}]}),
        ("setExceptionBreakpoints", {"filters": 7}),
        ("setFunctionBreakpoints", {"breakpoints": [{"name": "\x00"}]}),
        ("unheard of", {}),
        ("exceptionInfo", {}),
    ],
)
def test_odd_requests_are_answered(debugged: Make, command: str, arguments: dict[str, Any]) -> None:
    """With success or a refusal; the next request is served as before."""
    made = debugged()
    client = made.client
    client.begin("node.py", 3)
    call = made.call(1)
    client.place()
    try:
        client(command, **arguments)
    except Refusal:
        pass
    assert client.top() == ("square", 3)
    client("disconnect")
    assert result(call) == 0


@pytest.mark.parametrize("how", ["interrupt", "close"])
def test_a_stopped_node_can_be_ended(debugged: Make, how: str) -> None:
    """Nobody has to wait for a user who has gone to lunch."""
    made = debugged()
    made.client.begin("node.py", 3)
    call = made.call(1)
    made.client.place()
    if how == "interrupt":
        assert made.node.interrupt()
    else:
        made.node.close(timeout=0.0)
    with pytest.raises(cloche.CallInterruptedError):
        result(call)


def test_the_deadline_returns_when_the_client_has_gone(debugged: Make) -> None:
    """Otherwise a node could run forever once nobody looks."""
    made = debugged("def process(n):\n    while True: pass\n", limits=cloche.Limits(deadline_s=0.2))
    made.client.begin("node.py", 2)
    call = made.call(1)
    made.client.place()
    made.client("disconnect")
    with pytest.raises(cloche.CallInterruptedError):
        result(call)


def test_a_debugger_that_comes_and_goes_leaves_no_threads(debugged: Make) -> None:
    """Each one that leaves a call bounds what is left of it, which ends with the call; not only at the deadline, minutes later."""
    made = debugged()
    made.client.close()  # one is served at a time

    def timers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)}

    before = timers()  # the tests' own
    for _ in range(4):
        client = Client(made.address)
        client.begin("node.py", 3)
        call = made.call(1)
        client.place()
        client("disconnect")
        assert result(call) == 0
        client.close()
        assert timers() <= before
    assert sum(thread.name == "cloche-debug" for thread in threading.enumerate()) <= 2


def test_leaving_the_block_lets_a_stopped_call_go(load: Callable[..., cloche.Node]) -> None:
    """The call is another thread's, and its user may have left the editor open."""
    node = load(PROGRAM)
    with ThreadPoolExecutor(1) as pool:
        with node.debug(port=0, wait=False) as debugging:
            assert debugging.address is not None
            client = Client(debugging.address)
            client.begin("node.py", 3)
            call = pool.submit(node.process, 3)
            client.place()
        assert result(call) == 5
    client.wait("terminated")
    client.close()


def test_afterwards_nothing_is_left(load: Callable[..., cloche.Node]) -> None:
    """Deadlines, grants and results are those of a node that was never debugged."""
    node = load(PROGRAM, limits=cloche.Limits(deadline_s=0.5))
    with node.debug(port=0, wait=False, breakpoints=["square"]):
        assert node.process(3) == 5
    assert node.process(3) == 5
    slow = load("def process(n):\n    while True: pass\n", limits=cloche.Limits(deadline_s=0.2))
    with slow.debug(port=0, wait=False):
        pass
    with pytest.raises(cloche.DeadlineError):
        slow.process(1)
    tools = "import sys\ndef process(n):\n    return [sys.monitoring.get_tool(i) for i in range(6)]\n"
    other = load(tools)
    with other.debug(port=0, wait=False):
        other.process(1)
    assert other.process(1) == [None] * 6
