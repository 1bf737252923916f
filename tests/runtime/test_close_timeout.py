"""`close(timeout=)` of nodes, pools and runtimes; and nodes that are still open at the interpreter's exit."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import cloche
from cloche import Grants, Limits, Source

LIMITS = Limits(deadline_s=None, grace_s=60, load_s=None)
NODE = Source("""
from cloche_guest import services

class N:
    def process(self, kind):
        if kind == "service": return services.wait()
        while kind == "spin": pass
        return kind
    def cleanup(self):
        services.cleaned()
""")
ENDLESS_CLEANUP = Source("""
class N:
    def process(self, kind):
        while kind == "spin": pass
        return kind
    def cleanup(self):
        while True: pass
""")


class Host:
    """The services of the nodes here."""

    def __init__(self) -> None:
        self.cleaned = 0
        self.go = threading.Event()
        self.waiting = threading.Event()
        self.grants = Grants(services={"cleaned": self.clean, "wait": self.wait})

    def clean(self) -> None:
        self.cleaned += 1

    def wait(self) -> None:
        self.waiting.set()
        self.go.wait(60)


@pytest.fixture
def host() -> Iterator[Host]:
    """At the end its services return."""
    made = Host()
    yield made
    made.go.set()


@pytest.fixture
def own(isolation, logs) -> Iterator[cloche.Runtime]:
    """A runtime for the test alone."""
    made = cloche.Runtime(isolation=isolation, logger=logs, limits=LIMITS)
    yield made
    made.close(0)


@contextmanager
def calling(*calls: Callable[[], Any]) -> Iterator[list[str]]:
    """Makes the calls on threads of their own; the names of what they raise, or what they return."""
    outcomes: list[str] = []

    def work(call: Callable[[], Any]) -> None:
        try:
            outcomes.append(str(call()))
        except BaseException as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    yield outcomes
    for thread in threads:
        thread.join(60)


def is_running(node: cloche.Node) -> None:
    """Wait until the node is in a call."""
    while not node.where():
        pass


@pytest.mark.parametrize("kind", ["none", "restart"])
def test_a_call_under_way_is_interrupted_and_the_node_cleaned_up(own, host, kind):
    """The call raises, and the cleanup has its time."""
    node = own.load(NODE, grants=host.grants, on_break="raise" if kind == "none" else kind)
    with calling(lambda: node.process("spin")) as outcomes:
        is_running(node)
        node.close(timeout=0.05)
    assert outcomes == ["CallInterruptedError"]
    assert host.cleaned == 1
    assert node.__cloche__.sandbox.closed and not node.broken
    node.close(timeout=0)
    assert host.cleaned == 1


def test_at_rest_a_timeout_changes_nothing(own, host):
    """The cleanup runs, and has the deadline of the limits."""
    node = own.load(NODE, grants=host.grants)
    node.close(timeout=0)
    assert host.cleaned == 1


def test_calls_that_wait_for_their_turn_are_refused(own, host):
    """They would keep the node for long."""
    node = own.load(NODE, grants=host.grants)
    with calling(*[lambda: node.process("spin")] * 4) as outcomes:
        is_running(node)
        node.close(timeout=0.05)
    assert sorted(set(outcomes)) in (["CallInterruptedError", "ClosedError"], ["CallInterruptedError"])
    assert host.cleaned == 1


def test_a_call_that_ends_in_time_is_not_interrupted(own, host):
    """Its result counts."""
    node = own.load(NODE, grants=host.grants)
    with calling(lambda: node.process("service")) as outcomes:
        host.waiting.wait(60)
        host.go.set()
        node.close(timeout=60)
    assert outcomes == ["None"]
    assert host.cleaned == 1


def test_a_cleanup_is_bounded(own):
    """By what is left of the timeout, and a second."""
    node = own.load(ENDLESS_CLEANUP)
    with pytest.raises(cloche.DeadlineError):
        node.close(timeout=0)
    assert node.__cloche__.sandbox.closed


def test_a_service_that_does_not_return_is_not_waited_for(own, host, monkeypatch):
    """It cannot be stopped. The node takes no calls, and can be closed once it has returned."""
    monkeypatch.setattr("cloche._runtime.calls.LATE_S", 0.05)
    node = own.load(NODE, grants=host.grants, limits=Limits(deadline_s=None, grace_s=0.05))
    with calling(lambda: node.process("service")) as outcomes:
        host.waiting.wait(60)
        with pytest.raises(
            cloche.ClocheError, match="in a service or another function of the host that does not return"
        ):
            node.close(timeout=0.05)
        with pytest.raises(cloche.ClosedError):
            node.process("x")
        host.go.set()
    assert outcomes == ["HardInterruptedError"]
    node.close()


def test_closing_from_inside_the_node_s_own_service_is_refused(own):
    """With a timeout too: it would interrupt itself."""
    errors = []

    def stop() -> None:
        for act in (node.close, own.close):
            try:
                act(timeout=0)
            except cloche.ClocheError as error:
                errors.append(str(error))

    source = Source("from cloche_guest import services\ndef f(x):\n    services.stop()\n    return x\n")
    node = own.load(source, name="own", grants=Grants(services={"stop": stop}))
    assert node.process(1) == 1
    assert errors == [
        "node 'own' cannot be closed from inside its own call",
        "the runtime cannot be closed from inside a call of one of its own nodes",
    ]
    assert node.process(2) == 2


def test_a_runtime_interrupts_all_of_its_nodes(own, host):
    """The timeout is one for all of them."""
    nodes = [own.load(NODE, grants=host.grants) for _ in range(5)]
    with calling(*[lambda node=node: node.process("spin") for node in nodes]) as outcomes:
        for node in nodes:
            is_running(node)
        own.close(timeout=0.05)
    assert outcomes == ["CallInterruptedError"] * 5
    assert host.cleaned == 5


def test_cleanups_that_never_end_share_a_second(own):
    """Then they are left out, and their nodes named."""
    nodes = [own.load(ENDLESS_CLEANUP, name=f"n{number}") for number in range(20)]
    with pytest.raises(ExceptionGroup) as caught:
        own.close(timeout=0)
    kinds = [type(error) for error in caught.value.exceptions]
    assert len(kinds) == 20
    assert kinds.count(cloche.DeadlineError) < 5
    assert any("no time was left for the cleanup of node 'n" in str(error) for error in caught.value.exceptions)
    assert all(node.__cloche__.sandbox.closed for node in nodes)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_awaited(own, host, backend):
    """aclose(timeout) does not wait behind calls that are awaited, and `async with` closes."""

    async def main() -> None:
        node = own.load(NODE, grants=host.grants)
        outcomes = []

        async def call() -> None:
            try:
                await node.aprocess("spin")
            except cloche.ClocheError as error:
                outcomes.append(type(error).__name__)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
            while not node.where():
                await anyio.sleep(0)
            await node.aclose(timeout=0.05)
        assert sorted(outcomes) == ["CallInterruptedError", "ClosedError", "ClosedError"]
        async with own:
            other = own.load(NODE, grants=host.grants)
        assert other.__cloche__.closed

    anyio.run(main, backend=backend)
    assert host.cleaned == 2


def test_a_pool_cancels_what_waits_and_interrupts_what_runs(own, host):
    """Then its nodes are cleaned up."""
    pool = own.pool(NODE, size=2, grants=host.grants)
    futures = [pool.submit("spin") for _ in range(5)]
    while pool.stats.busy < 2:
        pass
    pool.close(timeout=0.05)
    kinds = [type(future.exception()).__name__ for future in futures[:2]]
    assert kinds == ["CallInterruptedError"] * 2
    assert all(future.cancelled() for future in futures[2:])
    assert host.cleaned == 2
    pool.close()


def test_a_pool_s_stuck_item_is_reported(own, host, monkeypatch):
    """Its node is closed by the next close."""
    monkeypatch.setattr("cloche._runtime.calls.LATE_S", 0.05)
    monkeypatch.setattr("cloche._runtime.pool_workers.LATE_S", 0.05)
    pool = own.pool(NODE, size=2, grants=host.grants, limits=Limits(deadline_s=None, grace_s=0.05))
    future = pool.submit("service")
    host.waiting.wait(60)
    with pytest.raises(ExceptionGroup) as caught:
        pool.close(timeout=0.05)
    assert "that does not return" in str(caught.value.exceptions[0])
    host.go.set()
    assert isinstance(future.exception(), cloche.HardInterruptedError)
    pool.close()


@pytest.mark.parametrize("bad", ["x", -1, float("nan")])
def test_a_timeout_is_checked(own, bad):
    """Before anything is closed."""
    node = own.load(NODE, grants=Host().grants)
    for act in (node.close, own.close):
        with pytest.raises((TypeError, ValueError), match="timeout is"):
            act(timeout=bad)
    assert node.process("x") == "x"
    node.close()


EXIT = """
import cloche, os, pathlib, sys
runtime = cloche.Runtime(isolation=sys.argv[1])
cleaned = lambda: print("cleaned", flush=True)
grants = cloche.Grants(services={"cleaned": cleaned, "wait": int})
node = runtime.load(cloche.Source(pathlib.Path(sys.argv[2]).read_text()), "N", grants=grants, name="left open")
kind = sys.argv[3]
if kind == "closed":
    node.close()
elif kind == "fork":
    pid = os.fork()
    if not pid:
        sys.exit()
    os.waitpid(pid, 0)
elif kind == "collected":
    node = None
elif kind == "thread":
    import threading
    threading.Thread(target=node.process, args=("spin",), daemon=True).start()
    while not node.where(): pass
"""


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", ["open", "closed", "fork", "collected", "thread"])
def test_at_the_interpreter_s_exit_open_nodes_are_cleaned_up(isolation, tmp_path, kind):
    """Once, not in a child, and with a warning that names the node."""
    (tmp_path / "node.py").write_text(NODE.text)
    (tmp_path / "main.py").write_text(EXIT)
    ran = subprocess.run(
        [sys.executable, "-W", "default", str(tmp_path / "main.py"), isolation, str(tmp_path / "node.py"), kind],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ},
    )
    assert ran.stdout == ("" if kind == "collected" else "cleaned\n"), ran.stderr
    warned = {
        "closed": "",
        "collected": "ResourceWarning: node 'left open' was not closed: its cleanup has not run",
    }.get(kind, "ResourceWarning: node 'left open' was not closed: its cleanup runs at the interpreter's exit")
    assert (warned in ran.stderr) if warned else ("ResourceWarning" not in ran.stderr)


def test_a_node_that_is_collected_unclosed_is_named_in_a_warning(own, host):
    """One without a cleanup has nothing to lose."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        node = own.load(NODE, grants=host.grants, name="lost")
        other = own.load(Source("def f(x): return x"))
        del node, other
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == [
        "node 'lost' was not closed: its cleanup has not run"
    ]
    asyncio.run(own.aclose(timeout=1))
