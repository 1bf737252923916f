"""Services that are ``async def``: on the event loop that awaits the node, or else on one of their own; cancelled, not left behind."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
import sniffio

import cloche
from cloche import Grants, Limits, Service

CALLER = "from cloche_guest import services\ndef f(name, *args): return getattr(services, name)(*args)"


async def where():
    """Name of the library that runs it, and the thread."""
    await anyio.sleep(0)
    return sniffio.current_async_library(), threading.get_ident()


def make(load, **services):
    return load(CALLER, grants=Grants(services=services))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Both."""
    return request.param


def test_a_plain_call_runs_it_on_a_loop_of_its_own(load):
    """The same loop each time, so that what belongs to a loop (connections) can be kept."""
    seen = []

    async def loop():
        seen.append(asyncio.get_running_loop())
        return await where()

    node = make(load, loop=loop)
    name, thread = node.process("loop")
    node.process("loop")
    assert name == "asyncio" and thread != threading.get_ident()
    assert seen[0] is seen[1]


@pytest.mark.anyio
async def test_it_runs_on_the_loop_that_awaits_the_node(load, anyio_backend):
    """In the same thread as the rest of the program."""
    node = make(load, where=where)
    assert await node.aprocess("where") == (anyio_backend, threading.get_ident())
    assert [x async for x in node.astream(["where"])] == [(anyio_backend, threading.get_ident())]


@pytest.mark.anyio
async def test_a_plain_call_from_a_coroutine_does_not_wait_for_its_own_loop(load):
    """node.process blocks the loop, so the service cannot run on it."""
    node = make(load, where=where)
    name, thread = node.process("where")
    assert name == "asyncio" and thread != threading.get_ident()


def test_its_own_deadline_cancels_it(load):
    """A coroutine can be stopped, so nothing is left behind."""
    ended = threading.Event()

    async def slow():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    node = make(load, slow=Service(slow, deadline_s=1.0))
    with pytest.raises(cloche.NodeRaisedError, match=r"longer than 1 s") as caught:
        node.process("slow")
    assert caught.value.exc_type == "TimeoutError"
    assert ended.wait(60)


@pytest.mark.anyio
async def test_its_own_deadline_cancels_it_on_the_callers_loop(load):
    """The same under asyncio and trio."""
    ended = anyio.Event()

    async def slow():
        try:
            await anyio.sleep(60)
        finally:
            ended.set()

    node = make(load, slow=Service(slow, deadline_s=1.0), where=where)
    with pytest.raises(cloche.NodeRaisedError, match="longer"):
        await node.aprocess("slow")
    with anyio.fail_after(60):
        await ended.wait()
    assert (await node.aprocess("where"))[1] == threading.get_ident()


@pytest.mark.sampled
@pytest.mark.parametrize("awaited", [False, True], ids=["plain", "awaited"])
def test_the_calls_deadline_cancels_it(load, awaited):
    """Without one of its own."""
    ended = threading.Event()

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    node = load(CALLER, grants=Grants(services={"slow": slow}), limits=Limits(deadline_s=1.0))
    with pytest.raises(cloche.DeadlineError):
        asyncio.run(node.aprocess("slow")) if awaited else node.process("slow")
    assert ended.wait(60)


@pytest.mark.anyio
async def test_cancelling_the_caller_cancels_it(load):
    """And interrupts the node, as it does while the node itself runs; the node stays usable."""
    started, ended = anyio.Event(), anyio.Event()

    async def slow():
        started.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.set()

    node = make(load, slow=slow, where=where)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(node.aprocess, "slow")
            await started.wait()
            group.cancel_scope.cancel()
        await ended.wait()
    assert not node.broken
    assert (await node.aprocess("where"))[1] == threading.get_ident()


@pytest.mark.anyio
async def test_awaiting_its_own_node_is_an_error_and_not_a_deadlock(load, logs):
    """Other nodes can be awaited."""
    other = load("def f(x): return x + 1")

    async def back():
        return await node.aprocess("where")

    async def through(x):
        return await other.aprocess(x)

    node = make(load, back=back, through=through, where=where)
    assert await node.aprocess("through", 1) == 2
    with anyio.fail_after(60):
        with pytest.raises(cloche.NodeRaisedError):
            await node.aprocess("back")
    (entry,) = [event for event in logs.take() if event[0] == "error"]
    assert "called from inside its own call" in str(entry[2]["exc_info"])


@pytest.mark.anyio
async def test_a_task_that_a_service_started_may_call_the_node_later(load):
    """It was inside the call; it is not any more."""
    results = []
    node = None

    async with anyio.create_task_group() as group:

        async def later():
            await anyio.sleep(0.05)
            while not results:
                try:
                    results.append(await node.aprocess("where"))
                except cloche.ClocheError:
                    await anyio.sleep(0.05)

        async def start():
            group.start_soon(later)

        node = make(load, start=start, where=where)
        await node.aprocess("start")
    assert results[0][1] == threading.get_ident()


def test_exceptions_and_results_are_those_of_plain_services(load, logs):
    """The same rules."""

    async def fail():
        raise KeyError("secret")

    node = make(load, fail=fail)
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("fail")
    assert caught.value.exc_type == "KeyError" and "secret" not in caught.value.message


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("awaited", [False, True], ids=["plain", "awaited"])
def test_a_service_that_exits_ends_its_call_and_no_event_loop(load, kind, awaited):
    """Neither the caller's nor that of all asynchronous services of the process."""

    async def leave():
        raise kind(3)

    async def main():
        node = make(load, leave=leave, where=where)
        with pytest.raises(kind):
            await node.aprocess("leave")
        assert (await make(load, where=where).aprocess("where"))[0] == "asyncio"

    node = make(load, leave=leave, where=where)
    if awaited:
        asyncio.run(main())
    else:
        with pytest.raises(kind):
            node.process("leave")
    assert make(load, where=where).process("where")[0] == "asyncio"
