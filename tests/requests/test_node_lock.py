"""The lock of a node, without a node: who holds it, who may wait for it, and that no interrupt leaves it held."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from cloche._requests import node_lock
from cloche._requests.node_lock import NodeLock, exclusive, hold, is_inside, is_nested, run_inside
from cloche.errors import ClocheError
from tests.injection import inject, within


class Hit(BaseException):
    """Injected."""


class Owner:
    """What has a lock."""

    def __init__(self, lock) -> None:
        self.lock = lock

    @exclusive
    def method(self, value):
        """Give it back."""
        return value

    @exclusive
    def fail(self):
        """Never any other."""
        raise LookupError


def interrupted_at(position, function, *arguments):
    """Call `function`, raising Hit before that bytecode of `node_lock` or of this file; whether it came so far."""
    injected = inject(lambda: function(*arguments), position + 1, Hit(), within(node_lock.__file__, __file__))
    assert injected.error is None or isinstance(injected.error, Hit), injected
    return bool(injected.place)


def from_elsewhere(function, *arguments, context=None):
    """What a function gives or raises on another thread."""
    with ThreadPoolExecutor(1) as pool:
        call = function if context is None else lambda *given: context.run(function, *given)
        return pool.submit(call, *arguments).result(60)


def is_free(lock):
    return from_elsewhere(lambda: lock.acquire(False) and (lock.release(), True)[1])


def raising():
    raise LookupError


def tolerant(function, *arguments):
    try:
        function(*arguments)
    except LookupError:
        pass


LOCK_USES = {
    "run": lambda lock: lock.run(lambda: None),
    "raising": lambda lock: tolerant(lock.run, raising),
    "method": lambda lock: Owner(lock).method(1),
    "raising method": lambda lock: tolerant(Owner(lock).fail),
    "nested": lambda lock: lock.run(lock.run, lambda: None),
    "inside": lambda lock: lock.run(run_inside, lock, None, lambda: None),
}


@pytest.mark.parametrize("use", LOCK_USES.values(), ids=LOCK_USES)
def test_an_exception_at_any_bytecode_leaves_nothing_held(use):
    """Ctrl-C, a signal's handler: neither the lock nor the mark of being inside a call stays."""
    position = 0
    while True:
        lock = NodeLock("a")
        came_so_far = interrupted_at(position, use, lock)
        assert not lock.owned() and is_free(lock), f"held after an exception at bytecode {position}"
        assert lock.inside is None and not is_nested()
        if not came_so_far:
            break
        position += 1
    assert position > 20


def test_an_exception_at_any_bytecode_of_a_wait_leaves_nothing_behind():
    """Also while another thread holds the lock, inside another node's call."""
    outer = NodeLock("outer")
    position = 0
    while True:
        lock = NodeLock("a")
        held, let_go = threading.Event(), threading.Event()
        holder = threading.Thread(target=lock.run, args=(lambda held=held, go=let_go: (held.set(), go.wait(60)),))
        holder.start()
        assert held.wait(60)
        releaser = threading.Timer(0.0, let_go.set)

        def waits(lock=lock, releaser=releaser):
            releaser.start()
            lock.run(lambda: None)

        came_so_far = interrupted_at(position, outer.run, run_inside, outer, None, waits)
        let_go.set()
        holder.join()
        assert not lock.owned() and is_free(lock) and is_free(outer), f"held after bytecode {position}"
        assert not node_lock._waiters
        if not came_so_far:
            break
        position += 1
    assert position > 50


@pytest.mark.parametrize("function", [lambda: None, raising], ids=["returning", "raising"])
def test_an_exception_at_any_bytecode_leaves_a_plain_lock_free(function):
    """`hold`, for locks that are held briefly."""
    position = 0
    while True:
        lock = threading.RLock()
        came_so_far = interrupted_at(position, tolerant, hold, lock, function)
        assert not lock._is_owned() and is_free_plain(lock)
        if not came_so_far:
            break
        position += 1
    assert position > 10


def is_free_plain(lock):
    return from_elsewhere(lambda: lock.acquire(False) and (lock.release(), True)[1])


def test_it_is_reentrant_on_its_thread():
    """The methods of a node call each other."""
    owner = Owner(NodeLock("a"))
    assert owner.lock.run(owner.method, 3) == 3
    assert Owner.method.__doc__ == "Give it back."
    assert is_free(owner.lock)


def test_one_thread_at_a_time():
    """What a lock is for."""
    lock, inside, most = NodeLock("a"), 0, 0

    def enter():
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        inside -= 1

    def many():
        for _ in range(200):
            lock.run(enter)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and is_free(lock)


def test_a_copy_of_the_context_is_refused_and_not_kept_waiting():
    """A service on another thread, in a task, in a thread that was given the context."""
    lock = NodeLock("a")

    def service():
        return from_elsewhere(lock.run, lambda: None, context=copy_context())

    with pytest.raises(ClocheError, match="^node 'a' was called from inside its own call$"):
        lock.run(run_inside, lock, None, service)


def test_a_context_that_outlives_the_call_is_none_of_its_own():
    """A task that a service has started calls the node later."""
    lock = NodeLock("a")
    context = lock.run(run_inside, lock, None, copy_context)
    assert from_elsewhere(lock.run, lambda: 5, context=context) == 5
    assert not context.run(is_inside, [lock])


def test_a_stranger_waits():
    """Code that has nothing to do with the call under way."""
    lock = NodeLock("a")
    started, done = threading.Event(), []

    def stranger():
        started.set()
        done.append(lock.run(lambda: 5))

    def service():
        thread.start()
        assert started.wait(60)
        assert not done

    thread = threading.Thread(target=stranger)
    lock.run(run_inside, lock, time.monotonic() + 60, service)
    thread.join()
    assert done == [5]


def test_a_stranger_that_a_late_service_may_wait_for_is_refused(monkeypatch):
    """A thread pool that the service has started carries no context: the deadline decides."""
    monkeypatch.setattr(node_lock, "LATE_S", 0.0)
    lock = NodeLock("a")

    def service():
        return from_elsewhere(lock.run, lambda: None)

    with pytest.raises(
        ClocheError, match=r"^node 'a' is in a service .* s after its call's deadline: it may wait for this very call$"
    ):
        lock.run(run_inside, lock, time.monotonic(), service)
    assert is_free(lock)


def test_a_wait_that_is_given_up_ends():
    """`aprocess` was cancelled while it waited."""
    lock = NodeLock("a")

    def service():
        return from_elsewhere(lock.run_unless, lambda: True, lambda: None)

    with pytest.raises(ClocheError, match="^the call on node 'a' was given up before it began$"):
        lock.run(service)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_nodes_that_wait_for_each_other_are_told_the_circle(count):
    """Exactly one of the calls is refused; the others go on."""
    locks = [NodeLock(chr(ord("a") + index)) for index in range(count)]
    all_held = threading.Barrier(count)
    errors, results = [], []

    def call(index):
        def service():
            all_held.wait(60)
            return locks[(index + 1) % count].run(lambda: index)

        try:
            results.append(locks[index].run(run_inside, locks[index], None, service))
        except ClocheError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=call, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    (error,) = errors
    assert len(results) == count - 1
    names = error.split(":")[0].split("'")[1::2]
    assert len(names) == count + 1 and names[0] == names[-1] and set(names) == {lock.name for lock in locks}
    assert error.endswith("nodes that call each other would wait for ever")
    if count == 2:
        first, second = names[:2]
        assert error.startswith(f"node {first!r} waits for {second!r}, which waits for {first!r}:")
    assert all(map(is_free, locks)) and not node_lock._waiters


def test_a_circle_through_an_inner_call_is_found():
    """a calls b, whose service wants c; c's service wants a."""
    a, b, c = NodeLock("a"), NodeLock("b"), NodeLock("c")
    both = threading.Barrier(2)
    errors = []

    def wants(outer, lock):
        both.wait(60)
        try:
            lock.run(lambda: None)
        except ClocheError as error:
            errors.append(str(error))

    def first():
        a.run(run_inside, a, None, lambda: b.run(run_inside, b, None, wants, b, c))

    def second():
        c.run(run_inside, c, None, wants, c, a)

    threads = [threading.Thread(target=target, daemon=True) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and len(errors) == 1
    assert all(map(is_free, (a, b, c)))


def test_waiting_for_a_node_that_waits_for_nobody_is_no_circle():
    """b is merely busy."""
    a, b = NodeLock("a"), NodeLock("b")
    held, go = threading.Event(), threading.Event()
    holder = threading.Thread(target=b.run, args=(lambda: (held.set(), go.wait(60)),))
    holder.start()
    assert held.wait(60)

    def service():
        threading.Timer(0.0, go.set).start()
        return b.run(lambda: 7)

    assert a.run(run_inside, a, None, service) == 7
    holder.join()


def in_child(function):
    """The exit code of a child of a fork that calls a function: 0 if it gives True."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def refused(lock):
    try:
        lock.run(lambda: None)
    except ClocheError as error:
        return str(error).startswith("node 'a' was in a call of the parent process when this process was forked: ")
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_lock_that_another_thread_held_at_a_fork_is_refused_at_once():
    """Its holder does not exist in the child."""
    lock, held, go = NodeLock("a"), threading.Event(), threading.Event()
    holder = threading.Thread(target=lock.run, args=(lambda: (held.set(), go.wait(60)),))
    holder.start()
    try:
        assert held.wait(60)
        assert in_child(lambda: refused(lock) and lock.is_lost and from_elsewhere(refused, lock)) == 0
    finally:
        go.set()
        holder.join()
    assert is_free(lock) and not lock.is_lost


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_lock_that_nobody_or_the_forking_thread_held_is_usable_in_the_child():
    """A service may fork; a program may fork between two calls."""
    lock = NodeLock("a")
    assert in_child(lambda: lock.run(lambda: 3) == 3 and is_free(lock)) == 0
    assert in_child(lambda: not lock.run(in_child, lambda: lock.run(lambda: 3) == 3)) == 0
    assert is_free(lock)
