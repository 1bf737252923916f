"""Where services run that must not hold up their node: shares, what a service may do to an event loop, threads that end."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from cloche._requests import service_threads
from cloche._requests.service_threads import MAX_ABANDONED, AbandonedCalls, Busy, ServiceThreads


@pytest.fixture
def threads():
    """Not the process's own."""
    return ServiceThreads()


def value(future):
    """What a future gives, without the wrapping of a coroutine's result."""
    result = future.result(60)
    return result.value if isinstance(result, service_threads.Outcome) else result


def wait_until_ended(threads):
    """Until all functions have."""
    while threads._jobs:
        pass


def abandon_some(threads, abandoned, count, release):
    """Abandon functions that have begun, so that they can't be cancelled any more."""
    for _ in range(count):
        started = threading.Event()
        future = threads.submit(abandoned, lambda started=started: (started.set(), release.wait(60)))
        assert started.wait(60)
        threads.abandon(abandoned, future)


@pytest.fixture
def release():
    """Set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_what_one_node_abandons_refuses_no_other(threads, release):
    """Each node has a count of its own."""
    greedy, modest = AbandonedCalls(), AbandonedCalls()
    abandon_some(threads, greedy, MAX_ABANDONED, release)
    for submit in (threads.submit, threads.submit_async):
        with pytest.raises(Busy, match="^16 earlier calls of services have not ended yet$"):
            submit(greedy, lambda: 1)
    assert threads.submit(modest, lambda: 5).result(60) == 5
    release.set()
    wait_until_ended(threads)
    assert (greedy.count, threads._abandoned) == (0, 0)
    assert threads.submit(greedy, lambda: 6).result(60) == 6


def test_the_sum_of_all_is_bounded(threads, release, monkeypatch):
    """When it is full a node may have one, and at the very end none."""
    monkeypatch.setattr(service_threads, "_FULL", 4)
    monkeypatch.setattr(service_threads, "_MOST", 6)
    first, *others = (AbandonedCalls() for _ in range(4))
    abandon_some(threads, first, 4, release)
    with pytest.raises(Busy):
        threads.submit(first, int)
    for abandoned in others[:2]:
        abandon_some(threads, abandoned, 1, release)
        with pytest.raises(Busy):
            threads.submit(abandoned, int)
    with pytest.raises(Busy, match="^6 earlier"):
        threads.submit(others[2], int)
    release.set()
    wait_until_ended(threads)
    assert threads.submit(others[2], int).result(60) == 0


def test_an_abandoned_coroutine_that_ignores_being_cancelled_counts_until_it_ends(threads):
    """Cancelling its future is not the end of it."""
    abandoned, started, go = AbandonedCalls(), threading.Event(), threading.Event()

    async def stubborn():
        started.set()
        while not go.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass

    future = threads.submit_async(abandoned, stubborn)
    assert started.wait(60)
    threads.abandon(abandoned, future)
    assert future.cancelled() and abandoned.count == 1
    go.set()
    wait_until_ended(threads)
    assert abandoned.count == 0


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException], ids=lambda kind: kind.__name__
)
def test_no_exception_of_a_service_ends_the_loop(threads, kind):
    """It reaches the caller, and the next service runs on the same loop."""

    async def raises():
        raise kind("no")

    async def loop():
        return asyncio.get_running_loop()

    before = value(threads.submit_async(AbandonedCalls(), loop))
    future = threads.submit_async(AbandonedCalls(), raises)
    try:
        raised = future.result(60).error
    except BaseException as error:
        raised = error
    assert type(raised) is kind
    assert value(threads.submit_async(AbandonedCalls(), loop)) is before


@pytest.mark.parametrize("what", ["stop", "task", "callback"])
def test_nothing_that_a_service_does_to_the_loop_ends_it(threads, what):
    """Stopping it, or a task or callback of its own that exits."""
    tasks = []

    async def exits():
        raise SystemExit

    async def harms():
        loop = asyncio.get_running_loop()
        if what == "stop":
            loop.stop()
        elif what == "task":
            tasks.append(asyncio.create_task(exits()))
        else:
            loop.call_soon(sys.exit)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 5

    async def fine():
        return 6

    assert value(threads.submit_async(AbandonedCalls(), harms)) == 5
    assert value(threads.submit_async(AbandonedCalls(), fine)) == 6
    assert all(type(task.exception()) is SystemExit for task in tasks)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt], ids=lambda kind: kind.__name__)
def test_a_thread_survives_what_its_function_raises(threads, kind):
    """It is the caller's."""

    def raises():
        raise kind("no")

    with pytest.raises(kind):
        threads.submit(AbandonedCalls(), raises).result(60)
    assert threads.submit(AbandonedCalls(), threading.get_ident).result(60) == threads.submit(
        AbandonedCalls(), threading.get_ident
    ).result(60)


def test_what_is_abandoned_before_it_began_is_never_run(threads):
    """Its caller is gone."""
    abandoned, ran = AbandonedCalls(), []
    job = service_threads._Job(lambda: ran.append(1))
    threads.abandon(abandoned, job.future)
    assert job.future.cancelled()
    queue = threads._start()
    queue.put(job)
    wait_until_ended(threads)
    while not threads._idle:
        pass
    assert not ran


def test_no_thread_is_a_refusal(threads, monkeypatch):
    """The process has too many: the node is told that the service is not available."""

    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    for submit in (threads.submit, threads.submit_async):
        with pytest.raises(Busy, match="can't start new thread"):
            submit(AbandonedCalls(), int)
    monkeypatch.undo()
    assert threads.submit(AbandonedCalls(), int).result(60) == 0


def test_an_interrupted_submit_leaves_no_job_behind(threads, monkeypatch):
    """Ctrl-C after the job has been handed out: nobody waits for it, so it is not run if it has not begun."""
    jobs = []

    def interrupted(job):
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "_hand_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.submit(AbandonedCalls(), int)
    assert jobs[0].future.cancelled()
    monkeypatch.undo()
    assert threads.submit(AbandonedCalls(), int).result(60) == 0
