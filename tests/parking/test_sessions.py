"""`Sessions`: a node for each key, of which few are awake; and the stores that keep the others. What a store gives back is hostile."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche import Grants, _container
from cloche.parking import FolderStore, MappingStore, MemoryStore, Sessions, Store
from cloche.parking import sessions as implementation
from tests.injection import every, inject, within
from tests.limits import patient

NODE = """
import os, random
class N:
    def __init__(self):
        self.seen = []
    def process(self, x):
        self.seen.append(x)
        return list(self.seen)
    def draw(self):
        return random.random()
    def stop(self):
        os.abort()
"""
STREAM = """
class N:
    is_streaming = True
    async def process(self, items):
        total = 0
        async for item in items:
            total += item
            yield total
"""


@pytest.fixture
def sessions(load, runtime) -> Any:
    """Make sessions of a template, which are closed at the end of the test."""
    made: list[Sessions] = []

    def make(text: str = NODE, *, template: dict[str, Any] | None = None, **options: Any) -> Sessions:
        made.append(Sessions(runtime, load(text, **(template or {})), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def call(sessions: Sessions, key: str, value: Any) -> Any:
    with sessions.node(key) as node:
        return node.process(value)


class Failing(MappingStore):
    """A store whose disk is full as long as `is_full`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        super().__init__(self.kept)
        self.is_full = False

    def put(self, key: str, data: bytes) -> None:
        if self.is_full:
            raise OSError(28, os.strerror(28))
        super().put(key, data)


@pytest.mark.parametrize("kind", ["memory", "folder", "mapping", "overflow"])
def test_each_key_has_a_node_of_its_own_and_few_are_awake(sessions, tmp_path, kind):
    """Whatever keeps the others."""
    store: Any = {
        "memory": MemoryStore,
        "folder": lambda: FolderStore(tmp_path / "made"),
        "mapping": dict,
        "overflow": lambda: MemoryStore(20_000, overflow=FolderStore(tmp_path)),
    }[kind]()
    some = sessions(live=3, store=store)
    for turn in range(3):
        for number in range(7):
            assert call(some, f"user {number}", (number, turn)) == [(number, one) for one in range(turn + 1)]
            assert some.stats.awake <= 3
    assert (some.stats.begun, some.stats.woken, some.stats.in_use) == (7, 14, 0)
    assert "user 1" in some
    assert "user 7" not in some
    some.delete("user 1")
    assert "user 1" not in some
    assert call(some, "user 1", 0) == [0]


def test_a_folder_outlives_the_process_and_the_template(sessions, tmp_path):
    """The template is loaded anew in the next process, and is another one: sessions carry the one that they began with."""
    first = sessions(live=1, store=FolderStore(tmp_path), key=b"k")
    for name in ("a", "b", "a"):
        call(first, name, 1)
    first.close()
    second = sessions(NODE + "\nEXTRA = list(range(1000))\n", live=1, store=FolderStore(tmp_path), key=b"k")
    assert [len(call(second, name, 1)) for name in ("a", "b", "c", "a")] == [3, 2, 1, 4]


def test_differences_are_a_third_of_a_snapshot(sessions, load):
    """Otherwise the template would be stored a million times."""
    kept: dict[str, bytes] = {}
    some = sessions(store=kept)
    call(some, "a", "hello")
    some.park("a")
    node = load(NODE)
    node.process("hello")
    assert len(kept["session/a"]) < 0.5 * len(node.snapshot().to_bytes())
    assert sorted(name.split("/")[0] for name in kept) == ["session", "template"]


def test_blocks_of_one_key_wait_for_each_other_and_others_do_not(sessions):
    """Both threads have what the other one did."""
    some = sessions()
    inside, go, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with some.node("a") as node:
            inside.set()
            assert go.wait(120)
            node.process(1)
            order.append("first")

    def second() -> None:
        with some.node("a") as node:
            order.append("second")
            assert node.process(2) == [1, 2]

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(120)
    threads[1].start()
    with pytest.raises(cloche.PoolTimeoutError, match="was in use"), some.node("a", timeout_s=0):
        pass
    assert call(some, "b", 5) == [5]
    assert not some.park("a")
    go.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "second"]
    with some.node("a") as outer, some.node("a") as inner:
        assert inner.process(3) == [1, 2, 3]
        assert outer.process(4) == [1, 2, 3, 4]


def test_after_the_block_the_node_object_is_of_no_use(sessions, runtime):
    """The session may be somebody else's turn by then. An open stream waits for it."""
    some = sessions(STREAM, live=1)
    with some.node("a") as node:
        outputs = node.stream(iter([1, 2, 3]))
        assert [next(outputs), next(outputs)] == [1, 3]
        with pytest.raises(cloche.ClocheError, match="lent by a pool or a session"):
            runtime.park(node)
    with pytest.raises(cloche.ClosedError, match="the block of its session has ended"):
        next(outputs)
    del outputs
    some.park("a")
    with some.node("a") as node:
        assert list(node.resume([10])) == [13]


def test_many_threads_on_few_places_lose_nothing(sessions):
    """Each call that was answered is in its session's state at the end."""
    some = sessions(live=2)
    counts, lock = dict.fromkeys("abcde", 0), threading.Lock()

    def work(offset: int) -> None:
        for number in range(20):
            key = "abcde"[(number + offset) % 5]
            call(some, key, number)
            with lock:
                counts[key] += 1

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, count in counts.items():
        assert len(call(some, key, None)) == count + 1
    assert some.stats.awake <= 2


def test_when_the_store_is_full_nothing_is_lost_and_nothing_grows(sessions):
    """The error is clear; who is awake stays so; there is no node more than allowed."""
    store = Failing()
    some = sessions(live=2, store=store)
    call(some, "a", 1), call(some, "b", 1)
    store.is_full = True
    with pytest.raises(OSError, match="No space"):
        some.park("a")
    for _ in range(2):
        with pytest.raises(cloche.ClocheError, match="to make room .*No space"):
            call(some, "c", 1)
    assert (some.stats.awake, some.stats.in_use) == (2, 0)
    assert call(some, "a", 2) == [1, 2]
    with pytest.raises(ExceptionGroup) as caught:
        some.close()
    assert len(caught.value.exceptions) == 2
    store.is_full = False
    some.close()
    assert {"session/a", "session/b"} < set(store.kept)
    with pytest.raises(cloche.ClosedError):
        call(some, "a", 3)


def test_a_memory_store_has_a_bound(sessions):
    """What is dropped begins anew, and is counted; what one entry alone cannot keep is an error."""
    store = MemoryStore(30_000)
    some = sessions(live=1, store=store)
    for number in range(12):
        call(some, str(number), 1)
    assert store.size_bytes <= 30_000
    assert len(store) + store.dropped == 12  # with the template, and without the one that is awake
    assert store.dropped > 0
    assert call(some, "0", 2) == [2]
    assert call(some, "10", 2) == [1, 2]
    small = MemoryStore(10)
    with pytest.raises(cloche.ClocheError, match="no room in the max_bytes=10"):
        small.put("key", bytes(100))
    assert (small.get("key"), small.size_bytes) == (None, 0)
    with pytest.raises(ValueError, match="max_bytes"):
        MemoryStore(0)


def test_what_overflows_is_moved_before_it_is_forgotten(tmp_path):
    """A full disk loses nothing that is in memory."""
    below = Failing()
    store = MemoryStore(100, overflow=below)
    store.put("a", bytes(60))
    store.put("a", bytes(90))
    below.is_full = True
    with pytest.raises(OSError, match="No space"):
        store.put("b", bytes(60))
    assert store.get("a") == bytes(90)
    below.is_full = False
    store.put("b", bytes(60))
    assert (len(store), below.get("a")) == (1, bytes(90))
    assert store.get("a") == bytes(90)
    store.flush()
    assert (len(store), store.size_bytes, store.contains("b")) == (0, 0, True)
    store.delete("b")
    assert not store.contains("b")


def stored(folder: Path) -> dict[str, Path]:
    """The files of sessions, by the key that they hold."""
    found = {}
    for path in folder.rglob("*.parked"):
        data = path.read_bytes()
        if b"parked node" in data[:64]:
            content = _container.read(data, "parked node", 1, key=b"k")
            found[_container.json_map(content.section("about"), "it")["key"]] = path
    return found


def test_files_that_were_tampered_with_are_refused(sessions, tmp_path):
    """Swapped, cut, garbled, a pipe, a link, another key: an error that names the session, and `delete` ends it."""
    some = sessions(live=1, store=FolderStore(tmp_path, max_bytes=1 << 20), key=b"k")
    for key in ("a", "b", "c"):
        call(some, key, 1)
    call(some, "last", 1)
    files = stored(tmp_path)
    good = files["a"].read_bytes()

    def refused(match: str) -> None:
        with pytest.raises((cloche.ClocheError, OSError), match=match):
            call(some, "a", 2)

    files["a"].write_bytes(files["b"].read_bytes())
    refused("are another's: 'b'")
    files["a"].write_bytes(good[:-40])
    refused("truncated or altered")
    files["a"].write_bytes(_container.sealed(good, b"another"))
    refused("made with another key")
    files["a"].write_bytes(bytes(2 << 20))
    refused("no file of 1048576 bytes")
    files["a"].unlink()
    os.mkfifo(files["a"])
    refused("no file of")
    files["a"].unlink()
    files["a"].symlink_to(files["b"])
    refused("symbolic links")
    some.delete("a")
    assert files["b"].exists()
    assert call(some, "a", 7) == [7]
    assert call(some, "b", 2) == [1, 2]


def test_a_folder_that_is_gone_is_an_error(sessions, tmp_path):
    """Otherwise every session would silently begin anew."""
    folder = tmp_path / "folder"
    some = sessions(live=1, store=FolderStore(folder))
    call(some, "a", 1), call(some, "b", 1)
    folder.rename(tmp_path / "away")
    with pytest.raises(cloche.ClocheError, match="is gone"):
        call(some, "a", 2)
    assert call(some, "b", 2) == [1, 2]
    (tmp_path / "away").rename(folder)
    assert call(some, "a", 2) == [1, 2]
    path = stored_by(folder, "b")
    path.parent.rename(tmp_path / "part")
    assert call(some, "c", 1) == [1]
    assert call(some, "a", 3) == [1, 2, 3]


def stored_by(folder: Path, key: str) -> Path:
    return FolderStore(folder)._file(f"session/{key}")


def test_small_bytes_cannot_become_a_huge_node(sessions):
    """Compression lets a kilobyte stand for a megabyte of equal words; the limits of the template bound it."""
    kept: dict[str, bytes] = {}
    limit = 48 << 20
    some = sessions(live=1, store=kept, template={"limits": patient(memory_bytes=limit)})
    call(some, "a", 1), call(some, "b", 1)
    content = _container.read(kept["session/a"], "parked node", 1)
    sections = {name: content.section(name) for name in content.names}
    for name in ("words", "checkpoint"):
        kept["session/a"] = _container.write("parked node", 1, {**sections, name: bytes(limit + (limit >> 3))})
        assert len(kept["session/a"]) < limit // 100
        with pytest.raises(cloche.ClocheError):
            call(some, "a", 2)
    kept["session/a"] = b"x" * 1000
    with pytest.raises(cloche.ClocheError, match="no parked node"):
        call(some, "a", 2)


def test_without_its_template_a_session_is_refused(sessions):
    """And with another one under that name."""
    kept: dict[str, bytes] = {}
    first = sessions(live=1, store=kept)
    call(first, "a", 1)
    first.close()
    (place,) = (name for name in kept if name.startswith("template/"))
    template = kept[place]
    second = sessions(NODE + "\nmore = 1\n", store=kept)
    kept[place] = second._templates.present.snapshot.to_bytes()
    with pytest.raises(cloche.ClocheError, match="is another one"):
        call(second, "a", 2)
    del kept[place]
    with pytest.raises(cloche.ClocheError, match="has lost the template"):
        call(second, "a", 2)
    kept[place] = template
    assert call(second, "a", 2) == [1, 2]


def test_a_session_that_breaks_goes_on_from_where_it_was_parked(sessions):
    """Or anew; with `on_break` of the template, from its checkpoint."""
    some = sessions(live=1)
    call(some, "a", 1), call(some, "b", 1)
    with some.node("a") as node:
        node.process(2)
        with pytest.raises(cloche.BrokenInstanceError):
            node.call("stop")
        with pytest.raises(cloche.ClosedError, match="goes on from the state that it was last parked in"):
            node.call("process", 3)
    assert call(some, "a", 4) == [1, 4]
    safe = sessions(template={"on_break": "restore"})
    with safe.node("a") as node:
        node.process(1)
        with pytest.raises(cloche.BrokenInstanceError):
            node.call("stop")
    assert call(safe, "a", 2) == [1, 2]


def test_sessions_draw_numbers_of_their_own(sessions):
    """And the same ones in each run with a seed."""

    def drawn(some: Sessions) -> list[float]:
        found = []
        for key in ("a", "b", "a", "b"):
            with some.node(key) as node:
                found.append(node.call("draw"))
        return found

    assert len(set(drawn(sessions(live=1)))) == 4
    seeded = [drawn(sessions(live=1, template={"grants": Grants(seed=7)})) for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert len(set(seeded[0])) == 4


def test_idle_sessions_are_parked_and_dropped_ones_end_their_thread(sessions, load, runtime):
    """By a thread that nobody has to start or stop."""
    some = sessions(idle_s=0.02)
    call(some, "a", 1)
    parked = threading.Event()
    while not some.stats.parked:
        parked.wait(0.01)
    assert some.stats.awake == 0
    assert call(some, "a", 2) == [1, 2]
    dropped = Sessions(runtime, load(NODE), idle_s=0.02)
    call(dropped, "a", 1)
    ref = weakref.ref(dropped)
    del dropped
    while ref() is not None:
        gc.collect()
        parked.wait(0.01)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # an exception inside `__del__` is dropped
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a node that was being made is collected
def test_an_interrupt_anywhere_loses_no_session(sessions, thorough):
    """It is awake or parked, free for the next, and as it was after the last call that was answered."""
    some = sessions(live=1)
    where = within(
        "/cloche/parking/sessions.py",
        "/cloche/parking/_visits.py",
        "/cloche/_runtime/calls.py",
        "/cloche/_runtime/loans.py",
    )
    expected = {"a": 0, "b": 0}

    def visit() -> None:
        for key in expected:
            with some.node(key):
                pass

    inject(visit, 1 << 30, KeyboardInterrupt(), where)
    for injected in every(visit, KeyboardInterrupt, where, step=5 if thorough else 67):
        for key in expected:
            expected[key] += 1
            assert len(call(some, key, 0)) == expected[key], injected.place
        assert some.stats.in_use == 0, injected.place
        assert some.stats.awake == 1, injected.place


def test_awaited_blocks_take_turns(sessions):
    """Two tasks on one thread are two visitors."""
    some = sessions(live=1)

    async def visit(key: str, value: int) -> Any:
        async with some.anode(key) as node:
            return await node.aprocess(value)

    async def main() -> list[Any]:
        return await asyncio.gather(*(visit("ab"[number % 2], number) for number in range(6)))

    found = asyncio.run(main())
    assert sorted(map(len, found)) == [1, 1, 2, 2, 3, 3]


def test_an_awaited_block_can_be_cancelled_while_it_waits(sessions):
    """And one that waits too long is told so. Neither keeps the next one out."""
    some = sessions()

    async def visit() -> None:
        async with some.anode("a"):
            raise AssertionError

    async def main() -> None:
        async with some.anode("a") as node:
            assert await node.aprocess(1) == [1]
            waiting = asyncio.ensure_future(visit())
            while some.stats.in_use and len(some._visits.find("a").visits) < 2:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(cloche.PoolTimeoutError, match="was in use"):
                async with some.anode("a", timeout_s=0):
                    pass
        async with some.anode("a") as node:
            assert await node.aprocess(2) == [1, 2]

    asyncio.run(main())
    assert some.stats.in_use == 0


def test_sessions_that_open_each_other_inside_of_services_do_not_hang(sessions):
    """Each waits for the other one's block, which a timeout ends."""
    made: list[Sessions] = []
    barrier = threading.Barrier(2)

    def peer(key: str) -> str:
        barrier.wait(120)
        try:
            with made[0].node(key, timeout_s=0.05) as node:
                return str(node.get("n"))
        except cloche.PoolTimeoutError:
            return "in use"
        finally:
            barrier.wait(120)

    text = "from cloche_guest import services\nclass N:\n    n = 1\n    def process(self, key):\n        return services.peer(key)\n"
    made.append(sessions(text, template={"grants": Grants(services={"peer": peer})}))
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda pair=pair: found.append(call(made[0], *pair)))
        for pair in (("a", "b"), ("b", "a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["in use", "in use"]


def test_workers_take_over_what_was_parked_here(sessions, runtimes):
    """A difference is made whole for a sandbox elsewhere."""
    kept: dict[str, bytes] = {}
    here = sessions(store=kept)
    call(here, "a", 1)
    here.close()
    runtime = runtimes("process")
    with runtime.load(cloche.Source(NODE)) as template, Sessions(runtime, template, live=1, store=kept) as there:
        assert call(there, "a", 2) == [1, 2]
        assert call(there, "b", 1) == [1]
        assert call(there, "a", 3) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_goes_on(sessions):
    """With the sessions that no other thread is in."""
    some = sessions(live=2)
    call(some, "a", 1), call(some, "b", 1), call(some, "c", 1)
    child = os.fork()
    if not child:
        try:
            os._exit(0 if [call(some, key, 2) for key in "abc"] == [[1, 2]] * 3 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert call(some, "a", 3) == [1, 3]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda runtime, node: Sessions(runtime, node, live=0), ValueError, "live"),
        (lambda runtime, node: Sessions(runtime, node, store=3), TypeError, "get, put, delete and contains"),
        (lambda runtime, node: Sessions(runtime, node, key=bytes(65)), ValueError, "64 at most"),
        (lambda runtime, node: Sessions(runtime, node.snapshot()), TypeError, "template is"),
        (lambda runtime, node: Sessions(runtime, node).node(3).__enter__(), TypeError, "give a text"),
        (lambda runtime, node: Sessions(runtime, node).park("k" * 2000), ValueError, "1024 at most"),
    ],
    ids=["live", "store", "key", "template", "no text", "long"],
)
def test_wrong_arguments_are_named(load, runtime, make: Callable[..., Any], error: type[Exception], match: str):
    """Where they are given."""
    with pytest.raises(error, match=match):
        make(runtime, load(NODE))


def test_the_stores_have_the_protocol(tmp_path):
    """A store of somebody else's needs these four methods and no base class."""
    assert all(isinstance(store, Store) for store in (MemoryStore(), FolderStore(tmp_path), MappingStore({})))
    assert implementation.Sessions is Sessions
    for store in (MemoryStore(), FolderStore(tmp_path), MappingStore({})):
        for key in ("plain", "../../etc", "nul\0", "\udc80", "k" * 5000, ""):
            assert store.get(key) is None
            store.put(key, key.encode("utf-8", "surrogatepass"))
            assert store.get(key) == key.encode("utf-8", "surrogatepass")
            assert store.contains(key)
            store.delete(key)
            store.delete(key)
            assert not store.contains(key)
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(cloche.ClocheError, match="over the max_bytes=10"):
        FolderStore(tmp_path, max_bytes=10).put("key", bytes(11))
