"""The Debug Adapter Protocol, as an editor sees it: a real client, over a socket, at a node in the real image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import cloche
from tests.debug.client import Client, Refusal
from tests.debug.conftest import Debugged, result

Make = Callable[..., Debugged]


def test_a_breakpoint_stops_the_node_and_shows_it(debugged: Make) -> None:
    """Stack, scopes, variables, watches; and the result is what it would have been."""
    made = debugged()
    client = made.client
    (point,) = client.begin("/srv/someone/nodes/node.py", 3)
    assert (point["verified"], point["line"]) == (True, 3)
    call = made.call(3)
    stopped = client.wait("stopped")
    assert (stopped["reason"], stopped["hitBreakpointIds"]) == ("breakpoint", [point["id"]])
    frames = client("stackTrace", threadId=1)["stackFrames"]
    assert [(frame["name"], frame["line"]) for frame in frames] == [("square", 3), ("Sums.process", 13)]
    assert frames[0]["source"] == {"name": "node.py", "path": "/srv/someone/nodes/node.py"}
    assert client.variables() == {"i": "0"}
    assert client("evaluate", expression="n + 1", frameId=2, context="watch")["result"] == "4"
    scopes = client("scopes", frameId=2)["scopes"]
    rows = client("variables", variablesReference=scopes[0]["variablesReference"])["variables"]
    self_row = next(row for row in rows if row["name"] == "self")
    assert client.variables(self_row["variablesReference"]) == {"seen": "[]"}
    assert client.go("continue") == ("square", 3)
    client("setBreakpoints", source={"path": "/srv/someone/nodes/node.py"}, breakpoints=[])
    client("continue", threadId=1)
    assert result(call) == 5
    assert made.node.get("seen") == [5]


def test_steps(debugged: Make) -> None:
    """Over a call, into it, out of it."""
    made = debugged()
    client = made.client
    client.begin("node.py", 11)
    call = made.call(2)
    assert client.place() == ("Sums.process", 11)
    assert client.go("next") == ("Sums.process", 12)
    assert client.go("next") == ("Sums.process", 13)
    assert client.go("next") == ("Sums.process", 12)
    assert client.go("next") == ("Sums.process", 13)
    assert client.go("stepIn") == ("square", 3)
    assert client.go("stepIn") == ("square", 4)
    assert client.go("stepOut") == ("Sums.process", 12)
    assert client.go("next") == ("Sums.process", 14)
    client("continue", threadId=1)
    assert result(call) == 1


def test_conditions_hits_messages_and_functions(debugged: Make) -> None:
    """Everything that a breakpoint can have."""
    made = debugged()
    client = made.client
    points = client.begin(
        "node.py",
        {"line": 3, "condition": "i == 2"},
        {"line": 4, "hitCondition": ">= 4"},
        {"line": 14, "logMessage": "total is {total}, {'x' + 'y'}"},
        {"line": 12, "condition": "1 +"},
    )
    assert [point["verified"] for point in points] == [True, True, True, False]
    assert "invalid syntax" in points[3]["message"]
    client("setFunctionBreakpoints", breakpoints=[{"name": "Sums.process"}])
    call = made.call(5)
    assert client.wait("stopped")["reason"] == "function breakpoint"
    assert client.top() == ("Sums.process", 11)
    assert client.go("continue") == ("square", 3)
    assert client.variables() == {"i": "2"}
    assert client.go("continue") == ("square", 4)
    assert client.variables() == {"i": "3", "result": "9"}
    assert client.go("continue") == ("square", 4)
    client("continue", threadId=1)
    assert result(call) == 30
    assert client.wait("output") == {"category": "console", "output": "total is 30, xy\n"}


def test_a_breakpoint_that_is_set_while_the_node_runs(debugged: Make) -> None:
    """The running guest hears of it; and pausing needs no breakpoint."""
    made = debugged("def process(n):\n    go = True\n    while go:\n        n += 1\n    return 'ended'\n")
    client = made.client
    client.begin("node.py")
    call = made.call(0)
    with pytest.raises(Refusal, match="is running"):
        client("stackTrace", threadId=1)
    client("pause", threadId=1)
    assert client.wait("stopped")["reason"] == "pause"
    assert client.top()[0] == "process"
    client("continue", threadId=1)
    client("setBreakpoints", source={"path": "node.py"}, breakpoints=[{"line": 4}])
    assert client.place() == ("process", 4)
    assert client.evaluate("go = False") == "None"
    client("setBreakpoints", source={"path": "node.py"}, breakpoints=[])
    client("continue", threadId=1)
    assert result(call) == "ended"


def test_values_can_be_changed(debugged: Make) -> None:
    """By statements, and in the view of variables."""
    made = debugged()
    client = made.client
    client.begin("node.py", 14)
    call = made.call(3)
    client.place()
    assert client.evaluate("total += 100") == "None"
    reference = client("scopes", frameId=1)["scopes"][0]["variablesReference"]
    assert client.variables()["total"] == "105"
    assert client("setVariable", variablesReference=reference, name="total", value="total * 2")["value"] == "210"
    assert client.evaluate("self.seen.extend([1, 2])") == "None"
    assert client.evaluate("[total + n for _ in range(2)]") == "[213, 213]"
    targets = client("completions", text="self.see", column=9, frameId=1)["targets"]
    assert targets == [{"label": "seen"}]
    with pytest.raises(Refusal, match="NameError"):
        client.evaluate("nothing")
    client("continue", threadId=1)
    assert result(call) == 210
    assert made.node.get("seen") == [1, 2, 210]


FAILING = """\
def inner(n):
    return 1 / n
def process(n):
    try:
        inner(n)
    except ZeroDivisionError:
        pass
    here = "kept"
    return {}[n]
"""


@pytest.mark.parametrize("filters", [["raised"], ["uncaught"], ["raised", "uncaught"], []], ids=",".join)
def test_exceptions(debugged: Make, filters: list[str]) -> None:
    """Where they are raised, once each; and where they leave the node, with the variables of the frames that they have left."""
    made = debugged(FAILING)
    client = made.client
    client.begin("node.py")
    client("setExceptionBreakpoints", filters=filters)
    call = made.call(0)
    if "raised" in filters:
        stopped = client.wait("stopped")
        assert (stopped["reason"], stopped["text"]) == ("exception", "ZeroDivisionError: division by zero")
        assert client.top() == ("inner", 2)
        assert client("exceptionInfo", threadId=1)["breakMode"] == "always"
        assert client.go("continue") == ("process", 9)
        client("continue", threadId=1)
    if "uncaught" in filters:
        stopped = client.wait("stopped")
        assert stopped["text"] == "KeyError: 0"
        info = client("exceptionInfo", threadId=1)
        assert (info["exceptionId"], info["breakMode"]) == ("KeyError", "unhandled")
        assert client.variables()["here"] == "'kept'"
        client("continue", threadId=1)
    with pytest.raises(cloche.NodeRaisedError, match="KeyError"):
        result(call)


def test_sources_of_the_node_are_sent_to_an_editor_that_has_none(debugged: Make) -> None:
    """A node that was loaded from text has no file; its own text is what the editor shows."""
    made = debugged(debug={"breakpoints": ["square"]})
    client = made.client
    client("initialize", adapterID="test")
    client("attach")
    client("configurationDone")
    call = made.call(1)
    client.wait("stopped")
    source = client("stackTrace", threadId=1)["stackFrames"][0]["source"]
    text = client("source", sourceReference=source["sourceReference"], source=source)["content"]
    assert text.splitlines()[2] == "    result = i * i"
    found = client("setBreakpoints", source=source, breakpoints=[{"line": 4}])["breakpoints"]
    assert (found[0]["verified"], found[0]["line"]) == (True, 4)
    assert client.go("continue") == ("square", 4)
    client("setFunctionBreakpoints", breakpoints=[])
    client("disconnect")
    assert result(call) == 0


def test_generators_coroutines_and_streams(debugged: Make) -> None:
    """A step over the end of an output goes on in the next one; a step over an await waits for it."""
    program = (
        "import asyncio\n"
        "async def later(x):\n"
        "    await asyncio.sleep(0)\n"
        "    return x\n"
        "class Node:\n"
        "    async def process(self, x):\n"
        "        first = await later(x)\n"
        "        second = await later(x)\n"
        "        yield first\n"
        "        yield second\n"
    )
    made = debugged(program)
    client = made.client
    client.begin("node.py", 7)
    call = made._pool.submit(lambda: list(made.node.stream([1])))
    assert client.place() == ("Node.process", 7)
    assert client.go("next") == ("Node.process", 8)
    assert client.go("next") == ("Node.process", 9)
    assert client.go("next") == ("Node.process", 10)
    client("continue", threadId=1)
    assert result(call) == [1, 1]


def test_going_back(debugged: Make) -> None:
    """Backwards by lines and to breakpoints; forwards to the present; and what the user changed is changed again."""
    made = debugged(grants=cloche.Grants(seed=7, clock=cloche.Clock("virtual")))
    client = made.client
    client.begin("node.py", 4)
    call = made.call(4)
    assert client.place() == ("square", 4)
    client.evaluate("result += 1000")
    assert client.go("continue") == ("square", 4)
    assert client.go("continue") == ("square", 4)
    assert client.variables() == {"i": "2", "result": "4"}
    assert client.go("stepBack") == ("square", 3)
    assert client.variables() == {"i": "2"}
    assert client.go("stepBack") == ("Sums.process", 13)
    assert client.variables()["total"] == "1001"
    assert client.go("stepBack") == ("Sums.process", 12)
    assert client.go("reverseContinue") == ("square", 4)
    assert client.variables() == {"i": "1", "result": "1"}
    assert client.go("reverseContinue") == ("square", 4)
    assert client.variables()["i"] == "0"
    assert client.go("continue") == ("square", 4)
    assert client.variables()["i"] == "1"
    client("setBreakpoints", source={"path": "node.py"}, breakpoints=[])
    client("continue", threadId=1)
    assert result(call) == 1014
    assert made.node.get("seen") == [1014]


def test_services_are_not_called_again_in_the_past(debugged: Make) -> None:
    """A second run gets the answers of the first one."""
    asked: list[int] = []

    def price(item: int) -> int:
        asked.append(item)
        return 10 * item + len(asked)

    program = (
        "from cloche_guest import services\n"
        "def process(n):\n"
        "    total = 0\n"
        "    for i in range(n):\n"
        "        total += services.price(i)\n"
        "    return total\n"
    )
    made = debugged(program, grants=cloche.Grants(services={"price": price}))
    client = made.client
    client.begin("node.py", 6)
    call = made.call(3)
    assert client.place() == ("process", 6)
    assert client.go("stepBack") == ("process", 4)
    assert client.go("stepBack") == ("process", 5)
    assert client.variables()["total"] == str(1 + 12)
    assert client.go("next") == ("process", 4)
    assert client.variables()["total"] == str(1 + 12 + 23)
    client("disconnect")
    assert result(call) == 1 + 12 + 23
    assert asked == [0, 1, 2]


def test_what_cannot_be_gone_back_to_is_said(debugged: Make) -> None:
    """The first line; and a moment at which the node was paused, which no second run finds."""
    made = debugged("def process(n):\n    while n:\n        pass\n    return n\n")
    client = made.client
    client.begin("node.py", 2)
    call = made.call(1)
    client.place()
    client("stepBack", threadId=1)
    assert client.place() == ("process", 2)
    assert "first line" in client.wait("output")["output"]
    client("setBreakpoints", source={"path": "node.py"}, breakpoints=[])
    client("continue", threadId=1)
    client("pause", threadId=1)
    client.place()
    client("stepBack", threadId=1)
    client.place()
    assert "paused in this call" in client.wait("output")["output"]
    client("terminate")
    with pytest.raises(cloche.CallInterruptedError):
        result(call)


def test_a_second_client_after_the_first(debugged: Make) -> None:
    """When a client has gone, the node goes on, and another one can connect."""
    made = debugged()
    made.client.begin("node.py", 3)
    call = made.call(1)
    made.client.place()
    made.client.close()
    assert result(call) == 0
    second = Client(made.address)
    second.begin("node.py", 3)
    call = made.call(1)
    assert second.place() == ("square", 3)
    second("disconnect")
    assert result(call) == 0
    second.close()


def test_a_node_is_debugged_once(debugged: Make, load: Callable[..., Any]) -> None:
    made = debugged()
    with pytest.raises(cloche.ClocheError, match="being debugged already"), made.node.debug(port=0, wait=False):
        pass
